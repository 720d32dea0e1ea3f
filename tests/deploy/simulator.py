"""A platform, a database, a journal and a clock that exist only in memory, with laws of their own.

The laws are written from the story, not from the runner's rules: old code works until switch, new
code from switch on; whatever has traffic has the instances for it. They are looked at after every
single act. A kill may strike before or after any act, and what was done stays done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_deploy.core import Flag, Release, rules_of
from zdd_deploy.drivers.protocol import Caps, Lint
from zdd_deploy.failures import FencedError, JournalGoneError, StepFailedError
from zdd_deploy.history import Event, History
from zdd_deploy.judge import Counts, Criteria
from zdd_deploy.matrix import Matrix
from zdd_deploy.model import Contents, Fleet, Instances, Observation, Stage, needed
from zdd_deploy.pace import Pace
from zdd_deploy.runner import Clock, Order, Parts, Runner
from zdd_migrate.model.plan import Phase

OLD_WORKS = {Stage.START, Stage.EXPAND, Stage.MIGRATE, Stage.SWITCH}
NEW_WORKS = {Stage.SWITCH, Stage.TOMBSTONE, Stage.CONTRACT}


def works_in(contents: Contents) -> dict[str, frozenset[Stage]]:
    """The stages that each build works in; without a contract phase nothing is taken from old."""
    old = OLD_WORKS if Phase.CONTRACT in contents.phases else set(Stage)
    return {"old": frozenset(old), "new": frozenset(NEW_WORKS)}


class KilledError(BaseException):
    """The runner's process is gone, at this very moment."""


@dataclass
class Universe:
    """Everything that outlives a runner. `plan` says what happens at which act (numbered from 1)."""

    fleet: Fleet
    contents: Contents
    ready: dict[str, int] = field(default_factory=dict)
    warm: dict[str, int] = field(default_factory=dict)
    draining: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    platform_epoch: int = 0
    stage: Stage = Stage.START
    flag: str = "off"
    events: list[Event] = field(default_factory=list)
    epoch: int = 0
    now: float = 0.0
    acts: int = 0
    error_rate: dict[str, float] = field(default_factory=dict)
    silent: bool = False
    journal_gone_until: float = -1.0
    happenings: dict[int, Callable[[Universe], None]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def act(self, what: str) -> None:
        """Note an act; let happen what is due; look at the laws."""
        self.acts += 1
        self.log.append(f"{self.acts} {what}")
        self._laws(what)
        happening = self.happenings.pop(self.acts, None)
        if happening is not None:
            happening(self)

    def _laws(self, what: str) -> None:
        for build in {b for c in (self.ready, self.draining) for b, n in c.items() if n}:
            if self._schema() not in works_in(self.contents)[build.split("@")[0]]:
                self.violations.append(f"{what}: {build} lives at {self.stage.value}")
        for build, count in needed(self.fleet.desired, self.weights).items():
            if self.ready.get(build, 0) < count:
                self.violations.append(
                    f"{what}: {build} has {self.ready.get(build, 0)} of {count} it needs"
                )
            if self.warm.get(build, 0) < count:
                self.violations.append(f"{what}: {build} has traffic and is cold")

    def _schema(self) -> Stage:
        return self.contents.settle(self.stage)


class SimDriver:
    """The platform, level-triggered. Each verb has one moment before its effect and one after."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.epoch = 0

    def caps(self) -> Caps:
        return Caps(frozenset(), "exact", drain_observable=True, atomic_switch=True)

    def lint(self, fleet: Fleet, strategy: str, pace: Pace) -> list[Lint]:
        return []

    def observe(self) -> Observation:
        u = self.universe
        builds = {*u.ready, *u.draining}
        return Observation(
            {
                b: Instances(u.ready.get(b, 0), u.draining.get(b, 0), 0, u.warm.get(b, 0))
                for b in builds
                if u.ready.get(b) or u.draining.get(b)
            },
            dict(u.weights),
            u.platform_epoch,
        )

    def fence(self, epoch: int) -> None:
        self.epoch = epoch
        self._fenced()
        self.universe.platform_epoch = epoch
        self.universe.act("fence")

    def _fenced(self) -> None:
        if self.universe.platform_epoch > self.epoch:
            raise FencedError("another runner was here")

    def ensure_version(self, build: str, count: int) -> None:
        u = self.universe
        u.act(f"about to start {build}")
        while u.ready.get(build, 0) < count:
            u.ready[build] = u.ready.get(build, 0) + 1
            u.act(f"started one {build}")

    def warm(self, build: str) -> None:
        u = self.universe
        u.act(f"about to warm {build}")
        u.warm[build] = u.ready.get(build, 0)
        u.act(f"warmed {build}")

    def smoke(self, build: str) -> None:
        self.universe.act(f"smoke {build}")

    def ensure_weights(self, weights: Mapping[str, int]) -> None:
        u = self.universe
        u.act("about to set weights")
        self._fenced()
        u.weights = {b: w for b, w in weights.items() if w}
        u.act(f"weights {u.weights}")

    def drain(self, build: str, keep: int) -> None:
        u = self.universe
        u.act(f"about to drain {build}")
        while u.ready.get(build, 0) > keep:
            u.ready[build] -= 1
            u.warm[build] = min(u.warm.get(build, 0), u.ready[build])
            u.draining[build] = u.draining.get(build, 0) + 1
            u.act(f"drained one {build}")

    def retire(self, build: str) -> None:
        u = self.universe
        u.act(f"about to retire {build}")
        u.draining[build] = 0
        u.act(f"retired {build}")

    def flags(self, build: str) -> frozenset[str]:
        return frozenset({self.universe.flag})


class SimPhases:
    """The database: a phase may be cut off in its middle, which counts as not through."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe

    def run(self, phase: Phase, *, keep_old: bool, interrupt: Callable[[], None]) -> None:
        u = self.universe
        target = Stage.TOMBSTONE if keep_old else Stage(phase.value)
        u.act(f"about to run {phase.value}")
        interrupt()
        if target.number > u.stage.number:
            u.stage = target
        u.act(f"ran {target.value}")

    def undo(self, to: str) -> None:
        u = self.universe
        u.act("about to undo")
        u.stage = Stage(to)
        u.act(f"undid to {to}")

    def stages(self) -> tuple[Stage, Stage]:
        return self.universe.stage, self.universe.stage


class SimJournal:
    """The journal, which may be out of reach for a while."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.epoch = 0

    def _reach(self) -> None:
        if self.universe.now < self.universe.journal_gone_until:
            raise JournalGoneError("the journal cannot be reached")

    def take_over(self) -> int:
        self._reach()
        self.universe.epoch += 1
        self.epoch = self.universe.epoch
        return self.epoch

    def held(self) -> None:
        self._reach()
        if self.universe.epoch != self.epoch:
            raise FencedError("another runner has taken over")

    def append(self, run: int, kind: str, body: Mapping[str, Any]) -> Event:
        self.held()
        u = self.universe
        u.act(f"about to write {kind}")
        event = Event(len(u.events) + 1, run, u.now, self.epoch, kind, dict(body))
        u.events.append(event)
        u.act(f"wrote {kind} {body.get('step', '')}")
        return event

    def events(self, since: int = 0) -> list[Event]:
        self._reach()
        return [e for e in self.universe.events if e.id > since]

    def close(self) -> None:
        pass


class SimSignal:
    """Ten requests a second for each hundredth of the traffic, failing at the build's rate."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe

    def watch(self) -> SimSignal:
        self.began = self.universe.now
        return self

    def counts(self, build: str) -> Counts | None:
        u = self.universe
        if u.silent:
            return None
        total = sum(u.weights.values()) or 1
        seconds = u.now - self.began
        requests = int(seconds * 1000 * u.weights.get(build, 0) / total)
        return Counts(requests, int(requests * u.error_rate.get(build, 0)))


class SimFlags:
    """One flag, seen by all instances at once."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe

    def ensure(self, flag: str, value: str) -> None:
        self.universe.act(f"about to set {flag}")
        self.universe.flag = value
        self.universe.act(f"flag {value}")


PACE = Pace(judge=2, budget=20, soak=2, window=3)
FULL = Contents(frozenset(Phase), reversible_contract=True, final_contract=True)
FLAG = Flag("read-path")


def command(universe: Universe, name: str, **body: object) -> None:
    """What a person writes into the journal."""
    run = max(e.run for e in universe.events) if universe.events else 0
    universe.events.append(
        Event(
            len(universe.events) + 1,
            run,
            universe.now,
            0,
            "command",
            {"command": name, "by": "a person", **body},
        )
    )


def universe_of(desired: int = 3, contents: Contents = FULL) -> Universe:
    """Old code serves, warm, with as many instances as are desired."""
    fleet = Fleet("old", "new", desired)
    return Universe(
        fleet=fleet,
        contents=contents,
        ready={"old": desired},
        warm={"old": desired},
        weights={"old": 100},
    )


def release_of(
    universe: Universe, strategy: str, pace: Pace = PACE, flag: Flag | None = FLAG
) -> Release:
    """The release of the universe's fleet."""
    return Release(universe.fleet, universe.contents, strategy, pace, flag)


def runner_in(
    universe: Universe,
    release: Release,
    *,
    approve: bool = True,
    wait: float = 0,
    patience: float = 5,
) -> Runner:
    """A new runner process in the universe."""
    matrix = Matrix(works_in(universe.contents))
    order = Order(
        release=release,
        rules=rules_of(release, matrix),
        plan="hash",
        title="rename",
        criteria=Criteria(),
        approve=approve,
        wait=wait,
        patience=patience,
    )

    def sleep(seconds: float) -> None:
        universe.now += seconds
        universe.act("time passes")

    parts = Parts(
        SimJournal(universe),
        SimDriver(universe),
        SimPhases(universe),
        SimSignal(universe),
        SimFlags(universe),
    )
    return Runner(parts, order, clock=Clock(lambda: universe.now, sleep))


def run_until_ended(universe: Universe, release: Release, *, runners: int = 60) -> History:
    """One runner after the other, as each is killed, until the release has ended or stands still."""
    for _ in range(runners):
        before = len(universe.events)
        try:
            history = runner_in(universe, release).run()
        except KilledError:
            continue
        if history.ended or len(universe.events) == before:
            return history
    raise AssertionError("the release never comes to an end")


def kill(_: Universe) -> None:
    """A happening: the runner's process is killed."""
    raise KilledError


def fail_step(_: Universe) -> None:
    """A happening: whatever is being done fails."""
    raise StepFailedError("it failed")
