"""DETACH PARTITION: ACCESS EXCLUSIVE on parent and partition, unless CONCURRENTLY."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.constraints import composed_name
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.bounds import as_check
from zdd_migrate.operations.facts import partition_columns

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachPartition(Operation):
    """Take a partition, with its rows, out of `relation`. `how` is its last word, if any."""

    kind: ClassVar[str] = "detach_partition"
    partition: QName
    how: Literal["concurrently", "finalize"] | None = None

    def effects(self, at: Situation) -> Effects:
        """An instant on all of them; concurrently the parent is not kept from anyone."""
        assert self.relation is not None
        schema = at.schema
        parent, leaves = schema.resolve(self.relation), schema.resolve(self.partition)
        concurrently = self.how == "concurrently"
        locks: dict[QName, LockMode] = {leaves: _M.ACCESS_EXCLUSIVE}
        locks[parent] = _M.ACCESS_EXCLUSIVE if self.how is None else _M.SHARE_UPDATE_EXCLUSIVE
        error = None
        default = next((p.name for p in schema.partitions_of(parent) if p.bound == "DEFAULT"), None)
        if default is not None and default != leaves:
            locks[default] = _M.ACCESS_EXCLUSIVE
            if concurrently:
                error = PgError(
                    "55000", "cannot detach partitions concurrently when a default partition exists"
                )
        parent_table = schema.tables.get(parent)
        for key in parent_table.constraints if parent_table is not None else ():
            if key.kind == "foreign_key" and key.ref_table is not None:
                locks.setdefault(schema.resolve(key.ref_table), _M.SHARE_ROW_EXCLUSIVE)
        for other, _ in schema.foreign_keys_to(parent):
            locks[other.name] = _M.ACCESS_EXCLUSIVE
        left = schema.tables.get(leaves)
        if left is not None and left.parent != parent and schema.complete:
            message = f'relation "{leaves.name}" is not a partition of relation "{parent.name}"'
            return Effects(error=PgError("42P01", message))
        if self.how == "finalize" and schema.complete and leaves in schema.tables:
            message = f'cannot complete detaching partition "{leaves.name}"'
            error = PgError("55000", message)
        if concurrently and at.in_transaction:
            message = "ALTER TABLE ... DETACH CONCURRENTLY cannot run inside a transaction block"
            error = PgError("25001", message)
        what = f"whoever looks for the rows of {leaves.name} in {parent.name}"
        return Effects(
            locks=locks,
            error=error,
            transactional=not concurrently,
            breaks=(Break("old", "values", what, None, parent),),
        )

    def apply(self, schema: Schema) -> None:
        """Let the table stand alone; its indexes are its own."""
        table = schema.table(self.partition)
        if table is None:
            return
        schema.put_table(replace(table, parent=None, bound=None))
        for index in schema.indexes_of(table.name):
            if index.parent is not None:
                schema.put_index(replace(index, parent=None))

    def plan(self, draft: Draft) -> None:
        """At contract: whoever reads the parent misses its rows from then on. Undone by attaching."""
        assert self.relation is not None
        parent, part = draft.resolve(self.relation), draft.resolve(self.partition)
        table, above = draft.schema.tables.get(part), draft.schema.tables.get(parent)
        if table is None or table.bound is None or above is None or self.how == "finalize":
            draft.refuse(
                f"what bound {part} has in {parent} is not known, so it could not be attached again",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        draft.restricts_old = True
        head, name = f"ALTER TABLE {draft.sql_name(parent)}", draft.sql_name(part)
        concurrently = self.how == "concurrently"
        if concurrently:
            for column in partition_columns(above):
                check = composed_name(part.name, column, "check")
                draft.leave(
                    f"constraint {part}.{check}",
                    f"the check {check} of {part}, which DETACH … CONCURRENTLY makes of the bound",
                )
        draft.sql(
            Phase.CONTRACT,
            f"{head} DETACH PARTITION {name}{' CONCURRENTLY' if concurrently else ''}",
            undo=_attached_again(
                above, part, f"{head} ATTACH PARTITION {name} {table.bound}", table
            ),
            undo_transactional=False,
            why=f"{part.name} leaves {parent.name} with its rows, once no code needs them there",
            lock=_M.SHARE_UPDATE_EXCLUSIVE if concurrently else _M.ACCESS_EXCLUSIVE,
            relation=parent,
            transactional=not concurrently,
        )


def _attached_again(above: Table, part: QName, attach: str, table: Table) -> list[str]:
    """ATTACH, by way of a validated check where the bound can be one: it reads nothing then."""
    from zdd_migrate.blocks.naming import own

    inside = as_check(above, table.bound or "")
    if inside is None:
        return [attach]
    name, check = quote_qname(part), quote_ident(own(part.name, "bound"))
    return [
        f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}",
        f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({inside}) NOT VALID",
        f"ALTER TABLE {name} VALIDATE CONSTRAINT {check}",
        attach,
        f"ALTER TABLE {name} DROP CONSTRAINT {check}",
    ]


def _read(cursor: Cursor, target: Target) -> DetachPartition:
    cursor.expect("DETACH", "PARTITION")
    partition = cursor.qname()
    how: Literal["concurrently", "finalize"] | None = None
    if cursor.accept("CONCURRENTLY"):
        how = "concurrently"
    elif cursor.accept("FINALIZE"):
        how = "finalize"
    return DetachPartition(relation=target.relation, partition=partition, how=how)


TABLE_ACTIONS = {"DETACH PARTITION": _read}
