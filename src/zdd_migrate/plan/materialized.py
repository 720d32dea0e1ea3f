"""Materialized views that are made anew: DROP, CREATE with another query, and all that goes on it.

The new one is made beside the old one under a working name, empty, with its indexes, comments and
privileges: for one transaction the names are those that the migration knows, so its statements run
as they stand. It is computed at switch, for it has to be as fresh as what it replaces, and then the
two change names in an instant. The old one waits in the trash from contract on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zdd_migrate.blocks.bound import final_names, unfilled
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.shim import copy_grants, renaming
from zdd_migrate.blocks.trash import drop_aside, put_aside
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import relations_read
from zdd_migrate.grammar.tokens import tokenise
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema, View
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.create_view import CreateView
from zdd_migrate.operations.drop_object import DropObject
from zdd_migrate.operations.facts import views_over
from zdd_migrate.operations.maintenance import Grant, Maintain

_KIND = "MATERIALIZED VIEW"
_EXCLUSIVE = LockMode.ACCESS_EXCLUSIVE
#: what may be done to the new one: none of it is more than an instant's work while it is empty
_ON_IT = ("create_index", "comment", "grant", "switch_table")


@dataclass(slots=True)
class MadeAnew:
    """One materialized view made anew. `on_it` are the operations on the new one that follow."""

    name: QName
    old: View
    made: CreateView
    covered: set[int] = field(default_factory=set)
    on_it: list[Operation] = field(default_factory=list)
    #: the statements that make it, in order, each once
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def working(self) -> QName:
        """What the new one is called until it takes the name."""
        return self.name.sibling(own("new", self.name.name))

    @property
    def aside(self) -> QName:
        """What the old one is called when it has given the name away."""
        return self.name.sibling(own("old", self.name.name))

    def plan(self, draft: Draft, operation: Operation, final: Schema) -> None:
        """What one of its operations becomes."""
        if isinstance(operation, DropObject) and not draft.refusals:
            # before columns that it reads
            drop_aside(draft, _KIND, self.aside, what=f"the old {self.name.name}", lock=_EXCLUSIVE)
            return
        refused = self._why_not(draft, final)
        if refused is not None:
            if operation is self.made:
                draft.refuse(*refused)
            return
        if operation is self.made:
            self._plan(draft)
            self.texts[draft.number] = _empty(draft.statement)
        elif operation in self.on_it and not isinstance(operation, Maintain):
            self.texts.setdefault(draft.number, _at_once(draft.statement))

    def _why_not(self, draft: Draft, final: Schema) -> tuple[str, str] | None:
        new = final.views.get(self.name)
        columns = new.columns if new is not None else ()
        gone = [column for column in self.old.columns if column not in columns]
        over = views_over(draft.start, self.name)
        odd = [o for o in self.on_it if o.kind not in _ON_IT and not isinstance(o, Maintain)]
        reading = ", ".join(str(v.name) for v in final.views_on(self.name))
        beside = (
            f"CREATE MATERIALIZED VIEW under a new name, with its indexes, and DROP {self.name.name}: "
            "planned, the first in expand, the other at contract; let new code read the new name"
        )
        if over:
            return (
                f"{over[0].name} reads the materialized view {self.name}, and would go on reading the old one",
                beside,
            )
        if not self.old.columns or not columns:
            return f"the columns of {self.name}, before and after, are not known", beside
        if gone:
            return f"the new {self.name} has no {', '.join(gone)}, which old code reads", beside
        if not self.made.with_data and not any(isinstance(o, Maintain) for o in self.on_it):
            return f"the new {self.name} is not filled, and code that reads it fails", beside
        if self._turns(draft) and (set(columns) != set(self.old.columns) or reading):
            return (
                f"{self.name} shows another type at contract only: too late for {reading or 'new columns'}",
                f"change {self.name} beyond that in a migration of its own",
            )
        if odd:
            return (
                f"{odd[0].kind.replace('_', ' ')} of the new {self.name}, which gets its name at switch",
                "do that in a migration of its own, afterwards",
            )
        return None

    def _turns(self, draft: Draft) -> bool:
        """Whether it shows columns whose type is another from contract on."""
        return bool(unfilled(draft, relations_read(self.made.query), self.made.query))

    def _plan(self, draft: Draft) -> None:
        phase = Phase.CONTRACT if self._turns(draft) else Phase.SWITCH
        name, working, aside = self.name, self.working, self.aside
        reads = relations_read(self.made.query)
        names = final_names(draft, reads)
        path = draft.in_its_path("")[:-1]
        draft.takes_name[name] = working
        draft.needs_release = True

        def build() -> None:
            away, home = self._swapped(draft, name, aside, "old", draft.start)
            _, back = self._swapped(draft, working, name, "new", draft.schema)
            texts = list(self.texts.values())
            to, fro = names(texts[0])
            draft.sql(
                Phase.EXPAND,
                (*away, *to, *path, *texts, *fro, *back, *home, *copy_grants(name, working)),
                undo=f"DROP {_KIND} IF EXISTS {quote_qname(working)}",
                why=f"make the new {name.name} beside the old one, empty yet, with all that goes on it",
                lock=_EXCLUSIVE,
                relation=name,
            )

        def swap() -> None:
            away, home = self._swapped(draft, name, aside, "old", draft.start)
            come, back = self._swapped(draft, working, name, "new", draft.schema)
            draft.sql(
                phase,
                (*away, *come),
                undo=(*back, *home),
                why=f"the new {name.name} takes the name, for an instant",
                lock=_EXCLUSIVE,
                relation=name,
            )

        draft.later(Phase.EXPAND, build)
        draft.sql(
            phase,
            f"REFRESH {_KIND} {quote_qname(working)}",
            undo=f"REFRESH {_KIND} {quote_qname(working)} WITH NO DATA",
            why=f"compute the new {name.name}, which nobody reads yet",
        )
        draft.later(phase, swap)
        draft.later(Phase.CONTRACT, lambda: self._revoke(draft))
        draft.note(
            f"from {phase.value} on REFRESH of {name.name} fills the new one: after a way back from there, "
            f"refresh {name.name} again"
        )
        put_aside(draft, _KIND, aside, what=f"the old {name.name}", lock=_EXCLUSIVE)

    def _swapped(
        self, draft: Draft, was: QName, now: QName, word: str, schema: Schema
    ) -> tuple[list[str], list[str]]:
        """Statements that rename one of the two with its indexes, and those that undo it. Indexes
        have working names of their own as long as their view has one."""
        to, back = renaming(_KIND, was, now), renaming(_KIND, now, was)
        for index in schema.indexes_of(self.name):
            other = index.name.sibling(own(word, index.name.name))
            first, last = (index.name, other) if was == self.name else (other, index.name)
            to += renaming("INDEX", first, last)
            back += renaming("INDEX", last, first)
        return to, back

    def _revoke(self, draft: Draft) -> None:
        """What old code was let do with the old one, and the migration lets nobody with the new."""
        scratch = draft.start.copy()
        had = {role for role, about in scratch.granted.items() if str(self.name) in about}
        scratch.granted = {}
        for operation in self.on_it:
            if isinstance(operation, Grant):
                operation.apply(scratch)
        lost = sorted(r for r in had if str(self.name) not in scratch.granted.get(r, ()))
        if not lost:
            return
        draft.restricts_old = True
        name = quote_qname(self.name)
        roles = ", ".join("PUBLIC" if r.upper() == "PUBLIC" else quote_ident(r) for r in lost)
        draft.sql(
            Phase.CONTRACT,
            f"REVOKE ALL ON {name} FROM {roles}",
            undo=copy_grants(self.aside, self.name),
            why=f"{roles} had the old {self.name.name}; the migration does not give them the new one",
        )
        draft.note(
            f"{roles} may not use {self.name} from contract on, as in the migration: grant it there to "
            "keep it"
        )


def _empty(text: str) -> str:
    return f"{Cursor(text).rest_without(('WITH DATA', 'WITH NO DATA'))[0]} WITH NO DATA"


def _at_once(text: str) -> str:
    """Without CONCURRENTLY: it is empty, nobody reads it, and a transaction does not bear it."""
    for token in tokenise(text):
        if token.up == "CONCURRENTLY":
            return text[: token.start] + text[token.end :].lstrip()
    return text


def computed_anew(start: Schema, statements: Sequence[Statement]) -> dict[int, MadeAnew]:
    """For each operation that is part of making a materialized view anew: of which."""
    now = start.copy()
    dropped: dict[QName, DropObject] = {}
    found: dict[QName, MadeAnew] = {}
    for operation in (o for s in statements for o in s.operations):
        name = now.resolve(operation.relation) if operation.relation is not None else None
        was = start.views.get(name) if name is not None else None
        if isinstance(operation, DropObject) and was is not None and was.materialized:
            if operation.object == _KIND and name is not None:
                dropped[name] = operation
        elif isinstance(operation, CreateView) and operation.materialized:
            operation.apply(now)
            at = operation.makes(now)[0][1]
            if at in dropped and at not in found:
                found[at] = MadeAnew(at, start.views[at], operation)
                found[at].covered = {id(dropped[at]), id(operation)}
            continue
        elif (one := _about(found, operation, name, now)) is not None:
            one.on_it.append(operation)
            one.covered.add(id(operation))
        operation.apply(now)
    return {covered: one for one in found.values() for covered in one.covered}


def _about(
    found: dict[QName, MadeAnew], operation: Operation, name: QName | None, now: Schema
) -> MadeAnew | None:
    """The one that an operation is about, by itself or by its index."""
    if name is None:
        return None
    index = now.indexes.get(name)
    return found.get(index.table if index is not None else name)
