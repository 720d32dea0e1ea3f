"""What concerns the session alone: SHOW, LISTEN, DECLARE, FETCH, PREPARE, EXPLAIN, CHECKPOINT …"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import read_options
from zdd_migrate.grammar.queries import follow_query, relations_read
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatement(Operation):
    """A statement that changes nothing of the database. `text` is what follows its verb."""

    kind: ClassVar[str] = "session"
    verb: str
    text: str = ""

    def effects(self, at: Situation) -> Effects:
        """ACCESS SHARE on what a cursor reads; else none."""
        if self.verb != "DECLARE":
            return Effects()
        reads = [at.schema.resolve(name) for name in relations_read(self.text)]
        return Effects(locks=dict.fromkeys(reads, LockMode.ACCESS_SHARE))

    def plan(self, draft: Draft) -> None:
        """Left out: a plan's steps run in sessions of their own."""
        draft.note(f"the migration's {self.verb} is left out of the plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Operation):
    """EXPLAIN without ANALYZE: the statement is planned, not run. `inner` is what it would do."""

    kind: ClassVar[str] = "explain"
    inner: tuple[Operation, ...] = ()

    def effects(self, at: Situation) -> Effects:
        """The locks of the statement, since planning takes them; nothing else of it."""
        locks: dict[QName, LockMode] = {}
        for operation in self.inner:
            locks.update(operation.effects(at).locks)
        return Effects(locks=locks)

    def plan(self, draft: Draft) -> None:
        """Left out."""
        draft.note("the migration's EXPLAIN is left out of the plan: it changes nothing")


_VERBS = (
    "SHOW",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "PREPARE",
    "DEALLOCATE",
    "DISCARD",
    "FETCH",
    "MOVE",
    "CLOSE",
    "CHECKPOINT",
    "LOAD",
)


def _read(cursor: Cursor) -> SessionStatement:
    verb = cursor.next().up
    return SessionStatement(verb=verb, text=cursor.rest())


def _read_declare(cursor: Cursor) -> SessionStatement:
    cursor.expect("DECLARE")
    cursor.name()
    while not cursor.at("CURSOR"):
        if cursor.next().up not in (
            "BINARY", "INSENSITIVE", "ASENSITIVE", "NO", "SCROLL",
        ):  # fmt: skip
            raise cursor.unread("CURSOR was expected")
    cursor.expect("CURSOR")
    if cursor.accept_one(("WITH", "WITHOUT")):
        cursor.expect("HOLD")
    cursor.expect("FOR")
    text = cursor.rest()
    follow_query(cursor, text)
    return SessionStatement(verb="DECLARE", text=text)


def _read_explain(cursor: Cursor) -> Explain | tuple[Operation, ...]:
    from zdd_migrate.operations import read_statement  # the dispatch table holds this room

    cursor.expect("EXPLAIN")
    analyze = False
    if cursor.at("(") and cursor.up(1) not in ("SELECT", "WITH", "VALUES", "(", "TABLE"):
        options = read_options(cursor)
        analyze = options.get("ANALYZE", options.get("ANALYSE", False))
    else:
        analyze = cursor.accept_one(("ANALYZE", "ANALYSE")) is not None
        cursor.accept("VERBOSE")
    inner = read_statement(cursor.rest())
    if analyze or any(isinstance(o, NotUnderstood) for o in inner):
        return inner
    return Explain(inner=inner)


def _read_execute(cursor: Cursor) -> NotUnderstood:
    return NotUnderstood(reason=f"what was prepared is not followed: {cursor.rest()[:60]}")


READS = {
    **dict.fromkeys(_VERBS, _read),
    "DECLARE": _read_declare,
    "EXPLAIN": _read_explain,
    "EXECUTE": _read_execute,
}
