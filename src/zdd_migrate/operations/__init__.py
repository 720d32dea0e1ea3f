"""The rooms: one file per operation, each with its fields, reading, effects, and safe steps.

A room offers what it reads in up to three tables, keyed by the leading words:

- `READS`: whole statements (`"CREATE INDEX"`),
- `TABLE_ACTIONS`: actions of ALTER TABLE (`"DROP CONSTRAINT"`),
- `COLUMN_ACTIONS`: what follows `ALTER [COLUMN] name` (`"SET NOT"`).

Adding an operation is one file and one line in `ROOMS`; `python tools/heads` then writes down which
words lead to which room, so that only the rooms that a migration needs are imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.objects import RELATIONS
from zdd_migrate.grammar.tokens import NUMBER
from zdd_migrate.operations import heads
from zdd_migrate.operations.base import (
    ActionReader,
    ColumnActionReader,
    NotUnderstood,
    Operation,
    Situation,
    StatementReader,
    Target,
)

__all__ = ["ROOMS", "NotUnderstood", "Operation", "Situation", "read_statement"]

#: every room, in alphabetical order
ROOMS: tuple[str, ...] = (
    "add_column",
    "add_constraint",
    "add_enum_value",
    "alter_column_type",
    "alter_constraint",
    "alter_domain",
    "alter_expression",
    "alter_identity",
    "alter_object",
    "alter_sequence",
    "alter_type",
    "attach_partition",
    "call",
    "comment",
    "copy_data",
    "create_function",
    "create_index",
    "create_object",
    "create_policy",
    "create_rule",
    "create_statistics",
    "create_table",
    "create_trigger",
    "create_type",
    "create_view",
    "data_statement",
    "define_object",
    "detach_partition",
    "do_block",
    "drop_column",
    "drop_constraint",
    "drop_index",
    "drop_not_null",
    "drop_object",
    "drop_table",
    "inherit",
    "maintenance",
    "move_table",
    "publication",
    "rename_column",
    "rename_object",
    "rename_table",
    "session",
    "set_default",
    "set_not_null",
    "set_parameter",
    "set_schema",
    "switch_table",
    "transaction",
    "validate_constraint",
)


def offered(table: str) -> dict[str, str]:
    """Words → the room that reads them, asked of the rooms themselves (it imports them all)."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for words in getattr(import_module(f"{__name__}.{room}"), table, {}):
            if words in found:
                raise ImportError(f"operations.{room} and {found[words]} both read {words}")
            found[words] = room
    return found


_readers: dict[tuple[str, str], Any] = {}


def _reader(table: str, rooms: dict[str, str], words: str) -> Any:
    """What reads a statement or action that begins with these words; None where nobody does."""
    room = rooms.get(words)
    if room is None:
        return None
    reader = _readers.get((table, words))
    if reader is None:
        reader = getattr(import_module(f"{__name__}.{room}"), table)[words]
        _readers[table, words] = reader
    return reader


def read_statement(sql: str) -> tuple[Operation, ...]:
    """The operations of one statement; never raises: what is not understood says so."""
    try:
        cursor = Cursor(sql)
        if cursor.done or (cursor.at(";") and cursor.end == 1):
            return ()
        return tuple(_read(cursor))
    except UnreadError as error:
        return (NotUnderstood(reason=str(error), offset=error.offset),)
    except RecursionError:
        return (NotUnderstood(reason="the statement is nested too deeply"),)


def _read(cursor: Cursor) -> Iterable[Operation]:
    most = _longest().get(cursor.up(), 1)
    words = [cursor.up(i) for i in range(max(most, 3))]
    for count in range(most, 0, -1):
        reader: StatementReader | None = _reader("READS", heads.READS, " ".join(words[:count]))
        if reader is not None:
            read = reader(cursor)
            break
    else:
        object_ = _altered(words)
        if object_ is None:
            raise cursor.unread(f"{_heading(words)} is not a statement this reader knows")
        read = _read_alter_relation(cursor, object_)
    operations = (read,) if isinstance(read, Operation) else tuple(read)
    cursor.expect_done()
    return operations


@cache
def _longest() -> dict[str, int]:
    """How many words the longest head has that begins with a word."""
    found: dict[str, int] = {}
    for head in heads.READS:
        words = head.split()
        found[words[0]] = max(found.get(words[0], 0), len(words))
    return found


def _heading(words: list[str]) -> str:
    return " ".join(word for word in words[:2] if word.isalpha()) or "this"


def _altered(words: list[str]) -> str | None:
    """Which kind of relation an ALTER is about; None when it is about something else."""
    return next(
        (k for k in RELATIONS if words[: len(k.split()) + 1] == ["ALTER", *k.split()]), None
    )


def _read_alter_relation(cursor: Cursor, object_: str) -> list[Operation]:
    cursor.expect("ALTER", *object_.split())
    if_exists = cursor.accept("IF", "EXISTS")
    if cursor.at("ALL", "IN", "TABLESPACE"):
        raise cursor.unread("what ALL IN TABLESPACE moves depends on the database")
    only = cursor.accept("ONLY")
    bracket = only and cursor.accept("(")
    relation = cursor.qname()
    if bracket:
        cursor.expect(")")
    cursor.accept("*")
    target = Target(relation, object_, only, if_exists)
    operations = _read_actions(cursor, target)
    return [replace(o, absent_ok=True) for o in operations] if if_exists else operations


def _read_actions(cursor: Cursor, target: Target) -> list[Operation]:
    if target.object == "SEQUENCE":
        from zdd_migrate.operations.alter_sequence import at_sequence_option, read_alter_sequence

        if at_sequence_option(cursor):
            return [read_alter_sequence(cursor, target)]
    operations: list[Operation] = []
    while True:
        read = read_action(cursor, target)
        operations.extend((read,) if isinstance(read, Operation) else read)
        if not cursor.accept(","):
            return operations


def read_action(cursor: Cursor, target: Target) -> Operation | Iterable[Operation]:
    """Read one action of ALTER TABLE (or of another relation that shares its grammar)."""
    if cursor.at("ALTER") and not cursor.at("ALTER", "CONSTRAINT"):
        cursor.expect("ALTER")
        cursor.accept("COLUMN")
        numbered = target.object == "INDEX" and (t := cursor.token()) and t.kind == NUMBER
        column = cursor.next().text if numbered else cursor.name()
        for count in (2, 1):
            words = " ".join(cursor.up(i) for i in range(count))
            reader: ColumnActionReader | None = _reader(
                "COLUMN_ACTIONS", heads.COLUMN_ACTIONS, words
            )
            if reader is not None:
                return reader(cursor, target, column)
        raise cursor.unread("this change of a column is not known")
    for count in (3, 2, 1):
        words = " ".join(cursor.up(i) for i in range(count))
        action: ActionReader | None = _reader("TABLE_ACTIONS", heads.TABLE_ACTIONS, words)
        if action is not None:
            return action(cursor, target)
    raise cursor.unread("this ALTER TABLE action is not known")
