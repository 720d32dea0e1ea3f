"""A verdict as JSON of the public contract, and as a matrix for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from zdd_migrate.model.verdict import Judgement, StatementError, Trial, Verdict

Style = Callable[[str, str], str]

_WHEN = ("steady", "during", "undo")


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
        "notes": list(verdict.notes),
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
    return out


def render(verdict: Verdict, *, style: Style = lambda text, _: text, width: int = 100) -> str:
    """Phases down, code versions and moments across; then what failed, the laws, the ways back."""
    lines = _matrix(verdict, style)
    failing = [t for t in verdict.trials if t.errors]
    unexpected = [t for t in failing if t.expected == "works"]
    if unexpected:
        lines += ["", style("statements that broke", "error")]
        lines += _errors(unexpected, style, width)
    unclear = [t for t in verdict.trials if t.outcome == "inconclusive"]
    for trial in unclear[:5]:
        why = f"could not be told: {trial.code} in {trial.phase}: {trial.detail}"
        lines += ["", *textwrap.wrap(style(why, "warning"), width)]
    slow = [t for t in verdict.trials if t.outcome == "breaks" and not t.errors]
    for trial in slow[:5]:
        lines.append(
            style(f"{trial.code} in {trial.phase} ({trial.step}): {trial.detail}", "error")
        )
    lines += _laws(verdict, style, width)
    lines += _rollbacks(verdict, style, width)
    for note in verdict.notes:
        lines += textwrap.wrap(f"note: {note}", width)
    lines += ["", _last_line(verdict, style)]
    return "\n".join(lines)


def _matrix(verdict: Verdict, style: Style) -> list[str]:
    codes = list(dict.fromkeys(t.code for t in verdict.trials))
    phases = list(dict.fromkeys(t.phase for t in verdict.trials))
    head = f"{'':10}" + "".join(f"{code:^21}" for code in codes)
    sub = f"{'':10}" + "".join(f"{'steady':^7}{'during':^7}{'undo':^7}" for _ in codes)
    lines = [style(head.rstrip(), "bold"), style(sub.rstrip(), "dim")]
    for phase in phases:
        cells = []
        for code in codes:
            for when in _WHEN:
                found = [
                    t for t in verdict.trials if (t.phase, t.code, t.when) == (phase, code, when)
                ]
                cells.append(_cell(found, style))
        lines.append(f"{phase:10}" + "".join(cells).rstrip())
    return lines


def _cell(trials: list[Trial], style: Style) -> str:
    """`works`, `breaks` where that is expected, `FAILS` where it is not, `?` where untold."""
    if not trials:
        return f"{'·':^7}"
    if any(t.outcome == "inconclusive" for t in trials):
        return style(f"{'?':^7}", "warning")
    if not all(t.as_expected for t in trials):
        return style(f"{'FAILS':^7}", "error")
    if trials[0].expected == "breaks":
        return style(f"{'breaks':^7}", "dim")
    return style(f"{'works':^7}", "ok")


def _errors(trials: Iterable[Trial], style: Style, width: int) -> list[str]:
    grouped: dict[tuple[str, str], list[tuple[Trial, StatementError]]] = {}
    for trial in trials:
        for error in trial.errors:
            what = error.message.split(" LINE ")[0].split(" at character")[0]
            grouped.setdefault((error.sqlstate, what), []).append((trial, error))
    lines = []
    for (state, what), found in list(grouped.items())[:6]:
        count = sum(error.count for _, error in found)
        where = ", ".join(dict.fromkeys(f"{t.code} in {t.phase}" for t, _ in found))
        lines += textwrap.wrap(
            f"  {state} {what} ({count} times: {where})", width, subsequent_indent="        "
        )
        statements = dict.fromkeys(e.statement for _, e in found if e.statement)
        for statement in list(statements)[:2]:
            shown = statement if len(statement) < width - 8 else statement[: width - 9] + "…"
            lines.append(style(f"        {shown}", "dim"))
    if len(grouped) > 6:
        lines.append(f"  and {len(grouped) - 6} more kinds of failure (--format json has all)")
    return lines


def _laws(verdict: Verdict, style: Style, width: int) -> list[str]:
    if not verdict.laws:
        return []
    broken = [law for law in verdict.laws if not law.holds]
    names = len({law.name for law in verdict.laws})
    lines = ["", f"laws: {len(verdict.laws)} checks of {names}, {_many(len(broken), 'broken')}"]
    for law in broken:
        detail = f": {law.detail}" if law.detail else ""
        text = f"  {law.name}, after {law.phase}: {law.violations} rows{detail}"
        lines += [
            style(line, "error") for line in textwrap.wrap(text, width, subsequent_indent="    ")
        ]
    return lines


def _rollbacks(verdict: Verdict, style: Style, width: int) -> list[str]:
    lines = []
    for one in verdict.rollbacks:
        good = one.schema_restored and not one.rows_lost
        if not good:
            schema = "schema restored" if one.schema_restored else "schema NOT restored"
            text = f"back from {one.start}: {schema}, {one.rows_lost} rows lost: {one.detail}"
            lines += [
                style(t, "error") for t in textwrap.wrap(text, width, subsequent_indent="    ")
            ]
    walked = [r.start for r in verdict.rollbacks if r.schema_restored and not r.rows_lost]
    if walked:
        lines.append(
            f"ways back walked under load, schema restored, no row lost: from {', '.join(walked)}"
        )
    return lines


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count else f"none {word}"


def _last_line(verdict: Verdict, style: Style) -> str:
    longest = max((t.longest_wait_ms for t in verdict.trials if "command" not in t.code), default=0)
    names = {
        Judgement.PASS: ("PASS", "ok"),
        Judgement.FAIL: ("FAIL", "error"),
        Judgement.INCONCLUSIVE: ("INCONCLUSIVE", "warning"),
    }
    word, colour = names[verdict.judgement]
    return (
        f"{style(word, colour)}  {verdict.statements:,} statements on Postgres {verdict.pg_version}, "
        f"longest wait {longest:.0f} ms"
    )
