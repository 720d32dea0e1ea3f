"""Rolling: a few new instances more, warmed, then as many old ones drained and stopped."""

from __future__ import annotations

from zdd_deploy.model import (
    Drain,
    EnsureVersion,
    Fleet,
    Judge,
    Retire,
    SetWeights,
    Smoke,
    Step,
    Warm,
)
from zdd_deploy.pace import Pace


def release(fleet: Fleet, pace: Pace) -> list[Step]:
    """Surge first, so that never fewer than the desired number are ready; one batch at a time."""
    steps: list[Step] = []
    placed = 0
    while placed < fleet.desired:
        placed = min(fleet.desired, placed + pace.batch)
        left = fleet.desired - placed
        name = f"release/{placed}-of-{fleet.desired}"
        steps += [EnsureVersion(f"{name}/start", fleet.new, placed)]
        steps += [Warm(f"{name}/warm", fleet.new)]
        if pace.smoke:
            steps += [Smoke(f"{name}/smoke", fleet.new)]
        steps += [
            SetWeights(f"{name}/weights", {fleet.old: left, fleet.new: placed}),
            Drain(f"{name}/drain", fleet.old, left),
            Retire(f"{name}/stop", fleet.old),
            Judge(
                f"{name}/judge",
                fleet.new,
                fleet.old if left else None,
                pace.judge,
                pace.budget,
            ),
        ]
    return steps
