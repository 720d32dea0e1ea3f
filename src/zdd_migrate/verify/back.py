"""The ways back: from where each phase ended to the start, under load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

from zdd_migrate.model.plan import Phase, Plan, Step
from zdd_migrate.model.verdict import Rollback
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.verify.bench import Bench, Living, settle, start
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


#: looks at a phase, on the bench and the database that it is given
Look = Callable[[Bench, str], None]
_ORDER = ("start", *(phase.value for phase in Phase))


def last_reversible(plan: Plan) -> Phase:
    """The last phase that has a way back."""
    phases = [phase for phase, step in plan.all_steps() if step.undo is not None]
    return phases[-1] if phases else Phase.EXPAND


class WaysBack:
    """Ways back under way: each on a copy of its own, while the walk forward goes on."""

    def __init__(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        self._bench = bench
        self._pool = pool
        #: what was seen of phases looked at on copies, and on the ways back
        self._looked: list[Bench] = []
        self._walked: list[Bench] = []
        self._running: list[Future[None]] = []
        #: set when the walk is given up: nobody will look at what comes of them
        self._over = threading.Event()

    def look(self, database: str, code: Code, look: Look) -> None:
        """Look at a phase on a copy that is of no use afterwards."""
        looked = self._beside(self._looked, code)

        def walk() -> None:
            look(looked, database)
            looked.server.drop_database(database)

        self._running.append(self._pool.submit(walk))

    def begin(self, saved: Saved, look: Look | None = None) -> None:
        """Walk back from where a phase ended, once it was looked at on the same copy."""
        looked = self._beside(self._looked, saved.code) if look is not None else None
        walked = self._beside(self._walked, saved.code)
        if saved.phase is last_reversible(self._bench.plan):
            self._bench.way_back = walked.clock  # the only one that is drawn

        def walk() -> None:
            if look is not None and looked is not None and not self._over.is_set():
                look(looked, saved.database)
            _back(walked, saved, self._over)

        self._running.append(self._pool.submit(walk))

    def _beside(self, benches: list[Bench], code: Code) -> Bench:
        bench = replace(
            self._bench,
            code=code,
            clock=self._bench.clock.beside(),
            trials=[],
            laws=[],
            rollbacks=[],
            notes=[],
        )
        benches.append(bench)
        return bench

    def trouble(self) -> None:
        """Raise what has stopped one of them already."""
        for running in self._running:
            if running.done():
                running.result()

    def give_up(self) -> None:
        """End them as soon as may be."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def end(self) -> None:
        """Wait for all, and tell what they have seen."""
        for running in self._running:
            running.result()
        bench = self._bench
        for looked in self._looked:
            bench.trials += looked.trials
            bench.laws += looked.laws
            bench.notes += [note for note in looked.notes if note not in bench.notes]
        # as if one phase had come after the other
        bench.trials.sort(key=lambda one: _ORDER.index(one.phase))
        bench.laws.sort(key=lambda law: _ORDER.index(law.phase))
        for walked in self._walked:
            bench.trials += walked.trials
            bench.rollbacks += walked.rollbacks
            bench.laws += [law for law in walked.laws if not law.holds]
        bench.clocks += [one.clock for one in (*self._looked, *self._walked)]


@contextmanager
def ways_back(bench: Bench) -> Iterator[WaysBack]:
    """For the length of the walk forward; what came of the ways back is told at its end."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        back = WaysBack(bench, pool)
        try:
            yield back
            back.end()
        except BaseException:
            back.give_up()
            raise


def _back(bench: Bench, saved: Saved, over: threading.Event) -> None:
    """Undo everything from where a phase ended, under load, and look what is left."""
    bench.say(f"back from {saved.phase.value}")
    step, failure = None, ""
    for alive, groups in _shifts(bench, saved):
        step, failure = _undo(bench, saved, groups, alive, over)
        if over.is_set():
            return
        if failure:
            break
    if not failure:
        bench.steady(saved.database, saved.phase.value, [Living("old", saved.code)], "undo")
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


def _shifts(bench: Bench, saved: Saved) -> Iterator[tuple[str, list[list[Phase]]]]:
    """Which code works while which phases are undone, one group of them after the other.

    It goes on working, over the same connections, until the code before it takes its place.
    """

    def alive(group: list[Phase]) -> str:
        if bench.plan.dual_writes:
            return living(group[0])
        return "new" if Phase.CONTRACT in group else "old"

    groups = [group for group in _groups(bench, saved) if group]
    if bench.plan.dual_writes:  # each phase has a release of its own
        yield from ((alive(group), [group]) for group in groups)
        return
    for name, together in groupby(groups, alive):
        yield name, list(together)


def _groups(bench: Bench, saved: Saved) -> list[list[Phase]]:
    """Phases to undo together: on the longest way back one by one, else all that old code lives in."""
    phases = list(dict.fromkeys(p for p, step in reversed(saved.done) if step.undo))
    longest = saved.phase is last_reversible(bench.plan) and bench.effort.lingers
    if longest or bench.plan.dual_writes:
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
    bench: Bench, saved: Saved, groups: Sequence[list[Phase]], alive: str, over: threading.Event
) -> tuple[str | None, str]:
    """Undo phases while a code version works; gives the step that would not and what it said."""
    # the way back from the last phase passes through all the others: programs, which take
    # long to start, go along on that one; made-up statements on every one
    longest = saved.phase is last_reversible(bench.plan)
    along = saved.code if longest else saved.code.without_given()
    if alive == "new" and bench.floor:
        along = along.with_new(bench.floor)
    sessions = bench.open(saved.database, (alive,), code_in(bench, groups[0][0], along))
    runner = bench.runner(saved.database, "zdd-migrate undo")
    try:
        with bench.watching(saved.database) as watcher:
            start(sessions, bench.effort.settle)
            for group in groups:
                for step in [s for p, s in reversed(saved.done) if p in group]:
                    if over.is_set():
                        return None, ""
                    said = runner.undo(step, saved.phase, watcher, stand_by=longest)
                    if said:
                        return step.id, f"the undo of {step.id} failed: {said}"
                settle(sessions, bench.effort.settle, last=group is groups[-1])
                label = f"{' and '.join(p.value for p in group)} undone"
                bench.collect(sessions, saved.phase.value, "undo", label)
                _compare_end(bench, saved, group[-1])
                if group[-1] is Phase.SWITCH:
                    # what new code wrote must have come back to where old code reads it
                    check_laws(bench, saved.database, Phase.MIGRATE)
    finally:
        bench.close(sessions, saved.phase.value, "undo")
        bench.laws += runner.laws(saved.phase)
    return None, ""
