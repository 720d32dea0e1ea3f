"""Blue-green: a second full set beside the first, tried out of traffic, then all traffic at once."""

from __future__ import annotations

from zdd_deploy.model import EnsureVersion, Fleet, Judge, SetWeights, Smoke, Step, Warm
from zdd_deploy.pace import Pace


def release(fleet: Fleet, pace: Pace) -> list[Step]:
    """The idle set is warmed and smoke tested before the switch; the other stays as it is."""
    steps: list[Step] = [
        EnsureVersion("release/idle/start", fleet.new, fleet.desired),
        Warm("release/idle/warm", fleet.new),
    ]
    if pace.smoke:
        steps += [Smoke("release/idle/smoke", fleet.new)]
    return [
        *steps,
        SetWeights("release/switch", {fleet.new: 100}),
        Judge("release/judge", fleet.new, None, pace.judge, pace.budget),
    ]
