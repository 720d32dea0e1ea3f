"""DO: an anonymous block of code. What it does statically is read; what it computes is not.

The statements between its control words are read as if each ran; EXECUTE of a plain literal is
read as that literal. Anything computed is not understood, and said so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import STRING, WORD
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.plan import Phase
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation

#: operations inside a block that may run as they stand, in expand
_HARMLESS = ("create_type", "create_extension", "create_schema", "create_sequence", "set_parameter")
#: statements of plpgsql that do nothing to the database
_CONTROL = frozenset(
    [
        "NULL",
        "RAISE",
        "RETURN",
        "EXIT",
        "CONTINUE",
        "PERFORM",
        "ASSERT",
        "GET",
        "CLOSE",
        "OPEN",
        "FETCH",
        "MOVE",
        "END",
    ]
)
_SQL = frozenset(
    [
        "CREATE",
        "ALTER",
        "DROP",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "COMMENT",
        "GRANT",
        "REVOKE",
        "REINDEX",
        "REFRESH",
        "LOCK",
        "SET",
        "MERGE",
        "CLUSTER",
        "VACUUM",
        "COPY",
        "SECURITY",
        "IMPORT",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoBlock(Operation):
    """The block itself. What it holds follows as operations of their own."""

    kind: ClassVar[str] = "do_block"
    language: str
    body: str
    inner_kinds: tuple[str, ...] = ()

    def effects(self, at: Situation) -> Effects:
        """None by itself; its statements follow."""
        return Effects()

    def plan(self, draft: Draft) -> None:
        """As it stands where all it does is create what nobody uses yet; else refused."""
        others = sorted({k for k in self.inner_kinds if k not in _HARMLESS})
        if others:
            draft.refuse(
                f"the DO block does {', '.join(o.replace('_', ' ') for o in others)}",
                "write its statements out, so that each can be planned",
            )
            return
        draft.as_written(
            Phase.EXPAND,
            undo=(),
            why="the migration's own block; what it creates nobody uses yet, and undo leaves it",
        )


def inner_operations(
    body: str, read_statement: Callable[[str], tuple[Operation, ...]]
) -> list[Operation]:
    """The operations that a plpgsql body performs, as far as they stand there in plain text."""
    try:
        cursor = Cursor(body)
    except UnreadError as error:
        return [NotUnderstood(reason=f"the block's body cannot be read: {error}")]
    _skip_declarations(cursor)
    found: list[Operation] = []
    while not cursor.done:
        start = cursor.i
        if cursor.accept(";"):
            continue
        if _skip_control(cursor):
            continue
        while not cursor.done and not cursor.at(";"):
            if cursor.at("("):
                cursor.skip_group()
            else:
                cursor.next()
        found.extend(_inner(cursor, start, read_statement))
    return found


def _skip_declarations(cursor: Cursor) -> None:
    if cursor.accept("DECLARE"):
        while not cursor.done and not cursor.at("BEGIN"):
            cursor.next()


def _skip_control(cursor: Cursor) -> bool:
    """Read one control word with its condition; False when a statement stands here."""
    if cursor.accept("BEGIN") or cursor.accept("ELSE") or cursor.accept("LOOP"):
        return True
    if cursor.accept("EXCEPTION"):
        return True
    if cursor.accept("END"):
        cursor.accept_one(("IF", "LOOP", "CASE"))
        return True
    if cursor.accept_one(("IF", "ELSIF", "ELSEIF", "WHEN", "CASE")) is not None:
        _skip_to(cursor, "THEN")
        return True
    if cursor.accept_one(("FOR", "WHILE", "FOREACH")) is not None:
        _skip_to(cursor, "LOOP")
        return True
    return False


def _skip_to(cursor: Cursor, word: str) -> None:
    while not cursor.done and not cursor.accept(word):
        if cursor.at("("):
            cursor.skip_group()
        else:
            cursor.next()


def _inner(
    cursor: Cursor, start: int, read_statement: Callable[[str], tuple[Operation, ...]]
) -> tuple[Operation, ...]:
    first = cursor.tokens[start]
    text = cursor.slice(start)
    if first.kind != WORD:
        return ()
    if first.up == "EXECUTE":
        following = cursor.tokens[start + 1] if start + 1 < cursor.i else None
        whole = following is not None and following.kind == STRING and start + 2 == cursor.i
        if not whole:
            return (NotUnderstood(reason=f"dynamic SQL in a block: {_short(text)}"),)
        assert following is not None
        return read_statement(string_value(following.text))
    if first.up in _CONTROL:
        return _calls(text) if first.up == "PERFORM" else ()
    if first.up in _SQL:
        return read_statement(text)
    if first.up in ("SELECT", "WITH"):
        return read_statement(
            re.sub(r"\bINTO\s+(STRICT\s+)?[\w.,\s]+?\s+FROM\b", "FROM", text, flags=re.IGNORECASE)
        )
    if start + 1 < cursor.i and cursor.tokens[start + 1].up in (":=", "=", ".", "["):
        return ()
    return (NotUnderstood(reason=f"a statement in a block is not understood: {_short(text)}"),)


def _calls(text: str) -> tuple[Operation, ...]:
    quiet = re.match(
        r"PERFORM\s+(set_config|pg_sleep|1|setval|pg_advisory\w*)\b", text, re.IGNORECASE
    )
    if quiet is not None or re.match(r"PERFORM\s+1?\s*FROM\b", text, re.IGNORECASE):
        return ()
    return (NotUnderstood(reason=f"a function is called in a block: {_short(text)}"),)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"


def _read(cursor: Cursor) -> list[Operation]:
    from zdd_migrate.operations import read_statement  # the dispatch table holds this room

    cursor.expect("DO")
    language, body = "plpgsql", None
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("LANGUAGE"):
            token = cursor.next()
            language = string_value(token.text) if token.kind == STRING else token.text.lower()
        else:
            body = cursor.string()
    if body is None:
        raise cursor.unread("the block's body was expected")
    if language != "plpgsql":
        reason = f"a DO block in {language} can do anything"
        return [DoBlock(language=language, body=body), NotUnderstood(reason=reason)]
    inner = inner_operations(body, read_statement)
    kinds = tuple(o.kind for o in inner)
    return [DoBlock(language=language, body=body, inner_kinds=kinds), *inner]


READS = {"DO": _read}
