"""Findings as SARIF 2.1.0, for code scanning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from zdd_migrate import __version__
from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.rulebook import Rule

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(report: Report, rules: Iterable[Rule]) -> str:
    """One run with every finding; suppressed ones are there, as suppressed."""
    return json.dumps(to_dict(report, rules), indent=2, ensure_ascii=False)


def to_dict(report: Report, rules: Iterable[Rule]) -> dict[str, Any]:
    """The log as a dictionary. Only rules that were broken are listed."""
    broken = {f.rule for f in report.findings}
    listed = [rule for rule in rules if rule.id in broken]
    index = {rule.id: position for position, rule in enumerate(listed)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "zdd-migrate",
                        "version": __version__,
                        "rules": [_rule(rule) for rule in listed],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {
                    "ROOT": {"description": {"text": "The root of the checkout."}}
                },
                "results": [_result(f, index) for f in report.findings],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.text.strip() or rule.title},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    span = finding.span
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": LEVELS[finding.severity],
        "message": {"text": f"{finding.message} {finding.fix}".strip()},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": uri(span.path), "uriBaseId": "ROOT"},
                    "region": {
                        "startLine": span.line,
                        "startColumn": span.column,
                        "endLine": span.end_line,
                        "endColumn": span.end_column + 1,  # SARIF's end is exclusive
                    },
                }
            }
        ],
        "partialFingerprints": {"zddStatement/v1": fingerprint(finding)},
    }
    if finding.rule in index:
        result["ruleIndex"] = index[finding.rule]
    if finding.suppressed:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.reason or ""}]
    return result


def uri(path: str) -> str:
    """A path as a relative URI reference."""
    from urllib.parse import quote

    return quote(path.replace("\\", "/"))


def fingerprint(finding: Finding) -> str:
    """The same for the same breach when lines above it move."""
    text = "\0".join((finding.rule, finding.span.path, " ".join(finding.statement.split())))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
