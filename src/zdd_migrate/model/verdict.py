"""What a trial on a real server showed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from zdd_migrate.model.plan import Phase

When = Literal["steady", "during", "undo"]
Outcome = Literal["works", "breaks", "inconclusive"]


class Judgement(Enum):
    """pass: everything as expected; fail: something not; inconclusive: could not be told."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class StatementError:
    """A statement that failed. `count` occurrences of the same failure are folded into one."""

    sqlstate: str
    message: str
    statement: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """One code version in one phase at one time. `longest_wait_ms` is the slowest statement's."""

    phase: str  # "start", or a Phase value
    when: When
    code: str
    expected: Literal["works", "breaks"]
    outcome: Outcome
    statements: int = 0
    errors: tuple[StatementError, ...] = ()
    longest_wait_ms: float = 0.0
    step: str | None = None  # during: which step ran
    detail: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the expected one."""
        return self.outcome == self.expected


@dataclass(frozen=True, slots=True)
class LawResult:
    """A law checked after a stage; `violations` is how many rows break it."""

    name: str
    phase: str
    holds: bool
    violations: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rollback:
    """A way back that was walked, from one phase to another, under load."""

    start: str  # "from" in JSON
    to: str
    schema_restored: bool
    rows_lost: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was tried. `judgement` is derived by `verify.judge`, stored here."""

    judgement: Judgement
    pg_version: str
    trials: tuple[Trial, ...] = ()
    laws: tuple[LawResult, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def statements(self) -> int:
        """How many statements ran in all trials."""
        return sum(trial.statements for trial in self.trials)


PHASES: tuple[str, ...] = ("start", *(phase.value for phase in Phase))
