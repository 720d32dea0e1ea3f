"""Findings that were there when a team began: known by what they are about, not by their line.

A fingerprint is made of the rule, the file (relative to the configuration) and the statement's text
with its white space folded, so that it survives whatever is written above or below. The same
statement twice in one file has two fingerprints, told apart by their order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.finding import Finding, Report

REASON = "in the baseline"


def fingerprints(findings: Iterable[Finding], root: Path) -> Iterator[tuple[str, Finding]]:
    """Each finding with its fingerprint."""
    seen: Counter[tuple[str, ...]] = Counter()
    for finding in findings:
        about = (finding.rule, _relative(finding.span.path, root), _folded(finding))
        seen[about] += 1
        text = "\0".join((*about, str(seen[about])))
        yield hashlib.sha256(text.encode()).hexdigest()[:20], finding


def _folded(finding: Finding) -> str:
    return " ".join((finding.statement or finding.message).split())


def _relative(path: str, root: Path) -> str:
    try:
        return Path(path).resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return Path(path).as_posix()


def write(report: Report, path: Path, root: Path) -> int:
    """Write the baseline of a report's findings; how many they are. Sorted, for good diffs."""
    entries = sorted(
        (_relative(f.span.path, root), f.rule, print_)
        for print_, f in fingerprints(report.findings, root)
        if not f.suppressed or f.reason == REASON
    )
    lines = ",\n".join(f"  {json.dumps(list(entry), ensure_ascii=False)}" for entry in entries)
    text = f'{{"version": 1, "findings": [\n{lines}\n]}}\n'
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the baseline cannot be written: {error.strerror}") from None
    return len(entries)


def apply(report: Report, path: Path, root: Path) -> int:
    """Mark what the baseline knows as suppressed; how many of its entries match nothing any more."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {entry[2] for entry in {1: found["findings"]}[found["version"]]}
    except OSError as error:
        raise InputError(
            f"{path}: the baseline cannot be read: {error.strerror}; make it with --write-baseline"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a baseline: {error}") from None
    used = set()
    out = []
    for print_, finding in fingerprints(report.findings, root):
        if print_ in known:
            used.add(print_)
            if not finding.suppressed:
                finding = replace(finding, suppressed=True, reason=REASON)
        out.append(finding)
    report.findings[:] = out
    return len(known - used)
