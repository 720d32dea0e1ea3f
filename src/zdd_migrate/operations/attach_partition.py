"""ATTACH PARTITION: the table that joins is read whole, unless a CHECK proves that its rows fit.

The parent only asks SHARE UPDATE EXCLUSIVE: everyone goes on. The table that joins, and a default
partition that may hold its rows, are kept from everybody while they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.create_table import read_bound

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachPartition(Operation):
    """Make a table a partition of `relation`. `bound` is `DEFAULT` or `FOR VALUES …`."""

    kind: ClassVar[str] = "attach_partition"
    partition: QName
    bound: str

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the table that joins while it is read; writes of others go on."""
        assert self.relation is not None
        schema = at.schema
        parent, joins = schema.resolve(self.relation), schema.resolve(self.partition)
        locks: dict[QName, LockMode] = {parent: _M.SHARE_UPDATE_EXCLUSIVE}
        locks[joins] = _M.ACCESS_EXCLUSIVE
        error = None
        if schema.complete and joins not in schema.tables:
            error = PgError("42P01", f'relation "{joins.name}" does not exist')
        scans = {}
        if joins not in at.created:
            scans[joins] = "every row is read to see that it fits the partition's bound"
        default = next((p.name for p in schema.partitions_of(parent) if p.bound == "DEFAULT"), None)
        if default is not None and default != joins:
            locks[default] = _M.ACCESS_EXCLUSIVE
            scans[default] = "every row is read to see that none belongs to the new partition"
        parent_table = schema.tables.get(parent)
        for key in parent_table.constraints if parent_table is not None else ():
            if key.kind == "foreign_key" and key.ref_table is not None:
                locks.setdefault(schema.resolve(key.ref_table), _M.SHARE_ROW_EXCLUSIVE)
        for other, _ in schema.foreign_keys_to(parent):
            locks.setdefault(other.name, _M.SHARE_ROW_EXCLUSIVE)
        if joins not in at.created:
            at.assume(
                f"no CHECK of {joins} proves its rows to fit; a validated one saves the reading"
            )
        return Effects(locks=locks, scans=scans, error=error)

    def apply(self, schema: Schema) -> None:
        """Hang the table below its parent."""
        assert self.relation is not None
        table = schema.table(self.partition)
        if table is not None:
            parent = schema.resolve(self.relation)
            schema.put_table(replace(table, parent=parent, bound=self.bound))

    def plan(self, draft: Draft) -> None:
        """A table of this migration joins at once; one with rows is proven to fit before, by hand."""
        joins = draft.resolve(self.partition)
        parent = draft.resolve(self.relation)
        if not draft.is_new(joins):
            draft.refuse(
                f"{joins} would be read while nobody else can use it",
                f"add a CHECK with the bound to {joins} NOT VALID, VALIDATE it, then ATTACH",
            )
            return
        draft.sql(
            Phase.EXPAND,
            draft.statement,
            undo=f"ALTER TABLE {draft.sql_name(parent)} DETACH PARTITION {draft.sql_name(joins)}",
            why=f"{joins} becomes a partition of {parent}",
            lock=_M.SHARE_UPDATE_EXCLUSIVE,
            relation=parent,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachIndex(Operation):
    """Make a partition's index part of the partitioned index `relation`."""

    kind: ClassVar[str] = "attach_index"
    index: QName

    def effects(self, at: Situation) -> Effects:
        """ACCESS SHARE on both tables: nobody waits."""
        assert self.relation is not None
        indexes = [at.schema.index(name) for name in (self.relation, self.index)]
        tables = [index.table for index in indexes if index is not None]
        return Effects(locks=dict.fromkeys(tables, _M.ACCESS_SHARE))

    def apply(self, schema: Schema) -> None:
        """Remember whose part it is."""
        assert self.relation is not None
        index = schema.index(self.index)
        if index is not None:
            schema.put_index(replace(index, parent=schema.resolve(self.relation)))

    def plan(self, draft: Draft) -> None:
        """As it is, in migrate, after the indexes were built; it cannot be undone."""
        draft.sql(
            Phase.MIGRATE,
            draft.statement,
            undo=(),
            why=f"{self.index} becomes part of {self.relation}; undo leaves it",
        )


def _read(cursor: Cursor, target: Target) -> AttachPartition | AttachIndex:
    cursor.expect("ATTACH", "PARTITION")
    partition = cursor.qname()
    if target.object == "INDEX":
        return AttachIndex(relation=target.relation, index=partition)
    return AttachPartition(relation=target.relation, partition=partition, bound=read_bound(cursor))


TABLE_ACTIONS = {"ATTACH PARTITION": _read}
