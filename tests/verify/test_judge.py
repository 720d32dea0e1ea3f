"""The verdict is a pure function of what was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zdd_migrate.model.verdict import Judgement, LawResult, Rollback, StatementError, Trial
from zdd_migrate.verify.judge import Limits, judge, trial
from zdd_migrate.verify.recording import Recorded, Recorder

TRIALS = st.builds(
    Trial,
    phase=st.just("expand"),
    when=st.sampled_from(["steady", "during", "undo"]),
    code=st.just("old"),
    expected=st.sampled_from(["works", "breaks"]),
    outcome=st.sampled_from(["works", "breaks", "inconclusive"]),
)
GOOD = Trial("expand", "steady", "old", "works", "works")


@given(st.lists(TRIALS, max_size=6))
def test_pass_means_everything_was_as_expected(trials: list[Trial]) -> None:
    """And something was tried at all; one unexpected outcome fails."""
    verdict = judge(trials, [], [])

    if verdict is Judgement.PASS:
        assert trials
        assert all(t.outcome == t.expected for t in trials)
    if any(t.outcome not in (t.expected, "inconclusive") for t in trials):
        assert verdict is Judgement.FAIL


def test_a_broken_law_a_lost_row_or_an_unrestored_schema_fails() -> None:
    """Each by itself."""
    assert judge([GOOD], [LawResult("x", "expand", False, 1)], []) is Judgement.FAIL
    assert judge([GOOD], [], [Rollback("expand", "start", True, 1)]) is Judgement.FAIL
    assert judge([GOOD], [], [Rollback("expand", "start", False, 0)]) is Judgement.FAIL
    assert judge([GOOD], [], []) is Judgement.PASS
    assert judge([], [], []) is Judgement.INCONCLUSIVE


def test_nothing_that_ran_is_inconclusive() -> None:
    """Silence is not success."""
    made = trial(Recorded(), phase="a", when="steady", code="old", expected=True, limits=Limits())

    assert made.outcome == "inconclusive"


def test_the_recorder_folds_equal_failures() -> None:
    """And starts anew after each take."""
    recorder = Recorder()
    for _ in range(3):
        recorder.ran(0.002)
        recorder.failed("42703", "gone", "SELECT  x")

    first, second = recorder.take(), recorder.take()

    assert first.errors == (StatementError("42703", "gone", "SELECT x", 3),)
    assert first.statements == 3
    assert second == Recorded()
