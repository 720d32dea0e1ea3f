"""Findings as JUnit XML: a suite a file, a failed case a finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from zdd_migrate.model.finding import Finding, Report, Severity

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report, paths: Sequence[str] = ()) -> str:
    """Errors and warnings fail, the rest is output. `paths`: files to list though nothing is found."""
    by_path: dict[str, list[Finding]] = {path: [] for path in paths}
    for finding in report.findings:
        by_path.setdefault(finding.span.path, []).append(finding)
    root = ET.Element("testsuites", name="zdd-migrate")
    total = [0, 0, 0]
    for path, findings in by_path.items():
        counts = _suite(root, path, findings)
        total = [a + b for a, b in zip(total, counts, strict=True)]
    root.attrib.update(zip(("tests", "failures", "skipped"), map(str, total), strict=True))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(root: ET.Element, path: str, findings: list[Finding]) -> tuple[int, int, int]:
    """A file's suite; (cases, failures, skipped)."""
    suite = ET.SubElement(root, "testsuite", name=clean(path))
    failures = skipped = 0
    if not findings:
        ET.SubElement(suite, "testcase", name="no findings", classname=clean(path))
    for finding in findings:
        case = ET.SubElement(
            suite,
            "testcase",
            name=clean(f"{finding.rule} {finding.name}:{finding.span.line}"),
            classname=clean(path),
            file=clean(path),
            line=str(finding.span.line),
        )
        text = clean(f"{path}:{finding.span.line}: {finding.message}\n{finding.fix}")
        if finding.suppressed:
            skipped += 1
            ET.SubElement(case, "skipped", message=clean(finding.reason or ""))
        elif finding.severity is Severity.INFO:
            ET.SubElement(case, "system-out").text = text
        else:
            failures += 1
            failure = ET.SubElement(
                case,
                "failure",
                type=finding.severity.value,
                message=clean(finding.message),
            )
            failure.text = text
    counts = (max(1, len(findings)), failures, skipped)
    suite.attrib.update(zip(("tests", "failures", "skipped"), map(str, counts), strict=True))
    return counts


def clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
