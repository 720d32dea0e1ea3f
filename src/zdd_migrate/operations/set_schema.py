"""ALTER TABLE … SET SCHEMA: instant, and whoever looks for the table by its old path fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import kind_of, owned_sequences
from zdd_migrate.operations.rename_object import rename_sequence
from zdd_migrate.operations.renaming import move_relation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSchema(Operation):
    """Move a relation into another schema, a table with its indexes and sequences."""

    kind: ClassVar[str] = "set_schema"
    to: str
    object: str = "TABLE"

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        what = f"every statement that finds {relation.name} in schema {relation.schema}"
        moved = (relation, *owned_sequences(at.schema, relation))
        return Effects(
            locks=dict.fromkeys(moved, LockMode.ACCESS_EXCLUSIVE),
            breaks=(Break("old", "renamed", what, "42P01", relation),),
        )

    def apply(self, schema: Schema) -> None:
        """Move it; views and foreign keys follow."""
        assert self.relation is not None
        name = schema.resolve(self.relation)
        move_relation(schema, name, QName(self.to, name.name))

    def plan(self, draft: Draft) -> None:
        """A view in the new schema in expand; the relation goes there at contract."""
        from zdd_migrate.blocks.shim import plan_view_shim

        relation = draft.resolve(self.relation)
        table, view = draft.table(relation), draft.schema.views.get(relation)
        new = QName(self.to, relation.name)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
        elif table is not None and not (table.row_security and draft.pg < 15):
            columns = [c.name for c in table.columns]
            plan_view_shim(draft, self.object, draft.present(relation), new, columns)
            draft.present_tables[new] = draft.present(relation)
        elif view is not None:
            plan_view_shim(draft, kind_of(view), relation, new, view.columns)
        elif self.object == "SEQUENCE":
            rename_sequence(draft, relation, new)
        else:
            draft.refuse(
                f"moving {self.relation} takes it from code that finds it by its old path, and what "
                "it is is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )


def _read(cursor: Cursor, target: Target) -> SetSchema:
    cursor.expect("SET", "SCHEMA")
    return SetSchema(relation=target.relation, to=cursor.name(), object=target.object)


TABLE_ACTIONS = {"SET SCHEMA": _read}
