"""One step, run for real. Used by `apply` with a journal around it and by `verify` without."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from zdd_migrate.apply.backfill import Progress, run_backfill
from zdd_migrate.errors import EnvironmentFailedError, FindingsError, LockNotObtainedError
from zdd_migrate.model.plan import Backfill, Gate, Release, Sql, Step, Validate

#: a transaction hook, run inside the step's own transaction just before it commits
Hook = Callable[[psycopg.Connection], None]

#: SQLSTATEs after which the same step may simply be tried again: lock not available, deadlock,
#: serialization failure
RETRY = ("55P03", "40P01", "40001")
FIRST_WAIT_MS = 200
#: statements that wait without keeping anybody else waiting
_PATIENT = re.compile(
    r"\bCONCURRENTLY\b|\bVALIDATE\s+CONSTRAINT\b|^\s*(?:VACUUM|ANALYZE|REINDEX)\b", re.IGNORECASE
)
_INDEX = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r"(?P<index>\"(?:[^\"]|\"\")+\"|[\w$]+)\s+ON\s+(?:ONLY\s+)?"
    r"(?P<table>(?:(?:\"(?:[^\"]|\"\")+\"|[\w$]+)\.)?(?:\"(?:[^\"]|\"\")+\"|[\w$]+))",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Policy:
    """How hard to try for a lock. Waits grow from `first_wait_ms` to the step's own lock_timeout.

    `attempts` bounds them; between two tries `pause_s` passes, doubled each time up to
    `longest_pause_s` and jittered, so that whoever queued behind us gets through first.
    """

    attempts: int = 30
    pause_s: float = 0.1
    longest_pause_s: float = 5.0
    first_wait_ms: int = FIRST_WAIT_MS
    say: Callable[[str], None] = field(default=lambda _: None)


def run_step(
    connection: psycopg.Connection,
    step: Step,
    *,
    policy: Policy | None = None,
    before_commit: Hook | None = None,
    progress: Progress | None = None,
) -> None:
    """Run one step on an autocommit connection. A Release is a matter for people: nothing here.

    Raises LockNotObtainedError when the lock cannot be had, FindingsError when a gate does not
    hold, EnvironmentFailedError for what else the server refuses.
    """
    policy = policy or Policy()
    match step:
        case Sql():
            _run(connection, step.statements, step, policy, step.transactional, before_commit)
        case Validate():
            _patient(connection, step.statements[0], before_commit)
        case Backfill():
            run_backfill(connection, step, progress=progress)
            _commit_hook(connection, before_commit)
        case Gate():
            check_gate(connection, step)
            _commit_hook(connection, before_commit)
        case Release():
            _commit_hook(connection, before_commit)


def undo_step(
    connection: psycopg.Connection,
    step: Step,
    *,
    policy: Policy | None = None,
    before_commit: Hook | None = None,
) -> None:
    """Run a step's undo. A step without one must not get here."""
    policy = policy or Policy()
    if step.undo is None:
        raise FindingsError(f"{step.id} is the point of no return: it cannot be undone")
    if not step.undo:
        _commit_hook(connection, before_commit)
        return
    transactional = step.undo_transactional if isinstance(step, Sql) else True
    _run(connection, step.undo, step, policy, transactional, before_commit)


def check_gate(connection: psycopg.Connection, gate: Gate) -> None:
    """Raise FindingsError unless the gate's query returns no row."""
    with _errors(gate.id):
        row = connection.execute(_trusted(gate.query)).fetchone()
    if row is not None:
        raise FindingsError(f"{gate.id} does not hold: {gate.message} (for one: {row[:4]})")


def _commit_hook(connection: psycopg.Connection, hook: Hook | None) -> None:
    if hook is not None:
        with connection.transaction():
            hook(connection)


def _run(
    connection: psycopg.Connection,
    statements: tuple[str, ...],
    step: Step,
    policy: Policy,
    transactional: bool,
    hook: Hook | None,
) -> None:
    if not transactional:
        brief = step.lock_timeout_ms if isinstance(step, Sql) and step.lock_timeout_ms else 2000
        for statement in statements:
            _outside(connection, statement, policy, 0 if _PATIENT.search(statement) else brief)
        _commit_hook(connection, hook)
        return
    relation = step.relation if isinstance(step, Sql) else None
    longest = step.lock_timeout_ms if isinstance(step, Sql) else 2000
    statement_timeout = step.statement_timeout_ms if isinstance(step, Sql) else 0
    for attempt in _attempts(policy, longest, relation or step.id):
        try:
            with connection.transaction():
                connection.execute(_trusted(f"SET LOCAL lock_timeout = {attempt.wait_ms}"))
                connection.execute(_trusted(f"SET LOCAL statement_timeout = {statement_timeout}"))
                for statement in statements:
                    connection.execute(_trusted(statement))
                if hook is not None:
                    hook(connection)
            return
        except psycopg.Error as error:
            attempt.failed(connection, error, step.id, relation)


def _outside(
    connection: psycopg.Connection, statement: str, policy: Policy, longest_ms: int
) -> None:
    """A statement outside a transaction block; it waits for a lock `longest_ms` (0: for as long
    as it takes, which keeps nobody waiting where it builds or validates).

    An index build that is interrupted leaves an INVALID index; it is dropped and built again.
    """
    build = _INDEX.match(statement)
    for attempt in _attempts(policy, longest_ms, statement[:60]):
        try:
            connection.execute(_trusted(f"SET lock_timeout = {attempt.wait_ms}"))
            connection.execute("SET statement_timeout = 0")
            if build is not None and _drop_unless_valid(connection, build):
                return  # built by an earlier try
            connection.execute(_trusted(statement))
            return
        except psycopg.Error as error:
            attempt.failed(connection, error, statement[:60], None)


def _drop_unless_valid(connection: psycopg.Connection, build: re.Match[str]) -> bool:
    """Whether the index is there and valid; one that is INVALID is dropped."""
    schema = build["table"].rpartition(".")[0]
    name = f"{schema}.{build['index']}" if schema else build["index"]
    row = connection.execute(
        "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)", (name,)
    ).fetchone()
    if row is None:
        return False
    if row[0]:
        return True
    connection.execute(_trusted(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
    return False


def _patient(connection: psycopg.Connection, statement: str, hook: Hook | None) -> None:
    with _errors(statement[:60]), connection.transaction():
        connection.execute("SET LOCAL lock_timeout = 0")
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(_trusted(statement))
        if hook is not None:
            hook(connection)


@dataclass(slots=True)
class _Attempt:
    number: int
    wait_ms: int
    policy: Policy
    subject: str

    def failed(
        self,
        connection: psycopg.Connection,
        error: psycopg.Error,
        what: str,
        relation: str | None,
    ) -> None:
        """Decide after an error: give up by raising, or pause and let the loop go on."""
        if error.sqlstate not in RETRY or connection.closed:
            raise EnvironmentFailedError(f"{what}: {_one_line(error)}") from None
        if self.number >= self.policy.attempts:
            holders = _holders(connection, relation) if relation else ""
            raise LockNotObtainedError(
                f"{what}: no lock on {relation or self.subject} after {self.number} tries{holders}; "
                "nothing of this step was changed: run it again when they are gone"
            ) from None
        pause = min(self.policy.pause_s * 2 ** (self.number - 1), self.policy.longest_pause_s)
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self.policy.say(f"{what}: lock not obtained within {self.wait_ms} ms, trying again")
        time.sleep(pause)


def _attempts(policy: Policy, longest_ms: int, subject: str) -> Iterator[_Attempt]:
    wait = min(policy.first_wait_ms, longest_ms) if longest_ms else 0
    for number in range(1, policy.attempts + 1):
        yield _Attempt(number, wait, policy, subject)
        wait = min(int(wait * 1.5), longest_ms)


def _holders(connection: psycopg.Connection, relation: str) -> str:
    """Who holds locks on a relation for longest, for the message."""
    try:
        rows = connection.execute(
            """SELECT a.pid, a.application_name, a.state,
                 extract(epoch FROM now() - a.xact_start)::int
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE l.granted AND l.relation = to_regclass(%s) AND a.pid <> pg_backend_pid()
               ORDER BY a.xact_start LIMIT 3""",
            (relation,),
        ).fetchall()
    except psycopg.Error:
        return ""
    if not rows:
        return ""
    told = ", ".join(
        f"pid {pid} ({name or 'unnamed'}, {state}, in its transaction for {age} s)"
        for pid, name, state, age in rows
    )
    return f", held by {told}"


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise EnvironmentFailedError(f"{what}: {_one_line(error)}") from None


def _one_line(error: psycopg.Error) -> str:
    state = f"{error.sqlstate} " if error.sqlstate else ""
    return f"{state}{' '.join(str(error).split())}"[:300]


def _trusted(sql: str) -> bytes:
    """SQL of a plan is what the user asked to run."""
    return sql.encode()
