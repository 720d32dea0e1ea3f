"""The walk: every phase steady, every step under load, every way back, on real databases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import psycopg

from zdd_migrate.apply.steps import Policy, run_step, undo_step
from zdd_migrate.errors import EnvironmentFailedError, FindingsError
from zdd_migrate.model.plan import Law, Phase, Plan, Step
from zdd_migrate.model.verdict import (
    Judgement,
    LawResult,
    Rollback,
    Trial,
    Verdict,
    When,
)
from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.data import fill
from zdd_migrate.verify.judge import Limits, judge, trial
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.stage import Stage, set_up
from zdd_migrate.verify.synthetic import Ledger, compare_ledger
from zdd_migrate.verify.versions import (
    CodeVersion,
    Command,
    Session,
    Synthetic,
    SyntheticSession,
)

Say = Callable[[str], None]

#: which code versions live in a phase: while its steps run, and once they are done
_DURING = {
    Phase.EXPAND: ("old",),
    Phase.MIGRATE: ("old",),
    Phase.SWITCH: ("old",),
    Phase.CONTRACT: ("new",),
}
_STEADY = {
    Phase.EXPAND: ("old",),
    Phase.MIGRATE: ("old",),
    Phase.SWITCH: ("old", "new"),
    Phase.CONTRACT: ("new",),
}


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try. `settle_s` is how long the load runs on around each step."""

    rounds: int = 6
    settle_s: float = 0.15
    rows: int = 3000
    every_undo: bool = True

    @classmethod
    def quick(cls) -> Effort:
        """Enough for every push: fewer rounds and rows, and one way back, the longest."""
        return cls(rounds=2, settle_s=0.05, rows=300, every_undo=False)


@dataclass(slots=True)
class _Code:
    """Both code versions on one lineage of databases."""

    synthetic: dict[str, Synthetic]
    commands: dict[str, list[Command]]

    def of(self, name: str) -> list[CodeVersion]:
        return [self.synthetic[name], *self.commands[name]]

    def without_commands(self) -> _Code:
        """The made-up versions alone, with the same ledgers."""
        return _Code(self.synthetic, {name: [] for name in self.commands})

    def with_new(self, shapes: Sequence[Shape]) -> _Code:
        """The same versions, the new one keeping to these shapes."""
        new = replace(self.synthetic["new"], shapes=shapes)
        return _Code({**self.synthetic, "new": new}, self.commands)

    def branch(self) -> _Code:
        """The same versions for a copy of the database: ledgers go on separately."""
        copies = {}
        for name, version in self.synthetic.items():
            ledger = Ledger()
            ledger.rows = version.ledger.snapshot()
            copies[name] = replace(version, ledger=ledger)
        return _Code(copies, self.commands)


@dataclass(slots=True)
class _Saved:
    """The state after a phase, to walk back from."""

    phase: Phase
    database: str
    done: list[tuple[Phase, Step]]
    code: _Code


@dataclass(slots=True)
class Walk:
    """One verification under way."""

    server: Server
    stage: Stage
    plan: Plan
    code: _Code
    effort: Effort
    limits: Limits
    say: Say
    trials: list[Trial] = field(default_factory=list)
    laws: list[LawResult] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: what new code can count on before contract: it must do with that when contract is undone
    floor: list[Shape] = field(default_factory=list)

    def run(self) -> None:
        """Walk forward through all phases, then back from each."""
        database = self.server.create_database(template=self.stage.start)
        self.steady(database, "start", "old", expected=True, code=self.code)
        saved: list[_Saved] = []
        done: list[tuple[Phase, Step]] = []
        for phase in Phase:
            steps = self.plan.steps.get(phase, ())
            if not steps:
                continue
            reversible = [s for s in steps if s.undo is not None]
            final = [s for s in steps if s.undo is None]
            if not self._steps(database, phase, reversible):
                self._check_laws(database, phase)
                return
            done += [(phase, step) for step in reversible]
            if self.effort.every_undo or phase is self._last_reversible():
                copy = self.server.create_database(template=database)
                saved.append(_Saved(phase, copy, list(done), self.code.branch()))
            if final and not self._steps(database, phase, final):
                self._check_laws(database, phase)
                return
            self._after(database, phase)
        self._end(database)
        self._all_back(saved)

    def _last_reversible(self) -> Phase:
        phases = [p for p, s in self.plan.all_steps() if s.undo is not None]
        return phases[-1] if phases else Phase.EXPAND

    def _last_phase(self) -> Phase:
        return [phase for phase in Phase if self.plan.steps.get(phase)][-1]

    # -- forward -----------------------------------------------------------------------------

    def _steps(self, database: str, phase: Phase, steps: Sequence[Step]) -> bool:
        """Run steps under load. False when one failed: nothing after it can be tried."""
        names = _DURING[phase]
        sessions = self.open(database, names, self.code)
        runner = self.server.connect(database, application_name="zdd-migrate apply")
        failure = ""
        try:
            for session in sessions.values():
                session.start()
            for step in steps:
                self.say(f"{step.id} under load")
                time.sleep(self.effort.settle_s)
                try:
                    run_step(runner, step, policy=Policy(attempts=8))
                except (EnvironmentFailedError, FindingsError) as error:
                    failure = str(error)
                time.sleep(self.effort.settle_s)
                self.collect(sessions, phase.value, "during", step.id)
                if failure:
                    break
        finally:
            runner.close()
            self.close(sessions, phase.value, "during")
        if failure:
            self.laws.append(LawResult("every step runs", phase.value, False, 1, failure))
        return not failure

    def _after(self, database: str, phase: Phase) -> None:
        """The phase steady: its code, and the laws."""
        names = _STEADY[phase]
        if phase is self._last_phase() and not self.plan.steps.get(Phase.SWITCH):
            names = ("old", "new")  # nothing waits for a release: both live from here on
        for name in names:
            self.steady(database, phase.value, name, expected=True, code=self.code)
        if phase is Phase.CONTRACT and (self.plan.breaks_old or not self.plan.restricts_old):
            # where old code is merely restricted, whether it fails depends on what it writes
            self.steady(
                database, phase.value, "old", expected=not self.plan.breaks_old, code=self.code
            )
        self._check_laws(database, phase)
        self._check_ledgers(database, phase.value)

    def steady(
        self,
        database: str,
        phase: str,
        name: str,
        *,
        expected: bool,
        code: _Code,
        when: When = "steady",
    ) -> None:
        for version in code.of(name):
            if not version.has_work:
                continue
            if name == "new":
                self._fill_new_tables(database)
            session = version.open(self.server, database)
            if phase == Phase.SWITCH.value and isinstance(session, SyntheticSession):
                self.floor = session.shapes if name == "new" else self.floor
            try:
                for _ in range(1 if version.depth == "command" else self.effort.rounds):
                    session.work_once()
            finally:
                session.close()
            self.trials.append(
                trial(
                    session.recorder.take(),
                    phase=phase,
                    when=when,
                    code=_label(version),
                    expected=expected,
                    limits=self.limits,
                )
            )

    def _fill_new_tables(self, database: str) -> None:
        """Rows to work from in tables that the migration creates."""
        fresh = [s.name for s in self.stage.new if s.name not in self.stage.before.tables]
        if fresh:
            with self.server.connect(database) as connection:
                here = [n for n in fresh if n in read_schema(connection).tables]
                self.notes += fill(connection, self.stage.after, here, 50)

    def open(self, database: str, names: Sequence[str], code: _Code) -> dict[str, Session]:
        return {
            _label(version): version.open(self.server, database)
            for name in names
            for version in code.of(name)
            if version.has_work
        }

    def collect(
        self, sessions: dict[str, Session], phase: str, when: When, step: str | None
    ) -> None:
        """What made-up versions did while a step ran; commands are judged by whole runs."""
        for label, session in sessions.items():
            if "command" in label:
                continue
            self.trials.append(
                trial(
                    session.recorder.take(),
                    phase=phase,
                    when=when,
                    code=label,
                    expected=True,
                    limits=self.limits,
                    step=step,
                )
            )

    def close(self, sessions: dict[str, Session], phase: str, when: When) -> None:
        for label, session in sessions.items():
            session.stop()
            left = session.recorder.take()
            session.close()
            if "command" in label:
                # one run of a program may outlast any step: its own limit applies, not a
                # statement's
                limits = Limits(longest_wait_ms=float("inf"))
            elif left.errors:
                limits = self.limits
            else:
                continue
            self.trials.append(
                trial(left, phase=phase, when=when, code=label, expected=True, limits=limits)
            )

    # -- laws --------------------------------------------------------------------------------

    def _check_laws(self, database: str, phase: Phase) -> None:
        with self.server.connect(database) as connection:
            for law in self.plan.laws:
                if law.since.number <= phase.number <= law.until.number:
                    self.laws.append(_check(connection, law, phase.value))

    def _check_ledgers(self, database: str, phase: str) -> None:
        """No write that a client was told of may be missing or changed."""
        sides: list[tuple[str, Sequence[Shape]]] = []
        if phase != Phase.CONTRACT.value:
            sides.append(("old", self.stage.old))
        if phase in (Phase.SWITCH.value, Phase.CONTRACT.value):
            sides.append(("new", self.stage.new))
        with self.server.connect(database) as connection:
            for name, shapes in sides:
                self._ledger(connection, self.code.synthetic[name].ledger, shapes, phase, name)
            if phase == Phase.CONTRACT.value:
                # what old code wrote must have come through: by key and common columns
                ledger = self.code.synthetic["old"].ledger
                self._ledger(connection, ledger, self.stage.new, phase, "old")

    def _ledger(
        self,
        connection: psycopg.Connection,
        ledger: Ledger,
        shapes: Sequence[Shape],
        phase: str,
        name: str,
    ) -> None:
        law = f"no write acknowledged to {name} code is lost"
        try:
            missing, differing, example = compare_ledger(connection, ledger, shapes)
        except psycopg.Error as error:
            said = " ".join(str(error).split())[:200]
            self.laws.append(LawResult(law, phase, False, 1, said))
            return
        self.laws.append(
            LawResult(law, phase, not (missing or differing), missing + differing, example)
        )

    def _end(self, database: str) -> None:
        if self.stage.end is None:
            return
        with self.server.connect(database) as connection:
            found = differences(self.stage.end, snapshot(connection))
        self.laws.append(
            LawResult(
                "the end schema equals the plain migration's",
                Phase.CONTRACT.value,
                not found,
                len(found),
                "; ".join(found[:3])[:400],
            )
        )

    # -- back --------------------------------------------------------------------------------

    def _all_back(self, saved: Sequence[_Saved]) -> None:
        """Walk back from every phase, two at a time: they know nothing of each other."""
        walks = [replace(self, trials=[], laws=[], rollbacks=[], notes=[]) for _ in saved]
        with ThreadPoolExecutor(max_workers=2) as pool:
            for running in [
                pool.submit(walk._back, one)  # noqa: SLF001 - another of our own kind
                for walk, one in zip(walks, saved, strict=True)
            ]:
                running.result()
        for walk in walks:
            self.trials += walk.trials
            self.rollbacks += walk.rollbacks

    def _back(self, saved: _Saved) -> None:
        """Undo everything from where a phase ended, under load, and look what is left."""
        self.say(f"back from {saved.phase.value}")
        contract = [s for p, s in reversed(saved.done) if p is Phase.CONTRACT]
        earlier = [s for p, s in reversed(saved.done) if p is not Phase.CONTRACT]
        failure = self._undo(saved, contract, "new", "contract undone") if contract else ""
        if not failure:
            failure = self._undo(saved, earlier, "old", "all undone")
        if not failure:
            self.steady(
                saved.database,
                saved.phase.value,
                "old",
                expected=True,
                code=saved.code,
                when="undo",
            )
        with self.server.connect(saved.database) as connection:
            changed = differences(self.stage.begin, snapshot(connection))
            lost, example = self._lost(connection, saved.code)
        self.server.drop_database(saved.database)
        detail = failure or "; ".join(changed[:3])[:400] or example
        self.rollbacks.append(
            Rollback(saved.phase.value, "start", not changed and not failure, lost, detail)
        )

    def _undo(self, saved: _Saved, steps: Sequence[Step], living: str, label: str) -> str:
        """Undo steps while a code version works; gives what went wrong."""
        # the way back from the last phase passes through all the others: programs, which take
        # long to start, go along on that one; made-up statements on every one
        along = (
            saved.code if saved.phase is self._last_reversible() else saved.code.without_commands()
        )
        if living == "new" and self.floor:
            along = along.with_new(self.floor)
        sessions = self.open(saved.database, (living,), along)
        runner = self.server.connect(saved.database, application_name="zdd-migrate undo")
        try:
            for session in sessions.values():
                session.start()
            time.sleep(self.effort.settle_s)
            for step in steps:
                try:
                    undo_step(runner, step, policy=Policy(attempts=8))
                except (EnvironmentFailedError, FindingsError) as error:
                    return f"the undo of {step.id} failed: {error}"
            time.sleep(self.effort.settle_s)
            self.collect(sessions, saved.phase.value, "undo", label)
        finally:
            runner.close()
            self.close(sessions, saved.phase.value, "undo")
        return ""

    def _lost(self, connection: psycopg.Connection, code: _Code) -> tuple[int, str]:
        total, example = 0, ""
        for version in code.synthetic.values():
            try:
                missing, differing, one = compare_ledger(connection, version.ledger, self.stage.old)
            except psycopg.Error as error:
                return 1, f"the rows cannot be compared: {' '.join(str(error).split())[:120]}"
            total += missing + differing
            example = example or one
        return total, example


def _label(version: CodeVersion) -> str:
    return version.name if version.depth == "synthetic" else f"{version.name} {version.depth}"


def _check(connection: psycopg.Connection, law: Law, phase: str) -> LawResult:
    query = f"SELECT count(*) FROM ({law.query}) v"
    try:
        row = connection.execute(query.encode()).fetchone()
    except psycopg.Error as error:
        return LawResult(law.name, phase, False, 1, " ".join(str(error).split())[:200])
    assert row is not None
    return LawResult(law.name, phase, row[0] == 0, int(row[0]))


def verify_plan(
    plan: Plan,
    *,
    schema_sql: str,
    server: Server,
    old: Sequence[Command] = (),
    new: Sequence[Command] = (),
    seed_sql: str | None = None,
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plan: made-up statements always, and the given programs of both versions besides."""
    effort = effort or Effort()
    say("building the starting schema and rows")
    stage = set_up(server, schema_sql, plan.sources, seed_sql=seed_sql, rows=effort.rows)
    walk = Walk(server, stage, plan, _code(stage, old, new), effort, limits or Limits(), say)
    walk.run()
    return _verdict(walk, stage)


def verify_migration(
    sources: Sequence[str],
    *,
    in_transaction: bool,
    schema_sql: str,
    server: Server,
    old: Sequence[Command] = (),
    new: Sequence[Command] = (),
    seed_sql: str | None = None,
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plain migration: run while the old code works, then both versions side by side.

    Both are expected to work all the while, for that is what a deployment without downtime needs.
    """
    effort = effort or Effort()
    say("building the starting schema and rows")
    stage = set_up(server, schema_sql, sources, seed_sql=seed_sql, rows=effort.rows)
    plan = Plan("migration", "", {}, sources=tuple(sources))
    walk = Walk(server, stage, plan, _code(stage, old, new), effort, limits or Limits(), say)
    database = server.create_database(template=stage.start)
    walk.steady(database, "start", "old", expected=True, code=walk.code)
    say("running the migration under the old code's load")
    _run_plain(walk, database, sources, in_transaction)
    for name in ("old", "new"):
        walk.steady(database, "migration", name, expected=True, code=walk.code)
    return _verdict(walk, stage)


def _run_plain(walk: Walk, database: str, sources: Sequence[str], in_transaction: bool) -> None:
    sessions = walk.open(database, ("old",), walk.code)
    runner = walk.server.connect(database, application_name="zdd-migrate migration")
    try:
        for session in sessions.values():
            session.start()
        time.sleep(walk.effort.settle_s)
        try:
            if in_transaction:
                with runner.transaction():
                    for statement in sources:
                        runner.execute(statement.encode())
            else:
                for statement in sources:
                    runner.execute(statement.encode())
        except psycopg.Error as error:
            said = " ".join(str(error).split())[:300]
            walk.laws.append(LawResult("the migration runs", "migration", False, 1, said))
        time.sleep(walk.effort.settle_s * 2)
        walk.collect(sessions, "migration", "during", None)
    finally:
        runner.close()
        walk.close(sessions, "migration", "during")


def _code(stage: Stage, old: Sequence[Command], new: Sequence[Command]) -> _Code:
    return _Code(
        {
            name: Synthetic(name, shapes, ignored=stage.own_faults.get(name, frozenset()))
            for name, shapes in (("old", stage.old), ("new", stage.new))
        },
        {"old": list(old), "new": list(new)},
    )


def _verdict(walk: Walk, stage: Stage) -> Verdict:
    judgement = judge(walk.trials, walk.laws, walk.rollbacks)
    notes = [*stage.notes, *walk.notes]
    if not stage.old and not stage.new:
        notes.append("the migration changes no table, so no statement was tried")
        judgement = Judgement.INCONCLUSIVE if judgement is Judgement.PASS else judgement
    return Verdict(
        judgement=judgement,
        pg_version=walk.server.version,
        trials=tuple(walk.trials),
        laws=tuple(walk.laws),
        rollbacks=tuple(walk.rollbacks),
        notes=tuple(notes),
    )
