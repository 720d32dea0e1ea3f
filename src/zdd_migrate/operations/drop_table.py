"""DROP TABLE: everything that names it fails, and its rows are gone.

It takes ACCESS EXCLUSIVE on the table, and on every table it references. Safe: move it into a
trash schema first, where one statement brings it back, and drop it later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.facts import owned_sequences, tree

_M = LockMode
#: where dropped tables wait
TRASH = f"{ZDD_SCHEMA}_trash"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable(Operation):
    """Remove a table with its rows, indexes and owned sequences."""

    kind: ClassVar[str] = "drop_table"
    if_exists: bool = False
    cascade: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on it, its partitions, its parent, and both ends of its foreign keys."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        if table is None and at.schema.complete:
            if self.if_exists:
                return Effects()
            return Effects(error=PgError("42P01", f'table "{relation.name}" does not exist'))
        if table is None:
            at.assume(f"{relation} exists and has no foreign keys")
        locks = dict.fromkeys(tree(at.schema, relation), _M.ACCESS_EXCLUSIVE)
        error = None
        if table is not None:
            for member in tree(at.schema, relation):
                owned = owned_sequences(at.schema, member)
                locks.update(dict.fromkeys(owned, _M.ACCESS_EXCLUSIVE))
            if table.parent is not None:
                locks[table.parent] = _M.ACCESS_EXCLUSIVE
                for sibling in at.schema.partitions_of(table.parent):
                    if sibling.bound == "DEFAULT":
                        locks[sibling.name] = _M.ACCESS_EXCLUSIVE
            for fk in table.constraints:
                if fk.kind == "foreign_key" and fk.ref_table is not None and not fk.inherited:
                    locks[fk.ref_table] = _M.ACCESS_EXCLUSIVE
            error = self._dependents(at.schema, relation, locks)
        what = f"every statement that names {relation.name}"
        return Effects(
            locks=locks,
            error=error,
            breaks=(Break("old", "removed", what, "42P01", relation),),
            loses=(f"all rows of {relation}",),
        )

    def _dependents(
        self, schema: Schema, relation: QName, locks: dict[QName, LockMode]
    ) -> PgError | None:
        dependents = [f"view {v.name.name}" for v in schema.views_on(relation)]
        dependents += [
            f"table {child.name.name}"
            for child in schema.children_of(relation)
            if child.parent is None and not _also_dropped(self, child.name)
        ]
        for other, fk in schema.foreign_keys_to(relation):
            if other.name == relation or _also_dropped(self, other.name):
                continue
            dependents.append(f"constraint {fk.name} on table {other.name.name}")
            if self.cascade:
                locks[other.name] = _M.ACCESS_EXCLUSIVE
        if self.cascade:
            for view in schema.views_on(relation):
                locks[view.name] = _M.ACCESS_EXCLUSIVE
            return None
        if dependents:
            return PgError(
                "2BP01",
                f"cannot drop table {relation.name} because other objects depend on it "
                f"({', '.join(dependents)})",
            )
        return None

    def apply(self, schema: Schema) -> None:
        """Forget it, its partitions, and what CASCADE takes along."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        for view in schema.views_on(relation):
            schema.views.pop(view.name, None)
        for other, fk in list(schema.foreign_keys_to(relation)):
            current = schema.tables.get(other.name)
            if current is not None:
                kept = tuple(c for c in current.constraints if c.name != fk.name)
                schema.put_table(replace(current, constraints=kept))
        for name in reversed(tree(schema, relation)):
            schema.drop_table(name)

    def plan(self, draft: Draft) -> None:
        """Into the trash schema at contract, reversibly; dropped at the very end."""
        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if table is None:
            if self.if_exists:
                draft.note(f"{relation} is not there: nothing to drop")
                return
            draft.refuse(
                f"{relation} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if draft.is_new(relation):
            draft.sql(Phase.EXPAND, draft.statement, undo=(), why="dropped by its own migration")
            return
        incoming = [f for o, f in draft.schema.foreign_keys_to(relation) if o.name != relation]
        if incoming or draft.schema.views_on(relation) or table.parent is not None:
            what = incoming[0].name if incoming else "a view or a partitioned parent"
            draft.refuse(
                f"{relation} is still referenced by {what}",
                "drop what references it in an earlier migration, then the table",
            )
            return
        draft.breaks_old = True
        trash = QName(TRASH, fit(f"{relation.schema}_{relation.name}"))
        aside = QName(relation.schema, trash.name)
        rename = f"ALTER TABLE {draft.sql_name(relation)} RENAME TO {quote_ident(aside.name)}"
        draft.sql(
            Phase.CONTRACT,
            (
                f"CREATE SCHEMA IF NOT EXISTS {TRASH}",
                rename,
                f"ALTER TABLE {quote_qname(aside)} SET SCHEMA {TRASH}",
            ),
            undo=(
                f"ALTER TABLE {quote_qname(trash)} SET SCHEMA {quote_ident(relation.schema or '')}",
                f"ALTER TABLE {quote_qname(aside)} RENAME TO {quote_ident(relation.name)}",
            ),
            why=f"take {relation} out of use: it waits in {TRASH}, rows and all, to be brought back",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        drops = [
            f"ALTER TABLE {quote_qname(trash)} DROP CONSTRAINT {quote_ident(fk.name)}"
            for fk in table.constraints
            if fk.kind == "foreign_key"
        ]
        draft.sql(
            Phase.CONTRACT,
            (*drops, f"DROP TABLE {quote_qname(trash)}"),
            undo=None,
            why=f"drop {relation} with its rows; after this there is no way back",
            lock=_M.ACCESS_EXCLUSIVE,
        )


def _also_dropped(operation: DropTable, name: QName) -> bool:
    return name == operation.relation


def _read(cursor: Cursor) -> list[DropTable]:
    cursor.expect("DROP")
    cursor.accept("FOREIGN")
    cursor.expect("TABLE")
    if_exists = cursor.accept("IF", "EXISTS")
    names: tuple[QName, ...] = cursor.list_of(cursor.qname)
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return [DropTable(relation=n, if_exists=if_exists, cascade=cascade) for n in names]


READS = {"DROP TABLE": _read, "DROP FOREIGN TABLE": _read}
