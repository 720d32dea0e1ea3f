"""Three verdicts to print: one that passes, one that fails, one that could not be told."""

from __future__ import annotations

from dataclasses import replace

from tests.story import RENAME, plan_of
from zdd_migrate.model.verdict import (
    Failure,
    Judgement,
    LawResult,
    LockWait,
    Pulse,
    Rollback,
    Span,
    StatementError,
    StatementTime,
    Timeline,
    Trial,
    Verdict,
    Wait,
)

PLAN = plan_of(RENAME)
_TIMELINE = Timeline(
    spans=(
        Span("expand-1", "expand", "during", 200, 320, 2),
        Span("contract-1", "contract", "during", 1500, 1600),
        Span("expand-1", "contract", "undo", 2600, 2700),
    ),
    waits=(
        Wait("plan", "AccessExclusiveLock", "users", 210, 250, "a long transaction"),
        Wait("old", "RowExclusiveLock", "users", 215, 255, "plan"),
    ),
    pulses=tuple(
        Pulse(code, at, 3, 4.0 if at != 240 else 900.0)
        for code, start in (("old", 0), ("new", 1400))
        for at in range(start, start + 400, 40)
    ),
)


def _works(phase: str, when: str, code: str) -> Trial:
    return Trial(phase, when, code, "works", "works", 40, longest_wait_ms=12.5)  # type: ignore[arg-type]


GOOD = Verdict(
    Judgement.PASS,
    "18.4",
    trials=(
        _works("start", "steady", "old"),
        _works("expand", "during", "old"),
        _works("expand", "steady", "old"),
        _works("expand", "undo", "old"),
        _works("switch", "steady", "old"),
        _works("switch", "steady", "new"),
        _works("contract", "during", "new"),
        _works("contract", "steady", "new"),
        Trial("contract", "steady", "old", "breaks", "breaks", 9),
    ),
    laws=(LawResult("users.username = up(user_name)", "switch", True),),
    rollbacks=(Rollback("expand", "start", True, 0),),
    timeline=_TIMELINE,
    times=(
        StatementTime(
            "old",
            "UPDATE public.users SET age = %s WHERE id = %s RETURNING *",
            84,
            900.0,
            phase="expand",
            when="during",
            step="expand-1",
            locks=(LockWait("RowExclusiveLock", "users", "plan", "expand-1", 2, 897.0),),
        ),
        *(
            StatementTime("new", f"SELECT n{n} FROM users LIMIT 3", 40, 8.0 - n / 2, phase="switch")
            for n in range(9)
        ),
    ),
    longest_allowed_ms=5000.0,
)
_ERROR = StatementError("42703", 'column "user_name" does not exist', "SELECT user_name FROM users")
BROKEN = replace(
    GOOD,
    judgement=Judgement.FAIL,
    trials=tuple(
        replace(t, outcome="breaks", errors=(_ERROR,), step="expand-1")
        if (t.phase, t.when) == ("expand", "during")
        else t
        for t in GOOD.trials
    ),
    times=(replace(GOOD.times[0], statement="UPDATE <b>| SET a = %s", over=2), *GOOD.times[1:]),
    laws=(LawResult("<b>| = up(user_name)", "switch", False, 7),),
    rollbacks=(Rollback("expand", "start", False, 2, "column public.users.x was not there"),),
    failures=(
        Failure(
            "statement",
            "expand",
            "during",
            "old",
            _ERROR.message,
            "42703",
            _ERROR.statement,
            "expand-1",
            "first seen while it ran",
            3,
        ),
        Failure("law", "switch", "steady", "", "<b>| = up(user_name): 7 rows"),
    ),
)
UNCLEAR = replace(
    GOOD,
    judgement=Judgement.INCONCLUSIVE,
    trials=(*GOOD.trials, Trial("switch", "undo", "new", "works", "inconclusive", detail="hm")),
)
