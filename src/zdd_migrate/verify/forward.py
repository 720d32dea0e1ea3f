"""Forward through the four phases: every step under load, every phase steady, back from each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from zdd_migrate.model.plan import Phase, Plan, Step
from zdd_migrate.model.verdict import LawResult
from zdd_migrate.postgres.compare import snapshot
from zdd_migrate.verify.back import Saved, WaysBack, last_reversible, ways_back
from zdd_migrate.verify.bench import Bench, Living, settle, start
from zdd_migrate.verify.dual import code_in
from zdd_migrate.verify.judge import STEPS_RUN
from zdd_migrate.verify.laws import check_end, check_laws, check_rows
from zdd_migrate.verify.loose import loose_notes

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


def walk_plan(bench: Bench) -> None:
    """Walk forward through all phases, and back from each meanwhile."""
    with ways_back(bench) as back:
        _forward(bench, back)


def _forward(bench: Bench, back: WaysBack) -> None:
    database = bench.server.create_database(template=bench.stage.start)
    if bench.effort.every_undo:
        copy = bench.server.create_database(template=bench.stage.start)
        back.look(copy, bench.code.branch(), _at_start)
    else:
        _at_start(bench, database)
    done: list[tuple[Phase, Step]] = []
    ends: dict[Phase, dict[str, str]] = {}
    for phase in Phase:
        steps = bench.plan.steps.get(phase, ())
        if not steps:
            continue
        back.trouble()
        reversible = [s for s in steps if s.undo is not None]
        final = [s for s in steps if s.undo is None]
        if not _steps(bench, database, phase, reversible):
            check_laws(bench, database, phase)
            return
        done += [(phase, step) for step in reversible]
        aside = not final and _parts(bench, phase)
        if bench.effort.every_undo or phase is last_reversible(bench.plan):
            copy = bench.server.create_database(template=database)
            saved = Saved(phase, copy, list(done), bench.code.branch(), dict(ends))
            back.begin(saved, partial(_after, phase=phase) if aside else None)
        if final and not _steps(bench, database, phase, final):
            check_laws(bench, database, phase)
            return
        if not aside:
            _after(bench, database, phase)
        with bench.server.connect(database) as connection:
            ends[phase] = snapshot(connection)
    check_end(bench, database)


def _at_start(bench: Bench, database: str) -> None:
    bench.steady(database, "start", [Living("old", bench.code)])


def _parts(bench: Bench, phase: Phase) -> bool:
    """Whether a phase is looked at steady on the copy that the way back starts from.

    Old code alone has then written all along, and goes on while the next phase's steps run: the
    walk forward need not stand still for it. What new code wrote must go through all that follows.
    """
    early = phase in (Phase.EXPAND, Phase.MIGRATE) and phase is not _last_phase(bench.plan)
    return early and bench.effort.every_undo


def _last_phase(plan: Plan) -> Phase:
    return [phase for phase in Phase if plan.steps.get(phase)][-1]


def _steps(bench: Bench, database: str, phase: Phase, steps: Sequence[Step]) -> bool:
    """Run steps under load. False when one failed: nothing after it can be tried."""
    sessions = bench.open(database, _DURING[phase], code_in(bench, phase))
    runner = bench.runner(database, "zdd-migrate apply")
    failed: LawResult | None = None
    try:
        with bench.watching(database) as watcher:
            start(sessions, bench.effort.settle)
            for step in steps:
                bench.say(f"{step.id} under load")
                said = runner.run(step, phase, watcher)
                if bench.effort.lingers or step is not steps[-1]:
                    settle(sessions, bench.effort.settle, last=step is steps[-1])
                bench.collect(sessions, phase.value, "during", step.id)
                if said:
                    failed = LawResult(STEPS_RUN, phase.value, False, 1, said, step.id)
                    break
    finally:
        bench.close(sessions, phase.value, "during")
    if failed is not None:
        bench.laws.append(failed)
    bench.laws += runner.laws(phase)
    return failed is None


def _after(bench: Bench, database: str, phase: Phase) -> None:
    """The phase steady: its code, and the laws."""
    names = _STEADY[phase]
    if phase is _last_phase(bench.plan) and not bench.plan.steps.get(Phase.SWITCH):
        names = ("old", "new")  # nothing waits for a release: both live from here on
    living = [Living(name, code_in(bench, phase)) for name in names]
    told = bench.plan.breaks_old or not bench.plan.restricts_old
    if phase is Phase.CONTRACT and told and "old" not in names:
        # where old code is merely restricted, whether it fails depends on what it writes
        living.append(Living("old", bench.code, works=not bench.plan.breaks_old))
    bench.steady(database, phase.value, living)
    check_laws(bench, database, phase)
    check_rows(bench, database, phase.value)
    if phase is Phase.SWITCH:
        bench.notes += loose_notes(bench, database)
    if phase is Phase.SWITCH and bench.plan.dual_writes:
        # the last release writes the new shape alone, so it comes after what must hold of both
        bench.steady(database, phase.value, [Living("new", bench.code)])
        bench.steady(database, phase.value, [Living("new", code_in(bench, phase))])
