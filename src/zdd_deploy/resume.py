"""After a crash: what was seen decides whether a step is adopted, done again, or nobody's guess."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from zdd_deploy.invariants import Rules
from zdd_deploy.model import (
    Drain,
    EnsureVersion,
    Observation,
    Retire,
    SetWeights,
    Step,
    World,
    after,
    shares,
    show_weights,
)


class Decision(Enum):
    """ADOPT: the effect is there. REDO: it is not, or not all; the verb is idempotent. FREEZE."""

    ADOPT = "adopt"
    REDO = "redo"
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision and, where it is FREEZE, what was found that nobody of ours did."""

    decision: Decision
    why: str = ""


def decide(step: Step, world: World, seen: Observation, rules: Rules) -> Judged:
    """What to do with `step`, intended in `world` and not known to be through.

    Only steps whose effect shows on the platform can be adopted; all others are done again, which
    their verbs allow. Neither the state before nor the one after: somebody else was here.
    """
    stranger = drift(step, world, seen, rules)
    if stranger:
        return Judged(Decision.FREEZE, stranger)
    done = Decision.ADOPT if satisfied(step, seen) else Decision.REDO
    return Judged(done)


def satisfied(step: Step, seen: Observation) -> bool:
    """Whether the platform shows the effect of `step`."""
    match step:
        case EnsureVersion(_, build, count):
            return seen.ready(build) >= count
        case SetWeights(_, weights):
            return shares(seen.weights) == shares(weights)
        case Drain(_, build, keep):
            return seen.ready(build) <= keep and not seen.inflight.get(build, 0)
        case Retire(_, build):
            found = seen.instances.get(build)
            return found is None or not found.draining
        case _:
            return False


def drift(step: Step | None, world: World, seen: Observation, rules: Rules) -> str:
    """What is neither so before `step` nor after it, in words; "" when all can be explained.

    Instances that died are no drift: the next verb starts them again. Weights that nobody of us
    set, and builds that nobody of us started, are.
    """
    then = after(step, world, rules.contents) if step is not None else world
    expected = [shares(world.weights), shares(then.weights)]
    if seen.weights and shares(seen.weights) not in expected:
        return (
            f"traffic is {show_weights(seen.weights)}; the run left it at "
            f"{show_weights(world.weights)}: somebody else changed it"
        )
    if world.weights and not seen.weights and shares(then.weights):
        return f"no traffic is routed; the run left it at {show_weights(world.weights)}"
    known = world.live | then.live | world.restorable | {rules.fleet.old}
    for build, found in sorted(seen.instances.items()):
        if found.total and build not in known:
            return f"{found.total} instances of {build} run, which this run did not start"
    return ""
