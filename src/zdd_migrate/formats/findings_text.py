"""Findings for a terminal: the file, the line, what is wrong, what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from zdd_migrate.model.finding import Finding, Report, Severity

#: style(text, name) → text; names are "error", "warning", "info", "dim", "bold", "fix"
Style = Callable[[str, str], str]


def render(report: Report, *, style: Style = lambda text, _: text, width: int = 100) -> str:
    """All findings, grouped by file, and a summary line. What repeats is said once."""
    lines: list[str] = []
    path, statement = None, None
    assumed: set[str] = set()
    for finding in report.findings:
        if finding.suppressed:
            continue
        if finding.span.path != path:
            path = finding.span.path
            lines += ([""] if lines else []) + [style(path, "bold")]
        lines += _finding(finding, style, width, again=finding.span == statement)
        statement = finding.span
        for assumption in finding.assumed:
            if assumption not in assumed:
                text = _wrapped(f"assumed: {assumption}", "         ", width)
                lines += [style(line, "dim") for line in text]
        assumed.update(finding.assumed)
    if lines:
        lines.append("")
    lines.append(_summary(report, style))
    return "\n".join(lines)


def _finding(finding: Finding, style: Style, width: int, *, again: bool) -> Iterator[str]:
    """One finding; `again` when it is about the statement that was shown just before."""
    head = f"{finding.span.line}:{finding.span.column}"
    severity = style(f"{finding.severity.value:7}", finding.severity.value)
    yield f"  {head:>6} {severity} {finding.rule} {style(finding.name, 'dim')}"
    if finding.statement and not again:
        yield style(f"         {_excerpt(finding.statement, width - 9)}", "dim")
    yield from _wrapped(finding.message, "         ", width)
    for line in _wrapped(finding.fix, "         ", width, first="       → "):
        yield style(line, "fix")


def _excerpt(statement: str, width: int) -> str:
    flat = " ".join(statement.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _wrapped(text: str, indent: str, width: int, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        width=width,
        initial_indent=first if first is not None else indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(report: Report, style: Style) -> str:
    parts = []
    for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO):
        count = report.count(severity)
        if count:
            parts.append(style(_counted(count, severity.value), severity.value))
    what = ", ".join(parts) if parts else style("nothing found", "ok")
    tail = f" ({report.suppressed} suppressed)" if report.suppressed else ""
    return f"{what}{tail} in {_counted(report.statements, 'statement')}, {_counted(report.files, 'file')}"


def _counted(count: int, noun: str) -> str:
    plural = noun if count == 1 or noun == "info" else noun + "s"
    return f"{count} {plural}"
