"""A rule that was broken, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from zdd_migrate.model.statement import Span


class Severity(Enum):
    """How bad: error stops a merge, warning wants a look, info is for the curious."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 info, 1 warning, 2 error."""
        return ("info", "warning", "error").index(self.value)


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of one rule at one statement.

    `relation` is schema-qualified display text, or None. `assumed` lists what had to be taken for
    granted because no schema said otherwise. `reason` is a suppression's, when suppressed.
    """

    rule: str
    name: str
    severity: Severity
    span: Span
    statement: str
    message: str
    fix: str
    relation: str | None = None
    suppressed: bool = False
    reason: str | None = None
    assumed: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """Findings of a run, and what was looked at."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    statements: int = 0
    not_understood: int = 0

    def add(self, other: Report) -> None:
        """Take in what another run found."""
        self.findings += other.findings
        self.files += other.files
        self.statements += other.statements
        self.not_understood += other.not_understood

    def count(self, severity: Severity) -> int:
        """Findings of a severity that are not suppressed."""
        return sum(1 for f in self.findings if f.severity is severity and not f.suppressed)

    @property
    def suppressed(self) -> int:
        """How many findings are suppressed."""
        return sum(1 for f in self.findings if f.suppressed)

    def worst(self) -> Severity | None:
        """The highest severity among findings that are not suppressed."""
        severities = [f.severity for f in self.findings if not f.suppressed]
        return max(severities, key=lambda s: s.rank) if severities else None
