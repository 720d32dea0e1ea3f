"""ALTER TYPE: labels of an enum, attributes of a composite type, and the type's own name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.effects import Break, Effects, PgError, merge
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Schema, Table
from zdd_migrate.operations.add_enum_value import read_add_value
from zdd_migrate.operations.alter_column_type import AlterColumnType
from zdd_migrate.operations.alter_object import AlterObject, read_change
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.rename_object import RenameObject

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

Act = Literal["add", "drop", "retype", "rename"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterAttribute(Operation):
    """Change one attribute of a composite type. `relation` is the type; `to` a new type or name."""

    kind: ClassVar[str] = "alter_attribute"
    attribute: str
    act: Act
    to: str | None = None
    if_exists: bool = False
    cascade: bool = False

    def _typed_tables(self, schema: Schema) -> list[Table]:
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        return [t for t in schema.tables.values() if t.of_type == name]

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the type and on tables made OF it, which follow with CASCADE."""
        assert self.relation is not None
        name = at.schema.resolve_type(self.relation)
        typed = self._typed_tables(at.schema)
        locks: dict[QName, LockMode] = dict.fromkeys(
            (name, *(t.name for t in typed)), LockMode.ACCESS_EXCLUSIVE
        )
        error = None
        if typed and not self.cascade:
            message = f'cannot alter type "{name.name}" because it is the type of a typed table'
            error = PgError("2BP01", message)
        elif self.act == "retype" and (user := _column_of_type(at.schema, name)) is not None:
            message = f'cannot alter type "{name.name}" because column "{user}" uses it'
            error = PgError("0A000", message)
        rewrites, scans, rebuilds = self._retyped(at, name, typed)
        breaks: tuple[Break, ...] = ()
        if self.act != "add":
            what = f"whatever names ({name.name}).{self.attribute}"
            breaks = (Break("old", "removed", what, "42703", name, self.attribute),)
        return Effects(
            locks=locks,
            rewrites=rewrites,
            scans=scans,
            index_rebuilds=rebuilds,
            error=error,
            breaks=breaks,
        )

    def _retyped(
        self, at: Situation, name: QName, typed: list[Table]
    ) -> tuple[tuple[QName, ...], dict[QName, str], tuple[QName, ...]]:
        """What ALTER COLUMN … TYPE would do to each table made OF the type."""
        if self.act != "retype" or self.to is None:
            return (), {}, ()
        done = merge(
            AlterColumnType(relation=t.name, column=self.attribute, type=self.to).effects(at)
            for t in typed
        )
        return done.rewrites, dict(done.scans), done.index_rebuilds

    def apply(self, schema: Schema) -> None:
        """Change the attribute, and the columns of tables made OF the type."""
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        known = schema.types.get(name)
        if known is not None:
            schema.types[name] = replace(known, attributes=self._changed(known.attributes))
        for table in self._typed_tables(schema):
            schema.put_table(replace(table, columns=self._changed(table.columns)))

    def _changed(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if self.act == "add":
            return (*columns, Column(self.attribute, normalise_type(self.to or "")))
        if self.act == "drop":
            return tuple(c for c in columns if c.name != self.attribute)
        return tuple(
            c
            if c.name != self.attribute
            else replace(c, name=self.to or "")
            if self.act == "rename"
            else replace(c, type=normalise_type(self.to or ""))
            for c in columns
        )

    def plan(self, draft: Draft) -> None:
        """Refused: rows of the type mean something else at once."""
        draft.refuse(
            f"the type {self.relation} changes under both versions at once",
            "make a second type, add a column of it, and move the values over",
        )


def _column_of_type(schema: Schema, name: QName) -> str | None:
    for table in schema.tables.values():
        for column in table.columns:
            if schema.resolve_type(QName(None, column.type)) == name or column.type == str(name):
                return f"{table.name.name}.{column.name}"
    return None


def _read(cursor: Cursor) -> Operation | list[AlterAttribute]:
    mark = cursor.i
    cursor.expect("ALTER", "TYPE")
    name = cursor.qname()
    if cursor.at("ADD", "VALUE"):
        cursor.i = mark
        return read_add_value(cursor)
    if cursor.accept("RENAME", "VALUE"):
        old = cursor.string()
        cursor.expect("TO")
        return RenameObject(relation=name, object="ENUM VALUE", name=old, to=cursor.string())
    if cursor.accept("RENAME", "ATTRIBUTE"):
        old = cursor.name()
        cursor.expect("TO")
        to = cursor.name()
        cascade = _cascade(cursor)
        return AlterAttribute(relation=name, attribute=old, act="rename", to=to, cascade=cascade)
    if cursor.at("SET", "("):
        start = cursor.i
        cursor.rest()
        return AlterObject(
            relation=name, object="TYPE", name=name.name, change="options", text=cursor.slice(start)
        )
    if cursor.up(1) == "ATTRIBUTE":
        return list(cursor.list_of(lambda: _attribute(cursor, name)))
    return read_change(cursor, "TYPE", name.name, name)


def _attribute(cursor: Cursor, type_: QName) -> AlterAttribute:
    if cursor.accept("ADD", "ATTRIBUTE"):
        name, act, if_exists = cursor.name(), "add", False
        to: str | None = _type(cursor)
    elif cursor.accept("DROP", "ATTRIBUTE"):
        if_exists, act, to = cursor.accept("IF", "EXISTS"), "drop", None
        name = cursor.name()
    else:
        cursor.expect("ALTER", "ATTRIBUTE")
        name, act, if_exists = cursor.name(), "retype", False
        cursor.accept("SET", "DATA")
        cursor.expect("TYPE")
        to = _type(cursor)
    return AlterAttribute(
        relation=type_,
        attribute=name,
        act=act,  # type: ignore[arg-type]
        to=to,
        if_exists=if_exists,
        cascade=_cascade(cursor),
    )


def _type(cursor: Cursor) -> str:
    text = cursor.type_text()
    if cursor.accept("COLLATE"):
        cursor.qname()
    return text


def _cascade(cursor: Cursor) -> bool:
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return cascade


READS = {"ALTER TYPE": _read}
