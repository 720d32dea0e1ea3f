"""Whether a build may have more traffic: pass, fail, or not enough seen to say. Pure.

A pass is proof, not the absence of errors: the upper confidence bound of the build's error rate
must lie under what is tolerated, which takes about 3/p requests when none fails (p: the tolerated
rate). A fail needs the lower bound above it, or significantly more errors than the build beside it.
Both are looked at again and again, so the error of a false alarm is spent over the looks:
α/(k·(k+1)) at the k-th, which never adds up to more than α.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
_FEWEST = 30
"""Requests below which no interval means anything."""


class Opinion(Enum):
    """What may be said of a build so far."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests that a build answered, and those of them that failed (HTTP 5xx, or no answer)."""

    requests: int
    failed: int

    @property
    def rate(self) -> float:
        """The failed ones' part; 0 when there was none."""
        return self.failed / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Criteria:
    """`max_error_rate` is tolerated (0.01: one in a hundred).

    `min_sample`: requests to see before a pass; None: 3 / max_error_rate. `alpha`: the risk taken
    of a false alarm in one judgement, over all its looks.
    """

    max_error_rate: float = 0.01
    min_sample: int | None = None
    alpha: float = 0.05

    @property
    def sample(self) -> int:
        """Requests to see before a pass."""
        return self.min_sample if self.min_sample is not None else ceil(3 / self.max_error_rate)


@dataclass(frozen=True, slots=True)
class Judged:
    """An opinion, and what it stands on."""

    opinion: Opinion
    why: str


def judge(new: Counts | None, beside: Counts | None, criteria: Criteria, look: int) -> Judged:
    """An opinion on `new` at the `look`-th look (from 1). `beside` is the other build's traffic.

    No counts, or too few, are never a pass.
    """
    if new is None:
        return Judged(Opinion.INCONCLUSIVE, "no data: the source of the error rate is silent")
    alpha = criteria.alpha / (look * (look + 1))
    tolerated = criteria.max_error_rate
    if beside is not None and beside.requests >= _FEWEST:
        tolerated = max(tolerated, beside.rate)
    seen = f"{new.failed:,} of {new.requests:,} requests failed ({new.rate:.2%})"
    if new.requests >= _FEWEST and lower(new, alpha) > tolerated:
        return Judged(Opinion.FAIL, f"{seen}, tolerated are {tolerated:.2%}")
    if new.requests < criteria.sample:
        return Judged(
            Opinion.INCONCLUSIVE, f"{seen}; {criteria.sample:,} must be seen before it may go on"
        )
    if beside is not None and worse(new, beside, alpha):
        return Judged(Opinion.FAIL, f"{seen}, of the build beside it {beside.rate:.2%}")
    if upper(new, criteria.alpha) > tolerated:
        return Judged(
            Opinion.INCONCLUSIVE, f"{seen}: too many to be sure of less than {tolerated:.2%}"
        )
    return Judged(Opinion.PASS, seen)


def lower(counts: Counts, alpha: float) -> float:
    """Wilson's one-sided lower bound of the error rate, at confidence 1 - alpha."""
    return _wilson(counts, -_NORMAL.inv_cdf(1 - alpha))


def upper(counts: Counts, alpha: float) -> float:
    """Wilson's one-sided upper bound of the error rate, at confidence 1 - alpha."""
    return _wilson(counts, _NORMAL.inv_cdf(1 - alpha))


def _wilson(counts: Counts, z: float) -> float:
    n, p = counts.requests, counts.rate
    if not n:
        return 1.0 if z > 0 else 0.0
    middle = p + z * z / (2 * n)
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle + spread) / (1 + z * z / n)


def worse(new: Counts, beside: Counts, alpha: float) -> bool:
    """Whether `new` fails significantly more often: one-sided test of two proportions."""
    if min(new.requests, beside.requests) < _FEWEST or new.failed < 5:
        return False  # the normal approximation would not hold
    pooled = (new.failed + beside.failed) / (new.requests + beside.requests)
    spread = sqrt(pooled * (1 - pooled) * (1 / new.requests + 1 / beside.requests))
    return spread > 0 and (new.rate - beside.rate) / spread > _NORMAL.inv_cdf(1 - alpha)
