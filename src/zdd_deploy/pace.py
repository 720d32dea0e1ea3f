"""How fast a release goes: shares, batches, how long each is watched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times are seconds.

    `weights` are the canary's shares in percent, rising, the last 100. `batch` is how many
    instances rolling replaces at a time. `judge` is how long each step is watched at least and
    `budget` how long at most before a person is asked; `soak` follows each phase of the database;
    `window` is how long the way back is kept open once the new build serves all.
    """

    weights: tuple[int, ...] = (5, 20, 50, 100)
    batch: int = 1
    judge: float = 60.0
    budget: float = 600.0
    soak: float = 30.0
    window: float = 300.0
    smoke: bool = True
