"""COMMENT ON: a word for the catalog, harmless."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_literal
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import ON_TABLE, RELATIONS, read_object
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(Operation):
    """Set or remove (None) the comment of an object. `object` is what kind it is."""

    kind: ClassVar[str] = "comment"
    object: str
    column: str | None = None
    name: str | None = None
    constraint: str | None = None
    text: str | None = None

    def effects(self, at: Situation) -> Effects:
        """SHARE UPDATE EXCLUSIVE on the relation: nobody waits."""
        if self.relation is None:
            return Effects()
        relation = at.schema.resolve(self.relation)
        weak = self.object in ("CONSTRAINT", "TRIGGER", "POLICY", "RULE")
        mode = LockMode.ACCESS_SHARE if weak else LockMode.SHARE_UPDATE_EXCLUSIVE
        if relation in at.schema.indexes:
            return Effects(index_locks={relation: mode})
        return Effects(locks={relation: mode})

    def apply(self, schema: Schema) -> None:
        """Keep the comments of tables, columns, constraints and indexes."""
        if self.relation is None:
            return
        index = schema.index(self.relation) if self.object == "INDEX" else None
        if index is not None:
            schema.put_index(replace(index, comment=self.text))
        table = schema.table(self.relation)
        if table is None:
            return
        if self.object == "COLUMN" and self.column is not None:
            column = table.column(self.column)
            if column is not None:
                schema.put_table(table.with_column(replace(column, comment=self.text)))
        elif self.constraint is not None:
            found = table.constraint(self.constraint)
            if found is not None:
                schema.put_table(table.with_constraint(replace(found, comment=self.text)))
        elif self.object == "TABLE":
            schema.put_table(replace(table, comment=self.text))

    def plan(self, draft: Draft) -> None:
        """As it is, in expand; the undo puts the old comment back where it is known."""
        undo: tuple[str, ...] = ()
        if self.relation is not None and self.object in ("TABLE", "COLUMN"):
            relation = draft.resolve(self.relation)
            table = draft.table(relation)
            known = table.column(self.column) if table is not None and self.column else table
            if known is not None and not draft.is_new(relation):
                was = "NULL" if known.comment is None else quote_literal(known.comment)
                head = draft.statement[: draft.statement.upper().rindex(" IS ")]
                undo = (f"{head} IS {was}",)
        draft.as_written(Phase.EXPAND, undo=undo, why="a comment; nobody waits", asked=False)


def _read(cursor: Cursor) -> Comment:
    cursor.expect("COMMENT", "ON")
    found = read_object(cursor)
    cursor.expect("IS")
    text = None if cursor.accept("NULL") else cursor.string() or None
    is_relation = found.kind in (*RELATIONS, "COLUMN")
    return Comment(
        relation=found.relation if is_relation or found.kind in _ON_RELATION else None,
        object=found.kind,
        column=found.name if found.kind == "COLUMN" else None,
        name=None if is_relation else found.label,
        constraint=found.name if found.kind == "CONSTRAINT" else None,
        text=text,
    )


#: kinds that stand on a relation, which their comment locks
_ON_RELATION = (*ON_TABLE, "CONSTRAINT")
READS = {"COMMENT ON": _read}
