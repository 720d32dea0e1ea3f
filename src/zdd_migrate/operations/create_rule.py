"""CREATE RULE: every statement on the relation is rewritten from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import parse_query
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.rows import row_locks

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRule(Operation):
    """Rewrite statements of one kind (`event`) on a relation. `action` is the rule's text."""

    kind: ClassVar[str] = "create_rule"
    rule: str
    event: str
    action: str
    instead: bool = False
    or_replace: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; old code's statements do something else afterwards."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        what = f"every {self.event} on {relation.name} is rewritten by rule {self.rule}"
        action = self.action.strip()
        if action.startswith("(") and action.endswith(")"):
            action = action[1:-1]
        locks = row_locks(at.schema, action) if parse_query(action) is not None else {}
        return Effects(
            locks={**locks, relation: LockMode.ACCESS_EXCLUSIVE},
            breaks=(Break("old", "values", what, None, relation),),
        )

    def plan(self, draft: Draft) -> None:
        """Refused: a rule does not know which version asks."""
        draft.refuse(
            f"rule {self.rule} rewrites statements on {self.relation} of both versions",
            "use a trigger, which can be added disabled and tried, or let the new code do it",
        )


def _read(cursor: Cursor) -> CreateRule:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.expect("RULE")
    rule = cursor.name()
    cursor.expect("AS", "ON")
    event = cursor.accept_one(("SELECT", "INSERT", "UPDATE", "DELETE"))
    if event is None:
        raise cursor.unread("SELECT, INSERT, UPDATE or DELETE was expected")
    cursor.expect("TO")
    relation = cursor.qname()
    if cursor.accept("WHERE"):
        cursor.until(("DO",), comma=False)
    cursor.expect("DO")
    instead = cursor.accept("INSTEAD")
    if not instead:
        cursor.accept("ALSO")
    return CreateRule(
        relation=relation,
        rule=rule,
        event=event,
        action=cursor.rest(),
        instead=instead,
        or_replace=or_replace,
    )


READS = {"CREATE RULE": _read, "CREATE OR REPLACE RULE": _read}
