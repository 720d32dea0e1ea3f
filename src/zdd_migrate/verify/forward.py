"""Forward through the four phases: every step under load, every phase steady, then back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from zdd_migrate.model.plan import Phase, Plan, Step
from zdd_migrate.model.verdict import LawResult
from zdd_migrate.postgres.compare import snapshot
from zdd_migrate.verify.back import Saved, last_reversible, walk_back
from zdd_migrate.verify.bench import Bench
from zdd_migrate.verify.dual import code_in
from zdd_migrate.verify.judge import STEPS_RUN
from zdd_migrate.verify.laws import check_end, check_laws, check_ledgers, check_unharmed

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
    """Walk forward through all phases, then back from each."""
    database = bench.server.create_database(template=bench.stage.start)
    bench.steady(database, "start", "old", expected=True, code=bench.code)
    saved: list[Saved] = []
    done: list[tuple[Phase, Step]] = []
    ends: dict[Phase, dict[str, str]] = {}
    for phase in Phase:
        steps = bench.plan.steps.get(phase, ())
        if not steps:
            continue
        reversible = [s for s in steps if s.undo is not None]
        final = [s for s in steps if s.undo is None]
        if not _steps(bench, database, phase, reversible):
            check_laws(bench, database, phase)
            return
        done += [(phase, step) for step in reversible]
        if bench.effort.every_undo or phase is last_reversible(bench.plan):
            copy = bench.server.create_database(template=database)
            saved.append(Saved(phase, copy, list(done), bench.code.branch(), dict(ends)))
        if final and not _steps(bench, database, phase, final):
            check_laws(bench, database, phase)
            return
        _after(bench, database, phase)
        with bench.server.connect(database) as connection:
            ends[phase] = snapshot(connection)
    check_end(bench, database)
    walk_back(bench, saved)


def _last_phase(plan: Plan) -> Phase:
    return [phase for phase in Phase if plan.steps.get(phase)][-1]


def _steps(bench: Bench, database: str, phase: Phase, steps: Sequence[Step]) -> bool:
    """Run steps under load. False when one failed: nothing after it can be tried."""
    sessions = bench.open(database, _DURING[phase], code_in(bench, phase))
    runner = bench.runner(database, "zdd-migrate apply")
    failed: LawResult | None = None
    try:
        with bench.watching(database) as watcher:
            for session in sessions.values():
                session.start()
            for step in steps:
                bench.say(f"{step.id} under load")
                time.sleep(bench.effort.settle_s)
                said = runner.run(step, phase, watcher)
                time.sleep(bench.effort.settle_s)
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
    for name in names:
        bench.steady(database, phase.value, name, expected=True, code=code_in(bench, phase))
    if phase is Phase.CONTRACT and (bench.plan.breaks_old or not bench.plan.restricts_old):
        # where old code is merely restricted, whether it fails depends on what it writes
        bench.steady(
            database, phase.value, "old", expected=not bench.plan.breaks_old, code=bench.code
        )
    check_laws(bench, database, phase)
    check_ledgers(bench, database, phase.value)
    check_unharmed(bench, database, phase.value)
    if phase is Phase.SWITCH and bench.plan.dual_writes:
        # the last release writes the new shape alone, so it comes after what must hold of both
        bench.steady(database, phase.value, "new", expected=True, code=bench.code)
        bench.steady(database, phase.value, "new", expected=True, code=code_in(bench, phase))
