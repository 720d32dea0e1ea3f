"""Scratch databases on a server that is not ours: whose they are, and what the dead left behind.

A run holds an advisory lock for as long as it lives, however it ends, and its databases carry the
lock's number in their names. A database of ours whose lock nobody holds belongs to nobody.
"""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql

#: what stands on each of our databases for people to read
COMMENT = "a scratch database of zdd-migrate"
#: what tells ours from what somebody else called so: given as the database is made, so that it is
#: there however early its maker dies. More connections than a server has, so it limits nothing.
LIMIT = 914_173
_ABANDONED = """
    SELECT d.datname FROM pg_database d
    WHERE d.datname ~ '^zdd_[0-9a-f]{16}_[0-9a-f]{8}$'
      AND d.datconnlimit = %s
      AND pg_has_role(d.datdba, 'MEMBER')
      AND NOT EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE a.datid = d.oid AND a.backend_type NOT LIKE 'autovacuum%%')
      AND NOT EXISTS (
        SELECT FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1
          AND lpad(to_hex(l.classid::int8), 8, '0') || lpad(to_hex(l.objid::int8), 8, '0')
            = substr(d.datname, 5, 16))
    ORDER BY d.datname"""


class Owner:
    """Whoever makes databases on a server, for as long as its connection is open."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        number = secrets.randbits(62)
        connection.execute("SELECT pg_advisory_lock(%s)", (number,))
        self._prefix = f"zdd_{number:016x}"

    def name(self) -> str:
        """A name for one more database."""
        return f"{self._prefix}_{secrets.token_hex(4)}"

    def mark(self, name: str) -> None:
        """Say to people whose it is."""
        self._connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(name), sql.Literal(COMMENT)
            )
        )

    def clear_away(self) -> list[str]:
        """Drop what runs that are dead have left; gives the names."""
        gone = []
        for (name,) in self._connection.execute(_ABANDONED, (LIMIT,)).fetchall():
            try:  # without FORCE: whoever is connected after all is alive
                self._connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
                )
            except psycopg.Error:
                continue  # not ours to drop, or another run was quicker
            gone.append(str(name))
        return gone

    def close(self) -> None:
        """Let go."""
        self._connection.close()
