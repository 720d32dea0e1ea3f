"""ALTER COLUMN … SET NOT NULL: a scan under ACCESS EXCLUSIVE unless a validated check proves it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.drop_constraint import DropConstraint
from zdd_migrate.operations.facts import implied_not_null, leaves, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNotNull(Operation):
    """No row may have NULL there, from now on and so far."""

    kind: ClassVar[str] = "set_not_null"
    column: str
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """The scan is skipped where a validated CHECK stands (and still stands when it runs)."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        members = tree(at.schema, relation, only=self.only)
        locks = dict.fromkeys(members, LockMode.ACCESS_EXCLUSIVE)
        known = table.column(self.column) if table is not None else None
        if table is None:
            at.assume(f"no validated CHECK proves that {relation}.{self.column} is not NULL")
        elif known is None:
            message = f'column "{self.column}" of relation "{relation.name}" does not exist'
            return Effects(locks=locks, error=PgError("42703", message))
        elif known.not_null:
            return Effects(locks=locks)
        gone = [o.constraint for o in at.siblings if isinstance(o, DropConstraint)]
        scans = {
            heap: f"every row's {self.column} is checked"
            for heap in leaves(at.schema, members)
            if not implied_not_null(at.schema.tables.get(heap), self.column, without=gone)
        }
        what = f"writes that leave {relation.name}.{self.column} NULL"
        return Effects(
            locks=locks,
            scans=scans,
            breaks=(Break("old", "obligation", what, "23502", relation, self.column),),
        )

    def apply(self, schema: Schema) -> None:
        """Mark the column, here and in children."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and (column := table.column(self.column)) is not None:
                schema.put_table(table.with_column(replace(column, not_null=True)))

    def plan(self, draft: Draft) -> None:
        """At contract, for old code may write NULL; earlier where it is said what to write instead."""
        from zdd_migrate.blocks.fill import plan_filled, plan_required

        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        known = table.column(self.column) if table is not None else None
        if known is not None and known.not_null:
            draft.note(f"{relation}.{self.column} is NOT NULL already")
            return
        answer = draft.answer("fill", relation, self.column)
        if answer is None and (relation, self.column) in draft.filled:
            answer = draft.answer("up", relation, self.column)
        if answer is not None and not draft.copied(relation, [self.column]):
            plan_filled(draft, relation, self.column, answer, add=None)
            return
        if answer is None and _unknown_to_old_code(draft, relation, known):
            target = f"{relation.name}.{self.column}"
            draft.ask(
                target,
                f"what do rows that old code inserts get in {target}, which it does not know?",
                f"--fill {target}=… (or -- zdd: fill {target} = … in the migration)",
            )
            return
        column = draft.column(relation, self.column, Phase.CONTRACT)
        if implied_not_null(table, self.column):
            name = draft.sql_name(relation)
            draft.sql(
                Phase.CONTRACT,
                f"ALTER TABLE {name} ALTER COLUMN {quote_ident(column)} SET NOT NULL",
                undo=f"ALTER TABLE {name} ALTER COLUMN {quote_ident(column)} DROP NOT NULL",
                why="a validated check proves it already: an instant, without a scan",
                lock=LockMode.ACCESS_EXCLUSIVE,
                relation=relation,
            )
            return
        draft.restricts_old = True
        plan_required(draft, relation, column)


def _unknown_to_old_code(draft: Draft, relation: QName, column: Column | None) -> bool:
    """A column that the migration itself adds, with nothing that gives it a value in new rows."""
    start = draft.start.tables.get(draft.present(relation))
    if start is None or column is None or start.column(column.name) is not None:
        return False
    synced = {side.column for sync in draft.syncs.get(relation, ()) for side in sync.new}
    if (relation, column.name) in draft.given:
        return False  # the migration says itself what an INSERT gives that leaves it out
    if column.name in synced or draft.copied(relation, [column.name]):
        return False  # a trigger gives it what old code writes under other names
    return column.default is None and column.generated is None and column.identity is None


def _read(cursor: Cursor, target: Target, column: str) -> SetNotNull:
    cursor.expect("SET", "NOT", "NULL")
    return SetNotNull(relation=target.relation, column=column, only=target.only)


COLUMN_ACTIONS = {"SET NOT": _read}
