"""Findings, and a whole gate, as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from zdd_migrate.formats import verdict_markdown
from zdd_migrate.formats.marks import code, plain
from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.model.gate import Examined, Gate
from zdd_migrate.model.plan import Phase, Plan
from zdd_migrate.model.verdict import Judgement

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
        return f"✅ **zdd-migrate**: no migration was changed against {code(gate.base)}.\n"
    lines = [
        f"### {'✅' if gate.passes else '❌'} zdd-migrate",
        "",
        f"Against {code(gate.base)}:",
        "",
        "| migration | |",
        "|---|---|",
        *(f"| {code(one.path)} | {_WORDS[one.state]}{_proof(one)} |" for one in gate.examined),
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
    yield f"\n#### {code(one.path)}\n"
    if shown:
        yield from _table(shown)
    if one.note:
        yield f"\n{plain(one.note)}"
    if one.plan is not None:
        yield from _plan(one.plan)
    if one.verdict is not None:
        yield ""
        yield from verdict_markdown.lines(one.verdict)


def _table(findings: list[Finding]) -> Iterator[str]:
    yield "| | line | rule | what happens | what to do |"
    yield "|---|---|---|---|---|"
    for f in sorted(findings, key=lambda f: -f.severity.rank):
        yield (
            f"| {_SIGN[f.severity]} | {f.span.line} | {f.rule} {f.name} | {plain(f.message)} "
            f"| {plain(f.fix)} |"
        )


def _plan(plan: Plan) -> Iterator[str]:
    if plan.questions:
        yield "\nA plan needs an answer first:\n"
        for question in plan.questions:
            yield f"- {plain(question.ask)} ({code(question.answer_with)})"
    for refusal in plan.refusals:
        yield f"\nNo safe way: {plain(refusal.reason)}. Instead: {plain(refusal.instead)}"
    phases = [phase for phase in Phase if plan.steps.get(phase)]
    if not phases:
        return
    yield "\n<details><summary>The same change in phases that old code does not notice</summary>\n"
    for phase in phases:
        yield f"**{phase.value}**\n"
        for step in plan.steps[phase]:
            yield f"- {plain(step.why)}"
        yield ""
    yield "</details>"
