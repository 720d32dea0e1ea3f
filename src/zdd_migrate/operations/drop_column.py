"""ALTER TABLE … DROP COLUMN: an instant, but its values are gone and old code names it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.base import DEFAULT_PG, Operation, Situation, Target
from zdd_migrate.operations.facts import (
    cached_plans,
    column_gone,
    owned_sequences,
    tree,
    views_gone,
)

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class DropColumn(Operation):
    """Remove a column with its values, its constraints and every index that names it."""

    kind: ClassVar[str] = "drop_column"
    column: str
    if_exists: bool = False
    cascade: bool = False
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; on both ends of a foreign key that goes with it."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        members = tree(at.schema, relation, only=self.only)
        locks = dict.fromkeys(members, LockMode.ACCESS_EXCLUSIVE)
        error = None
        if table is None:
            at.assume(f"nothing else depends on {relation}.{self.column}")
        elif table.column(self.column) is None:
            if self.if_exists:
                return Effects(locks={relation: LockMode.ACCESS_EXCLUSIVE})
            error = PgError(
                "42703", f'column "{self.column}" of relation "{relation.name}" does not exist'
            )
        else:
            locks.update(
                dict.fromkeys(
                    owned_sequences(at.schema, relation, self.column), LockMode.ACCESS_EXCLUSIVE
                )
            )
            error = self._dependents(at.schema, relation, table, locks, pg=at.pg)
        return Effects(
            locks=locks,
            error=error,
            breaks=(
                *column_gone(relation, self.column),
                *cached_plans(members),
                *(views_gone(at.schema, relation, self.column) if self.cascade else ()),
            ),
            loses=(f"the values of {relation}.{self.column}",),
        )

    def _dependents(
        self,
        schema: Schema,
        relation: QName,
        table: Table,
        locks: dict[QName, LockMode],
        *,
        pg: int = DEFAULT_PG,
    ) -> PgError | None:
        for constraint in table.constraints:
            if (
                constraint.kind == "foreign_key"
                and self.column in constraint.columns
                and constraint.ref_table is not None
            ):
                locks[constraint.ref_table] = LockMode.ACCESS_EXCLUSIVE
        dependents = [f"view {v.name.name}" for v in schema.views_on(relation, self.column)]
        dependents += [
            f"column {c.name} of table {relation.name}"
            for c in table.columns
            if pg >= 15 and c.generation is not None and self.column in analyse(c.generation).names
        ]
        dependents += [
            f"policy {p.name}"
            for p in table.policies
            if self.column in analyse(f"{p.using or ''} {p.with_check or ''}").names
        ]
        dependents += [f"trigger {t.name}" for t in table.triggers if self.column in t.columns]
        dependents += [
            f"publication {p.name}"
            for p in schema.publications.values()
            if (relation, self.column) in p.columns
        ]
        for other, fk in schema.foreign_keys_to(relation):
            keys = fk.ref_columns or (table.primary_key.columns if table.primary_key else ())
            if self.column in keys and other.name != relation:
                dependents.append(f"constraint {fk.name} on table {other.name.name}")
                if self.cascade:
                    locks[other.name] = LockMode.ACCESS_EXCLUSIVE
        if self.cascade:
            for gone in views_gone(schema, relation, self.column):
                assert gone.relation is not None
                locks[gone.relation] = LockMode.ACCESS_EXCLUSIVE
            return None
        if not dependents:
            return None
        return PgError(
            "2BP01",
            f"cannot drop column {self.column} of table {relation.name} because other objects "
            f"depend on it ({', '.join(dependents)})",
        )

    def apply(self, schema: Schema) -> None:
        """Forget the column, its constraints and indexes; views too with CASCADE."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        for view in schema.views_on(relation, self.column) if self.cascade else ():
            schema.views.pop(view.name, None)
        for name in tree(schema, relation, only=self.only):
            table = schema.tables.get(name)
            if table is None:
                continue
            schema.put_table(
                replace(
                    table,
                    columns=tuple(c for c in table.columns if c.name != self.column),
                    constraints=tuple(
                        c for c in table.constraints if self.column not in (*c.columns, *c.include)
                    ),
                )
            )
            for index in schema.indexes_of(name):
                if self.column in index.columns or self.column in index.keys:
                    schema.drop_index(index.name)
            for sequence in schema.sequences_of(name, self.column):
                schema.drop_sequence(sequence.name)

    def plan(self, draft: Draft) -> None:
        """Optional for new code in expand, out of use at contract, dropped at the very end."""
        from zdd_migrate.blocks.fill import plan_dropped_column

        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        column = table.column(self.column) if table is not None else None
        if table is None or column is None:
            if self.if_exists:
                draft.note(f"{self.column} of {relation} is not there: nothing to drop")
                return
            draft.refuse(
                f"{relation} or its column {self.column} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        error = self._dependents(draft.schema, relation, table, {})
        if error is not None or (self.cascade and draft.schema.views_on(relation, self.column)):
            draft.refuse(
                error.message if error is not None else f"a view reads {relation}.{self.column}",
                "change what depends on it in an earlier migration, then drop the column",
            )
            return
        gives_itself = (
            column.default is not None
            or column.identity is not None
            or column.generated is not None
        )
        if column.not_null and not gives_itself:
            self._make_optional(draft, relation)
        lost = [
            i.name.name
            for i in draft.schema.indexes_of(relation)
            if self.column in i.columns and len(i.columns) > 1
        ]
        if lost:
            draft.note(
                f"with {self.column} go the indexes {', '.join(lost)}: build what queries still "
                "need on the other columns first"
            )
        physical = draft.column(relation, self.column)
        draft.twins.pop((relation, self.column), None)  # renamed before: dropped under any name
        plan_dropped_column(draft, relation, physical, cascade=self.cascade)

    def _make_optional(self, draft: Draft, relation: QName) -> None:
        """New code does not give the column: it needs a default while old code still reads it."""
        answer = draft.answer("down", relation, self.column) or draft.answer(
            "fill", relation, self.column
        )
        if answer is None:
            target = f"{relation.name}.{self.column}"
            draft.ask(
                target,
                f"{target} is NOT NULL without a default: what does old code read there in rows "
                "that new code inserts?",
                f"--down {target}=… (or -- zdd: down {target} = … in the migration)",
            )
            return
        name, column = draft.sql_name(relation), quote_ident(self.column)
        draft.sql(
            Phase.EXPAND,
            f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {answer}",
            undo=f"ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT",
            why=f"new code may leave {self.column} out: its rows get what old code can read",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )


def _read(cursor: Cursor, target: Target) -> DropColumn:
    cursor.expect("DROP")
    cursor.accept("COLUMN")
    if_exists = cursor.accept("IF", "EXISTS")
    column = cursor.name()
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return DropColumn(
        relation=target.relation,
        column=column,
        if_exists=if_exists,
        cascade=cascade,
        only=target.only,
    )


TABLE_ACTIONS = {"DROP": _read, "DROP COLUMN": _read}
