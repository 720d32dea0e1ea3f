"""Where a statement that refuses transaction blocks waits, and what it holds there.

It runs on a copy of the database while a session for each table holds a lock that gets in its way.
Whenever it waits, its locks are written down, and those it waits for step aside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName
from zdd_migrate.postgres.servers import Server
from zdd_migrate.postgres.trace.relations import Snapshot, locks_of

#: what gets in the way: of builds that wait for writers, then of those that writers do not stop
_IN_THE_WAY = (LockMode.ROW_EXCLUSIVE, LockMode.SHARE_UPDATE_EXCLUSIVE)
_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One wait: what was in the way, what was held or asked for, and who was waited for."""

    in_the_way: LockMode
    locks: dict[QName, LockMode]
    waited_for: tuple[QName, ...]


def watch(
    server: Server,
    database: str,
    statement: str,
    before: Snapshot,
    free: Callable[[], AbstractContextManager[None]],
) -> tuple[dict[int, LockMode], tuple[Stage, ...]]:
    """The strongest modes held or waited for on the way, by oid, and the waits themselves."""
    found: dict[int, LockMode] = {}
    stages: list[Stage] = []
    for mode in _IN_THE_WAY:
        with free():
            copy = server.create_database(template=database)
        try:
            for locks, waited_for in _run(server, copy, statement, before, mode):
                for oid, held in locks.items():
                    stronger = strongest(found.get(oid), held)
                    assert stronger is not None
                    found[oid] = stronger
                stages.append(_stage(mode, locks, waited_for, before))
        finally:
            server.drop_database(copy)
    return found, tuple(stages)


def _stage(
    mode: LockMode, locks: dict[int, LockMode], waited_for: list[QName], before: Snapshot
) -> Stage:
    named = {before.relations[o].name: m for o, m in locks.items() if o in before.relations}
    return Stage(mode, named, tuple(waited_for))


def _run(
    server: Server, database: str, statement: str, before: Snapshot, mode: LockMode
) -> list[tuple[dict[int, LockMode], list[QName]]]:
    """Run the statement against one session in the way for each table; its locks at each wait."""
    waits: list[tuple[dict[int, LockMode], list[QName]]] = []
    with ExitStack() as stack:
        watcher = stack.enter_context(server.connect(database))
        runner = stack.enter_context(server.connect(database))
        in_the_way: dict[int, tuple[QName, psycopg.Connection]] = {}
        for table in before.of_kind("rpm"):
            session = stack.enter_context(server.connect(database, autocommit=False))
            _hold(session, table.name, mode)
            in_the_way[session.info.backend_pid] = (table.name, session)
        thread = threading.Thread(target=_execute, args=(runner, statement), daemon=True)
        thread.start()
        pid = runner.info.backend_pid
        deadline = time.monotonic() + _LONGEST_SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            blocking = _blocking(watcher, pid)
            if not blocking:
                time.sleep(_POLL_SECONDS)
                continue
            waits.append((locks_of(watcher, pid, waiting=True), []))
            for blocker in blocking & in_the_way.keys():
                name, session = in_the_way.pop(blocker)
                waits[-1][1].append(name)
                session.rollback()
        for _, session in in_the_way.values():
            session.rollback()
        thread.join(_LONGEST_SECONDS)
        if thread.is_alive():
            runner.cancel()
            thread.join()
    return waits


def _hold(session: psycopg.Connection, table: QName, mode: LockMode) -> None:
    """Keep the lock until the session's transaction ends; reading it, a snapshot is held too."""
    name = sql.Identifier(*[p for p in table if p is not None])
    if mode is LockMode.ROW_EXCLUSIVE:
        session.execute(sql.SQL("SELECT 1 FROM ONLY {} LIMIT 1").format(name))
    else:
        session.execute("SELECT 1")
    words = sql.SQL(mode.sql)
    # a materialized view cannot be locked by a statement
    with suppress(psycopg.errors.WrongObjectType), session.transaction():
        session.execute(sql.SQL("LOCK TABLE ONLY {} IN {} MODE").format(name, words))


def _execute(runner: psycopg.Connection, statement: str) -> None:
    with suppress(psycopg.Error):  # the run that counts reports it
        runner.execute(statement.encode())


def _blocking(watcher: psycopg.Connection, pid: int) -> set[int]:
    row = watcher.execute("SELECT pg_blocking_pids(%s)", (pid,)).fetchone()
    return set(row[0]) if row is not None else set()
