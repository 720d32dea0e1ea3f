"""Dropping what is not a table, index or column: views, functions, types, triggers, schemas …"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import CALLABLES, KINDS, ON_TABLE, read_kind, read_name
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation

_M = LockMode
_STATES = {
    "VIEW": "42P01",
    "MATERIALIZED VIEW": "42P01",
    "SEQUENCE": "42P01",
    "FUNCTION": "42883",
    "PROCEDURE": "42883",
    "ROUTINE": "42883",
    "TYPE": "42704",
    "DOMAIN": "42704",
    "SCHEMA": "3F000",
    "EXTENSION": "42883",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropObject(Operation):
    """Remove an object. `relation` is it (for a trigger, policy or rule: its table)."""

    kind: ClassVar[str] = "drop_object"
    object: str
    name: str
    if_exists: bool = False
    cascade: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the view or the trigger's table; who used the object fails."""
        locks: dict[QName, LockMode] = {}
        if self.relation is not None and self.object in (
            *ON_TABLE,
            "VIEW",
            "MATERIALIZED VIEW",
            "SEQUENCE",
        ):
            resolved = at.schema.resolve(self.relation)
            known = (
                resolved in at.schema.tables
                or resolved in at.schema.views
                or not at.schema.complete
            )
            if known or resolved in at.schema.sequences or not self.if_exists:
                locks = {resolved: _M.ACCESS_EXCLUSIVE}
        state = _STATES.get(self.object)
        what = f"whatever uses {self.object.lower()} {self.name}"
        breaks = (Break("old", "removed", what, state, self.relation),) if state else ()
        loses: tuple[str, ...] = ()
        if self.object == "SCHEMA" and self.cascade:
            loses = (f"everything in schema {self.name}",)
        elif self.object in ("DATABASE", "OWNED"):
            loses = (f"everything in database {self.name}",)
            if self.object == "OWNED":
                loses = (f"everything that {self.name} owns",)
        outside = self.object in ("DATABASE", "TABLESPACE")
        error = None
        if outside and at.in_transaction:
            message = f"DROP {self.object} cannot run inside a transaction block"
            error = PgError("25001", message)
        return Effects(
            locks=locks, breaks=breaks, loses=loses, transactional=not outside, error=error
        )

    def apply(self, schema: Schema) -> None:
        """Forget it."""
        if self.relation is None:
            if self.object == "SCHEMA":
                schema.schemas.discard(self.name)
            elif self.object == "EXTENSION":
                schema.extensions.discard(self.name)
            return
        resolved = schema.resolve(self.relation)
        if self.object in ("VIEW", "MATERIALIZED VIEW"):
            schema.views.pop(resolved, None)
        elif self.object == "SEQUENCE":
            schema.sequences.pop(resolved, None)
        elif self.object in ("TYPE", "DOMAIN"):
            schema.types.pop(schema.resolve_type(self.relation), None)
        elif self.object in CALLABLES:
            schema.functions.pop(schema.resolve_function(self.relation), None)
        elif (table := schema.tables.get(resolved)) is not None:
            schema.put_table(
                replace(
                    table,
                    triggers=tuple(t for t in table.triggers if t.name != self.name),
                    policies=tuple(p for p in table.policies if p.name != self.name),
                )
            )

    def plan(self, draft: Draft) -> None:
        """At contract, with the definition as the way back where it is known."""
        undo = self._definition(draft)
        if undo is None and not self.if_exists:
            draft.refuse(
                f"{self.object.lower()} {self.name} could not be put back: its definition is not known",
                "give the schema with --schema, or drop it in a migration of its own, by hand",
            )
            return
        draft.restricts_old = True
        on_table = self.relation is not None and self.object in ON_TABLE
        draft.sql(
            Phase.CONTRACT,
            draft.statement,
            undo=undo or (),
            why=f"drop {self.object.lower()} {self.name} once no old code uses it",
            lock=_M.ACCESS_EXCLUSIVE if on_table else None,
            relation=draft.resolve(self.relation) if on_table else None,
        )

    def _definition(self, draft: Draft) -> tuple[str, ...] | None:
        """SQL that makes the object again."""
        if self.relation is None:
            return None
        schema = draft.schema
        resolved = schema.resolve(self.relation)
        if self.object == "VIEW" and (view := schema.views.get(resolved)) is not None:
            return (f"CREATE VIEW {resolved} AS {view.query}",)
        if self.object == "TRIGGER" and (table := schema.tables.get(resolved)) is not None:
            return next((((t.definition,)) for t in table.triggers if t.name == self.name), None)
        if self.object in ("FUNCTION", "PROCEDURE"):
            known = schema.functions.get(schema.resolve_function(self.relation), ())
            return (
                (known[0].definition.rstrip(";"),)
                if len(known) == 1 and known[0].definition
                else None
            )
        if self.object == "TYPE":
            type_ = schema.types.get(schema.resolve_type(self.relation))
            if type_ is not None and type_.kind == "enum":
                labels = ", ".join("'" + label.replace("'", "''") + "'" for label in type_.labels)
                return (f"CREATE TYPE {type_.name} AS ENUM ({labels})",)
        return None


def _read(cursor: Cursor) -> list[DropObject]:
    cursor.expect("DROP")
    kind = read_kind(cursor)
    concerned = cursor.accept("IF", "EXISTS")
    found = cursor.list_of(lambda: read_name(cursor, kind))
    cascade = cursor.accept("CASCADE")
    if not cascade and not cursor.accept("RESTRICT") and cursor.accept("WITH"):
        cursor.skip_group()  # DROP DATABASE … WITH (FORCE)
    elif cursor.accept("("):
        cursor.expect("FORCE")
        cursor.expect(")")
    return [
        DropObject(
            relation=each.relation,
            object=each.kind,
            name=each.label if each.relation is not None and kind not in ON_TABLE else each.name,
            if_exists=concerned,
            cascade=cascade,
        )
        for each in found
    ]


def _read_owned(cursor: Cursor) -> DropObject:
    cursor.expect("DROP", "OWNED", "BY")
    names = cursor.list_of(cursor.name)
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return DropObject(object="OWNED", name=", ".join(names), cascade=cascade)


def _read_user_mapping(cursor: Cursor) -> DropObject:
    cursor.expect("DROP", "USER", "MAPPING")
    if_exists = cursor.accept("IF", "EXISTS")
    cursor.expect("FOR")
    name = cursor.name()
    cursor.expect("SERVER")
    cursor.name()
    return DropObject(object="USER MAPPING", name=name, if_exists=if_exists)


#: kinds that other rooms drop, or that cannot be dropped by a statement of their own
_ELSEWHERE = ("TABLE", "FOREIGN TABLE", "INDEX", "COLUMN", "CONSTRAINT", "LARGE OBJECT")
READS = {
    **{f"DROP {kind}": _read for kind in KINDS if kind not in _ELSEWHERE},
    "DROP OWNED": _read_owned,
    "DROP USER MAPPING": _read_user_mapping,
}
