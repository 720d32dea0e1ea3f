"""ALTER TABLE … VALIDATE CONSTRAINT: check existing rows while reads and writes go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import leaves, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateConstraint(Operation):
    """Make a NOT VALID constraint valid: a scan under SHARE UPDATE EXCLUSIVE."""

    kind: ClassVar[str] = "validate_constraint"
    constraint: str
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """A foreign key also takes ROW SHARE on the referenced table and looks rows up there."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        known = table.constraint(self.constraint) if table is not None else None
        if table is not None and known is None and at.schema.complete:
            return Effects(
                locks={relation: _M.SHARE_UPDATE_EXCLUSIVE},
                error=PgError(
                    "42704",
                    f'constraint "{self.constraint}" of relation "{relation.name}" does not exist',
                ),
            )
        fk = known is not None and known.kind == "foreign_key"
        if known is not None and not known.enforced:
            return Effects(error=PgError("55000", "cannot validate NOT ENFORCED constraint"))
        members = [relation] if self.only else tree(at.schema, relation)
        locks = dict.fromkeys(members, _M.SHARE_UPDATE_EXCLUSIVE)
        if known is not None and known.valid:
            return Effects(locks={relation: _M.SHARE_UPDATE_EXCLUSIVE})
        scans = dict.fromkeys(leaves(at.schema, members), "existing rows are checked")
        if known is None:
            at.assume(f"{self.constraint} is a check of {relation}")
        elif fk and known.ref_table is not None:
            if known.ref_table != relation:
                locks[known.ref_table] = _M.ROW_SHARE
            scans.setdefault(known.ref_table, "referenced rows are looked up")
        return Effects(locks=locks, scans=scans)

    def apply(self, schema: Schema) -> None:
        """Mark it valid; a valid NOT NULL constraint makes the column NOT NULL."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation)):
            table = schema.tables.get(name)
            known = table.constraint(self.constraint) if table is not None else None
            if table is None or known is None:
                continue
            if known.kind == "not_null" and (column := table.column(known.columns[0])):
                kept = tuple(c for c in table.constraints if c.name != known.name)
                table = replace(table, constraints=kept)
                schema.put_table(table.with_column(replace(column, not_null=True)))
            else:
                schema.put_table(table.with_constraint(replace(known, valid=True)))

    def plan(self, draft: Draft) -> None:
        """As it is: in contract when the plan put the constraint there, else in migrate."""
        relation = draft.resolve(self.relation)
        known = draft.start.tables.get(draft.present(relation))
        there = known is not None and known.constraint(self.constraint) is not None
        draft.validate(
            relation,
            quote_ident(self.constraint),
            why=f"check existing rows against {self.constraint} while everyone goes on",
            phase=Phase.MIGRATE if there or known is None else Phase.CONTRACT,
        )


def _read(cursor: Cursor, target: Target) -> ValidateConstraint:
    cursor.expect("VALIDATE", "CONSTRAINT")
    return ValidateConstraint(relation=target.relation, constraint=cursor.name(), only=target.only)


TABLE_ACTIONS = {"VALIDATE CONSTRAINT": _read}
