"""INHERIT and NO INHERIT, OF and NOT OF: what a table takes its shape from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherit(Operation):
    """Join (`joins`) or leave an inheritance parent; the child's rows show up there, or stop to."""

    kind: ClassVar[str] = "inherit"
    parent: QName
    joins: bool = True

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the child; the parent is asked for SHARE UPDATE EXCLUSIVE to join."""
        assert self.relation is not None
        child, parent = at.schema.resolve(self.relation), at.schema.resolve(self.parent)
        mode = _M.SHARE_UPDATE_EXCLUSIVE if self.joins else _M.ACCESS_SHARE
        table, above = at.schema.tables.get(child), at.schema.tables.get(parent)
        for column in above.columns if self.joins and above is not None else ():
            if table is not None and table.column(column.name) is None:
                message = f'child table is missing column "{column.name}"'
                return Effects(error=PgError("42804", message))
        what = f"readers of {parent.name} see the rows of {child.name}"
        if not self.joins:
            what = f"readers of {parent.name} no longer see the rows of {child.name}"
        return Effects(
            locks={child: _M.ACCESS_EXCLUSIVE, parent: mode},
            breaks=(Break("old", "values", what, None, parent),),
        )

    def apply(self, schema: Schema) -> None:
        """Keep the child's parents."""
        assert self.relation is not None
        table, parent = schema.table(self.relation), schema.resolve(self.parent)
        if table is not None:
            others = tuple(p for p in table.inherits if p != parent)
            schema.put_table(replace(table, inherits=(*others, parent) if self.joins else others))

    def plan(self, draft: Draft) -> None:
        """Refused: both versions read the parent."""
        draft.refuse(
            f"{self.relation} and {self.parent} are read together from one moment to the next",
            "change it when no running code reads the parent, in a migration of its own",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOf(Operation):
    """Tie a table to a composite type, or (None) let it go."""

    kind: ClassVar[str] = "set_of"
    type: QName | None = None

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant."""
        assert self.relation is not None
        return Effects(locks={at.schema.resolve(self.relation): _M.ACCESS_EXCLUSIVE})

    def apply(self, schema: Schema) -> None:
        """Remember the type."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if table is not None:
            of = schema.resolve_type(self.type) if self.type is not None else None
            schema.put_table(replace(table, of_type=of))


def _read_inherit(cursor: Cursor, target: Target) -> Inherit:
    joins = not cursor.accept("NO")
    cursor.expect("INHERIT")
    return Inherit(relation=target.relation, parent=cursor.qname(), joins=joins)


def _read_of(cursor: Cursor, target: Target) -> SetOf:
    if cursor.accept("NOT", "OF"):
        return SetOf(relation=target.relation)
    cursor.expect("OF")
    return SetOf(relation=target.relation, type=cursor.qname())


TABLE_ACTIONS = {
    "INHERIT": _read_inherit,
    "NO INHERIT": _read_inherit,
    "OF": _read_of,
    "NOT OF": _read_of,
}
