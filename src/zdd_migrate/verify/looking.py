"""Whether a statement reads through a table that it keeps others from, asked before it commits.

What a transaction has read the server knows while it is under way. A statement that runs by itself
is put into a transaction of its own for that, where it may be in one; those that may not are the
ones that build and validate without keeping anybody waiting. Counts of earlier statements may still
be there, so each is measured from what there was before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

_SCANNED = """
    SELECT s.relid::int8, s.schemaname || '.' || s.relname, s.seq_tup_read,
      (SELECT l.mode FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.granted
         AND l.relation = s.relid AND l.mode = ANY (%s)
       ORDER BY array_position(%s, l.mode) LIMIT 1) AS mode
    FROM pg_stat_xact_user_tables s
    WHERE s.seq_tup_read > 0 AND s.relid = ANY (%s)"""
#: from strongest to weakest: all that keep writers waiting
_BLOCKING = ["AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock"]
#: what says how the others run, and runs nothing itself
_AROUND = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:(?P<end>COMMIT|END)|SET|RESET|SHOW|BEGIN|START|ROLLBACK|ABORT)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Scanned:
    """Rows of a table read through while others had to wait for it."""

    relation: str
    rows: int
    mode: str

    def __str__(self) -> str:
        """What was done, and what it comes to."""
        return (
            f"reads {self.rows} rows of {self.relation} under {self.mode}: on a large table "
            "everybody waits that long"
        )


@dataclass(slots=True)
class Look:
    """What is looked at: the tables that were there before, and what was found."""

    there: Sequence[int]
    found: list[Scanned] = field(default_factory=list)


def tables_there(connection: psycopg.Connection) -> list[int]:
    """OIDs of the tables that can be read, to tell them from those a step creates or fills."""
    rows = connection.execute(
        "SELECT oid::int8 FROM pg_class WHERE relkind IN ('r', 'm') AND relispopulated"
    )
    return [int(row[0]) for row in rows.fetchall()]


def scanned_under_lock(
    connection: psycopg.Connection, there: Sequence[int], before: Mapping[int, int] | None = None
) -> list[Scanned]:
    """What the transaction under way has read through and locked against writers besides; `before`
    is what had been read when it began."""
    return [
        Scanned(name, count - (before or {}).get(oid, 0), mode)
        for oid, name, count, mode in _read(connection, there)
        if mode is not None and count > (before or {}).get(oid, 0)
    ]


def _read(
    connection: psycopg.Connection, there: Sequence[int]
) -> list[tuple[int, str, int, str | None]]:
    # not as a statement to be looked at in its turn
    with connection.cursor() as cursor:
        cursor.execute(_SCANNED, (_BLOCKING, _BLOCKING, list(there)))
        return cursor.fetchall()


class LookingConnection(psycopg.Connection[TupleRow]):
    """A connection that looks at each statement run by `execute` outside a transaction, and at the
    end of each transaction that is ended by a statement."""

    look: Look | None = None
    _before: Mapping[int, int] | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[TupleRow]:
        """As psycopg's; what was found is in `look`."""
        look = self.look
        around = _AROUND.match(query.decode() if isinstance(query, bytes) else str(query))
        status = self.info.transaction_status
        if look is None:
            return super().execute(query, params, **options)
        if around is not None:
            if around["end"] and status == TransactionStatus.INTRANS:
                look.found += scanned_under_lock(self, look.there, self._before)
            elif status == TransactionStatus.IDLE:
                self._before = self._counts(look)
            return super().execute(query, params, **options)
        if status != TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        try:
            with self.transaction():
                before = self._counts(look)
                done = super().execute(query, params, **options)
                look.found += scanned_under_lock(self, look.there, before)
            return done
        except (
            psycopg.errors.ActiveSqlTransaction,
            psycopg.errors.InvalidTransactionTermination,
        ):
            return super().execute(query, params, **options)  # it refuses: nothing was done

    def _counts(self, look: Look) -> dict[int, int]:
        return {oid: count for oid, _, count, _ in _read(self, look.there)}
