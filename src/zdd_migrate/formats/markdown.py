"""Findings, and a whole gate, as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.model.gate import Examined, Gate
from zdd_migrate.model.plan import Phase, Plan
from zdd_migrate.model.verdict import Judgement, Verdict

_SIGN = {Severity.ERROR: "🔴", Severity.WARNING: "🟡", Severity.INFO: "🔵"}
_WORDS = {
    "safe": "✅ safe",
    "planned": "✅ planned",
    "unsafe": "❌ unsafe",
    "not understood": "❌ not understood",
}


def render(report: Report) -> str:
    """A table of findings, the worst first."""
    shown = [f for f in report.findings if not f.suppressed]
    if not shown:
        return "✅ **zdd-migrate** found nothing.\n"
    return "\n".join(["### zdd-migrate", "", *_table(shown)]) + "\n"


def render_gate(gate: Gate) -> str:
    """What was changed, what it does, what to do instead, and the proof."""
    if not gate.examined:
        return f"✅ **zdd-migrate**: no migration was changed against {_code(gate.base)}.\n"
    lines = [
        f"### {'✅' if gate.passes else '❌'} zdd-migrate",
        "",
        f"Against {_code(gate.base)}:",
        "",
        "| migration | |",
        "|---|---|",
        *(f"| {_code(one.path)} | {_WORDS[one.state]}{_proof(one)} |" for one in gate.examined),
    ]
    for one in gate.examined:
        lines += _details(one)
    return "\n".join(lines) + "\n"


def _proof(one: Examined) -> str:
    if one.verdict is None:
        return ""
    what = "the plan" if one.state == "unsafe" else "verified"
    word = {Judgement.PASS: "works", Judgement.FAIL: "fails"}.get(
        one.verdict.judgement, "could not be told"
    )
    return f"; {what} {word}"


def _details(one: Examined) -> Iterator[str]:
    shown = [f for f in one.findings if not f.suppressed]
    if not shown and one.verdict is None and not one.note:
        return
    yield f"\n#### {_code(one.path)}\n"
    if shown:
        yield from _table(shown)
    if one.note:
        yield f"\n{_cell(one.note)}"
    if one.plan is not None:
        yield from _plan(one.plan)
    if one.verdict is not None:
        yield from _verdict(one.verdict)


def _table(findings: list[Finding]) -> Iterator[str]:
    yield "| | line | rule | what happens | what to do |"
    yield "|---|---|---|---|---|"
    for f in sorted(findings, key=lambda f: -f.severity.rank):
        yield (
            f"| {_SIGN[f.severity]} | {f.span.line} | {f.rule} {f.name} | {_cell(f.message)} "
            f"| {_cell(f.fix)} |"
        )


def _plan(plan: Plan) -> Iterator[str]:
    if plan.questions:
        yield "\nA plan needs an answer first:\n"
        for question in plan.questions:
            yield f"- {_cell(question.ask)} ({_code(question.answer_with)})"
    for refusal in plan.refusals:
        yield f"\nNo safe way: {_cell(refusal.reason)}. Instead: {_cell(refusal.instead)}"
    phases = [phase for phase in Phase if plan.steps.get(phase)]
    if not phases:
        return
    yield "\n<details><summary>The same change in phases that old code does not notice</summary>\n"
    for phase in phases:
        yield f"**{phase.value}**\n"
        for step in plan.steps[phase]:
            yield f"- {_cell(step.why)}"
        yield ""
    yield "</details>"


def _verdict(verdict: Verdict) -> Iterator[str]:
    worst = max((t.longest_wait_ms for t in verdict.trials), default=0.0)
    yield (
        f"\nTried on PostgreSQL {verdict.pg_version}: {verdict.statements:,} statements of old and "
        f"new code, longest wait {worst:,.0f} ms, {len(verdict.rollbacks)} way(s) back walked.\n"
    )
    broken = [t for t in verdict.trials if not t.as_expected]
    for t in broken[:5]:
        error = t.errors[0] if t.errors else None
        why = f": `{error.sqlstate}` {_cell(error.message)}" if error else ""
        yield f"- {t.code} code in {t.phase} ({t.when}): expected {t.expected}, {t.outcome}{why}"


def _code(text: str) -> str:
    return f"`{_cell(text).replace('`', '')}`"


def _cell(text: str) -> str:
    """Text that neither ends a cell of a table nor becomes HTML."""
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
