"""ALTER INDEX, TYPE, SEQUENCE and VIEW, and the actions of ALTER TABLE that are switches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.add_enum_value import read_add_value
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.create_object import read_sequence_options
from zdd_migrate.operations.rename_object import RenameObject

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchTable(Operation):
    """A switch of a table that neither rewrites nor reads it.

    `switch` is what is switched: row security, force row security, trigger, owner, options,
    replica identity, statistics, storage, cluster. `on` is to where; `text` the action's source.
    """

    kind: ClassVar[str] = "switch_table"
    switch: str
    text: str
    on: bool = True
    column: str | None = None
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """Mostly ACCESS EXCLUSIVE for an instant; options and statistics ask less."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        mode = _SWITCH_LOCKS.get(self.switch, _M.ACCESS_EXCLUSIVE)
        members = [relation]
        if self.switch in ("statistics", "storage", "trigger") and not self.only:
            members += [t.name for t in at.schema.descendants_of(relation)]
        breaks: tuple[Break, ...] = ()
        if self.switch == "row security" and self.on:
            what = f"roles that no policy of {relation.name} admits see and write no rows"
            breaks = (Break("old", "row_security", what, "42501", relation),)
        elif self.switch == "trigger" and not self.on:
            what = f"writes to {relation.name} that count on the trigger"
            breaks = (Break("old", "values", what, None, relation),)
        return Effects(locks=dict.fromkeys(members, mode), breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Remember row security."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if table is not None and self.switch == "row security":
            schema.put_table(replace(table, row_security=self.on))

    def plan(self, draft: Draft) -> None:
        """As it is; what restricts old code waits for contract."""
        relation = draft.resolve(self.relation)
        restricting = self.switch == "row security" and self.on
        reverse = _REVERSE.get(self.switch)
        undo: tuple[str, ...] = ()
        name = draft.sql_name(relation)
        if reverse is not None:
            undo = (f"ALTER TABLE {name} {reverse(self)}",)
        else:
            draft.note(f"{self.switch} of {relation} is not put back by undo")
        draft.restricts_old = draft.restricts_old or restricting
        draft.sql(
            Phase.CONTRACT if restricting and not draft.is_new(relation) else Phase.EXPAND,
            f"ALTER TABLE {name} {self.text}",
            undo=undo,
            why=f"change the {self.switch} of {relation}",
            lock=_SWITCH_LOCKS.get(self.switch, _M.ACCESS_EXCLUSIVE),
            relation=relation,
        )


_SWITCH_LOCKS = {
    "options": _M.SHARE_UPDATE_EXCLUSIVE,
    "statistics": _M.SHARE_UPDATE_EXCLUSIVE,
    "trigger": _M.SHARE_ROW_EXCLUSIVE,
}
_REVERSE: dict[str, Callable[[SwitchTable], str]] = {
    "row security": lambda s: f"{'DISABLE' if s.on else 'ENABLE'} ROW LEVEL SECURITY",
    "force row security": lambda s: f"{'NO FORCE' if s.on else 'FORCE'} ROW LEVEL SECURITY",
    "trigger": lambda s: (
        s.text.replace("ENABLE", "DISABLE", 1) if s.on else s.text.replace("DISABLE", "ENABLE", 1)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterSequence(Operation):
    """Change a sequence's options: SHARE ROW EXCLUSIVE, nextval waits for an instant."""

    kind: ClassVar[str] = "alter_sequence"
    text: str = ""

    def effects(self, at: Situation) -> Effects:
        """On the sequence alone."""
        assert self.relation is not None
        return Effects(locks={at.schema.resolve(self.relation): _M.SHARE_ROW_EXCLUSIVE})

    def plan(self, draft: Draft) -> None:
        """As it is, in expand."""
        draft.sql(
            Phase.EXPAND,
            draft.statement,
            undo=(),
            why=f"change the sequence {self.relation}; what it was is not put back by undo",
        )


def _switch(name: str, *, on: bool = True) -> Callable[[Cursor, Target], SwitchTable]:
    def read(cursor: Cursor, target: Target) -> SwitchTable:
        start = cursor.i
        while not cursor.done and not cursor.at(",") and not cursor.at(";"):
            if cursor.at("("):
                cursor.skip_group()
            else:
                cursor.next()
        return SwitchTable(
            relation=target.relation,
            switch=name,
            text=cursor.slice(start),
            on=on,
            only=target.only,
        )

    return read


def _column_switch(name: str) -> Callable[[Cursor, Target, str], SwitchTable]:
    def read(cursor: Cursor, target: Target, column: str) -> SwitchTable:
        start = cursor.i
        while not cursor.done and not cursor.at(",") and not cursor.at(";"):
            if cursor.at("("):
                cursor.skip_group()
            else:
                cursor.next()
        return SwitchTable(
            relation=target.relation,
            switch=name,
            text=f"ALTER COLUMN {quote_ident(column)} {cursor.slice(start)}",
            column=column,
            only=target.only,
        )

    return read


def _read_alter_type(cursor: Cursor) -> Operation:
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
    cursor.expect("RENAME", "TO")
    return RenameObject(relation=name, object="TYPE", name=name.name, to=cursor.name())


def _read_rename(cursor: Cursor) -> Operation:
    """ALTER INDEX | VIEW | SEQUENCE | … name RENAME TO new."""
    cursor.expect("ALTER")
    kind = cursor.next().up
    if kind == "MATERIALIZED":
        kind = f"{kind} {cursor.next().up}"
    cursor.accept("IF", "EXISTS")
    name: QName = cursor.qname()
    if kind in ("FUNCTION", "PROCEDURE") and cursor.at("("):
        cursor.skip_group()
    if (
        kind == "SEQUENCE"
        and not cursor.at("RENAME")
        and not cursor.at("OWNER")
        and not cursor.at("SET")
    ):
        read_sequence_options(cursor)
        return AlterSequence(relation=name)
    if kind == "TRIGGER":
        cursor.expect("ON")
        table = cursor.qname()
        cursor.expect("RENAME", "TO")
        return RenameObject(relation=table, object=kind, name=name.name, to=cursor.name())
    cursor.expect("RENAME", "TO")
    schema_level = kind == "SCHEMA"
    return RenameObject(
        relation=None if schema_level else name, object=kind, name=name.name, to=cursor.name()
    )


READS = {
    "ALTER TYPE": _read_alter_type,
    **{
        f"ALTER {kind}": _read_rename
        for kind in (
            "INDEX",
            "SEQUENCE",
            "VIEW",
            "MATERIALIZED VIEW",
            "FUNCTION",
            "PROCEDURE",
            "SCHEMA",
            "TRIGGER",
        )
    },
}
TABLE_ACTIONS = {
    "ENABLE ROW LEVEL": _switch("row security"),
    "DISABLE ROW LEVEL": _switch("row security", on=False),
    "FORCE ROW LEVEL": _switch("force row security"),
    "NO FORCE ROW": _switch("force row security", on=False),
    "ENABLE TRIGGER": _switch("trigger"),
    "DISABLE TRIGGER": _switch("trigger", on=False),
    "OWNER TO": _switch("owner"),
    "SET (": _switch("options"),
    "RESET (": _switch("options"),
    "REPLICA IDENTITY": _switch("replica identity"),
    "CLUSTER ON": _switch("clustering"),
}
COLUMN_ACTIONS = {
    "SET STATISTICS": _column_switch("statistics"),
    "SET STORAGE": _column_switch("storage"),
    "SET COMPRESSION": _column_switch("storage"),
    "SET (": _column_switch("statistics"),
    "RESET (": _column_switch("statistics"),
}
