"""What must hold before any effect. A step that would break one of these is never begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zdd_deploy.matrix import Matrix
from zdd_deploy.model import (
    Contents,
    Drain,
    Fleet,
    Forget,
    Retire,
    RunPhase,
    SetWeights,
    Stage,
    Step,
    UndoPhases,
    World,
    after,
    needed,
)
from zdd_migrate.model.plan import Phase


@dataclass(frozen=True, slots=True)
class Rules:
    """What the invariants are measured by.

    `keeps_target`: the strategy promises the old instances as a way back until the window is over
    (canary, blue-green).
    """

    fleet: Fleet
    matrix: Matrix
    keeps_target: bool
    contents: Contents


def broken(step: Step, world: World, rules: Rules, *, forward: bool) -> list[str]:
    """The invariants that `step` would break, in words; none means it may begin."""
    then = after(step, world, rules.contents)
    return [
        *_compatible(step, world, then, rules),
        *_capacity(step, then, rules),
        *(_target_kept(step, world, rules) if forward else ()),
        *_return(step, world),
        *_approved(step, world),
    ]


def _compatible(step: Step, world: World, then: World, rules: Rules) -> Iterator[str]:
    builds = world.live | then.live | then.restorable
    for build, stage in rules.matrix.refused(builds, {world.stage, then.stage}):
        how = "runs" if build in world.live | then.live else "may be started again"
        yield f"{step.id}: {build} {how}, and does not work with the schema at {stage.value}"


def _capacity(step: Step, then: World, rules: Rules) -> Iterator[str]:
    if not then.weights or not isinstance(step, SetWeights | Drain):
        return  # instances that died are the next verb's work, no reason to refuse it
    for build, count in needed(rules.fleet.desired, then.weights).items():
        have = then.count(build)
        if have < count:
            yield f"{step.id}: {build} would have {have} ready instances of the {count} it needs"
        elif isinstance(step, SetWeights) and then.warm.get(build, 0) < count:
            yield f"{step.id}: {build} would get traffic before it is warmed up"


def _target_kept(step: Step, world: World, rules: Rules) -> Iterator[str]:
    """The way back stays until the rollback window is over."""
    if world.window_over:
        return
    old = rules.fleet.old
    if isinstance(step, Forget) and step.build == old:
        yield f"{step.id}: {old} would stop being a way back before its soak is over"
    if rules.keeps_target and isinstance(step, Drain | Retire) and step.build == old:
        yield f"{step.id}: {old}, the way back, would be stopped before its soak is over"


def _return(step: Step, world: World) -> Iterator[str]:
    if world.past_return and isinstance(step, UndoPhases):
        yield f"{step.id}: the point of no return is behind; go forward with another migration"


def _approved(step: Step, world: World) -> Iterator[str]:
    if isinstance(step, RunPhase) and step.phase is Phase.CONTRACT:
        if "contract" not in world.approved:
            yield f"{step.id}: contract has not been approved"
        if world.stage.number < Stage.SWITCH.number:
            yield f"{step.id}: contract before switch"
