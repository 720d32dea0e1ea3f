"""CREATE TRIGGER: SHARE ROW EXCLUSIVE on the table for an instant; every write runs it after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, Trigger
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.facts import tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_EVENTS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTrigger(Operation):
    """Have a function called on writes. `relation` is the table, `trigger` its definition."""

    kind: ClassVar[str] = "create_trigger"
    trigger: Trigger
    or_replace: bool = False
    #: FROM of a constraint trigger
    referenced: QName | None = None

    def effects(self, at: Situation) -> Effects:
        """On the table and, for row triggers, its partitions."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        partitioned = table is not None and table.kind == "partitioned" and self.trigger.row
        members = tree(at.schema, relation, only=not partitioned)
        locks = dict.fromkeys(members, LockMode.SHARE_ROW_EXCLUSIVE)
        if self.referenced is not None:
            locks.setdefault(at.schema.resolve(self.referenced), LockMode.ACCESS_SHARE)
        return Effects(locks=locks)

    def apply(self, schema: Schema) -> None:
        """Add it to the table."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if table is not None:
            others = tuple(t for t in table.triggers if t.name != self.trigger.name)
            schema.put_table(replace(table, triggers=(*others, self.trigger)))

    def plan(self, draft: Draft) -> None:
        """In expand: it sees old code's writes too. Undone by dropping it."""
        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        again = set(self.makes(draft.schema)) & draft.replaced
        if again:
            table = draft.start.tables.get(draft.present(relation))
        triggers = table.triggers if table is not None else ()
        was = next((t for t in triggers if t.name == self.trigger.name), None)
        name = draft.sql_name(relation)
        drop = f"DROP TRIGGER IF EXISTS {quote_ident(self.trigger.name)} ON {name}"
        undo = [drop]
        if was is not None:
            undo.append(was.definition)
            if was.enabled != "O":
                draft.note(f"undo leaves the trigger {was.name} of {relation} enabled")
        why = f"call {self.trigger.function.name}() on writes to {relation.name}, old code's too"
        if was is not None and again:
            draft.sql(
                Phase.EXPAND,
                (drop, draft.statement),
                undo=undo,
                why=why,
                lock=LockMode.ACCESS_EXCLUSIVE,
                relation=relation,
            )
            return
        # rows that the migration writes before it are not for it to see
        draft.as_written(
            Phase.MIGRATE if relation in draft.rows_written else Phase.EXPAND,
            undo=undo,
            why=why,
            lock=LockMode.SHARE_ROW_EXCLUSIVE,
            relation=relation,
        )

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The trigger of this name."""
        assert self.relation is not None
        return (("trigger", schema.resolve(self.relation), self.trigger.name),)


def _read(cursor: Cursor) -> CreateTrigger:
    start = cursor.i
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    constraint = cursor.accept("CONSTRAINT")
    cursor.expect("TRIGGER")
    name = cursor.name()
    if cursor.accept("INSTEAD", "OF"):
        timing = "INSTEAD OF"
    else:
        word = cursor.accept_one(("BEFORE", "AFTER"))
        if word is None:
            raise cursor.unread("BEFORE, AFTER or INSTEAD OF was expected")
        timing = word
    events: list[str] = []
    columns: tuple[str, ...] = ()
    while (event := cursor.accept_one(_EVENTS)) is not None:
        events.append(event)
        if event == "UPDATE" and cursor.accept("OF"):
            columns = cursor.list_of(cursor.name)
        if not cursor.accept("OR"):
            break
    cursor.expect("ON")
    relation = cursor.qname()
    referenced = cursor.qname() if cursor.accept("FROM") else None
    row = _clauses(cursor)
    if not (cursor.accept("EXECUTE", "FUNCTION") or cursor.accept("EXECUTE", "PROCEDURE")):
        raise cursor.unread("EXECUTE FUNCTION was expected")
    function: QName = cursor.qname()
    cursor.skip_group()
    return CreateTrigger(
        relation=relation,
        trigger=Trigger(
            name=name,
            timing=timing,
            events=tuple(events),
            function=function,
            columns=columns,
            row=row,
            definition=cursor.slice(start),
            constraint=constraint,
        ),
        or_replace=or_replace,
        referenced=referenced,
    )


def _clauses(cursor: Cursor) -> bool:
    """Read what stands between the table and EXECUTE; True for a row trigger."""
    row = False
    while not cursor.at("EXECUTE"):
        if cursor.accept("FOR"):
            cursor.accept("EACH")
            row = cursor.next().up == "ROW"
        elif cursor.accept("WHEN"):
            cursor.skip_group()
        elif cursor.accept("REFERENCING"):
            while cursor.accept_one(("OLD", "NEW")) is not None:
                if cursor.accept_one(("TABLE", "ROW")) is None:
                    raise cursor.unread("TABLE was expected")
                cursor.accept("AS")
                cursor.name()
        elif not (
            cursor.accept("NOT", "DEFERRABLE")
            or cursor.accept("DEFERRABLE")
            or cursor.accept("INITIALLY", "DEFERRED")
            or cursor.accept("INITIALLY", "IMMEDIATE")
        ):
            raise cursor.unread("EXECUTE FUNCTION was expected")
    return row


READS = {
    f"CREATE {head}": _read
    for head in (
        "TRIGGER",
        "OR REPLACE TRIGGER",
        "CONSTRAINT TRIGGER",
        "OR REPLACE CONSTRAINT TRIGGER",
    )
}
