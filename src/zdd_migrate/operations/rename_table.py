"""ALTER TABLE … RENAME TO: instant, and every statement with the old name fails.

Safe: a view under the new name while old code lives (reads and writes go through it), then, at
contract, the table takes the new name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameTable(Operation):
    """Give a table another name. Its indexes, constraints and sequences keep theirs."""

    kind: ClassVar[str] = "rename_table"
    to: str
    if_exists: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; old code loses the name."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        known = relation in at.schema.tables or relation in at.schema.views
        error = None
        if not known and at.schema.complete:
            if self.if_exists:
                return Effects()
            error = PgError("42P01", f'relation "{relation.name}" does not exist')
        elif at.schema.resolve(relation.sibling(self.to)) in at.schema.tables:
            error = PgError("42P07", f'relation "{self.to}" already exists')
        old = f"every statement that names {relation.name}"
        new = f"every statement that names {self.to}, until the table has that name"
        return Effects(
            locks={relation: LockMode.ACCESS_EXCLUSIVE},
            error=error,
            breaks=(
                Break("old", "renamed", old, "42P01", relation),
                Break("new", "missing", new, "42P01", relation),
            ),
        )

    def apply(self, schema: Schema) -> None:
        """Rename it wherever it is named."""
        assert self.relation is not None
        rename_relation(schema, schema.resolve(self.relation), self.to)

    def plan(self, draft: Draft) -> None:
        """A view under the new name in expand; the table takes the name at contract."""
        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if table is None:
            draft.refuse(
                f"{relation} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if draft.is_new(relation):
            draft.sql(Phase.EXPAND, draft.statement, undo=(), why="part of a new table")
            return
        new = relation.sibling(self.to)
        view, old = quote_qname(new), draft.sql_name(relation)
        columns = ", ".join(quote_ident(c.name) for c in table.columns)
        invoker = " WITH (security_invoker = true)" if draft.pg >= 15 else ""
        if table.row_security and draft.pg < 15:
            draft.refuse(
                f"{relation} has row security, which a view goes round before Postgres 15",
                "rename it in a window without traffic, or upgrade first",
            )
            return
        draft.breaks_old = True
        draft.needs_release = True
        make_view = f"CREATE VIEW {view}{invoker} AS SELECT {columns} FROM {old}"
        draft.note(
            f"through the view {new}, COPY … FROM, TRUNCATE and system columns do not work: new "
            "code that needs them waits for contract"
        )
        draft.sql(
            Phase.EXPAND,
            make_view,
            undo=f"DROP VIEW IF EXISTS {view}",
            why=f"new code reads and writes {self.to} through a view over {relation.name}",
            lock=LockMode.ACCESS_SHARE,
            relation=relation,
        )
        draft.sql(
            Phase.CONTRACT,
            (f"DROP VIEW {view}", f"ALTER TABLE {old} RENAME TO {quote_ident(self.to)}"),
            undo=(f"ALTER TABLE {view} RENAME TO {quote_ident(relation.name)}", make_view),
            why=f"{relation.name} takes the name {self.to}; nobody uses the old one any more",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.present_tables[new] = draft.present(relation)


def rename_relation(schema: Schema, name: QName, to: str) -> None:
    """Give a table or view another name in the schema, wherever it is named."""
    new = name.sibling(to)
    view = schema.views.pop(name, None)
    if view is not None:
        schema.views[new] = replace(view, name=new)
        return
    table = schema.tables.get(name)
    if table is None:
        return
    indexes = schema.indexes_of(name)
    children = schema.children_of(name)
    references = list(schema.foreign_keys_to(name))
    owned = [s for s in schema.sequences.values() if s.owned_by and s.owned_by[0] == name]
    schema.drop_table(name)
    schema.put_table(replace(table, name=new))
    for index in indexes:
        schema.put_index(replace(index, table=new))
    for child in children:
        schema.put_table(
            replace(
                child,
                parent=new if child.parent == name else child.parent,
                inherits=tuple(new if p == name else p for p in child.inherits),
            )
        )
    for other, fk in references:
        current = schema.tables[new if other.name == name else other.name]
        schema.put_table(current.with_constraint(replace(fk, ref_table=new)))
    for sequence in owned:
        assert sequence.owned_by is not None
        schema.sequences[sequence.name] = replace(sequence, owned_by=(new, sequence.owned_by[1]))
    for dependent in list(schema.views.values()):
        if name in dependent.depends_on:
            schema.views[dependent.name] = replace(
                dependent,
                depends_on=frozenset(new if r == name else r for r in dependent.depends_on),
                depends_on_columns=frozenset(
                    (new if r == name else r, c) for r, c in dependent.depends_on_columns
                ),
            )


def _read(cursor: Cursor, target: Target) -> RenameTable:
    cursor.expect("RENAME", "TO")
    return RenameTable(relation=target.relation, to=cursor.name(), if_exists=target.if_exists)


TABLE_ACTIONS = {"RENAME TO": _read}
