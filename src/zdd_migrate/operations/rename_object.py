"""Renaming what is not a table or column: indexes, constraints, types, enum labels, sequences …"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import RELATIONS
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target

#: what code does when the name it knows is gone: (kind of break, SQLSTATE, how it uses the name)
USES = {
    "TYPE": ("42704", "casts to and columns of the type"),
    "ENUM VALUE": ("22P02", "writing or comparing with the label"),
    "VIEW": ("42P01", "every statement that names the view"),
    "MATERIALIZED VIEW": ("42P01", "every statement that names the view"),
    "SEQUENCE": ("42P01", "nextval() of the sequence by name"),
    "FUNCTION": ("42883", "calls of the function"),
    "PROCEDURE": ("42883", "calls of the procedure"),
    "SCHEMA": ("3F000", "every name in the schema"),
    "CONSTRAINT": ("42704", "ON CONFLICT ON CONSTRAINT, and code that reads the name in errors"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameObject(Operation):
    """Give an object another name. `object` is what kind; `name` the old name as SQL text.

    For a constraint `relation` is its table, for an enum label its type; else the object itself.
    """

    kind: ClassVar[str] = "rename_object"
    object: str
    name: str
    to: str

    def effects(self, at: Situation) -> Effects:
        """Instant. An index asks SHARE UPDATE EXCLUSIVE of itself, a constraint its table."""
        locks: dict[QName, LockMode] = {}
        index_locks: dict[QName, LockMode] = {}
        if self.relation is not None:
            resolved = at.schema.resolve(self.relation)
            if self.object in ("CONSTRAINT", "TRIGGER", "POLICY", "RULE"):
                members = [resolved]
                table = at.schema.tables.get(resolved)
                known = table.constraint(self.name) if table is not None else None
                if known is None or known.kind in ("check", "not_null"):
                    members += [t.name for t in at.schema.descendants_of(resolved)]
                locks = dict.fromkeys(
                    members if self.object == "CONSTRAINT" else [resolved],
                    LockMode.ACCESS_EXCLUSIVE,
                )
            elif self.object == "INDEX":
                if resolved in at.schema.tables or resolved in at.schema.views:
                    locks = {resolved: LockMode.ACCESS_EXCLUSIVE}
                else:
                    index_locks = {resolved: LockMode.SHARE_UPDATE_EXCLUSIVE}
            elif self.object in ("VIEW", "MATERIALIZED VIEW", "SEQUENCE"):
                locks = {resolved: LockMode.ACCESS_EXCLUSIVE}
        uses = USES.get(self.object)
        if uses is None:
            return Effects(locks=locks, index_locks=index_locks)
        state, what = uses
        breaks = (Break("old", "renamed", f"{what} {self.name}", state, self.relation),)
        return Effects(locks=locks, index_locks=index_locks, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Rename it where the schema keeps it."""
        if self.relation is None:
            return
        resolved = schema.resolve(self.relation)
        if self.object in RELATIONS:
            rename_relation(schema, resolved, self.to)
        elif self.object == "CONSTRAINT":
            self._apply_constraint(schema, resolved)
        elif self.object in ("TYPE", "ENUM VALUE"):
            self._apply_type(schema)

    def _apply_constraint(self, schema: Schema, relation: QName) -> None:
        table = schema.tables.get(relation)
        known = table.constraint(self.name) if table is not None else None
        if table is None or known is None:
            return
        kept = tuple(
            replace(c, name=self.to, index=self.to if c.index else None) if c is known else c
            for c in table.constraints
        )
        schema.put_table(replace(table, constraints=kept))
        index = schema.drop_index(relation.sibling(known.index)) if known.index else None
        if index is not None:
            schema.put_index(replace(index, name=relation.sibling(self.to), constraint=self.to))

    def _apply_type(self, schema: Schema) -> None:
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        known = schema.types.get(name)
        if known is None:
            return
        if self.object == "ENUM VALUE":
            labels = tuple(self.to if label == self.name else label for label in known.labels)
            schema.types[name] = replace(known, labels=labels)
        else:
            del schema.types[name]
            schema.types[name.sibling(self.to)] = replace(known, name=name.sibling(self.to))

    def plan(self, draft: Draft) -> None:
        """At contract, by its own reverse."""
        new, old = quote_ident(self.to), quote_ident(self.name)
        if self.object == "CONSTRAINT" and self.relation is not None:
            table = draft.sql_name(draft.resolve(self.relation))
            forward, back = (
                f"ALTER TABLE {table} RENAME CONSTRAINT {a} TO {b}"
                for a, b in ((old, new), (new, old))
            )
        elif self.object == "ENUM VALUE" and self.relation is not None:
            type_ = quote_qname(draft.schema.resolve_type(self.relation))
            a, b = quote_literal(self.name), quote_literal(self.to)
            forward = f"ALTER TYPE {type_} RENAME VALUE {a} TO {b}"
            back = f"ALTER TYPE {type_} RENAME VALUE {b} TO {a}"
            draft.refuse(
                f"renaming the label {a} breaks whichever version does not know the other name",
                "add the new label, let new code write it, move the rows over, and leave the old one",
            )
            return
        elif self.object == "INDEX" and self.relation is not None:
            resolved = draft.schema.resolve(self.relation)
            forward = f"ALTER INDEX {quote_qname(resolved)} RENAME TO {new}"
            back = f"ALTER INDEX {quote_qname(resolved.sibling(self.to))} RENAME TO {old}"
        else:
            draft.refuse(
                f"renaming {self.object.lower()} {self.name} breaks whichever version does not know "
                "the other name",
                "make it anew under the new name, and drop the old one when no old code is left",
            )
            return
        draft.sql(Phase.CONTRACT, forward, undo=back, why=f"{self.name} becomes {self.to}")


def rename_relation(schema: Schema, name: QName, to: str) -> None:
    """Give a relation another name in the schema, wherever it is named."""
    new = name.sibling(to)
    view = schema.views.pop(name, None)
    if view is not None:
        schema.views[new] = replace(view, name=new)
        return
    if (index := schema.drop_index(name)) is not None:
        schema.put_index(replace(index, name=new))
        return
    if (sequence := schema.sequences.pop(name, None)) is not None:
        schema.sequences[new] = replace(sequence, name=new)
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


def _read_action(cursor: Cursor, target: Target) -> RenameObject:
    cursor.expect("RENAME", "CONSTRAINT")
    name = cursor.name()
    cursor.expect("TO")
    return RenameObject(relation=target.relation, object="CONSTRAINT", name=name, to=cursor.name())


TABLE_ACTIONS = {"RENAME CONSTRAINT": _read_action}
