"""Renaming what is not a table or column: indexes, constraints, types, enum labels, sequences …"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import RELATIONS
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.renaming import move_relation, move_type

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: what code does when the name it knows is gone: (kind of break, SQLSTATE, how it uses the name)
USES = {
    "TYPE": ("42704", "casts to and columns of the type"),
    "DOMAIN": ("42704", "casts to the domain"),
    "ROLE": ("28000", "connections as the role"),
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
        if self.object == "INDEX" and locks:  # Postgres takes the word for a table too
            uses = ("42P01", "every statement that names the table")
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
            move_relation(schema, resolved, resolved.sibling(self.to))
        elif self.object == "CONSTRAINT":
            self._apply_constraint(schema, resolved)
        elif self.object in ("TYPE", "DOMAIN"):
            name = schema.resolve_type(self.relation)
            move_type(schema, name, name.sibling(self.to))
        elif self.object in ("ENUM VALUE", "DOMAIN CONSTRAINT"):
            self._apply_to_type(schema)

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

    def _apply_to_type(self, schema: Schema) -> None:
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        known = schema.types.get(name)
        if known is None:
            return
        if self.object == "ENUM VALUE":
            labels = tuple(self.to if label == self.name else label for label in known.labels)
            schema.types[name] = replace(known, labels=labels)
        else:
            kept = tuple(
                replace(c, name=self.to) if c.name == self.name else c for c in known.constraints
            )
            schema.types[name] = replace(known, constraints=kept)

    def plan(self, draft: Draft) -> None:
        """Under both names until contract where that can be; else at contract, by its own reverse."""
        planner = _PLANS.get(self.object)
        if planner is None or (self.relation is None and self.object != "SCHEMA"):
            draft.refuse(
                f"renaming {self.object.lower()} {self.name} breaks whichever version does not know "
                "the other name",
                "make it anew under the new name, and drop the old one when no old code is left",
            )
            return
        planner(self, draft)


def _plan_on_table(operation: RenameObject, draft: Draft) -> None:
    """A constraint, trigger or policy: hardly any statement names it."""
    assert operation.relation is not None
    relation = draft.resolve(operation.relation)
    table = draft.sql_name(relation)
    old, new = (quote_ident(n) for n in (operation.name, operation.to))
    if operation.object == "CONSTRAINT":
        draft.restricts_old = True
        draft.note(
            f"ON CONFLICT ON CONSTRAINT, and code that reads constraint names in errors, knows "
            f"{operation.name} until contract and {operation.to} afterwards"
        )
        pair = [
            f"ALTER TABLE {table} RENAME CONSTRAINT {a} TO {b}" for a, b in ((old, new), (new, old))
        ]
    else:
        pair = [
            f"ALTER {operation.object} {a} ON {table} RENAME TO {b}"
            for a, b in ((old, new), (new, old))
        ]
    draft.sql(
        Phase.CONTRACT,
        pair[0],
        undo=pair[1],
        why=f"{operation.name} becomes {operation.to}",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=relation,
    )


def _plan_index(operation: RenameObject, draft: Draft) -> None:
    """No statement names an index."""
    from zdd_migrate.blocks.shim import renaming

    assert operation.relation is not None
    old = draft.schema.resolve(operation.relation)
    new = old.sibling(operation.to)
    index = draft.schema.indexes.get(old)
    draft.sql(
        Phase.CONTRACT,
        renaming("INDEX", old, new),
        undo=renaming("INDEX", new, old),
        why=f"{old.name} becomes {new.name}",
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        relation=index.table if index is not None else None,
    )


def _plan_on_domain(operation: RenameObject, draft: Draft) -> None:
    assert operation.relation is not None
    domain = quote_qname(draft.schema.resolve_type(operation.relation))
    old, new = quote_ident(operation.name), quote_ident(operation.to)
    draft.restricts_old = draft.needs_release = True
    draft.sql(
        Phase.CONTRACT,
        f"ALTER DOMAIN {domain} RENAME CONSTRAINT {old} TO {new}",
        undo=f"ALTER DOMAIN {domain} RENAME CONSTRAINT {new} TO {old}",
        why=f"the constraint {operation.name} gets its name when no code looks for the old one in errors",
    )


def _plan_label(operation: RenameObject, draft: Draft) -> None:
    draft.refuse(
        f"renaming the label {quote_literal(operation.name)} breaks whichever version does not know "
        "the other name",
        "a column holds one label, and no trigger can make it two: release code that reads both, add the "
        "new label (ADD VALUE, planned), let the code after that write it, move the rows over, and leave the "
        "old label; to be rid of it make the type anew without it, which is planned",
    )


def _plan_type(operation: RenameObject, draft: Draft) -> None:
    from zdd_migrate.blocks.shim import plan_type_shim

    assert operation.relation is not None
    old = draft.schema.resolve_type(operation.relation)
    if old in draft.schema.types and old not in draft.start.types:
        draft.as_written(Phase.EXPAND, undo=(), why="part of a new type")
        return
    if old.sibling(operation.to) in draft.start.types:
        draft.refuse(
            f"{operation.to} is another type until contract",
            "give the new type a name of its own",
        )
        return
    plan_type_shim(draft, operation.object, old, old.sibling(operation.to))


def _plan_view(operation: RenameObject, draft: Draft) -> None:
    from zdd_migrate.blocks.shim import plan_view_shim

    assert operation.relation is not None
    old = draft.resolve(operation.relation)
    view = draft.schema.views.get(old)
    columns = view.columns if view is not None else ()
    plan_view_shim(draft, operation.object, old, old.sibling(operation.to), columns)


def _plan_sequence(operation: RenameObject, draft: Draft) -> None:
    assert operation.relation is not None
    old = draft.schema.resolve(operation.relation)
    rename_sequence(draft, old, old.sibling(operation.to))


def rename_sequence(draft: Draft, old: QName, new: QName) -> None:
    """At contract: columns follow it by themselves, and nothing can stand in for its name."""
    from zdd_migrate.blocks.shim import renaming

    draft.restricts_old = True
    draft.note(
        f"code that names the sequence itself (nextval, setval) finds {old} until contract and "
        f"{new} afterwards; column defaults follow by themselves"
    )
    draft.sql(
        Phase.CONTRACT,
        renaming("SEQUENCE", old, new),
        undo=renaming("SEQUENCE", new, old),
        why=f"{old.name} becomes {new}",
    )


def _plan_function(operation: RenameObject, draft: Draft) -> None:
    from zdd_migrate.blocks.shim import plan_function_shim

    assert operation.relation is not None
    name = draft.schema.resolve_function(operation.relation)
    known = draft.schema.functions.get(name, ())
    if len(known) != 1 or not plan_function_shim(
        draft, operation.object, known[0], name.sibling(operation.to)
    ):
        draft.refuse(
            f"{operation.object.lower()} {operation.name} cannot be had under both names: its "
            "definition is not known",
            "give the schema with --schema, or create the new one yourself and drop the old one",
        )


def _plan_schema(operation: RenameObject, draft: Draft) -> None:
    """A schema under its new name: views of all its relations."""
    from zdd_migrate.blocks.shim import view_over

    schema, old, new = draft.schema, operation.name, operation.to
    tables = [t for t in schema.tables.values() if t.name.schema == old]
    views = [v for v in schema.views.values() if v.name.schema == old]
    others = [n for n in (*schema.types, *schema.functions) if n.schema == old]
    others += [s.name for s in schema.sequences.values() if s.name.schema == old and not s.owned_by]
    if others or not schema.complete or any(t.row_security and draft.pg < 15 for t in tables):
        what = (
            f"{others[0]} cannot be had in both schemas" if others else "what it holds is not known"
        )
        draft.refuse(
            f"renaming schema {old} takes all its names away at once, and {what}",
            "make the new schema, move one object after the other, and drop the old one at the end",
        )
        return
    made = [f"CREATE SCHEMA {quote_ident(new)}"]
    for name, columns in (
        *((t.name, [c.name for c in t.columns]) for t in tables if t.parent is None),
        *((v.name, list(v.columns)) for v in views),
    ):
        draft.resolve(name)
        made += view_over(draft, name, QName(new, name.name), columns)
    drop = f"DROP SCHEMA {quote_ident(new)} CASCADE"
    draft.breaks_old = True
    draft.needs_release = True
    draft.note(f"grant USAGE on schema {new} to the roles that use {old}")
    draft.sql(
        Phase.EXPAND,
        made,
        undo=drop.replace("SCHEMA ", "SCHEMA IF EXISTS "),
        why=f"everything in {old} under {new} too, as views",
    )
    draft.sql(
        Phase.CONTRACT,
        (drop, f"ALTER SCHEMA {quote_ident(old)} RENAME TO {quote_ident(new)}"),
        undo=(f"ALTER SCHEMA {quote_ident(new)} RENAME TO {quote_ident(old)}", *made),
        why=f"schema {old} becomes {new}; nobody uses the old name any more",
    )


_PLANS: dict[str, Callable[[RenameObject, Draft], None]] = {
    "CONSTRAINT": _plan_on_table,
    "TRIGGER": _plan_on_table,
    "POLICY": _plan_on_table,
    "INDEX": _plan_index,
    "ENUM VALUE": _plan_label,
    "TYPE": _plan_type,
    "DOMAIN": _plan_type,
    "DOMAIN CONSTRAINT": _plan_on_domain,
    "VIEW": _plan_view,
    "MATERIALIZED VIEW": _plan_view,
    "SEQUENCE": _plan_sequence,
    "FUNCTION": _plan_function,
    "PROCEDURE": _plan_function,
    "SCHEMA": _plan_schema,
}


def _read_action(cursor: Cursor, target: Target) -> RenameObject:
    cursor.expect("RENAME", "CONSTRAINT")
    name = cursor.name()
    cursor.expect("TO")
    return RenameObject(relation=target.relation, object="CONSTRAINT", name=name, to=cursor.name())


TABLE_ACTIONS = {"RENAME CONSTRAINT": _read_action}
