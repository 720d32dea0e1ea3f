"""The ways back: from where each phase ended to the start, under load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from zdd_migrate.model.plan import Phase, Plan, Step
from zdd_migrate.model.verdict import Rollback
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.verify.bench import Bench
from zdd_migrate.verify.code import Code
from zdd_migrate.verify.dual import code_in, living
from zdd_migrate.verify.laws import check_laws, rows_lost


@dataclass(slots=True)
class Saved:
    """The state after a phase, to walk back from."""

    phase: Phase
    database: str
    done: list[tuple[Phase, Step]]
    code: Code
    #: the schema as each earlier phase left it
    ends: dict[Phase, dict[str, str]]


def last_reversible(plan: Plan) -> Phase:
    """The last phase that has a way back."""
    phases = [phase for phase, step in plan.all_steps() if step.undo is not None]
    return phases[-1] if phases else Phase.EXPAND


def walk_back(bench: Bench, saved: Sequence[Saved]) -> None:
    """Walk back from every phase, two at a time: they know nothing of each other."""
    longest = last_reversible(bench.plan)
    walks = [
        replace(
            bench,
            trials=[],
            laws=[],
            rollbacks=[],
            notes=[],
            # only the longest way is drawn: those beside it run at the same time
            clock=bench.clock if one.phase is longest else bench.clock.beside(),
        )
        for one in saved
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for running in [
            pool.submit(_back, walk, one) for walk, one in zip(walks, saved, strict=True)
        ]:
            running.result()
    for walk in walks:
        bench.trials += walk.trials
        bench.rollbacks += walk.rollbacks
        bench.laws += [law for law in walk.laws if not law.holds]
        if walk.clock is not bench.clock:
            bench.clocks.append(walk.clock)


def _back(bench: Bench, saved: Saved) -> None:
    """Undo everything from where a phase ended, under load, and look what is left."""
    bench.say(f"back from {saved.phase.value}")
    step, failure = None, ""
    for group in _groups(bench, saved):
        steps = [s for p, s in reversed(saved.done) if p in group]
        if not steps or failure:
            continue
        alive = "new" if Phase.CONTRACT in group else "old"
        if bench.plan.dual_writes:
            alive = living(group[0])
        label = f"{' and '.join(p.value for p in group)} undone"
        step, failure = _undo(bench, saved, steps, alive, label, group[0])
        _compare_end(bench, saved, group[-1])
        if group[-1] is Phase.SWITCH and not failure:
            # what new code wrote must have come back to where old code reads it
            check_laws(bench, saved.database, Phase.MIGRATE)
    if not failure:
        bench.steady(
            saved.database,
            saved.phase.value,
            "old",
            expected=True,
            code=saved.code,
            when="undo",
        )
    with bench.server.connect(saved.database) as connection:
        changed = differences(
            bench.stage.begin,
            snapshot(connection),
            grown=bench.stage.grown,
            leaving=dict(bench.plan.leaves),
        )
        lost, example = rows_lost(bench, connection, saved.code)
    bench.server.drop_database(saved.database)
    detail = failure or "; ".join(changed[:3])[:400] or example
    bench.rollbacks.append(
        Rollback(saved.phase.value, "start", not changed and not failure, lost, detail, step)
    )


def _groups(bench: Bench, saved: Saved) -> list[list[Phase]]:
    """Phases to undo together: on the longest way back one by one, else all that old code lives in."""
    phases = list(dict.fromkeys(p for p, step in reversed(saved.done) if step.undo))
    if saved.phase is last_reversible(bench.plan) or bench.plan.dual_writes:
        return [[phase] for phase in phases]
    return [
        [phase for phase in phases if phase is Phase.CONTRACT],
        [phase for phase in phases if phase is not Phase.CONTRACT],
    ]


def _compare_end(bench: Bench, saved: Saved, undone: Phase) -> None:
    """What undoing a phase leaves is what the phase before it had left."""
    before = [phase for phase in saved.ends if phase.number < undone.number]
    if not before:
        return
    with bench.server.connect(saved.database) as connection:
        changed = differences(saved.ends[before[-1]], snapshot(connection), grown=bench.stage.grown)
    if changed:
        detail = "; ".join(changed[:3])[:400]
        bench.rollbacks.append(Rollback(undone.value, before[-1].value, False, 0, detail))


def _undo(
    bench: Bench, saved: Saved, steps: Sequence[Step], alive: str, label: str, phase: Phase
) -> tuple[str | None, str]:
    """Undo steps while a code version works; gives the step that would not and what it said."""
    # the way back from the last phase passes through all the others: programs, which take
    # long to start, go along on that one; made-up statements on every one
    along = saved.code if saved.phase is last_reversible(bench.plan) else saved.code.without_given()
    if alive == "new" and bench.floor and not bench.plan.dual_writes:
        along = along.with_new(bench.floor)
    sessions = bench.open(saved.database, (alive,), code_in(bench, phase, along))
    runner = bench.runner(saved.database, "zdd-migrate undo")
    longest = saved.phase is last_reversible(bench.plan)
    try:
        with bench.watching(saved.database) as watcher:
            for session in sessions.values():
                session.start()
            time.sleep(bench.effort.settle_s)
            for step in steps:
                said = runner.undo(step, saved.phase, watcher, stand_by=longest)
                if said:
                    return step.id, f"the undo of {step.id} failed: {said}"
            time.sleep(bench.effort.settle_s)
            bench.collect(sessions, saved.phase.value, "undo", label)
    finally:
        bench.close(sessions, saved.phase.value, "undo")
        bench.laws += runner.laws(saved.phase)
    return None, ""
