"""`op.zdd_phase` and `op.zdd_undo`: a plan's phases inside Alembic revisions.

Revisions that `zdd-migrate plan --format alembic` writes import this module, which registers the
two. Each phase runs through the same engine as `zdd-migrate apply`, on a connection of its own:
short lock timeouts with retries, batches, and a journal, so that an `alembic upgrade` that was
stopped goes on where it stopped. Contract is a gate: it refuses to run until somebody says that no
old code is left.

    alembic -x zdd-approve=rename-user-name upgrade head

`-x zdd-approve=all` opens every gate: for databases that no code uses yet (tests, a new machine).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy import text

from zdd_migrate.errors import ZddError
from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Sql, Step, Validate

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_READING = "zdd_reading"


@Operations.register_operation("zdd_phase")
class PhaseOp(MigrateOperation):
    """Run one phase of a plan's directory."""

    def __init__(self, plan: Path, phase: str, *, drop: bool = False) -> None:
        self.plan, self.phase, self.drop = Path(plan), Phase(phase), drop

    @classmethod
    def zdd_phase(
        cls, operations: Operations, plan: Path, phase: str, *, drop: bool = False
    ) -> None:
        """Run the phase `phase` (expand, migrate, switch or contract) of the plan in `plan`.

        Steps without a way back run only with `drop`, and then they alone.
        """
        operations.invoke(cls(plan, phase, drop=drop))


@Operations.register_operation("zdd_undo")
class UndoOp(MigrateOperation):
    """Walk a plan back."""

    def __init__(self, plan: Path, to: str, *, drop: bool = False) -> None:
        self.plan, self.to, self.drop = Path(plan), to, drop

    @classmethod
    def zdd_undo(cls, operations: Operations, plan: Path, to: str, *, drop: bool = False) -> None:
        """Walk the plan in `plan` back until `to` is the last phase standing (start: none is).

        With `drop` it is the drop that is to be taken back, which cannot be.
        """
        operations.invoke(cls(plan, to, drop=drop))


@Operations.implementation_for(PhaseOp)
def _run(operations: Operations, op: PhaseOp) -> None:
    from zdd_migrate.plan.directory import read

    context = operations.migration_context
    with _in_alembics_words():
        plan = read(op.plan)
    steps = plan.part(op.phase, drop=op.drop)
    if context.opts.get(_READING):
        context.opts["zdd_planned"] = True
        for step in steps:
            _emit(operations, step)
        return
    if context.as_sql:
        _script(operations, plan, op.phase, steps)
        return
    _gate(context, plan, op.phase)
    if op.drop:
        _drop_gate(context, plan)
    from zdd_migrate.apply import Policy, run_phase

    with context.autocommit_block(), _by_our_name(context), _in_alembics_words():
        run_phase(
            op.plan,
            op.phase,
            _url(context),
            approve=True,
            approve_drop=op.drop,
            early=op.drop and _given(context).get("zdd-approve-drop") == "all",
            policy=Policy(say=_say(context)),
            say=_say(context),
        )


@Operations.implementation_for(UndoOp)
def _undo(operations: Operations, op: UndoOp) -> None:
    from zdd_migrate.apply import Policy, undo

    context = operations.migration_context
    if op.drop:
        raise CommandError(
            f"{op.plan.name}: what was dropped cannot be brought back: go forward with another "
            "migration"
        )
    if context.as_sql:
        raise CommandError(
            f"the way back of {op.plan.name} asks the database where it stands and cannot be a "
            f"script: run zdd-migrate undo {op.plan} --to {op.to} instead"
        )
    with context.autocommit_block(), _in_alembics_words():
        undo(op.plan, _url(context), op.to, policy=Policy(say=_say(context)), say=_say(context))


def _gate(context: MigrationContext, plan: Plan, phase: Phase) -> None:
    """Contract needs a yes, given for this plan on this call."""
    if phase is not Phase.CONTRACT:
        return
    given = _given(context)
    if given.get("zdd-approve") not in (plan.name, "all") and "zdd-approve-drop" not in given:
        with context.autocommit_block():
            pass  # what ran before this stays
        raise CommandError(
            f"{plan.name}: contract takes away what old code needs. Once no instance, worker or "
            f"job of the old code is left: alembic -x zdd-approve={plan.name} upgrade …  (-x "
            "zdd-approve=all on a database that no code uses yet)"
        )


def _given(context: MigrationContext) -> dict[str, str]:
    """What was said with -x; `zdd-approve=all` says yes to dropping too, and to doing it now."""
    environment = context.environment_context
    said = environment.get_x_argument(as_dictionary=True) if environment is not None else {}
    given = {k: v for k, v in said.items() if isinstance(v, str)}
    if given.get("zdd-approve") == "all":
        given.setdefault("zdd-approve-drop", "all")
    return given


def _drop_gate(context: MigrationContext, plan: Plan) -> None:
    """What has no way back needs a yes of its own."""
    if _given(context).get("zdd-approve-drop") in (plan.name, "all"):
        return
    with context.autocommit_block():
        pass  # what ran before this stays
    raise CommandError(
        f"{plan.name}: this drops for good what contract took out of use. When nothing was missed: "
        f"alembic -x zdd-approve-drop={plan.name} upgrade …"
    )


def _script(operations: Operations, plan: Plan, phase: Phase, steps: Sequence[Step]) -> None:
    """The phase for `--sql`: each step as it would be run, where that can be a script."""
    if any(isinstance(step, Backfill) for step in steps):
        raise CommandError(
            f"{plan.name}: {phase.value} fills rows in batches and cannot be a script: run "
            f"zdd-migrate apply --phase {phase.value} instead, or upgrade without --sql"
        )
    with operations.get_context().autocommit_block():
        for step in steps:
            alone = isinstance(step, Sql) and not step.transactional
            if not alone:
                operations.execute("BEGIN")
                operations.execute(f"SET LOCAL lock_timeout = {_lock_timeout(step)}")
            _emit(operations, step)
            if not alone:
                operations.execute("COMMIT")


def _lock_timeout(step: Step) -> int:
    return step.lock_timeout_ms if isinstance(step, Sql) else 2000


def _emit(operations: Operations, step: Step) -> None:
    """A step's statements, as text; a gate becomes a block that raises."""
    for statement in _statements(step):
        operations.get_context().impl.static_output(f"{statement};")


def _statements(step: Step) -> Iterator[str]:
    match step:
        case Sql() | Validate():
            yield from step.statements
        case Backfill():
            sets = ", ".join(f"{column} = {value}" for column, value in step.assignments)
            yield f"UPDATE {step.table} SET {sets} WHERE {step.where}"
        case Gate():
            message = step.message.replace("'", "''").replace("%", "%%")
            yield (
                f"DO $zdd$ BEGIN IF EXISTS ({step.query}) THEN RAISE EXCEPTION '{message}'; "
                "END IF; END $zdd$"
            )


def _url(context: MigrationContext) -> str:
    """A libpq URL of the database that Alembic is connected to."""
    connection = context.connection
    assert connection is not None
    url = connection.engine.url
    query = {k: v for k, v in url.query.items() if k != "async_fallback"}
    return url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)


@contextmanager
def _by_our_name(context: MigrationContext) -> Iterator[None]:
    """Alembic's own connection by a name of ours while a phase runs over another: a gate that waits
    for clients to be gone must not wait for it."""
    connection = context.connection
    assert connection is not None
    named = text("SELECT set_config('application_name', :name, false)")
    was = connection.execute(text("SHOW application_name")).scalar()
    connection.execute(named, {"name": "zdd-migrate alembic"})
    try:
        yield
    finally:
        connection.execute(named, {"name": was})


def _say(context: MigrationContext) -> Any:
    import logging

    log = logging.getLogger("alembic.zdd")
    return lambda text: log.info("%s", text)


@contextmanager
def _in_alembics_words() -> Iterator[None]:
    """Our errors as Alembic's, which its command line shows in one line."""
    try:
        yield
    except ZddError as error:
        raise CommandError(str(error)) from error
