"""One migration after another statement, each measured where its predecessors left the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.statement import Statement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.postgres.trace.probes import Plans, plan, prepare
from zdd_migrate.postgres.trace.relations import (
    Snapshot,
    Work,
    locks_of,
    look,
    rows_read,
    work,
)
from zdd_migrate.postgres.trace.waits import Stage, watch

NOT_IN_A_BLOCK = "25001"


@dataclass(frozen=True, slots=True)
class Traced:
    """A statement with what it was seen to do.

    `effects` has the measured locks, work and waiting; `probes` are the kinds of statements that
    waited, by relation; `stages` where a statement that refuses transaction blocks waited itself;
    `said` the server's own DEBUG1 words about its work. `reached` is False for statements after
    one that failed.
    """

    statement: Statement
    effects: Effects
    probes: dict[QName, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    said: tuple[str, ...] = ()
    reached: bool = True


def session_zone(connection: psycopg.Connection) -> str:
    """The time zone that sessions of this server have: it decides what some changes cost."""
    row = connection.execute("SHOW timezone").fetchone()
    return str(row[0]) if row is not None else ""


def trace(
    server: Server, template: str, statements: Sequence[Statement], *, code: bool = True
) -> list[Traced]:
    """Measure statements on copies of the database `template`, which nobody is connected to.

    `code` asks for what breaks in code that was running before: reads it had prepared.

    Each is measured in a transaction of its own, after its predecessors committed; errors come
    from running those that share a transaction in one, where there are several.
    """
    failing = _together(server, template, statements)
    traced: list[Traced] = []
    with (
        server.scratch_database(template) as database,
        closing(_Tracer(server, database, code=code)) as tracer,
    ):
        failed = False
        for at, statement in enumerate(statements):
            if failed:
                traced.append(Traced(statement, Effects(), reached=False))
                continue
            error = failing.get(at)
            if error is not None:
                refused = error.sqlstate == NOT_IN_A_BLOCK
                traced.append(Traced(statement, Effects(error=error, transactional=not refused)))
                failed = True
                continue
            found = tracer.measure(statement)
            traced.append(found)
            failed = found.effects.error is not None
    return traced


def _together(server: Server, template: str, statements: Sequence[Statement]) -> dict[int, PgError]:
    """Errors that come only where statements share a transaction, by position."""
    shared = [s.transaction for s in statements if s.in_transaction]
    if len(shared) == len(set(shared)):
        return {}
    with (
        server.scratch_database(template) as database,
        server.connect(database) as connection,
    ):
        open_ = None
        for at, statement in enumerate(statements):
            if open_ is not None and statement.transaction != open_:
                connection.execute("COMMIT")
                open_ = None
            if is_control(statement):
                continue
            if statement.in_transaction and open_ is None:
                connection.execute("BEGIN")
                open_ = statement.transaction
            try:
                connection.execute(statement.sql.encode())
            except psycopg.Error as error:
                return {at: _error(error)}
        if open_ is not None:
            connection.execute("ROLLBACK")
    return {}


def is_control(statement: Statement) -> bool:
    """BEGIN, COMMIT and the like: the tracer has transactions of its own."""
    return any(o.kind == "transaction" for o in statement.operations)


def _error(error: psycopg.Error) -> PgError:
    message = error.diag.message_primary or " ".join(str(error).split())
    return PgError(error.sqlstate or "", message)


class _Tracer:
    """Three sessions on one scratch database: one runs, one watches, one probes."""

    def __init__(self, server: Server, database: str, *, code: bool) -> None:
        self.server, self.database, self.code = server, database, code
        self.said: list[str] = []
        self._open()
        self.known = frozenset(look(self.watcher).relations)
        #: SET LOCAL of the migration's transaction, said again in each of ours: (which, texts)
        self._local: tuple[int | None, list[str]] = (None, [])

    def _open(self) -> None:
        self.runner, self.watcher, self.prober = (
            self.server.connect(self.database, application_name=f"zdd-trace {role}")
            for role in ("runner", "watcher", "prober")
        )
        self.runner.add_notice_handler(self._hear)
        self.runner.execute("SET client_min_messages = debug1")

    def close(self) -> None:
        """End the sessions."""
        for connection in (self.runner, self.watcher, self.prober):
            connection.close()

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "DEBUG" and notice.message_primary:
            self.said.append(notice.message_primary)

    def measure(self, statement: Statement) -> Traced:
        """Run one statement, and keep what it did."""
        if is_control(statement):
            return Traced(statement, Effects())
        before = look(self.watcher)
        probes = prepare(self.prober, before)
        plans = plan(self.prober, before) if self.code else Plans()
        self.said.clear()
        self._begin(statement)
        pid = self.runner.info.backend_pid
        read_before = rows_read(self.runner)
        try:
            self.runner.execute(statement.sql.encode())
        except psycopg.Error as error:
            self.runner.execute("ROLLBACK")
            if error.sqlstate == NOT_IN_A_BLOCK:
                return self._outside(statement, before, _error(error))
            return Traced(statement, Effects(error=_error(error)), said=tuple(self.said))
        said = tuple(self.said)
        after = look(self.runner)
        read = rows_read(self.runner)
        scans = {
            before.relations[oid].name: "rows were read"
            for oid, rows in read.items()
            if rows > read_before.get(oid, 0) and oid in before.relations and oid in self.known
        }
        locks = locks_of(self.watcher, pid)
        blocked = probes.blocked(self.prober)
        try:
            self.runner.execute("COMMIT")
        except psycopg.Error as error:  # a deferred check
            return Traced(statement, Effects(error=_error(error)), said=said)
        effects = self._effects(before, locks, work(before, after, self.known), scans)
        effects = replace(effects, breaks=self._broken(plans, before))
        return self._with_waiting(statement, effects, blocked, before, said)

    def _broken(self, plans: Plans, before: Snapshot) -> tuple[Break, ...]:
        known = {r.name for r in before.relations.values() if r.oid in self.known}
        return tuple(b for b in plans.broken(self.prober) if b.relation in known)

    def _begin(self, statement: Statement) -> None:
        """A transaction with what earlier statements of the migration's own set in it."""
        self.runner.execute("BEGIN")
        transaction, said = self._local
        if statement.transaction is None or statement.transaction != transaction:
            said = []
            self._local = (statement.transaction, said)
        for text in said:
            self.runner.execute(text.encode())
        if any(getattr(o, "local", False) for o in statement.operations):
            said.append(statement.sql)

    def _effects(
        self,
        before: Snapshot,
        locks: dict[int, LockMode],
        done: Work,
        scans: dict[QName, str],
    ) -> Effects:
        held = {
            relation: mode
            for oid, mode in locks.items()
            if (relation := before.relations.get(oid)) is not None and oid in self.known
        }
        return Effects(
            locks={r.name: m for r, m in held.items() if r.kind not in "iI"},
            index_locks={r.name: m for r, m in held.items() if r.kind in "iI"},
            rewrites=done.rewrites,
            scans=scans,
            index_builds=done.builds,
            index_rebuilds=done.rebuilds,
        )

    def _with_waiting(
        self,
        statement: Statement,
        effects: Effects,
        blocked: dict[QName, str],
        before: Snapshot,
        said: tuple[str, ...],
    ) -> Traced:
        known = {r.name for r in before.relations.values() if r.oid in self.known}
        indirect: dict[QName, tuple[bool, bool]] = {}
        for relation, kinds in blocked.items():
            own = effects.locks.get(relation)
            reads, writes = "s" in kinds, bool(set(kinds) & set("iudn"))
            if relation not in known or not (reads or writes):
                continue
            if own is None or own.blocks_reads < reads or own.blocks_writes < writes:
                indirect[relation] = (reads, writes)
        return Traced(
            statement,
            replace(effects, blocked_indirectly=indirect),
            probes={r: k for r, k in blocked.items() if r in known},
            said=said,
        )

    def _outside(self, statement: Statement, before: Snapshot, error: PgError) -> Traced:
        """A statement that refuses transaction blocks: by itself, and held up to see its locks."""
        if statement.in_transaction:
            return Traced(statement, Effects(error=error, transactional=False))
        locks, stages = watch(self.server, self.database, statement.sql, before, self._free)
        self.said.clear()
        failed: PgError | None = None
        try:
            self.runner.execute(statement.sql.encode())
        except psycopg.Error as raised:
            failed = _error(raised)
        done = work(before, look(self.watcher), self.known)
        worked = {*done.rewrites, *self._tables_of(done, before)}
        effects = self._effects(before, locks, done, dict.fromkeys(worked, "rows were read"))
        if failed is not None:
            effects = Effects(error=failed)
        return Traced(
            statement,
            replace(effects, transactional=False),
            stages=stages,
            said=tuple(self.said),
        )

    def _tables_of(self, done: Work, before: Snapshot) -> set[QName]:
        """Tables whose indexes were built or built anew."""
        after = look(self.watcher)
        names = {*done.builds, *done.rebuilds}
        return {
            before.relations[r.table].name
            for r in after.relations.values()
            if r.name in names and r.table in before.relations
        }

    @contextmanager
    def _free(self) -> Iterator[None]:
        """Leave the database for as long as it is copied, and come back to it."""
        self.close()
        try:
            yield
        finally:
            self._open()
