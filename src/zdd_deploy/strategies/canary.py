"""Canary: a small share of the traffic first, judged before each larger one."""

from __future__ import annotations

from math import ceil

from zdd_deploy.model import EnsureVersion, Fleet, Judge, SetWeights, Smoke, Step, Warm
from zdd_deploy.pace import Pace


def release(fleet: Fleet, pace: Pace) -> list[Step]:
    """The old instances all stay; the new ones grow with the share they carry."""
    steps: list[Step] = []
    placed = 0
    for share in pace.weights:
        name = f"release/{share}%"
        count = max(1, ceil(fleet.desired * share / 100))
        if count > placed:
            placed = count
            steps += [
                EnsureVersion(f"{name}/start", fleet.new, count),
                Warm(f"{name}/warm", fleet.new),
            ]
            if pace.smoke:
                steps += [Smoke(f"{name}/smoke", fleet.new)]
        steps += [
            SetWeights(f"{name}/weights", {fleet.old: 100 - share, fleet.new: share}),
            Judge(
                f"{name}/judge",
                fleet.new,
                fleet.old if share < 100 else None,
                pace.judge,
                pace.budget,
            ),
        ]
    return steps
