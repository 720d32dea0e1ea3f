"""What becomes of the running code's queries, below a plan on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from zdd_migrate.model.finding import Finding, Report

Style = Callable[[str, str], str]

_HEADS = {
    "ZDD240": ("must be gone from the running code before contract", "error"),
    "ZDD241": ("may stop working or mean something else", "warning"),
    "ZDD242": ("could not be analysed: try them with zdd-migrate verify", "warning"),
}
_SHOWN = 12


def render(report: Report, total: int, *, style: Style, width: int = 100) -> str:
    """One block for each kind, each query with its place and why."""
    lines: list[str] = []
    for rule, (head, colour) in _HEADS.items():
        found = [f for f in report.findings if f.rule == rule]
        if not found:
            continue
        places = len({(f.span.path, f.span.line) for f in found})
        lines.append(style(f"{places} of {total} queries {head}", colour))
        for finding in found[:_SHOWN]:
            lines += _one(finding, style, width)
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more (--format json has all)")
    if not lines:
        return style(f"none of the {total} queries given is broken by this migration", "ok")
    return "\n".join(lines)


def _one(finding: Finding, style: Style, width: int) -> list[str]:
    sql = " ".join(finding.statement.split())
    shown = sql if len(sql) <= width - 6 else f"{sql[: width - 7]}…"
    said = textwrap.wrap(finding.message, width - 6)
    return [
        f"  {finding.span.path}:{finding.span.line}",
        f"      {style(shown, 'dim')}",
        *(f"      {line}" for line in said),
    ]
