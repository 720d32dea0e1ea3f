"""A plan: four phases of steps, each with the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zdd_migrate.model.alternative import Alternative as Alternative
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase as Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """Run statements. `undo` None marks the point of no return; an empty tuple needs no undoing.

    `lock` is the strongest table-level lock the step takes and `relation` the table it is on
    (display text); timeouts are milliseconds, 0 means none.
    """

    id: str
    statements: tuple[str, ...]
    undo: tuple[str, ...] | None
    why: str
    transactional: bool = True
    undo_transactional: bool = True
    lock: LockMode | None = None
    relation: str | None = None
    lock_timeout_ms: int = 2000
    statement_timeout_ms: int = 0
    #: days that must have passed since the step before it: what is dropped waits out of use first
    after_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Bring every row to the new shape, in batches, while both versions keep writing.

    `table` is SQL text (quoted, qualified); `key` the columns walked (unquoted names; empty means
    by physical position); `assignments` pairs of column (unquoted) and SQL expression over the
    row; `where` SQL that holds for rows still to do: no such row left is the proof of completion.
    """

    id: str
    table: str
    key: tuple[str, ...]
    assignments: tuple[tuple[str, str], ...]
    where: str
    why: str
    batch: int = 1000
    undo: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """Check existing rows against a NOT VALID constraint, under a weak lock."""

    id: str
    table: str
    constraint: str
    why: str
    lock: LockMode = LockMode.SHARE_UPDATE_EXCLUSIVE
    undo: tuple[str, ...] | None = ()

    @property
    def statements(self) -> tuple[str, ...]:
        """The one statement. `table` and `constraint` are SQL text already quoted."""
        return (f"ALTER TABLE {self.table} VALIDATE CONSTRAINT {self.constraint}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition that must hold before the next step: `query` must return no row."""

    id: str
    query: str
    message: str  # said when a row comes back: what is not yet so, and what to do
    why: str
    undo: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Deploy a code version (or flip a flag): done by people or by zdd-deploy, not by SQL."""

    id: str
    code: str  # "new", or a named build such as "writes-both"
    why: str
    flag: str | None = None
    undo: tuple[str, ...] | None = ()


Step = Sql | Backfill | Validate | Gate | Release


@dataclass(frozen=True, slots=True)
class Question:
    """Something only a person can say; the plan waits for it."""

    about: str
    ask: str
    answer_with: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A statement with no safe way, why, and what to do instead."""

    statement: str
    reason: str
    instead: str


@dataclass(frozen=True, slots=True)
class Law:
    """Something about the data that must hold from `since` on: `query` returns violating rows.

    `name` is what the verdict prints, such as `users.username = up(user_name)`. `until` is the
    last phase in which it is meant to hold.
    """

    name: str
    query: str
    since: Phase = Phase.MIGRATE
    until: Phase = Phase.SWITCH


@dataclass(frozen=True, slots=True)
class DualWrite:
    """Old and new columns of `table` that the code itself keeps in step until its last release.

    Each is (column, type, SQL expression over the other side's columns).
    """

    table: QName
    old: tuple[tuple[str, str, str], ...]
    new: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How one shape of a table's rows is computed from the other, to be tried on real rows.

    `about` is the column as the user knows it, `key` the columns that tell rows apart. `up` and
    `down` are (column, type, SQL expression over the row); `down` is empty where nothing goes back.
    """

    about: str
    table: QName
    key: tuple[str, ...]
    up: tuple[tuple[str, str, str], ...]
    down: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, in which order, and how to get back.

    `schema_hash` is of the relations in `touches` as they were when the plan was made; `steps`
    maps each of the four phases to its steps (possibly none). `sources` are the planned
    migration's statements, own text; `before` is SQL that builds the starting schema ("" when the
    plan was made from a live database or from nothing).
    """

    name: str
    schema_hash: str
    steps: dict[Phase, tuple[Step, ...]]
    questions: tuple[Question, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    laws: tuple[Law, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    before: str = ""
    touches: tuple[QName, ...] = ()
    #: whether old code is sure to stop working once contract is done
    breaks_old: bool = True
    #: whether it may: where it writes what a new constraint forbids
    restricts_old: bool = False
    pg_version: int | None = None
    alternatives: tuple[Alternative, ...] = ()
    #: schemas that new code's connections look into first, from its release to the end of contract
    search_path: tuple[str, ...] = ()
    #: what releases in between write twice, where no trigger does it
    dual_writes: tuple[DualWrite, ...] = ()
    #: what can be tried on real rows while planning; not kept on disk
    conversions: tuple[Conversion, ...] = ()
    #: what undo cannot take back: (the object as the catalog comparison names it, what stays)
    leaves: tuple[tuple[str, str], ...] = ()

    def all_steps(self) -> Iterator[tuple[Phase, Step]]:
        """Every step in the order it runs."""
        for phase in Phase:
            for step in self.steps.get(phase, ()):
                yield phase, step

    def part(self, phase: Phase, *, drop: bool) -> tuple[Step, ...]:
        """A phase's steps. Contract has two parts: as far as it can be undone, and (`drop`) the
        first step without a way back and what comes after it."""
        steps = self.steps.get(phase, ())
        ends = [n for n, step in enumerate(steps) if step.undo is None]
        cut = ends[0] if ends and phase is Phase.CONTRACT else len(steps)
        return steps[cut:] if drop else steps[:cut]

    @property
    def drops(self) -> tuple[str, ...]:
        """Ids of the steps that ask for an approval of their own."""
        return tuple(step.id for step in self.part(Phase.CONTRACT, drop=True))

    @property
    def point_of_no_return(self) -> str | None:
        """Id of the first step that cannot be undone, None when all can."""
        for _, step in self.all_steps():
            if step.undo is None:
                return step.id
        return None
