"""DO: an anonymous block of code. What it does statically is read; what it computes is not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import STRING
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation
from zdd_migrate.operations.bodies import body_offset, hidden_operations
from zdd_migrate.operations.create_table import CreateTable
from zdd_migrate.operations.data_statement import DataStatement

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: operations inside a block that may run as they stand, in expand
_HARMLESS = ("create_type", "create_extension", "create_schema", "create_sequence", "set_parameter")
_ROWS = "data_statement"
#: first words of what may stand between guards
_GUARDED = ("CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "TRUNCATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoBlock(Operation):
    """The block itself. What it holds follows as operations of their own."""

    kind: ClassVar[str] = "do_block"
    language: str
    body: str
    inner_kinds: tuple[str, ...] = ()
    #: the statements, where all the block does is run them unless they ran before; else ()
    guarded: tuple[str, ...] = ()
    #: whether all it does with rows is read them
    only_reads: bool = False
    #: tables that it makes for itself, which stay as long as the session does
    temporary: tuple[str, ...] = ()

    @property
    def only_creates(self) -> bool:
        """Whether all it does is create what nobody uses yet."""
        return all(kind in _HARMLESS for kind in self.inner_kinds)

    def effects(self, at: Situation) -> Effects:
        """None by itself; its statements follow."""
        return Effects()

    def plan(self, draft: Draft) -> None:
        """As it stands where all it does is create what nobody uses yet; else refused."""
        others = sorted({k for k in self.inner_kinds if k not in _HARMLESS})
        if others == [_ROWS]:
            self._plan_rows(draft)
            return
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

    def _plan_rows(self, draft: Draft) -> None:
        """A block that only works with rows runs as it stands, as any such statement does."""
        if not self.only_reads:
            draft.note("the rows that the DO block writes are not taken back by undo")
        draft.as_written(
            Phase.EXPAND if self.only_reads else Phase.MIGRATE,
            # in the same session the block would find them a second time
            undo=[f"DROP TABLE IF EXISTS pg_temp.{quote_ident(name)}" for name in self.temporary],
            why="the migration's own block reads rows, and may refuse to go on"
            if self.only_reads
            else "the migration's own block writes rows, as it is, in one transaction",
        )


_GUARD = re.compile(r"\bpg_\w+|\binformation_schema\b|\bto_reg\w+", re.IGNORECASE)


def guarded_statements(body: str) -> tuple[str, ...]:
    """The statements of a block that runs each unless it ran before; () for any other block.

    That is: `EXCEPTION WHEN … THEN NULL`, and `IF NOT EXISTS (…)` about the catalog, without ELSE.
    """
    try:
        cursor = Cursor(body)
        return _guarded(cursor)
    except UnreadError:
        return ()


def _skip_to(cursor: Cursor, word: str) -> None:
    while not cursor.done and not cursor.accept(word):
        if cursor.at("("):
            cursor.skip_group()
        else:
            cursor.next()


def _does_nothing(cursor: Cursor) -> bool:
    """Read a handler's one statement: NULL, or a message."""
    if cursor.accept("RAISE") and cursor.accept_one(("DEBUG", "LOG", "INFO", "NOTICE", "WARNING")):
        while not cursor.done and not cursor.at(";"):
            cursor.next()
        return cursor.accept(";")
    return cursor.accept("NULL") and cursor.accept(";")


def _guarded(cursor: Cursor) -> tuple[str, ...]:
    found: list[str] = []
    cursor.expect("BEGIN")
    depth = 1
    while not cursor.done:
        start = cursor.i
        if cursor.accept(";"):
            continue
        if cursor.accept("EXCEPTION"):
            while cursor.accept("WHEN"):
                _skip_to(cursor, "THEN")
                if not _does_nothing(cursor):
                    return ()
        elif cursor.accept("END"):
            if not cursor.accept("IF"):
                depth -= 1
        elif cursor.accept("IF"):
            _skip_to(cursor, "THEN")
            condition = cursor.slice(start)
            if not _GUARD.search(condition) or cursor.done:
                return ()
        elif cursor.up() in _GUARDED:
            while not cursor.done and not cursor.at(";"):
                cursor.next()
            found.append(cursor.slice(start))
        else:
            return ()
    return tuple(found) if depth == 0 else ()


def _read(cursor: Cursor) -> list[Operation]:
    from zdd_migrate.operations import read_statement  # the dispatch table holds this room

    cursor.expect("DO")
    language, body, begins = "plpgsql", None, 0
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("LANGUAGE"):
            token = cursor.next()
            language = string_value(token.text) if token.kind == STRING else token.text.lower()
        else:
            first = cursor.token()
            body = cursor.string()
            assert first is not None
            begins = body_offset(first)
    if body is None:
        raise cursor.unread("the block's body was expected")
    if language != "plpgsql":
        reason = f"a DO block in {language} can do anything"
        return [DoBlock(language=language, body=body), NotUnderstood(reason=reason)]
    inner = [
        replace(one, hidden=replace(one.hidden, offset=one.hidden.offset + begins))
        if one.hidden is not None and one.hidden.offset is not None
        else one
        for one in hidden_operations(language, body, read_statement, "the DO block")
    ]
    kinds = tuple(o.kind for o in outlasting(inner))
    block = DoBlock(
        language=language,
        body=body,
        inner_kinds=kinds,
        guarded=guarded_statements(body) if len(kinds) == len(inner) and kinds else (),
        temporary=tuple(name.name for name in _temporary(inner)),
        only_reads=all(o.doing.verb == "select" for o in inner if isinstance(o, DataStatement)),
    )
    return [block, *inner]


def outlasting(inner: Sequence[Operation]) -> list[Operation]:
    """The operations that are not about the block's own temporary tables, which nobody else sees."""
    own = set(_temporary(inner))
    return [o for o in inner if o.relation is None or o.relation not in own]


def _temporary(inner: Sequence[Operation]) -> list[QName]:
    """The temporary tables that are made for certain."""
    return [
        o.relation
        for o in inner
        if isinstance(o, CreateTable)
        and o.relation is not None
        and o.persistence == "temporary"
        and not o.if_not_exists
    ]


READS = {"DO": _read}
