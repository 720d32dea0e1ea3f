"""CALL: a procedure runs. What it does is followed where its body is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Operation):
    """Run a procedure. `calls` is its name, unqualified; what its body does follows."""

    kind: ClassVar[str] = "call"
    calls: tuple[str, ...]
    text: str = ""

    def effects(self, at: Situation) -> Effects:
        """None by itself; the statements of its body follow."""
        return Effects()

    def plan(self, draft: Draft) -> None:
        """Refused: what a procedure does cannot be cut into phases."""
        draft.refuse(
            f"CALL runs {self.calls[0]}(), whose statements cannot be cut into phases",
            "write its statements out, so that each can be planned",
        )


def _read(cursor: Cursor) -> Call:
    text = cursor.sql[cursor.tokens[cursor.i].start :].rstrip().rstrip(";").rstrip()
    cursor.expect("CALL")
    name = cursor.qname()
    cursor.skip_group()
    return Call(calls=(name.name,), text=text)


READS = {"CALL": _read}
