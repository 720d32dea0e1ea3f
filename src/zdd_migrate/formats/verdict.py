"""A verdict as JSON of the public contract, and as a matrix for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from zdd_migrate.model.verdict import (
    PHASES,
    Failure,
    Judgement,
    LockWait,
    StatementTime,
    Trial,
    Verdict,
)

Style = Callable[[str, str], str]
#: what a cell of the matrix says: works, breaks (as it must), FAILS, ? (not told) or nothing tried
Cell = Literal["works", "breaks", "FAILS", "?", ""]

#: a phase's columns, each as wide as its word needs
_WHEN = (("steady", 7), ("during", 7), ("undo", 6))
_SHOWN_FAILURES = 8
_SHOWN_TIMES = 3


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """`{"version": 1, "verdict": …, "trials": […], "laws": […], "rollbacks": […]}`."""
    return {
        "version": 1,
        "verdict": verdict.judgement.value,
        "pg_version": verdict.pg_version,
        "trials": [_trial(t) for t in verdict.trials],
        "laws": [
            {
                "name": law.name,
                "phase": law.phase,
                "holds": law.holds,
                "violations": law.violations,
                **({"detail": law.detail} if law.detail else {}),
                **({"step": law.step} if law.step else {}),
            }
            for law in verdict.laws
        ],
        "rollbacks": [
            {
                "from": r.start,
                "to": r.to,
                "schema_restored": r.schema_restored,
                "rows_lost": r.rows_lost,
                **({"detail": r.detail} if r.detail else {}),
            }
            for r in verdict.rollbacks
        ],
        "failures": [
            {key: value for key, value in asdict(f).items() if value not in ("", None)}
            for f in verdict.failures
        ],
        "statement_times": [
            {key: value for key, value in asdict(time).items() if value not in ("", ())}
            for time in verdict.times
        ],
        "longest_wait_allowed_ms": verdict.longest_allowed_ms,
        "notes": list(verdict.notes),
        "conditions": list(verdict.conditions),
        "timeline": {
            "steps": [asdict(span) for span in verdict.timeline.spans],
            "waits": [asdict(wait) for wait in verdict.timeline.waits],
        },
        **({"took_s": verdict.took_s} if verdict.took_s else {}),
        **({"reused": verdict.reused} if verdict.reused else {}),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    out: dict[str, Any] = {
        "phase": trial.phase,
        "when": trial.when,
        "code": trial.code,
        "expected": trial.expected,
        "outcome": trial.outcome,
        "statements": trial.statements,
        "errors": [
            {
                "sqlstate": e.sqlstate,
                "message": e.message,
                "statement": e.statement,
                "count": e.count,
            }
            for e in trial.errors
        ],
        "longest_wait_ms": trial.longest_wait_ms,
    }
    if trial.step is not None:
        out["step"] = trial.step
    if trial.detail:
        out["detail"] = trial.detail
    if trial.slowest:
        out["slowest"] = trial.slowest
    return out


def render(verdict: Verdict, *, style: Style = lambda text, _: text, width: int = 100) -> str:
    """Code versions down, phases and moments across; then what failed, the laws, the ways back."""
    lines = _matrix(verdict, style)
    if verdict.failures:
        lines += ["", style("otherwise than expected", "error")]
        lines += _failures(verdict.failures, style, width)
    unclear = [t for t in verdict.trials if t.outcome == "inconclusive"]
    for trial in unclear[:5]:
        why = f"could not be told: {trial.code} in {trial.phase}: {trial.detail}"
        lines += ["", *(style(line, "warning") for line in textwrap.wrap(why, width))]
    lines += _times(verdict, style, width)
    lines += _laws(verdict, style)
    lines += _rollbacks(verdict)
    if verdict.conditions:
        lines += textwrap.wrap(f"tried under: {', '.join(verdict.conditions)}", width)
    for note in verdict.notes:
        lines += textwrap.wrap(f"note: {note}", width)
    lines += ["", _last_line(verdict, style)]
    return "\n".join(lines)


def cell(trials: Sequence[Trial]) -> Cell:
    """What trials of one version in one phase at one moment come to."""
    if not trials:
        return ""
    if not all(t.as_expected for t in trials if t.outcome != "inconclusive"):
        return "FAILS"
    if any(t.outcome == "inconclusive" for t in trials):
        return "?"
    return "breaks" if trials[0].expected == "breaks" else "works"


def columns(verdict: Verdict) -> list[tuple[str, list[str]]]:
    """Phases in order, and of each the moments in which anything was tried."""
    known = [p for p in PHASES if any(t.phase == p for t in verdict.trials)]
    phases = list(dict.fromkeys([*known, *(t.phase for t in verdict.trials)]))
    return [
        (
            phase,
            [
                when
                for when, _ in _WHEN
                if any((t.phase, t.when) == (phase, when) for t in verdict.trials)
            ],
        )
        for phase in phases
    ]


def codes(verdict: Verdict) -> list[str]:
    """Code versions, the old ones first."""
    found = dict.fromkeys(t.code for t in verdict.trials)
    return sorted(found, key=lambda code: (not code.startswith("old"), list(found).index(code)))


def of_cell(verdict: Verdict, code: str, phase: str, when: str) -> list[Trial]:
    """The trials behind one cell of the matrix."""
    return [t for t in verdict.trials if (t.code, t.phase, t.when) == (code, phase, when)]


def _matrix(verdict: Verdict, style: Style) -> list[str]:
    shown, widths = columns(verdict), dict(_WHEN)
    label = max([len(code) for code in codes(verdict)] + [4]) + 1
    head, sub = f"{'':{label}}", f"{'':{label}}"
    for phase, whens in shown:
        whole = sum(widths[w] for w in whens)
        head += f"{phase:{whole}}"
        sub += "".join(f"{w:{widths[w]}}" for w in whens)
    lines = [style(head.rstrip(), "bold"), style(sub.rstrip(), "dim")]
    for code in codes(verdict):
        line = f"{code:{label}}"
        for phase, whens in shown:
            for when in whens:
                word = cell(of_cell(verdict, code, phase, when))
                line += style(f"{word or '·':{widths[when]}}", _COLOURS[word])
        lines.append(line.rstrip())
    return lines


_COLOURS = {"works": "ok", "breaks": "dim", "FAILS": "error", "?": "warning", "": "dim"}


def where(failure: Failure) -> str:
    """`old code in expand, while expand-1 ran`, in words."""
    moment = {"steady": "", "undo": " on the way back", "during": ""}[failure.when]
    who = f"{failure.code} code " if failure.code else ""
    text = f"{who}{'in' if failure.code else 'after'} {failure.phase}{moment}"
    if failure.step is not None:
        text += f"; step {failure.step}"
        text += f" ({failure.because})" if failure.because else ""
    elif failure.because:
        text += f"; {failure.because}"
    return text


def _failures(failures: Sequence[Failure], style: Style, width: int) -> list[str]:
    lines = []
    for one in failures[:_SHOWN_FAILURES]:
        times = f" ({one.count} times)" if one.what == "statement" and one.count > 1 else ""
        text = f"  {one.sqlstate} {one.message}{times}" if one.sqlstate else f"  {one.message}"
        wrapped = textwrap.wrap(text, width, subsequent_indent="    ")
        lines += [style(line, "error") for line in wrapped[:4]]
        lines += textwrap.wrap(f"      {where(one)}", width, subsequent_indent="      ")
        if one.statement:
            shown = one.statement
            shown = shown if len(shown) < width - 6 else shown[: width - 7] + "…"
            lines.append(style(f"      {shown}", "dim"))
    if len(failures) > _SHOWN_FAILURES:
        lines.append(f"  and {len(failures) - _SHOWN_FAILURES} more (--format json has all)")
    return lines


def worst_times(verdict: Verdict, count: int) -> list[StatementTime]:
    """The statements that took longest, and before all others those that took longer than allowed."""
    return sorted(verdict.times, key=lambda time: (not time.over, -time.longest_ms))[:count]


def waited_for(lock: LockWait) -> str:
    """`RowExclusiveLock on users, held by expand-1`, in words."""
    who = [
        (lock.step or "the plan") if name == "plan" else f"{name} code" if name in _SIDES else name
        for name in lock.behind.split(", ")
        if name
    ]
    behind = f", behind {' and '.join(who)}" if who else ""
    return f"{lock.mode} on {lock.relation}{behind}"


def runs(time: StatementTime) -> str:
    """`84 runs, 2 over`."""
    over = f", {time.over:,} over the limit" if time.over else ""
    return f"{time.runs:,} {'run' if time.runs == 1 else 'runs'}{over}"


_SIDES = ("old", "new")


def _times(verdict: Verdict, style: Style, width: int) -> list[str]:
    """The statements that took longest, each with what it waited for."""
    shown = worst_times(verdict, _SHOWN_TIMES)
    if not shown:
        return []
    limit = f", {verdict.longest_allowed_ms:,.0f} ms allowed" if verdict.longest_allowed_ms else ""
    lines = ["", f"slowest of {len(verdict.times)} statements{limit}"]
    for time in shown:
        at = f" in {time.step or time.phase}" if time.step or time.phase else ""
        text = f"  {time.longest_ms:,.0f} ms  {time.code} code{at}, {runs(time)}"
        for lock in time.locks[:1]:
            text += f"; waited {lock.longest_ms:,.0f} ms for {waited_for(lock)}"
        wrapped = textwrap.wrap(text, width, subsequent_indent="      ")
        lines += [style(line, "error") if time.over else line for line in wrapped]
        statement = textwrap.shorten(time.statement, width - 6, placeholder="…")
        lines.append(style(f"      {statement}", "dim"))
    return lines


def _laws(verdict: Verdict, style: Style) -> list[str]:
    if not verdict.laws:
        return []
    broken = [law for law in verdict.laws if not law.holds]
    names = len({law.name for law in verdict.laws})
    text = f"laws: {len(verdict.laws)} checks of {names}, {_many(len(broken), 'broken')}"
    return ["", style(text, "error") if broken else text]


def _rollbacks(verdict: Verdict) -> list[str]:
    walked = [
        r.start
        for r in verdict.rollbacks
        if r.schema_restored and not r.rows_lost and r.to == "start"
    ]
    if not walked:
        return []
    return [f"ways back walked under load, schema restored, no row lost: from {', '.join(walked)}"]


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count else f"none {word}"


def longest(verdict: Verdict) -> float:
    """The longest that a single statement took, in ms; runs of whole programs do not count."""
    return max((t.longest_wait_ms for t in verdict.trials if "command" not in t.code), default=0)


def _last_line(verdict: Verdict, style: Style) -> str:
    names = {
        Judgement.PASS: ("PASS", "ok"),
        Judgement.FAIL: ("FAIL", "error"),
        Judgement.INCONCLUSIVE: ("INCONCLUSIVE", "warning"),
    }
    word, colour = names[verdict.judgement]
    took = f", {verdict.took_s:.1f} s" if verdict.took_s else ""
    again = f"; as tried {verdict.reused}: nothing has changed" if verdict.reused else ""
    return (
        f"{style(word, colour)}  {verdict.statements:,} statements on Postgres {verdict.pg_version}, "
        f"longest wait {longest(verdict):.0f} ms{took}{again}"
    )
