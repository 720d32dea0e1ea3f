"""BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their spellings: how statements are bundled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

Verb = Literal["begin", "commit", "rollback", "savepoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Operation):
    """Transaction control. `verb` says which; `name` is a savepoint's."""

    kind: ClassVar[str] = "transaction"
    verb: Verb
    name: str | None = None
    chain: bool = False

    def effects(self, at: Situation) -> Effects:
        """None on any relation."""
        return Effects()

    def plan(self, draft: Draft) -> None:
        """Plans bundle their own steps."""


def _read(cursor: Cursor) -> Transaction:
    if cursor.accept("BEGIN") or cursor.accept("START", "TRANSACTION"):
        cursor.accept_one(("WORK", "TRANSACTION"))
        _modes(cursor)
        return Transaction(verb="begin")
    if cursor.accept_one(("COMMIT", "END")):
        if cursor.accept("PREPARED"):
            cursor.string()
            return Transaction(verb="commit")
        cursor.accept_one(("WORK", "TRANSACTION"))
        return Transaction(verb="commit", chain=_chain(cursor))
    if cursor.accept_one(("ROLLBACK", "ABORT")):
        if cursor.accept("PREPARED"):
            cursor.string()
            return Transaction(verb="rollback")
        cursor.accept_one(("WORK", "TRANSACTION"))
        if cursor.accept("TO"):
            cursor.accept("SAVEPOINT")
            return Transaction(verb="savepoint", name=cursor.name())
        return Transaction(verb="rollback", chain=_chain(cursor))
    if cursor.accept("PREPARE", "TRANSACTION"):
        cursor.string()
        return Transaction(verb="commit")
    if cursor.accept("RELEASE"):
        cursor.accept("SAVEPOINT")
        return Transaction(verb="savepoint", name=cursor.name())
    cursor.expect("SAVEPOINT")
    return Transaction(verb="savepoint", name=cursor.name())


def _chain(cursor: Cursor) -> bool:
    if cursor.accept("AND", "NO", "CHAIN"):
        return False
    return cursor.accept("AND", "CHAIN")


def _modes(cursor: Cursor) -> None:
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("ISOLATION", "LEVEL"):
            if not (
                cursor.accept("SERIALIZABLE")
                or cursor.accept("REPEATABLE", "READ")
                or cursor.accept("READ", "COMMITTED")
            ):
                cursor.expect("READ", "UNCOMMITTED")
        elif not (
            cursor.accept("READ", "ONLY")
            or cursor.accept("READ", "WRITE")
            or cursor.accept("NOT", "DEFERRABLE")
            or cursor.accept("DEFERRABLE")
        ):
            raise cursor.unread("a transaction mode was expected")
        cursor.accept(",")


READS = dict.fromkeys(
    (
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "SAVEPOINT",
        "RELEASE",
        "PREPARE TRANSACTION",
    ),
    _read,
)
