"""The release as a program of steps, the way back as another; pure, so that both can be proved.

A release walks the database's phases and the traffic's together:

    old serves → expand → migrate → switch → new comes in (by the strategy) → flag → rollback
    window → old goes → approval → contract as far as it can be undone → watch → the rest of it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdd_deploy.invariants import Rules
from zdd_deploy.matrix import Matrix
from zdd_deploy.model import (
    Approve,
    Contents,
    Drain,
    EnsureVersion,
    Fleet,
    Forget,
    Judge,
    Observation,
    Program,
    Retire,
    RunPhase,
    SetFlag,
    SetWeights,
    Soak,
    Stage,
    Step,
    UndoPhases,
    Warm,
    World,
)
from zdd_deploy.pace import Pace
from zdd_deploy.strategies import STRATEGIES
from zdd_deploy.strategies.rolling import release as roll
from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Phase, Plan


@dataclass(frozen=True, slots=True)
class Flag:
    """The read path's flag. `by_restart`: instances learn it only when they are started."""

    name: str
    on: str = "on"
    off: str = "off"
    by_restart: bool = False


def contents_of(plan: Plan) -> Contents:
    """What the runner needs to know of a plan; InputError when it can not be driven."""
    for phase, step in plan.all_steps():
        if step.undo is None and phase is not Phase.CONTRACT:
            raise InputError(
                f"{plan.name}: {step.id} has no way back and is in {phase.value}: only contract may "
                "hold the point of no return"
            )
    contract = plan.steps.get(Phase.CONTRACT, ())
    return Contents(
        phases=frozenset(phase for phase in Phase if plan.steps.get(phase)),
        reversible_contract=any(step.undo is not None for step in contract),
        final_contract=any(step.undo is None for step in contract),
    )


@dataclass(frozen=True, slots=True)
class Release:
    """Everything a program is made from. `until`: the last phase to walk."""

    fleet: Fleet
    contents: Contents
    strategy: str
    pace: Pace
    flag: Flag | None = None
    until: Phase = Phase.CONTRACT

    @property
    def serving(self) -> str:
        """The build that serves in the end: a flag learnt by restart makes it another one."""
        if self.flag is not None and self.flag.by_restart:
            return variant(self.fleet.new, self.flag.on)
        return self.fleet.new


def variant(build: str, flag: str) -> str:
    """The name of a build whose instances were started with another value of the flag."""
    return f"{build}@{flag}"


def rules_of(release: Release, matrix: Matrix) -> Rules:
    """The invariants of a release; a variant of a build works where the build does."""
    allowed = dict(matrix.allowed)
    allowed[release.serving] = allowed.get(release.fleet.new, frozenset())
    return Rules(
        fleet=release.fleet,
        matrix=Matrix(allowed),
        keeps_target=STRATEGIES[release.strategy].keeps_target,
        contents=release.contents,
    )


def compose(release: Release) -> Program:
    """The steps from the old build serving on the old schema to the end of the release."""
    fleet, pace, present = release.fleet, release.pace, release.contents.phases
    steps: list[Step] = [
        EnsureVersion("start/old", fleet.old, fleet.desired),
        Warm("start/warm", fleet.old),
        SetWeights("start/weights", {fleet.old: 100}),
    ]
    for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
        if phase.number > release.until.number:
            return tuple(steps)
        if phase in present:
            steps.append(RunPhase(f"{phase.value}/run", phase))
            if phase is not Phase.SWITCH:
                steps.append(Soak(f"{phase.value}/watch", fleet.old, pace.soak))
    steps += STRATEGIES[release.strategy].release(fleet, pace)
    steps += _flip(release)
    steps += _old_goes(release)
    if release.until is Phase.CONTRACT:
        steps += _contract(release)
    return tuple(steps)


def _flip(release: Release) -> list[Step]:
    flag, fleet, pace = release.flag, release.fleet, release.pace
    if flag is None:
        return []
    if not flag.by_restart:
        return [
            SetFlag("flag/set", flag.name, flag.on, fleet.new),
            Judge("flag/judge", fleet.new, None, pace.judge, pace.budget),
        ]
    inner = roll(Fleet(fleet.new, release.serving, fleet.desired), pace)
    return [_renamed(step, step.id.replace("release/", "flag/", 1)) for step in inner]


def _renamed(step: Step, name: str) -> Step:
    return replace(step, id=name)


def _old_goes(release: Release) -> list[Step]:
    fleet, serving = release.fleet, release.serving
    return [
        Soak("window/watch", serving, release.pace.window, window=True),
        Drain("window/drain", fleet.old, 0),
        Retire("window/stop", fleet.old),
        Forget("window/close", fleet.old),
    ]


def _contract(release: Release) -> list[Step]:
    contents, pace, serving = release.contents, release.pace, release.serving
    if Phase.CONTRACT not in contents.phases:
        return []
    steps: list[Step] = [Approve("contract/approve", "contract")]
    if contents.reversible_contract and contents.final_contract:
        steps += [
            RunPhase("contract/reversible", Phase.CONTRACT, keep_old=True),
            Soak("contract/watch", serving, pace.soak),
        ]
    steps += [
        RunPhase("contract/run", Phase.CONTRACT),
        Soak("contract/after", serving, pace.soak),
    ]
    return steps


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no automatic way back: `why`, and what a person can do."""

    why: str


def way_back(
    release: Release, world: World, rules: Rules, *, asked: bool = False, schema: bool = False
) -> Program | Refused:
    """The rollback from `world`: traffic first, then instances, the schema only if asked.

    `asked`: a person wants it, so that the old build is started again even when it was given up.
    Refused where there is no way: the run freezes and a person decides.
    """
    fleet, stage = release.fleet, world.stage
    if world.past_return:
        return Refused(
            "the point of no return is behind: nothing is taken back; go forward with another "
            "migration"
        )
    if fleet.old not in world.restorable and not asked:
        return Refused(
            f"{fleet.old} was given up as a way back: traffic stays where it is; `zdd-deploy abort` "
            "starts it again"
        )
    steps: list[Step] = []
    if not rules.matrix.allows(fleet.old, stage):
        if not schema:
            return Refused(
                f"{fleet.old} does not work with the schema at {stage.value}; "
                "`zdd-deploy abort --undo-schema` takes the schema back too"
            )
        steps.append(UndoPhases("back/contract", Stage.SWITCH.value))
    steps += _traffic_back(release, world)
    if schema and stage is not Stage.START and release.contents.phases:
        given_up = sorted(world.live | world.restorable)
        steps += [Forget(f"back/forget/{b}", b) for b in given_up if b != fleet.old]
        steps.append(UndoPhases("back/schema", Stage.START.value))
    return tuple(steps)


def reconcile(world: World, seen: Observation) -> World:
    """The world with the instances as they are; what is broken waits to be stopped."""
    found = {build: i for build, i in seen.instances.items() if i.total}
    return replace(
        world,
        ready={b: i.ready for b, i in found.items() if i.ready},
        draining={b: i.draining + i.broken for b, i in found.items() if i.draining + i.broken},
        warm={b: min(i.warm, i.ready) for b, i in found.items() if i.warm},
        weights=dict(seen.weights),
    )


def _traffic_back(release: Release, world: World) -> list[Step]:
    fleet, flag = release.fleet, release.flag
    steps: list[Step] = []
    away = {build for build in world.live if build != fleet.old}
    whole = world.warm.get(fleet.old, 0) >= fleet.desired
    target = SetWeights("back/traffic", {fleet.old: 100})
    if whole and world.weights != {fleet.old: 100}:
        steps.append(target)
    if flag is not None and not flag.by_restart and world.flag not in (None, flag.off):
        steps.append(SetFlag("back/flag", flag.name, flag.off, fleet.old))
    if not whole and world.weights:
        steps += [
            EnsureVersion("back/start", fleet.old, fleet.desired),
            Warm("back/warm", fleet.old),
            target,
        ]
    for build in sorted(away):
        steps += [Drain(f"back/drain/{build}", build, 0), Retire(f"back/stop/{build}", build)]
    if world.draining.get(fleet.old):
        steps.append(Retire(f"back/stop/{fleet.old}", fleet.old))
    return steps


def start_world(
    release: Release, ready: Mapping[str, int], weights: Mapping[str, int], stage: Stage
) -> World:
    """The world a new run begins in, from what the platform shows. InputError when it can not."""
    fleet = release.fleet
    strangers = sorted({*ready, *weights} - {fleet.old, fleet.new, release.serving})
    if strangers:
        raise InputError(
            f"the environment runs {', '.join(strangers)}, which is neither {fleet.old} nor "
            f"{fleet.new}: name the builds as they run (builds.old.name, builds.new.name)"
        )
    if any(ready.get(b) or weights.get(b) for b in (fleet.new, release.serving)):
        raise InputError(
            f"the environment runs {fleet.new} already and no run that began it is recorded: give "
            "the next build another name, or stop it first"
        )
    return World(
        stage=stage,
        ready={b: n for b, n in ready.items() if n},
        weights={b: w for b, w in weights.items() if w},
        restorable=frozenset({fleet.old}),
    )
