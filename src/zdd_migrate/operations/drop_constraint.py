"""ALTER TABLE … DROP CONSTRAINT: an instant, but what old code counted on is gone.

Dropping relaxes what may be written, so it belongs to expand; dropping a unique or primary key
takes the index that ON CONFLICT names with it, so that waits for contract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.constraints import composed_name
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Constraint, Schema, Table
from zdd_migrate.operations.base import Key, Operation, Situation, Target
from zdd_migrate.operations.facts import tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class DropConstraint(Operation):
    """Remove a constraint by name."""

    kind: ClassVar[str] = "drop_constraint"
    constraint: str
    if_exists: bool = False
    cascade: bool = False
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; for a foreign key on the referenced table too."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        known = table.constraint(self.constraint) if table is not None else None
        locks = dict.fromkeys(self._members(at.schema, relation, known), _M.ACCESS_EXCLUSIVE)
        implicit = table is not None and at.pg >= 18 and _not_null_column(table, self.constraint)
        if known is None and implicit:
            return Effects(locks=locks)
        if known is not None and known.inherited and not self.only:
            return Effects(
                error=PgError(
                    "42P16",
                    f'cannot drop inherited constraint "{self.constraint}" of relation '
                    f'"{relation.name}"',
                )
            )
        if known is None:
            if table is not None and not self.if_exists and at.schema.complete:
                return Effects(
                    locks=locks,
                    error=PgError(
                        "42704",
                        f'constraint "{self.constraint}" of relation "{relation.name}" '
                        "does not exist",
                    ),
                )
            if not self.if_exists:
                at.assume(f"{self.constraint} is not a foreign key")
            return Effects(locks=locks)
        if known.kind == "foreign_key" and known.ref_table is not None:
            locks.update(dict.fromkeys(tree(at.schema, known.ref_table), _M.ACCESS_EXCLUSIVE))
        error = None
        breaks: list[Break] = []
        if known.kind in ("unique", "primary_key", "exclude"):
            columns = ", ".join(known.columns)
            breaks.append(
                Break(
                    "old",
                    "on_conflict",
                    f"INSERT … ON CONFLICT ({columns}) into {relation.name}",
                    "42P10",
                    relation,
                )
            )
            error = self._dependent_keys(at.schema, relation, known, locks)
        return Effects(locks=locks, breaks=tuple(breaks), error=error)

    def _members(self, schema: Schema, relation: QName, known: Constraint | None) -> list[QName]:
        if self.only or (known is not None and known.no_inherit):
            return [relation]
        return tree(schema, relation)

    def _dependent_keys(
        self, schema: Schema, relation: QName, known: Constraint, locks: dict[QName, LockMode]
    ) -> PgError | None:
        if known.kind == "primary_key" and not self.cascade:
            for view in schema.views_on(relation):
                if _counts_on_key(view.query):
                    return PgError(
                        "2BP01",
                        f"cannot drop constraint {known.name} on table {relation.name} because "
                        f"other objects depend on it (view {view.name.name})",
                    )
        for other, fk in schema.foreign_keys_to(relation):
            target = fk.ref_columns or (known.columns if known.kind == "primary_key" else ())
            if set(target) != set(known.columns):
                continue
            if not self.cascade:
                return PgError(
                    "2BP01",
                    f"cannot drop constraint {known.name} on table {relation.name} because other "
                    f"objects depend on it (foreign key {fk.name} of {other.name.name})",
                )
            locks[other.name] = _M.ACCESS_EXCLUSIVE
        return None

    def apply(self, schema: Schema) -> None:
        """Forget it, and the index behind it."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        for name in tree(schema, relation, only=self.only):
            table = schema.tables.get(name)
            known = table.constraint(self.constraint) if table is not None else None
            if table is None or known is None:
                continue
            kept = tuple(c for c in table.constraints if c.name != self.constraint)
            schema.put_table(replace(table, constraints=kept))
            if known.index is not None:
                schema.drop_index(name.sibling(known.index))

    def plan(self, draft: Draft) -> None:
        """Relaxing: expand. Taking a unique index away: contract. Undone by adding it again."""
        from zdd_migrate.blocks.constraint import drop_constraint_step

        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        known = table.constraint(self.constraint) if table is not None else None
        if known is None:
            if self.if_exists:
                draft.note(f"{self.constraint} of {relation} is not there: nothing to drop")
                return
            draft.refuse(
                f"{self.constraint} of {relation} is not known, so it could not be put back",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if set(self.drops(draft.schema)) & draft.replaced and known.kind != "check":
            return  # what takes its place takes it away, in one step
        drop_constraint_step(draft, relation, known, cascade=self.cascade)

    def drops(self, schema: Schema) -> tuple[Key, ...]:
        """The constraint; and the primary key, which a table has but one of."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        table = schema.tables.get(relation)
        known = table.constraint(self.constraint) if table is not None else None
        if known is not None and known.kind == "primary_key":
            return (("primary key", relation, ""),)
        return (("constraint", relation, self.constraint),)


def _not_null_column(table: Table, name: str) -> str | None:
    """The NOT NULL column whose constraint has the name Postgres 18 gives it by itself."""
    for column in table.columns:
        if column.not_null and name == composed_name(table.name.name, column.name, "not_null"):
            return column.name
    return None


def _counts_on_key(query: str) -> bool:
    """Whether a view may select ungrouped columns because it groups by the primary key."""
    cut = re.fullmatch(
        r"\s*SELECT\s+(.*?)\s+FROM\b.*?\bGROUP\s+BY\s+(.*?)(\s(?:HAVING|ORDER|LIMIT)\b.*)?;?\s*",
        query,
        re.IGNORECASE | re.DOTALL,
    )
    if cut is None:
        return False
    plain = re.sub(r"\b\w+\s*\([^()]*\)", "", cut[1])
    return not analyse(re.sub(r"\bAS\s+\w+", "", plain)).names <= analyse(cut[2]).names


def _read(cursor: Cursor, target: Target) -> DropConstraint:
    cursor.expect("DROP", "CONSTRAINT")
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return DropConstraint(
        relation=target.relation,
        constraint=name,
        if_exists=if_exists,
        cascade=cascade,
        only=target.only,
    )


TABLE_ACTIONS = {"DROP CONSTRAINT": _read}
