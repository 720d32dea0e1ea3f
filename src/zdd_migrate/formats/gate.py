"""A gate as JSON and as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zdd_migrate.formats import findings_text, plan_json
from zdd_migrate.formats import verdict as verdicts
from zdd_migrate.formats.findings_json import finding_to_dict, to_dict
from zdd_migrate.model.finding import Report
from zdd_migrate.model.gate import Examined, Gate
from zdd_migrate.model.verdict import Judgement

Style = Callable[[str, str], str]


def to_json(gate: Gate) -> dict[str, Any]:
    """`{"version": 1, "base": …, "passes": …, "migrations": […], "findings": […], "summary": …}`."""
    return {
        **to_dict(gate.report),
        "base": gate.base,
        "passes": gate.passes,
        "migrations": [_examined(one) for one in gate.examined],
    }


def _examined(one: Examined) -> dict[str, Any]:
    return {
        "path": one.path,
        "state": one.state,
        "passes": one.passes,
        "findings": [finding_to_dict(f) for f in one.findings],
        "plan": plan_json.to_json(one.plan) if one.plan is not None else None,
        "verdict": verdicts.to_dict(one.verdict) if one.verdict is not None else None,
        "note": one.note,
    }


def text(gate: Gate, *, style: Style = lambda text, _: text, width: int = 100) -> str:
    """For a terminal and a CI log."""
    if not gate.examined:
        return f"no migration was changed against {gate.base}"
    lines = []
    for one in gate.examined:
        sign = style("ok  ", "ok") if one.passes else style("fail", "error")
        lines.append(f"{sign}  {style(one.path, 'bold')}  {one.state}{_proof(one)}")
        if one.note:
            lines.append(f"      {one.note}")
    shown = Report(findings=[f for f in gate.report.findings if not f.suppressed])
    shown.files, shown.statements = gate.report.files, gate.report.statements
    lines += ["", findings_text.render(shown, style=style, width=width)]
    return "\n".join(lines)


def _proof(one: Examined) -> str:
    if one.verdict is None:
        return ""
    subject = "its plan" if one.state == "unsafe" else "tried on a real Postgres: it"
    verb = "works" if one.verdict.judgement is Judgement.PASS else "does not work"
    return f"; {subject} {verb} (PostgreSQL {one.verdict.pg_version})"
