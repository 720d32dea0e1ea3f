"""ALTER COLUMN … SET DEFAULT and DROP DEFAULT: an instant, for rows to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import tree


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDefault(Operation):
    """Change what a row gets that does not give the column; `default` None drops it."""

    kind: ClassVar[str] = "set_default"
    column: str
    default: str | None
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        known = table.column(self.column) if table is not None else None
        breaks: tuple[Break, ...] = ()
        if self.default is None and known is not None and known.not_null and known.default:
            what = f"INSERTs into {relation.name} that leave {self.column} to its default"
            breaks = (Break("old", "obligation", what, "23502", relation, self.column),)
        return Effects(
            locks=dict.fromkeys(
                tree(at.schema, relation, only=self.only), LockMode.ACCESS_EXCLUSIVE
            ),
            breaks=breaks,
        )

    def apply(self, schema: Schema) -> None:
        """Remember the default, here and in children."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and (column := table.column(self.column)) is not None:
                schema.put_table(table.with_column(replace(column, default=self.default)))

    def plan(self, draft: Draft) -> None:
        """Setting: expand. Dropping one that old code's inserts need: contract."""
        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.sql(Phase.EXPAND, draft.statement, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        known = table.column(self.column) if table is not None else None
        if known is None:
            draft.refuse(
                f"{relation}.{self.column} is not known, so its default could not be put back",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        needed = self.default is None and known.not_null and known.default is not None
        draft.restricts_old = draft.restricts_old or needed
        head = (
            f"ALTER TABLE {draft.sql_name(relation)} ALTER COLUMN "
            f"{quote_ident(draft.column(relation, self.column))}"
        )
        draft.sql(
            Phase.CONTRACT if needed else Phase.EXPAND,
            f"{head} {_clause(self.default)}",
            undo=f"{head} {_clause(known.default)}",
            why=f"change what a row gets that leaves {self.column} out",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )


def _clause(default: str | None) -> str:
    return f"SET DEFAULT {default}" if default is not None else "DROP DEFAULT"


def _read(cursor: Cursor, target: Target, column: str) -> SetDefault:
    if cursor.accept("DROP", "DEFAULT"):
        return SetDefault(relation=target.relation, column=column, default=None, only=target.only)
    cursor.expect("SET", "DEFAULT")
    return SetDefault(
        relation=target.relation,
        column=column,
        default=squeeze(cursor.until()),
        only=target.only,
    )


COLUMN_ACTIONS = {"SET DEFAULT": _read, "DROP DEFAULT": _read}
