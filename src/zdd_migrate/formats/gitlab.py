"""Findings as a GitLab code quality report."""

from __future__ import annotations

import json

from zdd_migrate.formats.sarif import fingerprint
from zdd_migrate.model.finding import Report, Severity

_SEVERITY = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}


def render(report: Report) -> str:
    """A list with an entry for each finding that is not suppressed; fingerprints are unique."""
    seen: dict[str, int] = {}
    out = []
    for finding in report.findings:
        if finding.suppressed:
            continue
        mark = fingerprint(finding)
        seen[mark] = seen.get(mark, 0) + 1
        out.append(
            {
                "description": f"{finding.message} {finding.fix}".strip(),
                "check_name": f"{finding.rule} {finding.name}",
                "fingerprint": mark if seen[mark] == 1 else f"{mark}-{seen[mark]}",
                "severity": _SEVERITY[finding.severity],
                "location": {
                    "path": finding.span.path,
                    "lines": {"begin": finding.span.line, "end": finding.span.end_line},
                },
            }
        )
    return json.dumps(out, indent=2, ensure_ascii=False)
