"""The draft of a plan: rooms add steps to it phase by phase, `finish` makes the plan's steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.alternative import Alternative
from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import (
    Backfill,
    Conversion,
    DualWrite,
    Gate,
    Law,
    Phase,
    Question,
    Refusal,
    Release,
    Sql,
    Step,
    Validate,
)
from zdd_migrate.model.schema import Schema, Table

if TYPE_CHECKING:
    from zdd_migrate.blocks.sync import Sync
    from zdd_migrate.blocks.twin import Twin

#: lock timeout of a step that locks out readers or writers only for an instant
BRIEF_MS = 2000
#: how long what is dropped stays out of use, and can come back, before it may be dropped for good
SOAK_DAYS = 7
#: steps that build or validate wait as long as it takes, under a lock that blocks nobody
PATIENT_MS = 0


@dataclass(slots=True)
class _Later:
    """Steps that are known only when every operation has been heard: `add` adds them."""

    add: Callable[[], None]


@dataclass(slots=True)
class Draft:
    """What has been planned so far.

    `schema` is the schema before the operation being planned, as the plain migration would have
    it; `start` the one before the whole migration. `statement` is the text being planned.
    `answers` maps (kind, "table.column" as the user wrote it, folded) to an SQL expression.
    """

    schema: Schema
    start: Schema
    pg: int
    statement: str = ""
    #: which statement of the whole migration it is: its text is run once, whoever asks for it
    number: int = 0
    in_transaction: bool = True
    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    created: set[QName] = field(default_factory=set)
    questions: list[Question] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    laws: list[Law] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    #: what was chosen among them: copy or view, None for the usual; and who keeps copies in step
    via: str | None = None
    dual_write: bool = False
    dual_writes: list[DualWrite] = field(default_factory=list)
    #: renamed columns that new code sees through a view until contract, by the name that the plain
    #: migration has got to: their present names
    behind_view: dict[tuple[QName, str], str] = field(default_factory=dict)
    #: steps of contract that speak of a table's columns by the names they have before the swap
    guards: dict[QName, list[Callable[[], None]]] = field(default_factory=dict)
    #: the kinds of operations that the migration has for each table
    done_to: Mapping[QName, frozenset[str]] = field(default_factory=dict)
    #: whether it does nothing else at all
    renames_alone: bool = False
    #: tables that it does nothing to but give them other names, and how often
    only_moved: dict[QName, int] = field(default_factory=dict)
    #: what the release of the new code has to bring along, and its connections' first schemas
    release_asks: list[str] = field(default_factory=list)
    release_undo: list[str] = field(default_factory=list)
    search_path: list[str] = field(default_factory=list)
    touches: dict[QName, None] = field(default_factory=dict)
    #: tables under the name they physically have until contract: final name -> present name
    present_tables: dict[QName, QName] = field(default_factory=dict)
    #: tables that get a name which another has until contract: that name -> their present name
    takes_name: dict[QName, QName] = field(default_factory=dict)
    #: columns that are copied, by table and the name that the plain migration has got to
    twins: dict[tuple[QName, str], Twin] = field(default_factory=dict)
    planned_twins: list[Twin] = field(default_factory=list)
    syncs: dict[QName, list[Sync]] = field(default_factory=dict)
    #: old code is sure to fail once contract is done, or only where it writes what is forbidden
    breaks_old: bool = False
    restricts_old: bool = False
    needs_release: bool = False
    #: values that are computed from other columns, with no way back
    filled_from: list[Conversion] = field(default_factory=list)
    #: what undo cannot take back, as the catalog names it ("type public.mood"), and in plain words
    leaves: dict[str, str] = field(default_factory=dict)
    #: what the migration drops and makes again under the same name: see `plan.replaced`
    replaced: frozenset[tuple[str, QName, str]] = frozenset()
    #: everything it drops by name, likewise
    dropped: frozenset[tuple[str, QName, str]] = frozenset()
    #: statements that are run under another table's name, each once
    built: set[int] = field(default_factory=set)
    _written: dict[int, tuple[Phase, int]] = field(default_factory=dict)
    #: identities of operations whose rows are kept up to date by other steps of the plan
    accounted: set[int] = field(default_factory=set)
    #: columns that a trigger fills already
    filled: set[tuple[QName, str]] = field(default_factory=set)
    #: defaults that the migration itself gives new columns, be it later on
    given: dict[tuple[QName, str], str] = field(default_factory=dict)
    #: dropped columns that stand aside under another name until the end of contract
    aside: dict[tuple[QName, str], str] = field(default_factory=dict)
    #: tables whose rows the migration's own statements write, in migrate
    rows_written: set[QName] = field(default_factory=set)
    #: columns whose own default comes when ours goes
    settled: set[tuple[QName, str]] = field(default_factory=set)
    #: columns with a default of ours until contract
    lent_defaults: set[tuple[QName, str]] = field(default_factory=set)
    _prelude: list[Step] = field(default_factory=list)
    _staying: set[int] = field(default_factory=set)
    _last: dict[Phase, list[_Later]] = field(default_factory=lambda: {phase: [] for phase in Phase})
    _steps: dict[Phase, list[Step | _Later]] = field(
        default_factory=lambda: {phase: [] for phase in Phase}
    )

    # -- names -------------------------------------------------------------------------------

    def resolve(self, name: QName | None) -> QName:
        """The resolved name of a relation, noted as touched."""
        assert name is not None
        resolved = self.schema.resolve(name)
        self.touches.setdefault(self.present(resolved))
        return resolved

    def present(self, table: QName) -> QName:
        """The name a table physically has before contract (renames wait for contract)."""
        return self.present_tables.get(table, table)

    def final(self, present: QName) -> QName:
        """The name that a table has in the end, by the one it has now."""
        names = [new for new, was in self.present_tables.items() if was == present]
        return names[-1] if names else present

    def sql_name(self, table: QName) -> str:
        """The present name of a table, quoted for SQL."""
        return quote_qname(self.present(table))

    def column(self, table: QName, column: str, phase: Phase = Phase.EXPAND) -> str:
        """The name under which the column that old code knows is reached in a phase.

        A renamed column has its old name until contract; one that changes its type has in contract
        made room for its twin already.
        """
        if phase is Phase.CONTRACT:
            return column
        twin = self.twins.get((table, column))
        return self.behind_view.get((table, column), column) if twin is None else twin.old.name

    def copied(self, table: QName, columns: Iterable[str]) -> bool:
        """Whether one of `columns` is a copy until contract: what is built on it, is built there."""
        return any((table, c) in self.twins or (table, c) in self.behind_view for c in columns)

    def table(self, name: QName | None) -> Table | None:
        """The table as the schema before this operation has it; None when nobody knows it."""
        return self.schema.table(name) if name is not None else None

    def is_new(self, table: QName) -> bool:
        """Whether the same migration created the table: nobody uses it, so anything goes."""
        return table in self.created

    def answer(self, kind: str, table: QName, column: str) -> str | None:
        """What the user answered for `up|down|fill` of a column, if anything."""
        for target in (f"{table}.{column}", f"{table.name}.{column}"):
            if (kind, target.lower()) in self.answers:
                return self.answers[(kind, target.lower())]
        return None

    # -- adding ------------------------------------------------------------------------------

    def sql(
        self,
        phase: Phase,
        statements: str | Sequence[str],
        *,
        undo: str | Sequence[str] | None,
        why: str,
        lock: LockMode | None = None,
        relation: QName | None = None,
        transactional: bool = True,
        undo_transactional: bool | None = None,
        lock_timeout_ms: int | None = None,
        statement_timeout_ms: int = 0,
    ) -> None:
        """Add an SQL step. `undo` is in the order it runs; None marks a point of no return."""
        brief = lock is not None and lock.blocks_writes
        self._steps[phase].append(
            Sql(
                id="",
                statements=_texts(statements),
                undo=None if undo is None else _texts(undo),
                why=why,
                transactional=transactional,
                undo_transactional=transactional
                if undo_transactional is None
                else undo_transactional,
                lock=lock,
                relation=str(relation) if relation is not None else None,
                lock_timeout_ms=lock_timeout_ms
                if lock_timeout_ms is not None
                else (BRIEF_MS if brief or transactional else PATIENT_MS),
                statement_timeout_ms=statement_timeout_ms,
            )
        )

    def as_written(
        self,
        phase: Phase,
        *,
        undo: str | Sequence[str],
        why: str,
        lock: LockMode | None = None,
        relation: QName | None = None,
        transactional: bool = True,
        asked: bool = True,
    ) -> None:
        """Run the statement being planned as it stands, once, whichever of its operations ask.

        Each of them adds its own undo, before those of the ones before it. Refused where the
        statement names a table that has another name until contract. `asked` is whether code misses
        it where it comes later.
        """
        if relation is not None and self.present(relation) != relation:
            self.refuse(
                f"the statement names {relation}, which the same migration renames",
                "rename it in one migration, and do this in the next",
            )
            return
        if phase is Phase.EXPAND and (copy := self._names_a_copy(self.statement)) is not None:
            phase = Phase.CONTRACT
            if asked:
                self.note(
                    f"what is built on {copy} comes at contract, for the column has its name only then: "
                    "the new release must do without it until then"
                )
        at = self._written.get(self.number)
        if at is not None:
            known = self._steps[at[0]][at[1]]
            assert isinstance(known, Sql)
            self._steps[at[0]][at[1]] = replace(
                known,
                undo=(*_texts(undo), *(known.undo or ())),
                lock=strongest(known.lock, lock),
                relation=known.relation or (str(relation) if relation is not None else None),
            )
            return
        self._written[self.number] = (phase, len(self._steps[phase]))
        self.sql(
            phase,
            self.in_its_path(self.statement) if transactional else self.statement,
            undo=undo,
            why=why,
            lock=lock,
            relation=relation,
            transactional=transactional,
        )

    def in_its_path(self, statement: str) -> tuple[str, ...]:
        """A statement of a transaction, behind the search path that the migration has set for it."""
        path = self.schema.search_path
        if path == self.start.search_path:
            return (statement,)
        return (f"SET LOCAL search_path = {', '.join(map(quote_ident, path))}", statement)

    def _names_a_copy(self, text: str) -> str | None:
        """A copied column that a statement names together with its table, by its final name."""
        words = set(re.findall(r"[\w$]+", text))
        for table, column in (*self.twins, *self.behind_view):
            if {*re.findall(r"[\w$]+", f"{table.name} {column}")} <= words:
                return f"{table.name}.{column}"
        return None

    def final_default(self, table: QName, column: str) -> str:
        """What takes the place of a default of ours at contract: the migration's own, or none."""
        given = self.given.get((table, column))
        self.settled.add((table, column))
        return "DROP DEFAULT" if given is None else f"SET DEFAULT {given}"

    def last_use(self, name: str) -> Phase:
        """The last phase in which a step so far names something; expand where none does."""
        word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])")
        if any(word.search(str(syncs)) for syncs in self.syncs.values()):
            return Phase.CONTRACT
        named = [
            phase
            for phase, steps in self._steps.items()
            for step in steps
            if not isinstance(step, _Later) and word.search(str(step))
        ]
        return max(named, key=list(Phase).index, default=Phase.EXPAND)

    def prelude(self, statements: Sequence[str], *, undo: Sequence[str], why: str) -> None:
        """Add a step before all others of expand: what a trigger of theirs already needs."""
        self._prelude.append(Sql(id="", statements=tuple(statements), undo=tuple(undo), why=why))

    def leave(self, key: str, what: str) -> None:
        """Say that undo leaves something: `key` as the catalog comparison names the object."""
        self.leaves[key] = what

    def step(self, phase: Phase, step: Step, *, stays: bool = False) -> None:
        """Add a ready-made step (its id is given by `finish`). `stays` keeps it in its place among
        the others even where it cannot be undone."""
        self._steps[phase].append(step)
        if stays:
            self._staying.add(id(step))

    def key_of(self, table: QName) -> tuple[str, ...]:
        """The columns of a table's primary key, as they are called before contract."""
        known = self.start.tables.get(self.present(table))
        return known.primary_key.columns if known is not None and known.primary_key else ()

    def backfill(
        self,
        table: QName,
        assignments: Iterable[tuple[str, str]],
        where: str,
        *,
        why: str,
        batch: int = 1000,
    ) -> None:
        """Add a batched update of every row for which `where` holds, to migrate."""
        self._steps[Phase.MIGRATE].append(
            Backfill(
                id="",
                table=self.sql_name(table),
                key=self.key_of(table),
                assignments=tuple(assignments),
                where=where,
                why=why,
                batch=batch,
            )
        )

    def validate(
        self, table: QName, constraint_sql: str, *, why: str, phase: Phase = Phase.MIGRATE
    ) -> None:
        """Add a VALIDATE CONSTRAINT (name already quoted)."""
        self._steps[phase].append(
            Validate(id="", table=self.sql_name(table), constraint=constraint_sql, why=why)
        )

    def gate(self, phase: Phase, query: str, *, message: str, why: str, hard: bool = False) -> None:
        """Add a condition: `query` must return no row before what follows. `hard` puts it among the
        steps without a way back, before the one that is added next."""
        undo = None if hard else ()
        self._steps[phase].append(Gate(id="", query=query, message=message, why=why, undo=undo))

    def later(self, phase: Phase, add: Callable[[], None]) -> None:
        """Keep a place in a phase for steps that `add` adds once every operation has been heard."""
        self._steps[phase].append(_Later(add))

    def before_swap(self, table: QName, add: Callable[[], None]) -> None:
        """Like `later`, in contract, just before the columns of a table change their names."""
        if self.dual_write:
            self.later(Phase.CONTRACT, add)
        else:
            self.guards.setdefault(table, []).append(add)

    def last(
        self, add: Callable[[], None], phase: Phase = Phase.MIGRATE, *, foremost: bool = False
    ) -> None:
        """Like `later`, at the very end of a phase: of migrate, when every row has been filled.
        `foremost` comes before the others that are last."""
        self._last[phase].insert(0 if foremost else len(self._last[phase]), _Later(add))

    def sync(self, sync: Sync) -> None:
        """Keep two shapes of a row in step; all syncs of a table share one trigger."""
        from zdd_migrate.blocks.sync import reserve

        reserve(self, sync.table)
        self.syncs[sync.table].append(sync)

    def ask(self, about: str, ask: str, answer_with: str) -> None:
        """Add a question; the plan is not written until it is answered."""
        question = Question(about, ask, answer_with)
        if question not in self.questions:
            self.questions.append(question)

    def refuse(self, reason: str, instead: str) -> None:
        """Say that the statement being planned has no safe way, and what to do instead."""
        refusal = Refusal(self.statement, reason, instead)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def law(
        self, name: str, query: str, *, since: Phase = Phase.MIGRATE, until: Phase = Phase.SWITCH
    ) -> None:
        """Add a law of the data: `query` returns the rows that break it."""
        self.laws.append(Law(name, query, since, until))

    def refuse_children(self, table: QName, what: str) -> bool:
        """Whether other tables inherit from a table: neither its triggers nor tombstones' names do."""
        children = [c for c in self.start.children_of(self.present(table)) if c.parent is None]
        if children:
            self.refuse(
                f"{children[0].name} inherits from {table}, {what}: a trigger is not inherited, and a "
                "column that the child declares itself would get another name with the parent's",
                f"take the child out first (ALTER TABLE {children[0].name} NO INHERIT {table}), change "
                "both tables by plans of their own, and let it inherit again",
            )
        return bool(children)

    def note(self, text: str) -> None:
        """Add a note for the plan's reviewers."""
        if text not in self.notes:
            self.notes.append(text)

    # -- finishing ---------------------------------------------------------------------------

    def finish(self) -> dict[Phase, tuple[Step, ...]]:
        """All steps with their ids (`expand-1` …), hard drops last, and the release in switch.

        A release is added when something waits for new code: a contract step or a sync.
        """
        for phase, last in self._last.items():
            self._steps[phase].extend(last)
        out = {phase: self._heard(phase) for phase in Phase}
        out[Phase.EXPAND][:0] = self._prelude
        contract = out[Phase.CONTRACT]
        hard = [s for s in contract if s.undo is None and id(s) not in self._staying]
        out[Phase.CONTRACT] = [s for s in contract if all(s is not h for h in hard)]
        # by then renamed tables have their new names
        out[Phase.CONTRACT] += [_soaking(self._under_final_names(s)) for s in hard]
        if out[Phase.CONTRACT] or self.needs_release:
            out[Phase.SWITCH].append(
                Release(
                    id="",
                    code="new",
                    why="; ".join(
                        (
                            "release the new code",
                            *self.release_asks,
                            "go on when no instance of the old one is left",
                        )
                    ),
                    undo=tuple(self.release_undo),
                )
            )
        return {
            phase: tuple(
                _with_id(step, f"{phase.value}-{n}") for n, step in enumerate(steps, start=1)
            )
            for phase, steps in out.items()
        }

    def _under_final_names(self, step: Step) -> Step:
        if not isinstance(step, Sql):
            return step
        for was in dict.fromkeys(self.present_tables.values()):
            named = re.compile(rf'(?<![\w".]){re.escape(quote_qname(was))}(?![\w$"])')
            now = quote_qname(self.final(was))
            texts = tuple(now.join(named.split(s)) for s in step.statements)
            step = replace(step, statements=texts)
        return step

    def _heard(self, phase: Phase) -> list[Step]:
        """A phase's steps, those that had to wait for the last operation in their places."""
        out: list[Step] = []
        for step in self._steps[phase]:
            if not isinstance(step, _Later):
                out.append(step)
                continue
            kept, self._steps = self._steps, {each: [] for each in Phase}
            step.add()
            out.extend(s for s in self._steps[phase] if not isinstance(s, _Later))
            self._steps = kept
        return out


def _texts(statements: str | Sequence[str]) -> tuple[str, ...]:
    return (statements,) if isinstance(statements, str) else tuple(statements)


def _soaking(step: Step) -> Step:
    """What drops for good waits for its day."""
    return replace(step, after_days=SOAK_DAYS) if isinstance(step, Sql) else step


def _with_id(step: Step, id_: str) -> Step:
    return replace(step, id=id_)
