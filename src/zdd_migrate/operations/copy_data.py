"""COPY: rows from a file or the client into a table, or out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import follow_query, relations_read
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Operation):
    """Copy rows into `relation` (`into`) or out of it; `query` is what is copied out instead."""

    kind: ClassVar[str] = "copy"
    into: bool
    columns: tuple[str, ...] = ()
    query: str | None = None

    def effects(self, at: Situation) -> Effects:
        """ROW EXCLUSIVE to write, ACCESS SHARE to read."""
        if self.query is not None:
            reads = [at.schema.resolve(name) for name in relations_read(self.query)]
            return Effects(locks=dict.fromkeys(reads, LockMode.ACCESS_SHARE))
        assert self.relation is not None
        relation: QName = at.schema.resolve(self.relation)
        if self.into:
            return Effects(locks={relation: LockMode.ROW_EXCLUSIVE})
        return Effects(
            locks={relation: LockMode.ACCESS_SHARE}, scans={relation: "every row is copied out"}
        )

    def plan(self, draft: Draft) -> None:
        """Into a table it is refused: its rows are not in the statement."""
        if not self.into:
            draft.note("a COPY TO of the migration is left out of the plan: it changes nothing")
            return
        draft.refuse(
            f"the rows that COPY brings to {self.relation} are not part of the statement",
            "load them by a job of its own, beside the migration, or write them as INSERT",
        )


def _read(cursor: Cursor) -> Copy:
    cursor.expect("COPY")
    cursor.accept("BINARY")
    if cursor.at("("):
        query = cursor.group_text()
        follow_query(cursor, query)
        cursor.expect("TO")
        found = Copy(into=False, query=query)
    else:
        relation = cursor.qname()
        columns = cursor.names() if cursor.at("(") else ()
        word = cursor.accept_one(("FROM", "TO"))
        if word is None:
            raise cursor.unread("FROM or TO was expected")
        found = Copy(relation=relation, columns=columns, into=word == "FROM")
    cursor.accept("PROGRAM")
    cursor.next()
    cursor.rest()  # options: how the data is written, nothing of what is locked
    return found


READS = {"COPY": _read}
