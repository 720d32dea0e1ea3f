"""Measuring in a database that is not ours: one transaction, short waits, and a rollback.

No other session probes there, for probes write rows and wait for locks: who is kept waiting follows
from the modes alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg

from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.statement import Statement
from zdd_migrate.postgres.trace.relations import locks_of, look, rows_read, work
from zdd_migrate.postgres.trace.run import Traced, is_control

_TIMEOUTS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'"


def trace_in_place(dsn: str, statements: Sequence[Statement]) -> tuple[int, list[Traced]]:
    """The server's major, and what each statement did; nothing of it stays."""
    for statement in statements:
        if not _rolls_back(statement):
            raise InputError(
                f"{statement.span.path}:{statement.span.line}: this cannot be rolled back, so it is "
                "not run in a database that is in use: measure it on a scratch one (--postgres)"
            )
    try:
        with (
            psycopg.connect(dsn, autocommit=True, connect_timeout=10) as runner,
            psycopg.connect(dsn, autocommit=True, connect_timeout=10) as watcher,
        ):
            return runner.info.server_version // 10000, _run(runner, watcher, statements)
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())[:200]
        raise EnvironmentFailedError(f"the database cannot be used: {said}") from None


_KEPT = ("VACUUM", "REINDEX DATABASE", "REINDEX SYSTEM", "REINDEX SCHEMA", "ALTER SYSTEM")
#: what a rollback does not take back, or what leaves the database altogether
_BEYOND = re.compile(
    r"\b(CONCURRENTLY|SETVAL|DBLINK\w*|LO_EXPORT|PROGRAM|COPY\b.*\bTO)\b", re.DOTALL
)


def _rolls_back(statement: Statement) -> bool:
    """Whether a transaction block can hold the statement, and undo it."""
    words = " ".join(statement.sql.upper().split())
    return _BEYOND.search(words) is None and not words.startswith(_KEPT)


def _run(
    runner: psycopg.Connection, watcher: psycopg.Connection, statements: Sequence[Statement]
) -> list[Traced]:
    traced: list[Traced] = []
    known = frozenset(look(watcher).relations)
    runner.execute("BEGIN")
    runner.execute(_TIMEOUTS.encode())
    pid = runner.info.backend_pid
    failed = False
    try:
        for statement in statements:
            if failed or is_control(statement):
                traced.append(Traced(statement, Effects(), reached=not failed))
                continue
            before, held, read = look(runner), locks_of(watcher, pid), rows_read(runner)
            try:
                runner.execute(statement.sql.encode())
            except psycopg.Error as error:
                message = error.diag.message_primary or " ".join(str(error).split())
                problem = PgError(error.sqlstate or "", message)
                traced.append(Traced(statement, Effects(error=problem)))
                failed = True
                continue
            done = work(before, look(runner), known)
            now = {o: m for o, m in locks_of(watcher, pid).items() if held.get(o) is not m}
            names = {o: before.relations[o] for o in now if o in known and o in before.relations}
            scans = {
                before.relations[oid].name: "rows were read"
                for oid, rows in rows_read(runner).items()
                if rows > read.get(oid, 0) and oid in known and oid in before.relations
            }
            traced.append(
                Traced(
                    statement,
                    Effects(
                        locks={r.name: now[o] for o, r in names.items() if r.kind not in "iI"},
                        index_locks={r.name: now[o] for o, r in names.items() if r.kind in "iI"},
                        rewrites=done.rewrites,
                        scans=scans,
                        index_builds=done.builds,
                        index_rebuilds=done.rebuilds,
                    ),
                )
            )
    finally:
        runner.execute("ROLLBACK")
    return traced
