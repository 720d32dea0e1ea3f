"""The verbs of a platform. Each is level-triggered: it ensures a state, and may be called again.

No driver keeps the truth: `observe` asks the platform. Every verb that changes traffic first looks
whether a runner with a higher epoch was here (FencedError), then stamps its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from zdd_deploy.model import Fleet, Observation
from zdd_deploy.pace import Pace

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Caps:
    """What a platform can do.

    `weights` exact: any share; replicas: shares are rounded to whole instances, so the true share
    is theirs. `drain_observable`: open requests can be counted. `atomic_switch`: all traffic moves
    in one act.
    """

    strategies: frozenset[str]
    weights: Literal["exact", "replicas"]
    drain_observable: bool
    atomic_switch: bool


@dataclass(frozen=True, slots=True)
class Lint:
    """A weakness of the platform's configuration: what it is, and what to do."""

    rule: str
    severity: Severity
    message: str
    fix: str


class Driver(Protocol):
    """A platform. StepFailedError: the build's fault. EnvironmentFailedError: the platform's."""

    def caps(self) -> Caps:
        """What the platform can do."""
        ...

    def lint(self, fleet: Fleet, strategy: str, pace: Pace) -> list[Lint]:
        """What would make this release lose requests, found without touching anything."""
        ...

    def observe(self) -> Observation:
        """What is so, asked of the platform itself."""
        ...

    def fence(self, epoch: int) -> None:
        """Take the platform over for `epoch`. FencedError when a higher one was here."""
        ...

    def ensure_version(self, build: str, count: int) -> None:
        """At least `count` ready instances of `build`, out of traffic unless it has a weight."""
        ...

    def warm(self, build: str) -> None:
        """Every ready instance of `build` has answered its warm-up requests."""
        ...

    def smoke(self, build: str) -> None:
        """Every ready instance of `build` answers the smoke requests, asked past the balancer."""
        ...

    def ensure_weights(self, weights: Mapping[str, int]) -> None:
        """New requests are shared out in this proportion; builds not named get none."""
        ...

    def drain(self, build: str, keep: int) -> None:
        """All but `keep` instances get nothing new, and have answered what they had."""
        ...

    def retire(self, build: str) -> None:
        """Drained and broken instances of `build` are stopped, gently."""
        ...

    def flags(self, build: str) -> frozenset[str]:
        """The values of the flag that instances of `build` in traffic report; empty: none do."""
        ...
