"""CALL: a procedure runs. What it does is followed where its body is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.phase import Phase
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.bodies import with_calls
from zdd_migrate.operations.data_statement import DataStatement

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
        """In migrate where all the procedure does is work with rows; else it cannot be cut into phases."""
        if (rows := self._only_rows(draft)) and draft.schema.search_path == draft.start.search_path:
            if any(one.refuse_stale(draft) for one in rows):
                return
            draft.as_written(
                Phase.MIGRATE,
                undo=(),
                why=f"the migration's own procedure {self.calls[0]}() writes rows, and commits as it likes",
                transactional=False,
            )
            draft.note(
                f"the rows that {self.calls[0]}() writes are not taken back by undo; those that old code "
                "writes after it has run are left as they are"
            )
            return
        draft.refuse(
            f"CALL runs {self.calls[0]}(), whose statements cannot be cut into phases",
            "write its statements out, so that each can be planned",
        )

    def _only_rows(self, draft: Draft) -> list[DataStatement]:
        """What the procedure does, where that is to write rows of tables; else nothing."""
        from zdd_migrate.operations import read_statement  # the dispatch table holds this room

        done = with_calls((self,), draft.schema, read_statement)[1:]
        rows = [one.doing for one in done if isinstance(one, DataStatement)]
        if len(rows) != len(done):
            return []
        return [one for one in rows if one.verb != "select"]


def _read(cursor: Cursor) -> Call:
    text = cursor.sql[cursor.tokens[cursor.i].start :].rstrip().rstrip(";").rstrip()
    cursor.expect("CALL")
    name = cursor.qname()
    cursor.skip_group()
    return Call(calls=(name.name,), text=text)


READS = {"CALL": _read}
