"""ALTER of what is no relation: functions, roles, extensions, languages, operators, servers …

Each can get another name, owner or schema; what else it has is its own, and locks no table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import (
    CALLABLES,
    KINDS,
    ON_TABLE,
    RELATIONS,
    ObjectName,
    read_kind,
    read_name,
    read_object,
)
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.facts import owned_by
from zdd_migrate.operations.rename_object import USES, RenameObject
from zdd_migrate.operations.renaming import move_type

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterObject(Operation):
    """Change an object. `object` is its kind, `change` what: owner, schema, extension, options …

    `relation` is the object where it lives in a schema (its table for a trigger or policy); `to`
    the new owner or schema; `text` the rest of the statement.
    """

    kind: ClassVar[str] = "alter_object"
    object: str
    name: str
    change: str
    to: str | None = None
    text: str = ""

    def effects(self, at: Situation) -> Effects:
        """No table is locked, except by what stands on one; a move takes the old path away."""
        locks: dict[QName, LockMode] = {}
        if self.relation is not None and self.object in ON_TABLE:
            locks = {at.schema.resolve(self.relation): LockMode.ACCESS_EXCLUSIVE}
        if self.object == "OWNED":
            locks = dict.fromkeys(owned_by(at.schema, self.name), LockMode.ACCESS_EXCLUSIVE)
        error, transactional = None, True
        if self.object == "SYSTEM" or (self.object, self.change) == ("DATABASE", "tablespace"):
            transactional = False
            if at.in_transaction:
                message = f"ALTER {self.object} cannot run inside a transaction block"
                error = PgError("25001", message)
        if self.object == "EXTENSION" and self.change == "options":
            at.assume(f"the update of extension {self.name} changes nothing that code uses")
        breaks: tuple[Break, ...] = ()
        if self.change == "schema" and self.object in USES:
            state, what = USES[self.object]
            breaks = (Break("old", "renamed", f"{what} {self.name}", state, self.relation),)
        return Effects(locks=locks, error=error, transactional=transactional, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Move it where the schema keeps it."""
        if self.change != "schema" or self.relation is None or self.to is None:
            return
        if self.object in ("TYPE", "DOMAIN"):
            name = schema.resolve_type(self.relation)
            move_type(schema, name, QName(self.to, name.name))

    def plan(self, draft: Draft) -> None:
        """As it is, in expand, unless old code loses its path."""
        if self.change == "schema":
            if self._plan_moved(draft):
                return
            draft.refuse(
                f"{self.object.lower()} {self.name} moves away from code that names it by its path",
                "make it anew in the other schema, and drop the old one when no old code is left",
            )
            return
        draft.as_written(
            Phase.EXPAND,
            undo=(),
            why=f"change {self.object.lower()} {self.name}; what it was is not put back by undo",
            transactional=self.object != "SYSTEM",
        )

    def _plan_moved(self, draft: Draft) -> bool:
        """In both schemas until contract, where something can stand in for it."""
        from zdd_migrate.blocks.shim import plan_function_shim, plan_type_shim

        if self.relation is None or self.to is None:
            return False
        if self.object in ("TYPE", "DOMAIN"):
            name = draft.schema.resolve_type(self.relation)
            plan_type_shim(draft, self.object, name, QName(self.to, name.name))
            return True
        if self.object in ("FUNCTION", "PROCEDURE"):
            name = draft.schema.resolve_function(self.relation)
            known = draft.schema.functions.get(name, ())
            new = QName(self.to, name.name)
            return len(known) == 1 and plan_function_shim(draft, self.object, known[0], new)
        return False


def read_change(
    cursor: Cursor, kind: str, name: str, relation: QName | None
) -> RenameObject | AlterObject:
    """Read RENAME TO, OWNER TO, SET SCHEMA or [NO] DEPENDS ON EXTENSION after an object's name."""
    if cursor.accept("RENAME", "TO"):
        return RenameObject(relation=relation, object=kind, name=name, to=cursor.name())
    if cursor.accept("OWNER", "TO"):
        change = "owner"
    elif cursor.accept("SET", "SCHEMA"):
        change = "schema"
    else:
        cursor.accept("NO")
        cursor.expect("DEPENDS", "ON", "EXTENSION")
        change = "extension"
    return AlterObject(relation=relation, object=kind, name=name, change=change, to=cursor.name())


def _at_change(cursor: Cursor) -> bool:
    return (
        cursor.at("RENAME", "TO")
        or cursor.at("OWNER", "TO")
        or cursor.at("SET", "SCHEMA")
        or cursor.at("DEPENDS", "ON")
        or cursor.at("NO", "DEPENDS")
    )


def _read(cursor: Cursor) -> RenameObject | AlterObject:
    cursor.expect("ALTER")
    kind = read_kind(cursor)
    if kind in ("ROLE", "USER") and cursor.accept("ALL"):
        return _options(cursor, ObjectName(kind, "ALL", "ALL"))
    if kind in (*ON_TABLE, "STATISTICS"):
        cursor.accept("IF", "EXISTS")
    found = read_name(cursor, kind)
    if _at_change(cursor):
        return read_change(cursor, found.kind, found.name, found.relation)
    return _options(cursor, found)


def _options(cursor: Cursor, found: ObjectName) -> AlterObject:
    """What only this kind of object has, as text; only kinds that lock nothing come here."""
    if found.kind == "EXTENSION" and cursor.up() in ("ADD", "DROP"):
        cursor.next()
        read_object(cursor)
        return AlterObject(object=found.kind, name=found.name, change="members")
    words = _OPTIONS.get(found.kind)
    if words is None or (words and cursor.up() not in words):
        raise cursor.unread(f"this change of a {found.kind.lower()} is not known")
    change = "tablespace" if cursor.at("SET", "TABLESPACE") else "options"
    return AlterObject(
        relation=found.relation,
        object=found.kind,
        name=found.name,
        change=change,
        text=cursor.rest(),
    )


#: how the own options of a kind begin; an empty tuple takes any word
_OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        CALLABLES,
        (
            "CALLED", "STRICT", "RETURNS", "IMMUTABLE", "STABLE", "VOLATILE", "NOT", "LEAKPROOF",
            "EXTERNAL", "SECURITY", "PARALLEL", "COST", "ROWS", "SUPPORT", "SET", "RESET",
        ),
    ),
    **dict.fromkeys(("ROLE", "USER", "GROUP", "SUBSCRIPTION"), ()),
    "COLLATION": ("REFRESH",),
    "DATABASE": (),
    "EVENT TRIGGER": ("ENABLE", "DISABLE"),
    "EXTENSION": ("UPDATE",),
    "FOREIGN DATA WRAPPER": ("HANDLER", "NO", "VALIDATOR", "OPTIONS"),
    "OPERATOR": ("SET",),
    "OPERATOR FAMILY": ("ADD", "DROP"),
    "SERVER": ("VERSION", "OPTIONS"),
    "STATISTICS": ("SET",),
    "TABLESPACE": ("SET", "RESET"),
    "TEXT SEARCH CONFIGURATION": ("ADD", "ALTER", "DROP"),
    "TEXT SEARCH DICTIONARY": ("(",),
}  # fmt: skip


def _read_system(cursor: Cursor) -> AlterObject:
    cursor.expect("ALTER", "SYSTEM")
    if cursor.up() not in ("SET", "RESET"):
        raise cursor.unread("SET or RESET was expected")
    return AlterObject(object="SYSTEM", name="", change="options", text=cursor.rest())


def _read_default_privileges(cursor: Cursor) -> AlterObject:
    cursor.expect("ALTER", "DEFAULT", "PRIVILEGES")
    return AlterObject(
        object="DEFAULT PRIVILEGES", name="", change="privileges", text=cursor.rest()
    )


def _read_user_mapping(cursor: Cursor) -> AlterObject:
    cursor.expect("ALTER", "USER", "MAPPING", "FOR")
    name = cursor.name()
    return AlterObject(object="USER MAPPING", name=name, change="options", text=cursor.rest())


def _read_reassign(cursor: Cursor) -> AlterObject:
    cursor.expect("REASSIGN", "OWNED", "BY")
    names = cursor.list_of(cursor.name)
    cursor.expect("TO")
    return AlterObject(object="OWNED", name=", ".join(names), change="owner", to=cursor.name())


def _read_label(cursor: Cursor) -> AlterObject:
    cursor.expect("SECURITY", "LABEL")
    if cursor.accept("FOR"):
        cursor.next()
    cursor.expect("ON")
    found = read_object(cursor)
    cursor.expect("IS")
    if not cursor.accept("NULL"):
        cursor.string()
    return AlterObject(
        relation=found.relation, object=found.kind, name=found.name, change="security label"
    )


#: kinds whose ALTER stands in rooms of their own
_ELSEWHERE = (*RELATIONS, "TYPE", "DOMAIN", "POLICY", "PUBLICATION", "COLUMN", "CONSTRAINT", "CAST")
READS = {
    **{f"ALTER {kind}": _read for kind in KINDS if kind not in _ELSEWHERE},
    "ALTER DEFAULT PRIVILEGES": _read_default_privileges,
    "ALTER SYSTEM": _read_system,
    "ALTER USER MAPPING": _read_user_mapping,
    "REASSIGN OWNED": _read_reassign,
    "SECURITY LABEL": _read_label,
}
