"""ALTER COLUMN … DROP NOT NULL: an instant. Old code may not expect the NULLs that come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class DropNotNull(Operation):
    """NULL is allowed from now on."""

    kind: ClassVar[str] = "drop_not_null"
    column: str
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        error = None
        if table is not None and table.primary_key and self.column in table.primary_key.columns:
            error = PgError("42P16", f'column "{self.column}" is in a primary key')
        column = table.column(self.column) if table is not None else None
        if column is not None and column.identity is not None:
            message = f'column "{self.column}" of relation "{relation.name}" is an identity column'
            error = PgError("42601", message)
        what = f"code that reads {relation.name}.{self.column} meets NULL once new code writes it"
        return Effects(
            locks=dict.fromkeys(
                tree(at.schema, relation, only=self.only), LockMode.ACCESS_EXCLUSIVE
            ),
            error=error,
            breaks=(Break("old", "values", what, None, relation, self.column),),
        )

    def apply(self, schema: Schema) -> None:
        """Unmark the column, here and in children."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and (column := table.column(self.column)) is not None:
                schema.put_table(table.with_column(replace(column, not_null=False)))

    def plan(self, draft: Draft) -> None:
        """In expand: new code needs it. Back by the validated check, once no NULL is left."""
        from zdd_migrate.blocks.naming import own

        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        known = table.column(self.column) if table is not None else None
        if known is not None and not known.not_null:
            draft.note(f"{relation}.{self.column} may be NULL already")
            return
        name, column = draft.sql_name(relation), quote_ident(draft.column(relation, self.column))
        check = quote_ident(own(relation.name, self.column, "not_null"))
        draft.sql(
            Phase.EXPAND,
            f"ALTER TABLE {name} ALTER COLUMN {column} DROP NOT NULL",
            undo=(
                f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}",
                f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID",
                f"ALTER TABLE {name} VALIDATE CONSTRAINT {check}",
                f"ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL",
                f"ALTER TABLE {name} DROP CONSTRAINT {check}",
            ),
            undo_transactional=False,
            why=f"allow NULL in {self.column}: new code writes it",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.needs_release = True
        draft.note(
            f"old code meets NULL in {relation}.{self.column} as soon as new code writes it; and "
            "the way back needs rows without one"
        )


def _read(cursor: Cursor, target: Target, column: str) -> DropNotNull:
    cursor.expect("DROP", "NOT", "NULL")
    return DropNotNull(relation=target.relation, column=column, only=target.only)


COLUMN_ACTIONS = {"DROP NOT": _read}
