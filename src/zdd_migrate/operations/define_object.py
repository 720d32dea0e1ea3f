"""CREATE of what locks no table and no code uses yet: operators, casts, roles, servers, casts …"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import read_name, read_operator
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.phase import Phase
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.create_object import CreateObject

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: kinds that are files or processes of the server, made outside any transaction
_OUTSIDE = ("DATABASE", "TABLESPACE")


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineObject(Operation):
    """Make an object that is no relation. `object` is its kind; `text` everything after its name."""

    kind: ClassVar[str] = "define_object"
    object: str
    name: str
    or_replace: bool = False
    text: str = ""

    def effects(self, at: Situation) -> Effects:
        """None on any relation."""
        if self.object == "EVENT TRIGGER":
            at.assume(f"what event trigger {self.name} does to later DDL is not followed")
        if self.object not in _OUTSIDE:
            return Effects()
        error = None
        if at.in_transaction:
            error = PgError("25001", f"CREATE {self.object} cannot run inside a transaction block")
        return Effects(transactional=False, error=error)

    def plan(self, draft: Draft) -> None:
        """As it is, in expand."""
        draft.as_written(
            Phase.EXPAND,
            undo=(),
            why=f"create {self.object.lower()} {self.name}; undo leaves it, nobody uses it",
            transactional=self.object not in _OUTSIDE,
        )


def _read(cursor: Cursor) -> DefineObject | CreateObject:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.accept("TRUSTED")
    kind = next(k for k in _BY_LENGTH if cursor.at(*k.split()))
    for word in kind.split():
        cursor.expect(word)
    cursor.accept("IF", "NOT", "EXISTS")
    if kind == "OPERATOR":
        name = read_operator(cursor)
    elif kind in ("CAST", "TRANSFORM"):
        name = read_name(cursor, kind).label
    elif kind == "USER MAPPING":
        cursor.expect("FOR")
        name = cursor.name()
    elif kind in ("AGGREGATE", "OPERATOR CLASS", "OPERATOR FAMILY") or kind in _IN_SCHEMA:
        name = str(cursor.qname())
    else:
        name = cursor.name()
    if kind in ("LANGUAGE", "PROCEDURAL LANGUAGE"):
        if cursor.done or cursor.at(";"):  # without a handler: an old way to say CREATE EXTENSION
            return CreateObject(object="EXTENSION", name=name, if_not_exists=or_replace)
        kind = "LANGUAGE"
    return DefineObject(object=kind, name=name, or_replace=or_replace, text=cursor.rest())


_IN_SCHEMA = (
    "COLLATION",
    "CONVERSION",
    "DEFAULT CONVERSION",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH CONFIGURATION",
)
_KINDS = (
    *_IN_SCHEMA,
    "ACCESS METHOD",
    "AGGREGATE",
    "CAST",
    "DATABASE",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "GROUP",
    "LANGUAGE",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "ROLE",
    "SERVER",
    "SUBSCRIPTION",
    "TABLESPACE",
    "TRANSFORM",
    "USER",
    "USER MAPPING",
)
_BY_LENGTH = sorted(_KINDS, key=lambda kind: -len(kind.split()))


def _read_import(cursor: Cursor) -> DefineObject:
    raise cursor.unread(
        "the tables that IMPORT FOREIGN SCHEMA makes stand on the other server alone"
    )


READS = {
    "IMPORT FOREIGN SCHEMA": _read_import,
} | {
    f"CREATE {prefix}{kind}": _read
    for kind in _KINDS
    for prefix in (
        ("", "OR REPLACE ")
        if kind in ("AGGREGATE", "TRANSFORM")
        else ("", "OR REPLACE ", "TRUSTED ", "OR REPLACE TRUSTED ")
        if kind.endswith("LANGUAGE")
        else ("",)
    )
}
