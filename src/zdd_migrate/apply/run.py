"""Phases of a plan on a database: in order, recorded, resumable, and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from zdd_migrate.apply.backfill import Progress, remaining, run_backfill
from zdd_migrate.apply.journal import Entry, Journal
from zdd_migrate.apply.steps import Policy, run_step, undo_step
from zdd_migrate.errors import (
    EnvironmentFailedError,
    FindingsError,
    InputError,
    PlanMovedError,
)
from zdd_migrate.model.plan import Backfill, Phase, Plan, Release, Sql, Step
from zdd_migrate.plan.directory import plan_hash, read
from zdd_migrate.plan.fingerprint import require_same_schema
from zdd_migrate.postgres.catalog import read_schema

Say = Callable[[str], None]
START = "start"


@dataclass(slots=True)
class Result:
    """What a run did: ids of steps `ran`, `skipped` (done before) and `left` (not asked for)."""

    plan: str
    phase: str
    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PhaseStatus:
    """How far a phase has come: `state` is done, partly, or open."""

    phase: Phase
    state: str
    done: tuple[str, ...]
    open: tuple[str, ...]
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """How far a plan has come on a database. `next` is what to do now, in words."""

    plan: str
    phases: tuple[PhaseStatus, ...]
    past_return: bool
    next: str


@contextmanager
def _session(database: str, application: str = "zdd-migrate apply") -> Iterator[psycopg.Connection]:
    try:
        connection = psycopg.connect(
            database,
            autocommit=True,
            connect_timeout=10,
            application_name=application,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
    except psycopg.Error as error:
        raise EnvironmentFailedError(
            f"the database cannot be reached: {' '.join(str(error).split())[:200]}"
        ) from None
    try:
        yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise EnvironmentFailedError(
            f"the connection to the database was lost: {' '.join(str(error).split())[:160]}; run "
            "the same command again: it goes on where it stopped"
        ) from None
    finally:
        connection.close()


def run_phase(
    plan_dir: Path,
    phase: Phase,
    database: str,
    *,
    dry_run: bool = False,
    approve: bool = False,
    approve_drop: bool = False,
    early: bool = False,
    policy: Policy | None = None,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Result:
    """Run one phase; steps done before are skipped, so a stopped run goes on where it stopped.

    `approve` is asked for by contract. What has no way back, and all after it, is left until
    `approve_drop`, and until its day has come, or `early`. Raises PlanMovedError when the schema is
    not the plan's, FindingsError when an earlier phase or a gate is not through, or the day has not
    come.
    """
    plan = read(plan_dir)
    steps = plan.steps.get(phase, ())
    result = Result(plan.name, phase.value)
    if phase is Phase.CONTRACT and steps and not (approve or approve_drop or dry_run):
        raise InputError(
            "contract takes away what old code needs: make sure none is left running, then give "
            "--approve"
        )
    with _session(database) as connection:
        journal = Journal(connection, plan.name)
        entries = journal.entries()
        _same_plan(journal, plan_dir, plan)
        if not entries:
            require_same_schema(plan, read_schema(connection))
        _in_order(plan, phase, {e.step for e in entries.values() if e.state == "done"})
        drops = () if approve_drop else plan.part(phase, drop=True)
        if dry_run:
            _rehearse(steps[: len(steps) - len(drops)], entries.keys(), result)
            result.left += [step.id for step in drops]
            return result
        journal.create()
        journal.lock()
        journal.begin(plan_hash(plan_dir), plan.schema_hash)
        entries = journal.entries()
        if phase in (Phase.SWITCH, Phase.CONTRACT) and not _parted(plan, entries.keys()):
            _complete(connection, plan)
        for step in steps:
            if step.id in entries and entries[step.id].state == "done":
                result.skipped.append(step.id)
                continue
            if step in drops:
                result.left += [s.id for s in steps[steps.index(step) :]]
                break
            if step.id in plan.drops and not early:
                _day_has_come(step, plan, journal.entries())
            say(f"{step.id}: {step.why}")
            _run(connection, journal, step, phase, policy, progress)
            result.ran.append(step.id)
            if isinstance(step, Release):
                result.releases.append(step.code)
                if step is not steps[-1]:  # what follows needs that code, and nobody else's
                    result.left += [s.id for s in steps[steps.index(step) + 1 :]]
                    break
    return result


def _drop_day(plan: Plan, entries: Mapping[str, Entry]) -> datetime | None:
    """When what has no way back may run: some days after the last that has one. None: at once."""
    dropping = plan.part(Phase.CONTRACT, drop=True)
    days = max((step.after_days for step in dropping if isinstance(step, Sql)), default=0)
    before = [
        entries[step.id].changed_at
        for step in plan.part(Phase.CONTRACT, drop=False)
        if step.id in entries
    ]
    return max(before) + timedelta(days=days) if days and before else None


def _day_has_come(step: Step, plan: Plan, entries: Mapping[str, Entry]) -> None:
    day = _drop_day(plan, entries)
    if day is not None and datetime.now(UTC) < day:
        raise FindingsError(
            f"{step.id} has no way back and waits until {day:%Y-%m-%d %H:%M} UTC: what it drops can "
            "be brought back at once until then. Run it after that, or give --early too"
        )


def _run(
    connection: psycopg.Connection,
    journal: Journal,
    step: Step,
    phase: Phase,
    policy: Policy | None,
    progress: Progress | None,
) -> None:
    def done(inside: psycopg.Connection) -> None:
        journal.mark(inside, step, phase, "done")

    if isinstance(step, Backfill):
        run_backfill(
            connection,
            step,
            cursor=journal.cursor(step),
            save=lambda inside, cursor: journal.save_cursor(inside, step, cursor),
            progress=progress,
            pause=_rest,
        )
        done(connection)
        return
    if isinstance(step, Sql) and not step.transactional:
        journal.mark(connection, step, phase, "running")
    run_step(connection, step, policy=policy, before_commit=done, progress=progress)


def _rest(connection: psycopg.Connection) -> float:
    """Seconds to rest between batches: longer while replicas lag or somebody waits for a lock."""
    row = connection.execute(
        """SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float,
                  (SELECT count(*) FROM pg_locks WHERE NOT granted)
           FROM pg_stat_replication"""
    ).fetchone()
    if row is None:
        return 0.0
    if row[0] > 5:
        return 1.0
    return 0.2 if row[1] else 0.0


def _same_plan(journal: Journal, plan_dir: Path, plan: Plan) -> None:
    recorded = journal.recorded_hash()
    if recorded is not None and recorded != plan_hash(plan_dir):
        raise PlanMovedError(
            f"{plan_dir}: the plan {plan.name} was changed after it was begun on this database; "
            "undo it with the plan it was begun with, then start anew"
        )


def _in_order(plan: Plan, phase: Phase, done: set[str]) -> None:
    for earlier in Phase:
        if earlier is phase:
            return
        missing = [s.id for s in plan.steps.get(earlier, ()) if s.id not in done]
        if missing:
            raise FindingsError(
                f"{phase.value} comes after {earlier.value}, of which {missing[0]} is not done: run "
                f"--phase {earlier.value} first"
            )


def _parted(plan: Plan, done: Collection[str]) -> bool:
    """Whether code was released that may write what its old columns no longer say back."""
    return bool(plan.dual_writes) and any(
        isinstance(step, Release) and step.id in done for step in plan.steps.get(Phase.SWITCH, ())
    )


def _complete(connection: psycopg.Connection, plan: Plan) -> None:
    """The proof that every backfill is through, before code relies on it and before contract."""
    for step in plan.steps.get(Phase.MIGRATE, ()):
        if not isinstance(step, Backfill):
            continue
        try:
            left = remaining(connection, step)
        except psycopg.errors.UndefinedColumn:
            continue  # contract has begun: the old column is gone by its own name
        if left:
            raise FindingsError(
                f"{step.id} is not complete: {left} rows of {step.table} are still to do; something "
                "writes past the trigger. Run --phase migrate again, and find out what it is"
            )


def _rehearse(steps: tuple[Step, ...], known: object, result: Result) -> None:
    for step in steps:
        if isinstance(known, type({}.keys())) and step.id in known:
            result.skipped.append(step.id)
            continue
        result.ran.append(step.id)
        result.statements += getattr(step, "statements", ())


def undo(
    plan_dir: Path,
    database: str,
    to: str = START,
    *,
    policy: Policy | None = None,
    say: Say = lambda _: None,
) -> Result:
    """Walk back, step by step, until the phase `to` is the last one standing (start: none is).

    FindingsError past the point of no return. To the start, nothing is left outside schema zdd.
    """
    plan = read(plan_dir)
    keep = 0 if to == START else Phase(to).number
    result = Result(plan.name, to)
    with _session(database, "zdd-migrate undo") as connection:
        journal = Journal(connection, plan.name)
        entries = journal.entries()
        if not entries:
            return result
        _same_plan(journal, plan_dir, plan)
        journal.lock()
        standing = [
            (phase, step)
            for phase, step in plan.all_steps()
            if step.id in entries and phase.number > keep
        ]
        gone = [step.id for _, step in standing if step.undo is None]
        if gone:
            raise FindingsError(
                f"{gone[0]} of {plan.name} is done, and it is the point of no return: go forward "
                "with another migration"
            )
        for phase, step in reversed(standing):
            say(f"undo {step.id}: {step.why}")
            _undo(connection, journal, step, phase, policy)
            result.ran.append(step.id)
        if keep == 0:
            journal.end()
    return result


def _undo(
    connection: psycopg.Connection,
    journal: Journal,
    step: Step,
    phase: Phase,
    policy: Policy | None,
) -> None:
    if isinstance(step, Sql) and step.undo and not step.undo_transactional:
        journal.mark(connection, step, phase, "running")

    def gone(inside: psycopg.Connection) -> None:
        journal.forget(inside, step)

    undo_step(connection, step, policy=policy, before_commit=gone)


def status(plan_dir: Path, database: str) -> Status:
    """How far the plan has come."""
    plan = read(plan_dir)
    with _session(database, "zdd-migrate status") as connection:
        entries = Journal(connection, plan.name).entries()
    phases = []
    for phase in Phase:
        ids = [step.id for step in plan.steps.get(phase, ())]
        done = tuple(i for i in ids if i in entries and entries[i].state == "done")
        running = tuple(i for i in ids if i in entries and entries[i].state == "running")
        left = tuple(i for i in ids if i not in entries)
        state = "done" if len(done) == len(ids) else "partly" if done or running else "open"
        phases.append(PhaseStatus(phase, state, done, left, running))
    past = any(step.undo is None and step.id in entries for _, step in plan.all_steps())
    return Status(plan.name, tuple(phases), past, _next(phases, plan, entries))


def _next(phases: list[PhaseStatus], plan: Plan, entries: Mapping[str, Entry]) -> str:
    for one in phases:
        if one.state != "done":
            if {*one.open, *one.running} <= set(plan.drops):
                day = _drop_day(plan, entries)
                when = f" from {day:%Y-%m-%d %H:%M} UTC on" if day is not None else ""
                return f"zdd-migrate apply PLAN --phase contract --approve-drop{when}: it drops for good"
            approve = " --approve" if one.phase is Phase.CONTRACT else ""
            return f"zdd-migrate apply PLAN --phase {one.phase.value}{approve}"
    return "nothing: the plan is through"
