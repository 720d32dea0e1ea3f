"""The ways to bring a build in: pure functions from a fleet and a pace to steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdd_deploy.model import Fleet, Step
from zdd_deploy.pace import Pace
from zdd_deploy.strategies import blue_green, canary, rolling


@dataclass(frozen=True, slots=True)
class Strategy:
    """`release` gives the steps from the old build serving all to the new one serving all.

    `keeps_target`: the old instances stay, ready, until the rollback window is over; else they
    are replaced on the way and a way back starts them again.
    """

    name: str
    release: Callable[[Fleet, Pace], list[Step]]
    keeps_target: bool


STRATEGIES: dict[str, Strategy] = {
    "blue-green": Strategy("blue-green", blue_green.release, keeps_target=True),
    "canary": Strategy("canary", canary.release, keeps_target=True),
    "rolling": Strategy("rolling", rolling.release, keeps_target=False),
}
