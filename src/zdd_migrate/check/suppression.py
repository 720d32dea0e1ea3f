"""`-- zdd: ignore ZDD101 because …`: findings a team can live with, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from zdd_migrate.model.finding import Finding
from zdd_migrate.model.statement import Migration, Suppression

#: makes the finding of a suppression that suppresses nothing; None where nobody wants to know
Unused = Callable[[Migration, Suppression], "Finding | None"]


def suppress(
    migration: Migration, findings: Iterable[Finding], ignored: Collection[str], unused: Unused
) -> list[Finding]:
    """The findings in order, those that are suppressed marked; `ignored` rules left out."""
    out: list[Finding] = []
    used: set[int] = set()
    for finding in findings:
        if finding.rule in ignored or finding.name in ignored:
            continue
        for i, suppression in enumerate(migration.suppressions):
            if _suppresses(migration, suppression, finding):
                used.add(i)
                finding = replace(finding, suppressed=True, reason=suppression.reason)
                break
        out.append(finding)
    for i, suppression in enumerate(migration.suppressions):
        if i not in used and (left := unused(migration, suppression)) is not None:
            out.append(left)
    return sorted(out, key=lambda f: (f.span.line, f.span.column, f.rule))


def _suppresses(migration: Migration, suppression: Suppression, finding: Finding) -> bool:
    if suppression.rule not in (finding.rule, finding.name):
        return False
    return not suppression.line or (
        _first_line(migration, finding) <= suppression.line <= finding.span.end_line
    )


def _first_line(migration: Migration, finding: Finding) -> int:
    """The first line a suppression of this statement may stand on: after the one before it.

    For a statement in a body that is after the statement before the one that holds the body.
    """
    previous = 0
    for statement in migration.statements:
        if statement.span.end >= finding.span.end:
            break
        previous = statement.span.end_line
    return previous + 1 if previous < finding.span.line else finding.span.line
