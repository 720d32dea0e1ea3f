"""SET EXPRESSION and DROP EXPRESSION: what a generated column is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import leaves, lock_tree, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterExpression(Operation):
    """Give a generated column another expression, or (None) make it a plain one with its values."""

    kind: ClassVar[str] = "alter_expression"
    column: str
    expression: str | None
    if_exists: bool = False
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """A stored column's new expression rewrites the table; a virtual one costs nothing."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        members = tree(at.schema, relation, only=self.only)
        locks = lock_tree(at.schema, relation, LockMode.ACCESS_EXCLUSIVE, only=self.only)
        table = at.schema.tables.get(relation)
        column = table.column(self.column) if table is not None else None
        stored = column is None or column.generated != "virtual"
        error = None
        if self.expression is not None and at.pg < 17:
            error = PgError("42601", "SET EXPRESSION is known from Postgres 17 on")
        elif self.expression is None and not stored:
            message = "ALTER TABLE / DROP EXPRESSION is not supported for virtual generated columns"
            error = PgError("0A000", message)
        if self.expression is None:
            what = f"writes to {relation.name} that count on {self.column} being computed"
            breaks = (Break("old", "values", what, None, relation, self.column),)
            return Effects(locks=locks, error=error, breaks=breaks)
        if column is None:
            at.assume(f"{relation}.{self.column} is stored, not virtual")
        what = f"{relation.name}.{self.column} holds another value for every row"
        breaks = (Break("old", "values", what, None, relation, self.column),)
        if not stored:
            return Effects(locks=locks, error=error, breaks=breaks)
        rewritten = tuple(leaves(at.schema, members))
        return Effects(
            locks=locks,
            rewrites=rewritten,
            scans=dict.fromkeys(rewritten, "every row's value is computed anew"),
            index_rebuilds=tuple(
                i.name
                for member in rewritten
                for i in at.schema.indexes_of(member)
                if self.column in i.columns
            ),
            error=error,
            breaks=breaks,
        )

    def apply(self, schema: Schema) -> None:
        """Keep the expression."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            column = table.column(self.column) if table is not None else None
            if table is None or column is None:
                continue
            kept = column.generated if self.expression is not None else None
            schema.put_table(
                table.with_column(replace(column, generated=kept, generation=self.expression))
            )

    def plan(self, draft: Draft) -> None:
        """Refused: the column changes its meaning under old code."""
        if self.expression is None:
            draft.refuse(
                f"{self.relation}.{self.column} could be written and would no longer be computed, from one "
                "moment to the next; and to compute it again writes the whole table anew",
                "add a plain column that a trigger fills (ADD COLUMN, UPDATE … SET it = the expression, DROP "
                "COLUMN of this one is planned), and let new code write that",
            )
            return
        rewrites = self.effects(Situation(schema=draft.schema, pg=draft.pg)).rewrites
        anew = ", and the whole table is written anew under ACCESS EXCLUSIVE" if rewrites else ""
        draft.refuse(
            f"{self.relation}.{self.column} changes its meaning for old code at once{anew}",
            "add a second column (on Postgres 18 GENERATED … VIRTUAL, at once; else a plain one that an "
            "UPDATE fills, which is planned), let new code read it, drop this one at the end",
        )


def _read_set(cursor: Cursor, target: Target, column: str) -> AlterExpression:
    cursor.expect("SET", "EXPRESSION", "AS")
    return AlterExpression(
        relation=target.relation,
        column=column,
        expression=cursor.group_text(),
        only=target.only,
    )


def _read_drop(cursor: Cursor, target: Target, column: str) -> AlterExpression:
    cursor.expect("DROP", "EXPRESSION")
    if_exists = cursor.accept("IF", "EXISTS")
    return AlterExpression(
        relation=target.relation,
        column=column,
        expression=None,
        if_exists=if_exists,
        only=target.only,
    )


COLUMN_ACTIONS = {"SET EXPRESSION": _read_set, "DROP EXPRESSION": _read_drop}
