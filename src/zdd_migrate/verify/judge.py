"""From what was seen to a verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_migrate.model.verdict import Judgement, LawResult, Outcome, Rollback, Trial, When
from zdd_migrate.verify.recording import Recorded


@dataclass(frozen=True, slots=True)
class Limits:
    """What still counts as working: no statement of a live version waits longer than this."""

    longest_wait_ms: float = 5000.0


def judge(
    trials: Sequence[Trial], laws: Sequence[LawResult], rollbacks: Sequence[Rollback]
) -> Judgement:
    """fail where anything came out otherwise than expected, inconclusive where it could not be
    told (or nothing was tried), pass only when everything was tried and as expected."""
    unexpected = any(t.outcome != t.expected for t in trials if t.outcome != "inconclusive")
    broken = any(not law.holds for law in laws)
    lost = any(not r.schema_restored or r.rows_lost for r in rollbacks)
    if unexpected or broken or lost:
        return Judgement.FAIL
    if not trials or any(t.outcome == "inconclusive" for t in trials):
        return Judgement.INCONCLUSIVE
    return Judgement.PASS


def trial(
    recorded: Recorded,
    *,
    phase: str,
    when: When,
    code: str,
    expected: bool,
    limits: Limits,
    step: str | None = None,
) -> Trial:
    """A trial from what was recorded."""
    outcome: Outcome = "works"
    detail: list[str] = []
    if recorded.errors:
        outcome = "breaks"
    elif recorded.unclear:
        outcome = "inconclusive"
        detail.append(recorded.unclear)
    elif recorded.statements == 0:
        outcome = "inconclusive"
        detail.append("nothing ran")
    if outcome == "works" and recorded.longest_wait_ms > limits.longest_wait_ms:
        outcome = "breaks"
        detail.append(
            f"a statement waited {recorded.longest_wait_ms:.0f} ms, more than the limit of "
            f"{limits.longest_wait_ms:.0f} ms"
        )
    if recorded.replanned:
        detail.append(f"{recorded.replanned} prepared statements were prepared anew (0A000)")
    return Trial(
        phase=phase,
        when=when,
        code=code,
        expected="works" if expected else "breaks",
        outcome=outcome,
        statements=recorded.statements,
        errors=recorded.errors,
        longest_wait_ms=recorded.longest_wait_ms,
        step=step,
        detail="; ".join(detail),
    )
