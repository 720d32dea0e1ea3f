"""ADD GENERATED … AS IDENTITY, SET GENERATED, RESTART, DROP IDENTITY: a column's own sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.create_object import read_sequence_option
from zdd_migrate.operations.facts import owned_sequences

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode
Act = Literal["add", "set", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterIdentity(Operation):
    """Give a column an identity, change it, or take it away. `identity` is which, where it says."""

    kind: ClassVar[str] = "alter_identity"
    column: str
    act: Act
    identity: Literal["always", "by default"] | None = None
    if_exists: bool = False
    text: str = ""

    def _column(self, schema: Schema) -> Column | None:
        assert self.relation is not None
        table = schema.table(self.relation)
        return table.column(self.column) if table is not None else None

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; ALWAYS refuses code that writes the column itself."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        locks: dict[QName, LockMode] = {relation: _M.ACCESS_EXCLUSIVE}
        if self.act != "add":
            mode = _M.ACCESS_EXCLUSIVE if self.act == "drop" else _M.SHARE_ROW_EXCLUSIVE
            locks.update(dict.fromkeys(owned_sequences(at.schema, relation, self.column), mode))
        column = self._column(at.schema)
        error = None
        breaks: tuple[Break, ...] = ()
        where = f'"{self.column}" of relation "{relation.name}"'
        if column is not None:
            numbered = parse_type(column.type).base in ("smallint", "integer", "bigint")
            if self.act == "add" and not numbered:
                message = "identity column type must be smallint, integer, or bigint"
                error = PgError("22023", message)
            elif self.act == "add" and not column.not_null:
                message = f"column {where} must be declared NOT NULL before identity can be added"
                error = PgError("55000", message)
            elif self.act == "add" and column.identity is not None:
                error = PgError("55000", f"column {where} is already an identity column")
            elif self.act == "add" and column.default is not None:
                error = PgError("55000", f"column {where} already has a default value")
            elif self.act != "add" and column.identity is None and not self.if_exists:
                error = PgError("55000", f"column {where} is not an identity column")
        if self.identity == "always" and not (column and column.identity == "always"):
            what = f"inserts that give {relation.name}.{self.column} a value"
            breaks = (Break("old", "restriction", what, "428C9", relation, self.column),)
        elif self.act == "drop":
            what = f"inserts that leave {relation.name}.{self.column} to its identity"
            breaks = (Break("old", "obligation", what, "23502", relation, self.column),)
        return Effects(locks=locks, error=error, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Keep the column's identity."""
        assert self.relation is not None
        table, column = schema.table(self.relation), self._column(schema)
        if table is None or column is None or (self.act == "set" and self.identity is None):
            return
        identity = None if self.act == "drop" else self.identity
        schema.put_table(table.with_column(replace(column, identity=identity)))

    def plan(self, draft: Draft) -> None:
        """An identity is added in expand when old code may still write the column; else refused."""
        relation = draft.resolve(self.relation)
        if self.act != "add" or self.identity != "by default":
            draft.refuse(
                f"the identity of {relation}.{self.column} binds whoever inserts, from one moment "
                "to the next",
                "use BY DEFAULT while old code runs, and move the sequence with setval",
            )
            return
        table, column = draft.sql_name(relation), quote_ident(self.column)
        draft.sql(
            Phase.EXPAND,
            f"ALTER TABLE {table} {self.text}",
            undo=f"ALTER TABLE {table} ALTER COLUMN {column} DROP IDENTITY IF EXISTS",
            why=f"{relation}.{self.column} gets values by itself where none is given",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )


def _read_add(cursor: Cursor, target: Target, column: str) -> AlterIdentity:
    start = cursor.i
    cursor.expect("ADD", "GENERATED")
    identity = _which(cursor)
    cursor.expect("AS", "IDENTITY")
    if cursor.at("("):
        cursor.skip_group()
    text = f"ALTER COLUMN {quote_ident(column)} {cursor.slice(start)}"
    return AlterIdentity(
        relation=target.relation, column=column, act="add", identity=identity, text=text
    )


def _which(cursor: Cursor) -> Literal["always", "by default"]:
    if cursor.accept("ALWAYS"):
        return "always"
    cursor.expect("BY", "DEFAULT")
    return "by default"


def _read_set(cursor: Cursor, target: Target, column: str) -> AlterIdentity:
    identity: Literal["always", "by default"] | None = None
    start = cursor.i
    while not (cursor.done or cursor.at(",") or cursor.at(";")):
        if cursor.accept("SET", "GENERATED"):
            identity = _which(cursor)
        else:
            cursor.accept("SET")
            read_sequence_option(cursor)
    text = f"ALTER COLUMN {quote_ident(column)} {cursor.slice(start)}"
    return AlterIdentity(
        relation=target.relation, column=column, act="set", identity=identity, text=text
    )


def _read_drop(cursor: Cursor, target: Target, column: str) -> AlterIdentity:
    cursor.expect("DROP", "IDENTITY")
    if_exists = cursor.accept("IF", "EXISTS")
    return AlterIdentity(relation=target.relation, column=column, act="drop", if_exists=if_exists)


COLUMN_ACTIONS = {
    "ADD GENERATED": _read_add,
    "DROP IDENTITY": _read_drop,
    "RESTART": _read_set,
    **{
        f"SET {word}": _read_set
        for word in (
            "GENERATED", "INCREMENT", "START", "RESTART", "MINVALUE", "MAXVALUE", "CACHE", "NO",
            "CYCLE", "SEQUENCE", "OWNED", "AS", "LOGGED", "UNLOGGED",
        )
    },
}  # fmt: skip
