"""The ways back: from where each phase ended to the start, under load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from zdd_migrate.apply.steps import Policy, undo_step
from zdd_migrate.errors import EnvironmentFailedError, FindingsError
from zdd_migrate.model.plan import Phase, Plan, Step
from zdd_migrate.model.verdict import Rollback
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.verify.bench import Bench
from zdd_migrate.verify.code import Code
from zdd_migrate.verify.laws import rows_lost


@dataclass(slots=True)
class Saved:
    """The state after a phase, to walk back from."""

    phase: Phase
    database: str
    done: list[tuple[Phase, Step]]
    code: Code


def last_reversible(plan: Plan) -> Phase:
    """The last phase that has a way back."""
    phases = [phase for phase, step in plan.all_steps() if step.undo is not None]
    return phases[-1] if phases else Phase.EXPAND


def walk_back(bench: Bench, saved: Sequence[Saved]) -> None:
    """Walk back from every phase, two at a time: they know nothing of each other."""
    walks = [replace(bench, trials=[], laws=[], rollbacks=[], notes=[]) for _ in saved]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for running in [
            pool.submit(_back, walk, one) for walk, one in zip(walks, saved, strict=True)
        ]:
            running.result()
    for walk in walks:
        bench.trials += walk.trials
        bench.rollbacks += walk.rollbacks


def _back(bench: Bench, saved: Saved) -> None:
    """Undo everything from where a phase ended, under load, and look what is left."""
    bench.say(f"back from {saved.phase.value}")
    contract = [s for p, s in reversed(saved.done) if p is Phase.CONTRACT]
    earlier = [s for p, s in reversed(saved.done) if p is not Phase.CONTRACT]
    failure = _undo(bench, saved, contract, "new", "contract undone") if contract else ""
    if not failure:
        failure = _undo(bench, saved, earlier, "old", "all undone")
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
        Rollback(saved.phase.value, "start", not changed and not failure, lost, detail)
    )


def _undo(bench: Bench, saved: Saved, steps: Sequence[Step], living: str, label: str) -> str:
    """Undo steps while a code version works; gives what went wrong."""
    # the way back from the last phase passes through all the others: programs, which take
    # long to start, go along on that one; made-up statements on every one
    along = saved.code if saved.phase is last_reversible(bench.plan) else saved.code.without_given()
    if living == "new" and bench.floor:
        along = along.with_new(bench.floor)
    sessions = bench.open(saved.database, (living,), along)
    runner = bench.server.connect(saved.database, application_name="zdd-migrate undo")
    try:
        for session in sessions.values():
            session.start()
        time.sleep(bench.effort.settle_s)
        for step in steps:
            try:
                undo_step(runner, step, policy=Policy(attempts=8))
            except (EnvironmentFailedError, FindingsError) as error:
                return f"the undo of {step.id} failed: {error}"
        time.sleep(bench.effort.settle_s)
        bench.collect(sessions, saved.phase.value, "undo", label)
    finally:
        runner.close()
        bench.close(sessions, saved.phase.value, "undo")
    return ""
