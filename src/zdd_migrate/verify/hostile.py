"""What production does to a plan while it runs: other people's transactions, vacuum, kills.

Each condition works in the background of one database while steps run there. What it did is
counted: a condition that never came to pass has proved nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.postgres.servers import Server

#: what a client is told when its backend was ended by somebody: (SQLSTATE, message)
LOST = frozenset((state, "the connection was lost") for state in ("57P01", "08006", "08003"))
#: how often the plan's own connection is ended on one database: it must come through, so not for ever
_KILLS = 3


@dataclass(slots=True)
class Scene:
    """Where conditions are made: a database, the plan's tables in it, and what was done so far."""

    server: Server
    database: str
    tables: Sequence[QName]
    ending: threading.Event = field(default_factory=threading.Event)
    done: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def connect(self, name: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
        """A connection that goes by the condition's name."""
        opened = self.server.connect(
            self.database, autocommit=autocommit, application_name=f"zdd-migrate hostile {name}"
        )
        try:
            yield opened
        finally:
            opened.close()

    def there(self, connection: psycopg.Connection) -> list[str]:
        """The plan's tables that are there now, quoted."""
        names = [quote_qname(table) for table in self.tables]
        query = "SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = to_regclass(%s)"
        return [n for n in names if (connection.execute(query, (n,)).fetchone() or [False])[0]]

    def wait(self, seconds: float) -> bool:
        """Pause; True when it is time to end."""
        return self.ending.wait(seconds)


def _hold(scene: Scene, name: str, hold_s: float, pause_s: float) -> None:
    """Hold what every transaction holds that has written, for a while, again and again."""
    with scene.connect(name) as connection:
        while not scene.ending.is_set():
            with suppress(psycopg.Error):
                connection.execute("SET LOCAL lock_timeout = '2s'")
                for table in scene.there(connection):
                    connection.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE".encode())
                scene.done[name] += 1
                scene.wait(hold_s)
            connection.rollback()
            if scene.wait(pause_s):
                return


def _long_transaction(scene: Scene) -> None:
    _hold(scene, "long-transaction", 1.2, 0.4)


def _lock_timeout(scene: Scene) -> None:
    _hold(scene, "lock-timeout", 0.25, 0.15)


def _autovacuum(scene: Scene) -> None:
    """VACUUM without end, which holds what autovacuum holds, and does not yield as it would."""
    with scene.connect("autovacuum", autocommit=True) as connection:
        while not scene.wait(0.02):
            for table in scene.there(connection):
                with suppress(psycopg.Error):
                    connection.execute(f"VACUUM (ANALYZE) {table}".encode())
                    scene.done["autovacuum"] += 1


def _deadlocks(scene: Scene) -> None:
    """Two transactions that lock the same rows in opposite orders."""

    def work(backwards: bool) -> None:
        with scene.connect("deadlocks") as connection:
            while not scene.wait(0.05):
                try:
                    for table in scene.there(connection):
                        rows = connection.execute(
                            f"SELECT ctid::text FROM {table} ORDER BY ctid LIMIT 2".encode()
                        ).fetchall()
                        for (place,) in sorted(rows, reverse=backwards):
                            connection.execute(
                                f"SELECT 1 FROM {table} WHERE ctid = %s::tid FOR UPDATE".encode(),
                                (place,),
                            )
                            scene.wait(0.04)
                except psycopg.errors.DeadlockDetected:
                    scene.done["deadlocks"] += 1
                except psycopg.Error:
                    pass
                connection.rollback()

    other = threading.Thread(target=work, args=(True,), daemon=True)
    other.start()
    work(backwards=False)
    other.join()


def _killed_backend(scene: Scene) -> None:
    """End connections: the plan's own a few times, and one of the code's now and then.

    Programs of the user's are let be: how they bear with it says nothing about the plan.
    """
    plan = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name IN ('zdd-migrate apply', 'zdd-migrate undo') "
        "AND state <> 'idle' AND xact_start IS NOT NULL LIMIT 1"
    )
    code = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name ~ '^zdd-(old|new)-[0-9]+$' ORDER BY random() LIMIT 1"
    )
    turns = 0
    with scene.connect("killed-backend", autocommit=True) as connection:
        while not scene.wait(0.003):
            turns += 1
            mine = "killed-backend, of the plan"
            if scene.done[mine] < _KILLS and _kill(connection, plan):
                scene.done[mine] += 1
                scene.done["killed-backend"] += 1
                scene.wait(0.1)
            if turns % 60 == 0 and _kill(connection, code):
                scene.done["killed-backend"] += 1


def _kill(connection: psycopg.Connection, query: str) -> bool:
    row = connection.execute(
        f"SELECT pg_terminate_backend(pid) FROM ({query}) p".encode()
    ).fetchone()
    return bool(row and row[0])


CONDITIONS: Mapping[str, Callable[[Scene], None]] = {
    "long-transaction": _long_transaction,
    "lock-timeout": _lock_timeout,
    "autovacuum": _autovacuum,
    "deadlocks": _deadlocks,
    "killed-backend": _killed_backend,
}


@contextmanager
def hostile(
    names: Sequence[str], server: Server, database: str, tables: Sequence[QName]
) -> Iterator[Counter[str]]:
    """Make conditions for the length of a block; yields what they have done."""
    scene = Scene(server, database, tables)
    threads = [
        threading.Thread(target=_quietly, args=(CONDITIONS[name], scene), daemon=True)
        for name in names
    ]
    for thread in threads:
        thread.start()
    try:
        yield scene.done
    finally:
        scene.ending.set()
        for thread in threads:
            thread.join()


def _quietly(condition: Callable[[Scene], None], scene: Scene) -> None:
    with suppress(psycopg.Error):  # its database is gone, or it was killed itself
        condition(scene)
