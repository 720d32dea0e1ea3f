"""The judge: proof or no promotion, and few false alarms however often it looks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_deploy.judge import Counts, Criteria, Opinion, judge, lower, upper

ONE_PERCENT = Criteria(0.01)
COUNTS = st.integers(0, 100_000).flatmap(lambda n: st.builds(Counts, st.just(n), st.integers(0, n)))


@pytest.mark.parametrize(
    ("new", "beside", "opinion"),
    [
        (None, None, Opinion.INCONCLUSIVE),
        (Counts(0, 0), None, Opinion.INCONCLUSIVE),
        (Counts(299, 0), None, Opinion.INCONCLUSIVE),
        (Counts(300, 0), None, Opinion.PASS),
        (Counts(300, 3), None, Opinion.INCONCLUSIVE),
        (Counts(100_000, 900), None, Opinion.PASS),
        (Counts(40, 4), None, Opinion.FAIL),
        (Counts(5, 5), None, Opinion.INCONCLUSIVE),
        (Counts(100_000, 1_200), None, Opinion.FAIL),
        (Counts(100_000, 900), Counts(100_000, 500), Opinion.FAIL),
        (Counts(100_000, 2_000), Counts(100_000, 2_100), Opinion.PASS),
    ],
)
def test_opinions(new: Counts | None, beside: Counts | None, opinion: Opinion) -> None:
    """Silence and small samples never promote; a build is measured by the one beside it too."""
    assert judge(new, beside, ONE_PERCENT, 1).opinion is opinion


@given(COUNTS, st.one_of(st.none(), COUNTS), st.integers(1, 100))
def test_a_pass_is_proof(new: Counts, beside: Counts | None, look: int) -> None:
    """Whatever passes had enough requests, and a rate under what was tolerated."""
    judged = judge(new, beside, ONE_PERCENT, look)
    if judged.opinion is Opinion.PASS:
        assert new.requests >= 300
        assert new.rate <= max(0.01, beside.rate if beside else 0)
    if judged.opinion is Opinion.FAIL:
        assert new.failed > 0


@given(COUNTS)
def test_bounds_hold_the_rate(counts: Counts) -> None:
    """The interval is around the rate, within 0 and 1."""
    low, high = lower(counts, 0.05), upper(counts, 0.05)
    assert -1e-9 <= low <= counts.rate + 1e-9
    assert counts.rate - 1e-9 <= high <= 1 + 1e-9


def test_false_alarms_stay_rare_however_often_it_looks() -> None:
    """A build exactly as good as the other, looked at 60 times: α is spent over all of them."""
    chance = random.Random(20)  # noqa: S311  a simulation
    alarms = 0
    for _ in range(300):
        new, beside = [0, 0], [0, 0]
        for look in range(1, 61):
            for build, size in ((new, 20), (beside, 200)):
                build[0] += size
                build[1] += sum(chance.random() < 0.004 for _ in range(size))
            counted = Counts(*new), Counts(*beside)
            if judge(*counted, ONE_PERCENT, look).opinion is Opinion.FAIL:
                alarms += 1
                break
    assert alarms / 300 < 0.05


def test_a_build_that_fails_one_in_ten_is_found_soon() -> None:
    """Within ten looks of fifty requests each, nearly always."""
    chance = random.Random(21)  # noqa: S311  a simulation
    found = 0
    for _ in range(200):
        counts = [0, 0]
        for look in range(1, 11):
            counts[0] += 50
            counts[1] += sum(chance.random() < 0.1 for _ in range(50))
            if judge(Counts(*counts), None, ONE_PERCENT, look).opinion is Opinion.FAIL:
                found += 1
                break
    assert found >= 198
