"""From what was seen to a verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


#: SQLSTATE classes that tell of the server or the machine, not of what the plan did: connection
#: lost, out of resources, somebody's intervention, input and output, the server's own faults
_OF_THE_MACHINE = ("08", "53", "57", "58", "XX", "F0")
#: what a program is given that failed without one statement failing
_NO_STATE = "-----"
STEPS_RUN = "every step runs"


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one walk showed."""

    trials: tuple[Trial, ...]
    laws: tuple[LawResult, ...]
    rollbacks: tuple[Rollback, ...]

    @property
    def judgement(self) -> Judgement:
        """What it comes to."""
        return judge(self.trials, self.laws, self.rollbacks)


def doubtful(seen: Seen) -> bool:
    """Whether it fails, and by nothing but what a bad moment of the machine may have brought:
    waits, lost connections, timeouts, programs that failed without a failed statement."""
    if seen.judgement is not Judgement.FAIL:
        return False
    certain = any(_unexpected(t) and not _may_be_chance(t) for t in seen.trials)
    certain = certain or any(not law.holds and not _law_by_chance(law) for law in seen.laws)
    return not certain and all(r.schema_restored and not r.rows_lost for r in seen.rollbacks)


def settle(first: Seen, second: Seen) -> Seen:
    """A doubtful walk after it was walked once more: what failed both times fails, what worked
    the second time is inconclusive, and never a pass. What the second shows for certain counts."""
    if second.judgement is Judgement.FAIL and not doubtful(second):
        return second
    again = {(t.phase, t.when, t.code) for t in second.trials if _unexpected(t)}
    trials = [
        t if not _unexpected(t) or (t.phase, t.when, t.code) in again else _flaky(t)
        for t in first.trials
    ]
    broken = {(law.name, law.phase) for law in second.laws if not law.holds}
    laws = []
    for law in first.laws:
        if law.holds or (law.name, law.phase) in broken:
            laws.append(law)
        else:
            why = f"failed once, worked once: {law.name}: {law.detail}"
            trials.append(
                Trial(law.phase, "during", "plan", "works", "inconclusive", detail=why[:300])
            )
    return Seen(tuple(trials), tuple(laws), first.rollbacks)


def _unexpected(one: Trial) -> bool:
    return one.outcome not in (one.expected, "inconclusive")


def _may_be_chance(one: Trial) -> bool:
    if one.outcome == "works":  # where it must not
        return False
    return all(e.sqlstate == _NO_STATE or e.sqlstate[:2] in _OF_THE_MACHINE for e in one.errors)


def _law_by_chance(law: LawResult) -> bool:
    return law.name == STEPS_RUN and (
        ": no lock on " in law.detail or any(f": {c}" in law.detail for c in _OF_THE_MACHINE)
    )


def _flaky(one: Trial) -> Trial:
    first = f"{one.errors[0].sqlstate} {one.errors[0].message}" if one.errors else one.detail
    why = f"failed once, worked once: {first}"
    return replace(one, outcome="inconclusive", detail=why[:300], errors=())


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
        slowest=recorded.slowest,
    )
