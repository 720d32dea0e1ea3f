"""DO: an anonymous block of code. What it does statically is read; what it computes is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import STRING
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.phase import Phase
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation
from zdd_migrate.operations.bodies import body_offset, hidden_operations

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: operations inside a block that may run as they stand, in expand
_HARMLESS = ("create_type", "create_extension", "create_schema", "create_sequence", "set_parameter")


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
    kinds = tuple(o.kind for o in inner)
    return [DoBlock(language=language, body=body, inner_kinds=kinds), *inner]


READS = {"DO": _read}
