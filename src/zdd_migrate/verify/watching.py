"""Watching a database while a plan's step runs: who waits for whom, and what a step does there.

`Watcher` samples the locks that are waited for. `Bystander` is the long transaction that somebody
else always has open in production: a step must give up its lock rather than wait behind it, for
all traffic waits behind the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import psycopg

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.model.verdict import Wait
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.clock import Clock

#: between two looks at the locks
_LOOK_S = 0.012
#: a step that still waits behind the bystander after this long does not give up
PATIENCE_S = 2.5
#: waits that keep nobody else waiting, such as those of CREATE INDEX CONCURRENTLY
_HARMLESS = ("AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock")

_WAITS = """
    SELECT a.pid, a.application_name, coalesce(l.mode, ''), l.locktype,
      coalesce(l.relation::regclass::text, l.locktype, ''),
      coalesce((SELECT string_agg(DISTINCT b.application_name, ', ')
                FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))), ''),
      left(a.query, 300)
    FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"""


class Watcher:
    """Samples lock waits in a database in the background, and puts them onto the clock."""

    def __init__(self, server: Server, database: str, clock: Clock) -> None:
        self.connection = server.connect(database, application_name="zdd-migrate watcher")
        self.clock = clock
        self.looking = threading.Lock()
        #: what each waiting process waits for at this moment: pid → (mode, locktype, relation)
        self.now: dict[int, tuple[str, str, str]] = {}
        self._open: dict[tuple[int, str, str], tuple[float, str, str, str]] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._close_all({})
        self.connection.close()

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_S):
            try:
                self._look()
            except psycopg.Error:
                return  # the server is gone: whoever works on it will say so

    def _look(self) -> None:
        rows = self.connection.execute(_WAITS).fetchall()
        seen = {
            (int(pid), str(mode), str(relation)): (str(name), str(behind), str(query))
            for pid, name, mode, _, relation, behind, query in rows
        }
        now = time.monotonic()
        for key, (name, behind, query) in seen.items():
            self._open.setdefault(key, (now, name, behind, query))
        self._close_all(seen)
        with self.looking:
            self.now = {int(r[0]): (str(r[2]), str(r[3]), str(r[4])) for r in rows}

    def _close_all(self, still: dict[tuple[int, str, str], tuple[str, str, str]]) -> None:
        now = time.monotonic()
        for key in [k for k in self._open if k not in still]:
            since, name, behind, query = self._open.pop(key)
            self.clock.wait(
                name,
                Wait(
                    who_is(name),
                    key[1],
                    key[2],
                    self.clock.ms(since),
                    self.clock.ms(now),
                    ", ".join(dict.fromkeys(who_is(b) for b in behind.split(", ") if b)),
                    statement=query,
                ),
            )

    def waiting(self, pid: int) -> tuple[str, str, str] | None:
        """What a process waits for now: (mode, kind of lock, relation)."""
        with self.looking:
            return self.now.get(pid)


def who_is(application_name: str) -> str:
    """A code version, the plan, or somebody else, by the name its connection goes by."""
    if application_name.startswith("zdd-migrate bystander"):
        return "a long transaction"
    if application_name.startswith("zdd-migrate hostile"):
        return application_name.removeprefix("zdd-migrate hostile").strip() or "somebody else"
    if application_name.startswith("zdd-migrate"):
        return "plan"
    if application_name.startswith("zdd-"):
        return application_name.split("-")[1]
    return application_name or "somebody else"


@dataclass(slots=True)
class Bystander:
    """A transaction left open beside a step, until the step gives up its lock (or does not).

    It holds RowExclusiveLock on `tables`, as any transaction does that has written to them.
    """

    server: Server
    database: str
    tables: Sequence[QName]
    watcher: Watcher
    pid: int  # of the process that runs the step
    #: said when the step went on waiting: the lock it waited for
    stuck: str = ""
    gave_up: bool = False
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _connection: psycopg.Connection | None = None

    def __enter__(self) -> Bystander:
        held = self.server.connect(
            self.database, autocommit=False, application_name="zdd-migrate bystander"
        )
        self._connection = held
        for table in self.tables:
            name = quote_qname(table)
            found = held.execute(
                "SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = to_regclass(%s)", (name,)
            ).fetchone()
            if found is not None and found[0]:
                held.execute(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE".encode())
        self._thread = threading.Thread(target=self._stand, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._leave()

    def _leave(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _stand(self) -> None:
        since: float | None = None
        harmless = 0
        while not self._done.wait(_LOOK_S):
            waiting = self.watcher.waiting(self.pid)
            if waiting is None:
                if since is not None:
                    self.gave_up = True
                    break
                continue
            mode, kind, relation = waiting
            if kind != "relation" or mode in _HARMLESS:
                harmless += 1
                if harmless > 3:
                    break
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > PATIENCE_S:
                self.stuck = f"{mode} on {relation}"
                break
        self._leave()
