"""DROP TABLE: everything that names it fails, and its rows are gone.

It takes ACCESS EXCLUSIVE on the table, and on every table it references. Safe: move it into a
trash schema first, where one statement brings it back, and drop it later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.facts import kind_of, owned_sequences, tree, views_gone, views_over

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


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
            breaks=(
                Break("old", "removed", what, "42P01", relation),
                *(views_gone(at.schema, relation) if self.cascade else ()),
            ),
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
            for view in views_over(schema, relation):
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
        from zdd_migrate.blocks.constraint import drop_constraint_step
        from zdd_migrate.blocks.trash import plan_trashed, trashed

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
            draft.as_written(Phase.EXPAND, undo=(), why="dropped by its own migration")
            return
        if table.parent is not None:
            draft.refuse(
                f"{relation} is a partition of {table.parent}: its rows go from code that reads it",
                "DETACH … CONCURRENTLY in a migration of its own, when no code needs the rows; then "
                "drop the table",
            )
            return
        if self.key(draft.schema) in draft.replaced:
            draft.refuse(
                f"{relation} is dropped and made anew under the same name, with its rows gone",
                "give the new table another name; or change the old one's columns",
            )
            return
        referenced = [f for f in draft.schema.foreign_keys_to(relation) if f[0].name != relation]
        together = {name for kind, name, _ in draft.dropped if kind == "table"}
        incoming = [(o, f) for o, f in referenced if o.name not in together]
        views = views_over(draft.schema, relation)
        if (incoming or views) and not self.cascade:
            what = incoming[0][1].name if incoming else f"the view {views[0].name}"
            draft.refuse(
                f"{relation} is still referenced by {what}",
                "drop what references it first, in the same migration or an earlier one",
            )
            return
        for other, fk in incoming:  # CASCADE takes these along; new code does not know them
            draft.resolve(other.name)
            drop_constraint_step(draft, other.name, fk, cascade=False)
        draft.breaks_old = True
        draft.needs_release = True
        present = draft.present(relation)
        waits = quote_qname(trashed(present))
        plan_trashed(
            draft,
            "FOREIGN TABLE" if table.kind == "foreign" else "TABLE",
            present,
            cascade=self.cascade and bool(views),
            what=str(relation),
            loses=" with its rows",
            lock=_M.ACCESS_EXCLUSIVE,
            with_it=[(kind_of(v), v.name) for v in reversed(views)],
            before_drop=[
                f"ALTER TABLE {place} DROP CONSTRAINT IF EXISTS {quote_ident(fk.name)}"
                for place, fk in (
                    *((waits, fk) for fk in table.constraints),
                    *(
                        (quote_qname(trashed(draft.present(other.name))), fk)
                        for other, fk in referenced
                        if other.name in together
                    ),
                )
                if fk.kind == "foreign_key" and not fk.inherited
            ],
        )

    def key(self, schema: Schema) -> Key:
        """What it drops."""
        assert self.relation is not None
        return ("table", schema.resolve(self.relation), "")

    def drops(self, schema: Schema) -> tuple[Key, ...]:
        """The table."""
        return (self.key(schema),)


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
