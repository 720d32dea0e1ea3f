"""A rule that was broken, and where."""

from __future__ import annotations

from dataclasses import dataclass
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
