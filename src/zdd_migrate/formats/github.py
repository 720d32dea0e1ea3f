"""Findings as GitHub workflow commands: annotations on the lines of a pull request."""

from __future__ import annotations

from zdd_migrate.model.finding import Finding, Report, Severity

_COMMAND = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report) -> str:
    """A line for each finding that is not suppressed."""
    return "\n".join(_line(f) for f in report.findings if not f.suppressed)


def _line(finding: Finding) -> str:
    span = finding.span
    properties = {
        "file": span.path,
        "line": str(span.line),
        "endLine": str(span.end_line),
        "col": str(span.column),
        "endColumn": str(span.end_column),
        "title": f"{finding.rule} {finding.name}",
    }
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_COMMAND[finding.severity]} {shown}::{_text(f'{finding.message} {finding.fix}')}"


def _text(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _text(value).replace(":", "%3A").replace(",", "%2C")
