"""CREATE [OR REPLACE] [MATERIALIZED] VIEW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import parse_query, relations_read
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema, View
from zdd_migrate.operations.base import Operation, Situation

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView(Operation):
    """Make or replace a view. `columns` are those named before AS, `query` its text."""

    kind: ClassVar[str] = "create_view"
    query: str
    columns: tuple[str, ...] = ()
    materialized: bool = False
    or_replace: bool = False
    if_not_exists: bool = False
    with_data: bool = True

    def _target(self, schema: Schema) -> QName:
        assert self.relation is not None
        return QName(self.relation.schema or schema.default_schema, self.relation.name)

    def _view(self, schema: Schema) -> View:
        parsed = parse_query(self.query)
        reads = tuple(schema.resolve(r) for r in relations_read(self.query))
        pairs: set[tuple[QName, str]] = set()
        for relation in reads:
            table = schema.tables.get(relation)
            if parsed is None or table is None:
                pairs.add((relation, "*"))
            elif parsed.star:
                pairs |= {(relation, c.name) for c in table.columns}
            else:
                pairs |= {(relation, c) for _, c in parsed.columns if table.column(c)}
        output = self.columns or (parsed.output if parsed is not None else None) or ()
        return View(
            name=self._target(schema),
            query=self.query,
            columns=output,
            materialized=self.materialized,
            populated=self.with_data,
            depends_on=frozenset(reads),
            depends_on_columns=frozenset(pairs),
        )

    def effects(self, at: Situation) -> Effects:
        """ACCESS SHARE on what it reads; ACCESS EXCLUSIVE on the view it replaces."""
        name = self._target(at.schema)
        locks = {at.schema.resolve(r): _M.ACCESS_SHARE for r in relations_read(self.query)}
        existing = at.schema.views.get(name)
        if existing is None:
            scans = (
                dict.fromkeys(locks, "its query is run")
                if self.materialized and self.with_data
                else {}
            )
            return Effects(locks=locks, scans=scans)
        if self.if_not_exists:
            return Effects()
        if not self.or_replace:
            return Effects(error=PgError("42P07", f'relation "{name.name}" already exists'))
        locks[name] = _M.ACCESS_EXCLUSIVE
        new = self._view(at.schema).columns
        error = None
        breaks: tuple[Break, ...] = ()
        if new and existing.columns and new[: len(existing.columns)] != existing.columns:
            error = PgError("42P16", "cannot drop or rename columns of a view by replacing it")
        elif not new:
            at.assume(f"the new query of {name} gives the same columns as the old one")
        return Effects(locks=locks, error=error, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Add or replace it."""
        name = self._target(schema)
        if name not in schema.views or self.or_replace:
            schema.views[name] = self._view(schema)

    def created(self, schema: Schema) -> tuple[QName, ...]:
        """The view, where it is new."""
        name = self._target(schema)
        return () if name in schema.views else (name,)

    def plan(self, draft: Draft) -> None:
        """A new view in expand. Replacing one: with the old definition as the way back."""
        name = self._target(draft.schema)
        existing = draft.schema.views.get(name)
        kind = "MATERIALIZED VIEW" if self.materialized else "VIEW"
        if existing is None:
            undo: tuple[str, ...] = (f"DROP {kind} IF EXISTS {quote_qname(name)}",)
        elif existing.query and not existing.materialized:
            undo = (f"CREATE OR REPLACE VIEW {quote_qname(name)} AS {existing.query}",)
            if len(self._view(draft.schema).columns) != len(existing.columns):
                draft.refuse(
                    f"replacing {name} adds columns, which cannot be taken back by replacing it",
                    "create a view under a new name for the new code, and drop the old one later",
                )
                return
        else:
            undo = ()
        draft.sql(
            Phase.EXPAND,
            draft.statement,
            undo=undo,
            why=f"{'replace' if existing else 'create'} {name}",
            lock=_M.ACCESS_EXCLUSIVE if existing else _M.ACCESS_SHARE,
            relation=name if existing else None,
        )


def _read(cursor: Cursor) -> CreateView:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.accept_one(("TEMP", "TEMPORARY"))
    cursor.accept("RECURSIVE")
    materialized = cursor.accept("MATERIALIZED")
    cursor.expect("VIEW")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.qname()
    columns = cursor.names() if cursor.at("(") else ()
    while not cursor.at("AS"):
        if cursor.accept("WITH"):
            cursor.skip_group()
        elif cursor.accept("USING") or cursor.accept("TABLESPACE"):
            cursor.name()
        else:
            raise cursor.unread("AS was expected")
    cursor.expect("AS")
    query = cursor.rest()
    upper = " ".join(query.upper().split())
    with_data = not upper.endswith("WITH NO DATA")
    if upper.endswith(("WITH NO DATA", "WITH DATA", "CHECK OPTION")):
        query = query[: query.upper().rindex("WITH")].rstrip()
    return CreateView(
        relation=name,
        query=query,
        columns=columns,
        materialized=materialized,
        or_replace=or_replace,
        if_not_exists=if_not_exists,
        with_data=with_data,
    )


READS = {
    f"CREATE {head}": _read
    for head in (
        "VIEW",
        "OR REPLACE VIEW",
        "TEMP VIEW",
        "TEMPORARY VIEW",
        "RECURSIVE VIEW",
        "MATERIALIZED VIEW",
        "OR REPLACE TEMP VIEW",
        "OR REPLACE TEMPORARY VIEW",
        "OR REPLACE RECURSIVE VIEW",
    )
}
