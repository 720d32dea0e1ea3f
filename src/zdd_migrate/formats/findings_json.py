"""Findings as JSON, in the shape of the public contract."""

from __future__ import annotations

import json
from typing import Any

from zdd_migrate.model.finding import Finding, Report, Severity


def to_dict(report: Report) -> dict[str, Any]:
    """`{"version": 1, "findings": […], "summary": {…}}`."""
    return {
        "version": 1,
        "findings": [finding_to_dict(f) for f in report.findings],
        "summary": {
            "files": report.files,
            "statements": report.statements,
            "error": report.count(Severity.ERROR),
            "warning": report.count(Severity.WARNING),
            "info": report.count(Severity.INFO),
            "suppressed": report.suppressed,
            "not_understood": report.not_understood,
        },
    }


def finding_to_dict(finding: Finding) -> dict[str, Any]:
    """One finding."""
    out: dict[str, Any] = {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.value,
        "path": finding.span.path,
        "line": finding.span.line,
        "column": finding.span.column,
        "end_line": finding.span.end_line,
        "end_column": finding.span.end_column,
        "statement": finding.statement,
        "relation": finding.relation,
        "message": finding.message,
        "fix": finding.fix,
        "suppressed": finding.suppressed,
        "assumed": list(finding.assumed),
    }
    if finding.reason is not None:
        out["reason"] = finding.reason
    return out


def render(report: Report) -> str:
    """JSON text."""
    return json.dumps(to_dict(report), indent=2, ensure_ascii=False)
