"""Walks a release: takes over, looks, does one step at a time, and writes down before and after.

Every step is intended in the journal before its effect and verified after it, so that a runner
that is killed at any moment leaves enough for the next one to adopt the step, do it again, or
stop and call a person when somebody else was there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zdd_deploy import core
from zdd_deploy.core import Refused, Release
from zdd_deploy.drivers.protocol import Driver
from zdd_deploy.failures import InterruptedPhaseError, JournalGoneError, StepFailedError
from zdd_deploy.flags import FlagStore
from zdd_deploy.history import Event, History, apply, fold
from zdd_deploy.invariants import Rules, broken
from zdd_deploy.journal import Journal, who
from zdd_deploy.judge import Criteria, Judged, Opinion, judge
from zdd_deploy.model import (
    Approve,
    Drain,
    EnsureVersion,
    Forget,
    Judge,
    Retire,
    RunPhase,
    SetFlag,
    SetWeights,
    Smoke,
    Soak,
    Stage,
    Step,
    UndoPhases,
    Warm,
    World,
    after,
    describe,
    needed,
    to_json,
    world_to_json,
)
from zdd_deploy.phases import PhaseEngine
from zdd_deploy.resume import Decision, decide, drift
from zdd_deploy.signals import Signal
from zdd_migrate.errors import EnvironmentFailedError, FindingsError, InputError

_TICK = 1.0
"""Seconds between two looks while something is watched or waited for."""
_MISSING = 5
"""Looks in a row at which a watched build may lack instances before that is a failure."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a runner works with. `flags` may be None when the release has no flag."""

    journal: Journal
    driver: Driver
    phases: PhaseEngine
    signal: Signal
    flags: FlagStore | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be released: `plan` is the plan's hash, `title` what people call it.

    `wait`: seconds to wait for a person before the runner ends with the run still open; `approve`:
    contract was approved beforehand.
    `patience`: seconds to wait for a journal that does not answer.
    """

    release: Release
    rules: Rules
    plan: str
    title: str
    criteria: Criteria = field(default_factory=Criteria)
    wait: float = 0.0
    approve: bool = False
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, so that a simulation can have its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _TurnedError(Exception):
    """The program is another one now, or somebody has to decide: look again from the top."""


class Runner:
    """One run of one order. `say` gets a line for each thing that happens."""

    def __init__(
        self,
        parts: Parts,
        order: Order,
        say: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self.parts = parts
        self.order = order
        self.say = say
        self.clock = clock or Clock()
        self.history = History()

    # -- the run --------------------------------------------------------------------------------

    def run(self) -> History:
        """Begin, or go on with, the run, as far as it goes without a person.

        The history says how it stands: ended (done, rolled-back), or why it waits. Errors:
        BusyError and FencedError (another runner), JournalGoneError, EnvironmentFailedError (the
        platform or the database; run again to go on).
        """
        parts = self.parts
        epoch = parts.journal.take_over()
        try:
            parts.driver.fence(epoch)
            self.history = fold(parts.journal.events())
            if self.history.active:
                self._take_up()
            elif self.history.ended == "done" and self._same():
                return self.history  # killed just after its end, or asked for twice
            else:
                self._begin()
            while not self.history.ended:
                if not self._go_on():
                    break
        finally:
            parts.journal.close()
        return self.history

    def _begin(self) -> None:
        release, driver = self.order.release, self.parts.driver
        errors = [
            lint
            for lint in driver.lint(release.fleet, release.strategy, release.pace)
            if self._warned(lint.severity, f"{lint.message}; {lint.fix}")
        ]
        if errors:
            raise InputError(f"{errors[0].message}; {errors[0].fix}")
        seen = driver.observe()
        low, high = self.parts.phases.stages()
        if low is not high:
            raise InputError(
                f"the plan's {high.value} is half done on this database, by something else than a "
                "release: finish or undo it with zdd-migrate apply or undo first"
            )
        ready = {b: i.ready for b, i in seen.instances.items() if i.total}
        world = core.start_world(release, ready, seen.weights, release.contents.settle(low))
        program = core.compose(release)
        contents = release.contents
        self._record(
            "begun",
            {
                "plan": self.order.plan,
                "title": self.order.title,
                "strategy": release.strategy,
                "fleet": _fleet(release),
                "contents": {
                    "phases": [p.value for p in contents.phases],
                    "reversible_contract": contents.reversible_contract,
                    "final_contract": contents.final_contract,
                },
                "steps": [to_json(step) for step in program],
                "world": world_to_json(world),
            },
            run=self.history.run + 1,
        )

    def _warned(self, severity: str, text: str) -> bool:
        """Whether it is an error; a warning is said."""
        if severity != "error":
            self.say(f"warning: {text}")
        return severity == "error"

    def _same(self) -> bool:
        """Whether the newest run is of this very order."""
        begun, release = self.history.begun, self.order.release
        wanted = (self.order.plan, release.strategy, _fleet(release))
        return (begun["plan"], begun["strategy"], begun["fleet"]) == wanted

    def _take_up(self) -> None:
        """After another runner: is the release the same one, and the world as it was left?"""
        if not self._same():
            begun = self.history.begun
            raise InputError(
                f"a release of {begun['title']} ({begun['strategy']}, {begun['fleet']['old']} to "
                f"{begun['fleet']['new']}) is under way here: go on with the plan and the settings "
                "it was begun with, or end it with zdd-deploy abort"
            )
        if isinstance(self.history.current, Judge):
            self.history.waiting = ""  # a new runner looks once more before it asks again
        step = self.history.current if self.history.intended else None
        seen = self.parts.driver.observe()
        world, rules = self.history.world, self.order.rules
        if step is None:
            stranger = drift(None, world, seen, rules)
            if stranger and not self.history.frozen:
                self._freeze(stranger)
            return
        self.say(f"taking up: {describe(step)}")
        found = decide(step, world, seen, rules)
        if found.decision is Decision.FREEZE:
            self._freeze(found.why)
        elif found.decision is Decision.ADOPT:
            self._record("verified", {"step": step.id, "adopted": True})

    def _go_on(self) -> bool:
        """Do the next thing; False when a person has to say something first."""
        try:
            self._pump()
            if self.history.abort:
                self._turn("a person asked for the way back", asked=True)
            stopped = self._stopped()
            if stopped:
                return self._wait(stopped)
            step = self.history.current
            if step is None:
                self._end()
            elif isinstance(step, Approve) and step.what not in self.history.approved:
                self._approval(step.what)
            else:
                self._do(step)
        except _TurnedError:
            pass
        return True

    def _end(self) -> None:
        forward = self.history.direction == "forward"
        self._record("ended", {"status": "done" if forward else "rolled-back"})

    # -- one step -------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        history, journal = self.history, self.parts.journal
        refused = broken(
            step, history.world, self.order.rules, forward=history.direction == "forward"
        )
        if refused:
            self._freeze(refused[0])
            return
        try:
            journal.held()
            self._heal(step)
            if not history.intended:
                self._record("intended", {"step": step.id})
            self.say(describe(step))
            self._effect(step)
        except StepFailedError as error:
            self._failed(step, error)
            return
        except FindingsError as error:  # the data or the plan: going back would not change them
            self._freeze(f"{describe(step)}: {error}")
            return
        except InterruptedPhaseError:
            return  # what interrupted it is in the journal: looked at before the step is resumed
        except JournalGoneError as error:
            self._journal_gone(error)
            return
        self._record("verified", {"step": step.id})

    def _failed(self, step: Step, error: StepFailedError) -> None:
        self.say(f"failed: {error}")
        if self.history.direction == "forward":
            self._turn(f"{describe(step)}: {error}")
        else:
            self._freeze(f"on the way back, {describe(step)}: {error}")

    def _effect(self, step: Step) -> None:
        driver, phases = self.parts.driver, self.parts.phases
        match step:
            case EnsureVersion(_, build, count):
                driver.ensure_version(build, count)
            case Warm(_, build):
                driver.warm(build)
            case Smoke(_, build):
                driver.smoke(build)
            case SetWeights(_, weights):
                driver.ensure_weights(weights)
            case Drain(_, build, keep):
                driver.drain(build, keep)
            case Retire(_, build):
                driver.retire(build)
            case RunPhase(_, phase, keep_old):
                phases.run(phase, keep_old=keep_old, interrupt=self._interrupt)
            case UndoPhases(_, to):
                phases.undo(to)
            case SetFlag(_, flag, value, build):
                self._set_flag(flag, value, build)
            case Judge(_, build, against, seconds, budget):
                self._judge(step.id, build, against, seconds, budget)
            case Soak(_, build, seconds, _):
                self._soak(build, seconds)
            case Approve() | Forget():
                pass

    def _heal(self, step: Step) -> None:
        """Instances that died since are started again: the build is the one the journal names.

        What `step` is about to take away, or has begun to, is not.
        """
        world, driver = self.history.world, self.parts.driver
        then = after(step, world, self.history.contents)
        seen = driver.observe()
        for build in sorted(world.ready):
            count = min(world.count(build), then.count(build))
            if seen.ready(build) < count:
                self.say(f"{count - seen.ready(build)} of {count} instances of {build} are missing")
                driver.ensure_version(build, count)
                if world.warm.get(build):
                    driver.warm(build)

    def _set_flag(self, flag: str, value: str, build: str) -> None:
        """Set it, then wait until each instance says so."""
        if self.parts.flags is None:
            raise InputError(f"the release sets {flag}, but no place for flags is configured")
        self.parts.flags.ensure(flag, value)
        seen: frozenset[str] = frozenset()
        for _ in range(15):
            seen = self.parts.driver.flags(build)
            if seen == {value}:
                return
            if not seen and self.history.direction == "back":
                return  # a build that knows no flag cannot have the wrong one
            self.clock.sleep(_TICK)
        said = ", ".join(sorted(seen)) or "nothing"
        raise StepFailedError(f"instances of {build} say that {flag} is {said}, not {value}")

    # -- watching -------------------------------------------------------------------------------

    def _judge(
        self, name: str, build: str, against: str | None, seconds: float, budget: float
    ) -> None:
        """Only a pass returns. A fail raises; no opinion in time asks a person."""
        if name in self.history.approved:
            return
        found = Judged(Opinion.INCONCLUSIVE, "not looked at yet")
        for elapsed, judged in self._looks(build, against):
            found = judged
            if found.opinion is Opinion.FAIL:
                raise StepFailedError(f"{build}: {found.why}")
            if found.opinion is Opinion.PASS and elapsed >= seconds:
                self.say(f"pass: {found.why}")
                return
            if elapsed >= budget:
                break
        self.say(f"inconclusive: {found.why}")
        self._ask(name)
        raise _TurnedError

    def _soak(self, build: str, seconds: float) -> None:
        for elapsed, judged in self._looks(build, None):
            if judged.opinion is Opinion.FAIL:
                raise StepFailedError(f"{build}: {judged.why}")
            if elapsed >= seconds:
                return

    def _looks(self, build: str, against: str | None) -> Iterator[tuple[float, Judged]]:
        """One look a second: (seconds since the first, the judgement)."""
        watch = self.parts.signal.watch()
        start, look, missing = self.clock.now(), 0, 0
        while True:
            look += 1
            self._interrupt_watch()
            missing = self._watch_platform(missing)
            beside = watch.counts(against) if against is not None else None
            counts = watch.counts(build)
            yield self.clock.now() - start, judge(counts, beside, self.order.criteria, look)
            self.clock.sleep(_TICK)

    def _watch_platform(self, missing: int) -> int:
        """Nobody else changes traffic, and each build has the instances its share needs."""
        seen, world = self.parts.driver.observe(), self.history.world
        stranger = drift(None, world, seen, self.order.rules)
        if stranger:
            self._freeze(stranger)
            raise _TurnedError
        lacking = [
            f"{build} has {seen.ready(build)} ready instances of the {count} it needs"
            for build, count in needed(self.order.release.fleet.desired, world.weights).items()
            if seen.ready(build) < count
        ]
        if not lacking:
            return 0
        if missing + 1 >= _MISSING:
            raise StepFailedError(lacking[0])
        return missing + 1

    # -- people ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Take in what was recorded since: commands of people."""
        for event in self.parts.journal.events(self.history.last_event):
            if event.kind == "command":
                self.say(f"{event.body.get('command')} by {event.body.get('by')}")
            apply(self.history, event)

    def _stopped(self) -> str:
        history = self.history
        if history.frozen:
            return f"frozen: {history.frozen}"
        if history.paused:
            return history.paused
        if history.waiting:
            return f"waits for a person: zdd-deploy promote goes on with {history.waiting}"
        return ""

    def _wait(self, why: str) -> bool:
        """Wait for a command for as long as the order says; whether one came."""
        self.say(why)
        until = self.clock.now() + self.order.wait
        before = self.history.last_event
        while self.clock.now() < until:
            self.clock.sleep(_TICK)
            self.parts.journal.held()
            self._pump()
            if self.history.last_event != before:
                return True
        return False

    def _approval(self, what: str) -> None:
        if self.order.approve:
            self._record("approved", {"what": what, "by": who()})
        else:
            self._ask(what)

    def _ask(self, what: str) -> None:
        self._record("waiting", {"what": what})

    def _interrupt(self) -> None:
        """Called now and then while a phase runs."""
        self._pump()
        if self.history.paused or self.history.abort:
            raise InterruptedPhaseError

    def _interrupt_watch(self) -> None:
        self.parts.journal.held()
        self._pump()
        if self.history.paused or self.history.abort:
            raise _TurnedError

    # -- turning and stopping -------------------------------------------------------------------

    def _turn(self, why: str, *, asked: bool = False) -> None:
        """From here the program is the way back; where there is none, a person decides."""
        world = core.reconcile(self._schema_as_it_is(), self.parts.driver.observe())
        back = core.way_back(
            self.order.release,
            world,
            self.order.rules,
            asked=asked,
            schema=self.history.undo_schema,
        )
        if isinstance(back, Refused):
            self._freeze(f"{why}; {back.why}" if not asked else back.why)
            return
        self._record(
            "turned",
            {
                "why": why,
                "steps": [to_json(step) for step in back],
                "world": world_to_json(world),
            },
        )
        self.say(f"turning back: {why}")

    def _schema_as_it_is(self) -> World:
        """The world, with a phase that is half done counted as done: the worst for old code."""
        world, release = self.history.world, self.order.release
        try:
            _, stage = self.parts.phases.stages()
        except EnvironmentFailedError as error:  # traffic goes back without the database
            self.say(f"{error}; going by what the journal says")
            step = self.history.current
            return (
                after(step, world, release.contents)
                if isinstance(step, RunPhase) and self.history.intended
                else world
            )
        stage = release.contents.settle(stage)
        final = stage is Stage.CONTRACT and release.contents.final_contract
        return replace(world, stage=stage, past_return=world.past_return or final)

    def _freeze(self, why: str) -> None:
        self._record("frozen", {"why": why})

    def _journal_gone(self, error: JournalGoneError) -> None:
        """Traffic flows on as it is; nothing is promoted until the journal is back."""
        self.say(f"{error}; nothing is promoted until it is back")
        until = self.clock.now() + self.order.patience
        while True:
            self.clock.sleep(_TICK)
            try:
                self.parts.journal.held()
            except JournalGoneError:
                if self.clock.now() >= until:
                    raise
            else:
                return

    def _record(self, kind: str, body: Mapping[str, Any], run: int | None = None) -> Event:
        """Add an event and take it in. A journal that is gone is waited for."""
        while True:
            try:
                event = self.parts.journal.append(run or self.history.run, kind, body)
                break
            except JournalGoneError as error:
                self._journal_gone(error)
                known = self.parts.journal.events(self.history.last_event)
                if any(e.kind == kind and e.body == body for e in known):
                    self._pump()  # it was written, only the answer was lost
                    return known[-1]
        if event.id != self.history.last_event + 1:
            self._pump()  # a command came in between, and now this event with it
        else:
            apply(self.history, event)
        return event


def _fleet(release: Release) -> dict[str, object]:
    fleet = release.fleet
    return {"old": fleet.old, "new": fleet.new, "desired": fleet.desired}
