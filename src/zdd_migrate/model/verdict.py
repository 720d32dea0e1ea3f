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
    """One code version in one phase at one time. `longest_wait_ms` is that of `slowest`, a statement."""

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
    slowest: str = ""

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
    step: str | None = None  # the step after which it no longer held, where that is known


@dataclass(frozen=True, slots=True)
class Rollback:
    """A way back that was walked, from one phase to another, under load."""

    start: str  # "from" in JSON
    to: str
    schema_restored: bool
    rows_lost: int
    detail: str = ""
    step: str | None = None  # the step whose undo failed


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that came out otherwise than expected, and where it came from.

    `phase`, `when` and `code` say where it was seen, `step` which step of the plan it came with
    (None where none can be named) and `because` how that is known. `sqlstate` and `statement` are
    "" for what is no statement's failure: a law, a way back, a wait.
    """

    what: Literal["statement", "wait", "law", "rollback", "survived"]
    phase: str
    when: When
    code: str
    message: str
    sqlstate: str = ""
    statement: str = ""
    step: str | None = None
    because: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the walk, in ms since its beginning: a step, or a phase that stood still.

    `tries` counts how often the step asked for its lock.
    """

    label: str
    phase: str
    when: When
    start_ms: float
    end_ms: float
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody waited for a lock: `who` is a code version, or the step's own `plan`.

    `step` is the plan's step (or its undo) that was under way, `statement` what waited; both are
    "" where they are not known.
    """

    who: str
    mode: str
    relation: str
    start_ms: float
    end_ms: float
    behind: str = ""  # who held it
    step: str = ""
    statement: str = ""


@dataclass(frozen=True, slots=True)
class LockWait:
    """A lock that a statement waited for: `waits` times were seen, `longest_ms` the longest.

    `behind` is who held it or stood before it, `step` the plan's step that was under way then.
    """

    mode: str
    relation: str
    behind: str
    step: str
    waits: int
    longest_ms: float


@dataclass(frozen=True, slots=True)
class StatementTime:
    """How one statement of a code version fared over the whole walk.

    `over` counts the runs that took longer than the limit. `phase`, `when` and `step` say where
    the longest run was seen ("" where that is not known).
    """

    code: str
    statement: str
    runs: int
    longest_ms: float
    over: int = 0
    phase: str = ""
    when: str = ""
    step: str = ""
    locks: tuple[LockWait, ...] = ()


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a code version fared in one small stretch of time: statements done, and the slowest."""

    code: str
    at_ms: float
    statements: int
    worst_ms: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The walk over time: what ran when, who waited for what, how quick the statements were."""

    spans: tuple[Span, ...] = ()
    waits: tuple[Wait, ...] = ()
    pulses: tuple[Pulse, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was tried. `judgement` is derived by `verify.judge`, stored here."""

    judgement: Judgement
    pg_version: str
    trials: tuple[Trial, ...] = ()
    laws: tuple[LawResult, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    timeline: Timeline = Timeline()
    #: the code's statements, those that took longest first
    times: tuple[StatementTime, ...] = ()
    #: how long a statement may take, in ms; 0 where none was asked
    longest_allowed_ms: float = 0.0
    #: conditions it was tried under: `pooled`, and hostile ones
    conditions: tuple[str, ...] = ()
    #: seconds it took, 0 when it is not known
    took_s: float = 0.0
    #: when an equal verdict was found before (ISO 8601), "" for one just reached
    reused: str = ""

    @property
    def statements(self) -> int:
        """How many statements ran in all trials."""
        return sum(trial.statements for trial in self.trials)


PHASES: tuple[str, ...] = ("start", *(phase.value for phase in Phase))
