"""The verdict is a pure function of what was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zdd_migrate.model.verdict import Judgement, LawResult, Rollback, StatementError, Trial
from zdd_migrate.verify.judge import Limits, Seen, doubtful, judge, settle, trial
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


def _failed(state: str, phase: str = "expand") -> Trial:
    errors = (StatementError(state, "no", "SELECT 1"),)
    return Trial(phase, "during", "old", "works", "breaks", 5, errors)


def _seen(*trials: Trial, laws: tuple[LawResult, ...] = ()) -> Seen:
    return Seen(trials, laws, ())


SLOW = Trial("expand", "during", "old", "works", "breaks", 5, longest_wait_ms=9000)


def test_only_what_a_bad_moment_may_have_brought_is_doubtful() -> None:
    """A lost connection, a wait, a program that fails by itself; never a refused statement."""
    for state in ("08006", "57P01", "53100", "-----"):
        assert doubtful(_seen(GOOD, _failed(state)))
    assert doubtful(_seen(SLOW))
    assert not doubtful(_seen(GOOD))
    assert not doubtful(_seen(_failed("08006"), _failed("42703")))
    assert not doubtful(_seen(_failed("LOST")))
    assert not doubtful(_seen(SLOW, laws=(LawResult("rows agree", "expand", False, 1),)))


def test_what_fails_once_and_works_once_is_inconclusive_and_never_passes() -> None:
    """What fails twice fails; what the second walk shows for certain counts."""
    assert settle(_seen(SLOW), _seen(GOOD)).judgement is Judgement.INCONCLUSIVE
    assert settle(_seen(SLOW), _seen(SLOW)).judgement is Judgement.FAIL
    assert settle(_seen(SLOW), _seen(_failed("42703"))).judgement is Judgement.FAIL
    assert settle(_seen(SLOW), _seen(_failed("08006", "migrate"))).judgement is not Judgement.PASS
    law = LawResult(
        "every step runs", "expand", False, 1, "expand-1: no lock on users after 8 tries"
    )
    settled = settle(_seen(GOOD, laws=(law,)), _seen(GOOD))
    assert settled.judgement is Judgement.INCONCLUSIVE
    assert "failed once, worked once" in settled.trials[-1].detail


@given(st.lists(TRIALS, min_size=1, max_size=5), st.lists(TRIALS, min_size=1, max_size=5))
def test_walking_twice_never_makes_a_pass_of_a_failure(
    first: list[Trial], second: list[Trial]
) -> None:
    """Whatever the second walk shows."""
    once = Seen(tuple(first), (), ())
    if once.judgement is Judgement.FAIL:
        assert settle(once, Seen(tuple(second), (), ())).judgement is not Judgement.PASS
