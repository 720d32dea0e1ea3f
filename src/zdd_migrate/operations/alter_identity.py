"""ADD GENERATED … AS IDENTITY, SET GENERATED, RESTART, DROP IDENTITY: a column's own sequence."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
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
        """What lets code choose comes in expand; what binds it, or numbers no more, at contract."""
        relation = draft.resolve(self.relation)
        column = self._column(draft.schema)
        if column is None or draft.is_new(relation):
            if draft.is_new(relation):
                draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
                return
            draft.refuse(
                f"{relation} or its column {self.column} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if self.act == "drop" and column.identity is None and self.if_exists:
            draft.note(f"{self.column} of {relation} is no identity: nothing to drop")
            return
        alter = f"ALTER TABLE {draft.sql_name(relation)} ALTER COLUMN {quote_ident(self.column)}"
        if self.act == "drop":
            self._plan_drop(draft, relation, column, alter)
        elif self.act == "set":
            self._plan_set(draft, relation, column, alter)
        else:
            draft.sql(
                Phase.EXPAND,
                f"ALTER TABLE {draft.sql_name(relation)} {_kind_by_default(self.text)}",
                undo=f"{alter} DROP IDENTITY IF EXISTS",
                why=f"{relation}.{self.column} gets values by itself where none is given",
                lock=_M.ACCESS_EXCLUSIVE,
                relation=relation,
            )
            draft.note(
                f"the numbers of {relation}.{self.column} begin where the migration says, at 1 if it says "
                "nothing: setval the sequence past the rows that are there before new code relies on it"
            )
            if self.identity == "always":
                self._bind(draft, relation, alter)

    def _plan_set(self, draft: Draft, relation: QName, column: Column, alter: str) -> None:
        if self.identity is None or self.text.upper().count(" SET ") > 1 or "RESTART" in self.text:
            draft.refuse(
                f"options of the sequence of {relation}.{self.column} are set: what numbers code gets next "
                "changes from one moment to the next",
                "ALTER SEQUENCE is planned; setval moves it forward at any time",
            )
        elif self.identity == column.identity:
            draft.note(f"{relation}.{self.column} is GENERATED {self.identity.upper()} already")
        elif self.identity == "always":
            self._bind(draft, relation, alter)
        else:
            self._free(draft, relation, alter)

    def _free(self, draft: Draft, relation: QName, alter: str) -> None:
        draft.sql(
            Phase.EXPAND,
            f"{alter} SET GENERATED BY DEFAULT",
            undo=f"{alter} SET GENERATED ALWAYS",
            why=f"code may give {relation}.{self.column} itself, and need not",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def _bind(self, draft: Draft, relation: QName, alter: str) -> None:
        draft.restricts_old = draft.needs_release = True
        draft.sql(
            Phase.CONTRACT,
            f"{alter} SET GENERATED ALWAYS",
            undo=f"{alter} SET GENERATED BY DEFAULT",
            why=f"from now on code that gives {relation}.{self.column} itself is refused (428C9)",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def _plan_drop(self, draft: Draft, relation: QName, column: Column, alter: str) -> None:
        """New code numbers rows by itself; old code goes on with the sequence until contract."""
        sequences = owned_sequences(draft.schema, relation, self.column)
        if column.identity == "always":
            self._free(draft, relation, alter)
        kind = "ALWAYS" if column.identity == "always" else "BY DEFAULT"
        sequence = (
            sequences[0] if sequences else relation.sibling(f"{relation.name}_{self.column}_seq")
        )
        kept = quote_qname(
            QName(ZDD_SCHEMA, fit(f"numbers_{relation.schema}_{relation.name}_{self.column}"))
        )
        here, there = (f"{quote_literal(n)}::regclass" for n in (quote_qname(sequence), kept))
        known = draft.start.sequences.get(sequence)
        said = dict(known.options) if known is not None else {}
        options = "".join(
            f" {words} {said[key]}"
            for key, words in (("increment", "INCREMENT BY"), ("start", "START WITH"))
            if said.get(key, "1") != "1"
        )
        draft.breaks_old = draft.needs_release = True
        draft.note(
            f"until contract old code takes numbers of {relation}.{self.column} from its sequence and new "
            "code gives its own: they must not meet"
        )
        draft.sql(
            Phase.CONTRACT,
            (
                f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
                f"CREATE SEQUENCE {kept} MINVALUE -9223372036854775808",
                f"SELECT setval({there}, nextval({here}), false)",
                f"{alter} DROP IDENTITY",
            ),
            undo=(
                (
                    f"{alter} ADD GENERATED BY DEFAULT AS IDENTITY "
                    f"(SEQUENCE NAME {quote_qname(sequence)}{options})"
                ),
                f"SELECT setval({here}, nextval({there}), false)",
                f"DROP SEQUENCE {kept}",
            ),
            why=f"{relation}.{self.column} numbers rows no more: code gives it ({kind} before)",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.sql(
            Phase.CONTRACT,
            f"DROP SEQUENCE {kept}",
            undo=None,
            why=f"forget how far {relation}.{self.column} was numbered; after this there is no way back",
        )


def _kind_by_default(text: str) -> str:
    """An ADD GENERATED that lets code give the column: ALWAYS comes at contract."""
    return re.sub(
        r"\bGENERATED\s+ALWAYS\b", "GENERATED BY DEFAULT", text, count=1, flags=re.IGNORECASE
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
