"""ATTACH PARTITION: the table that joins is read whole, unless a CHECK proves that its rows fit.

The parent only asks SHARE UPDATE EXCLUSIVE: everyone goes on. The table that joins, and a default
partition that may hold its rows, are kept from everybody while they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Constraint, Index, Schema, Table
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.bounds import as_check, fits, misses, overlap
from zdd_migrate.operations.create_table import read_bound
from zdd_migrate.operations.facts import alike, built_on, leaves, partition_copies, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

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
        parent_table, table = schema.tables.get(parent), schema.tables.get(joins)
        error = (
            error or _mismatch(parent_table, table, at.pg) or self._overlap(schema, parent_table)
        )
        scans: dict[QName, str] = {}
        builds = self._missing_indexes(at, parent, joins)
        heaps = leaves(schema, tree(schema, joins))
        if joins not in at.created:
            proven = (
                parent_table is not None
                and table is not None
                and fits(schema, table, parent_table, self.bound)
            )
            if not proven:
                scans = dict.fromkeys(
                    heaps, "every row is read to see that it fits the partition's bound"
                )
                at.assume(
                    f"no CHECK of {joins} proves its rows to fit; a validated one saves the reading"
                )
            elif builds:
                scans = dict.fromkeys(heaps, "every row is read to build the parent's indexes")
        default = next((p.name for p in schema.partitions_of(parent) if p.bound == "DEFAULT"), None)
        if default is not None and default != joins:
            locks[default] = _M.ACCESS_EXCLUSIVE
            held_back = schema.tables[default]
            if parent_table is None or not misses(held_back, parent_table, self.bound):
                why = "every row is read to see that none belongs to the new partition"
                scans[default] = why
        for key in parent_table.constraints if parent_table is not None else ():
            if key.kind == "foreign_key" and key.ref_table is not None:
                self._foreign_key(schema, joins, key, locks, scans)
        for other, _ in schema.foreign_keys_to(parent):
            # since 15 the key gets its triggers on the new partition at once
            mode = _M.SHARE_ROW_EXCLUSIVE if at.pg >= 15 else _M.ACCESS_SHARE
            locks.setdefault(other.name, mode)
        return Effects(locks=locks, scans=scans, index_builds=builds, error=error)

    def _overlap(self, schema: Schema, parent: Table | None) -> PgError | None:
        """A bound that meets another partition's."""
        for other in schema.partitions_of(parent.name) if parent is not None else ():
            assert parent is not None
            if overlap(parent, self.bound, other.bound or ""):
                message = f'partition would overlap partition "{other.name.name}"'
                return PgError("42P17", message)
        return None

    def _missing_indexes(self, at: Situation, parent: QName, joins: QName) -> tuple[QName, ...]:
        if joins in at.created:
            return ()
        copies = self._copies(at.schema, parent, joins)
        return built_on(at.schema, leaves(at.schema, tree(at.schema, joins)), copies)

    def _copies(self, schema: Schema, parent: QName, joins: QName) -> list[Index]:
        table = schema.tables.get(joins)
        made: list[Index] = []
        for index in schema.indexes_of(parent) if table is not None else ():
            assert table is not None
            made += partition_copies(schema, table, index, {i.name for i in made})
        return made

    def _foreign_key(
        self,
        schema: Schema,
        joins: QName,
        key: Constraint,
        locks: dict[QName, LockMode],
        scans: dict[QName, str],
    ) -> None:
        """The parent's key binds the new rows too: one of its own like it is taken over."""
        assert key.ref_table is not None
        referenced = schema.resolve(key.ref_table)
        table = schema.tables.get(joins)
        own = table.constraints if table is not None else ()
        for mine in own:
            if mine.kind == "foreign_key" and (mine.columns, mine.ref_table) == (
                key.columns,
                referenced,
            ):
                locks[referenced] = _M.ACCESS_EXCLUSIVE
                return
        locks.setdefault(referenced, _M.SHARE_ROW_EXCLUSIVE)
        for heap in leaves(schema, tree(schema, joins)):
            scans.setdefault(heap, f"{key.name} of the parent is checked")
        scans.setdefault(referenced, "referenced rows are looked up")

    def apply(self, schema: Schema) -> None:
        """Hang the table below its parent."""
        assert self.relation is not None
        table = schema.table(self.partition)
        if table is not None:
            parent = schema.resolve(self.relation)
            copies = self._copies(schema, parent, table.name)
            for copy in copies:
                schema.put_index(copy)
            for mine in schema.indexes_of(table.name):
                theirs = next((i for i in schema.indexes_of(parent) if alike(mine, i)), None)
                if theirs is not None and mine.parent is None:
                    schema.put_index(replace(mine, parent=theirs.name))
            schema.put_table(replace(table, parent=parent, bound=self.bound))

    def plan(self, draft: Draft) -> None:
        """A table of this migration joins at once; one with rows once a check proves them to fit."""
        joins = draft.resolve(self.partition)
        parent = draft.resolve(self.relation)
        if not draft.is_new(joins):
            self._plan_proven(draft, parent, joins)
            return
        draft.as_written(
            Phase.EXPAND,
            undo=f"ALTER TABLE {draft.sql_name(parent)} DETACH PARTITION {draft.sql_name(joins)}",
            why=f"{joins} becomes a partition of {parent}",
            lock=_M.SHARE_UPDATE_EXCLUSIVE,
            relation=parent,
        )

    def _plan_proven(self, draft: Draft, parent: QName, joins: QName) -> None:
        """At contract: a check, validated; the indexes built; then joining is an instant."""
        from zdd_migrate.blocks.copies import index_copy_sql
        from zdd_migrate.blocks.naming import own

        schema = draft.schema
        above, table = schema.tables.get(parent), schema.tables.get(joins)
        inside = as_check(above, self.bound) if above is not None else None
        copies = self._copies(schema, parent, joins)
        if (
            above is None
            or table is None
            or inside is None
            or table.kind == "partitioned"
            or any(c.kind == "foreign_key" for c in above.constraints)
            or any(index.constraint for index in copies)
            or any(
                p.bound == "DEFAULT" and not misses(p, above, self.bound)
                for p in schema.partitions_of(parent)
            )
        ):
            draft.refuse(
                f"{joins} would be read, or its indexes built, while nobody else can use it",
                f"give {joins} the keys and foreign keys of {parent}, add a CHECK with the bound NOT "
                "VALID, VALIDATE it, then ATTACH",
            )
            return
        draft.restricts_old = True
        name, check = draft.sql_name(joins), quote_ident(own(joins.name, "bound"))
        add = f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({inside})"
        proven = fits(schema, table, above, self.bound)
        if not proven:
            self._plan_check(draft, joins, inside, add, check)
        for index in copies:
            whole = schema.indexes[index.parent].definition if index.parent else ""
            draft.sql(
                Phase.CONTRACT,
                index_copy_sql(replace(index, definition=whole), index.name.name, name, {}),
                undo=f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qname(index.name)}",
                why=f"build {index.name.name}, as every partition of {parent.name} has it",
                lock=_M.SHARE_UPDATE_EXCLUSIVE,
                relation=joins,
                transactional=False,
            )
        head = f"ALTER TABLE {draft.sql_name(parent)}"
        draft.sql(
            Phase.CONTRACT,
            (
                f"{head} ATTACH PARTITION {name} {self.bound}",
                *(() if proven else (f"ALTER TABLE {name} DROP CONSTRAINT {check}",)),
            ),
            undo=(
                f"{head} DETACH PARTITION {name}",
                *(() if proven else (f"{add} NOT VALID",)),
            ),
            why=f"{joins.name} becomes a partition of {parent.name}, without reading a row",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=joins,
        )

    def _plan_check(self, draft: Draft, joins: QName, inside: str, add: str, check: str) -> None:
        name = draft.sql_name(joins)
        draft.gate(
            Phase.CONTRACT,
            f"SELECT 1 FROM {name} WHERE ({inside}) IS NOT TRUE LIMIT 1",
            message=f"rows of {joins} lie outside {self.bound}: move them first",
            why=f"every row of {joins.name} must fit the partition",
        )
        draft.sql(
            Phase.CONTRACT,
            f"{add} NOT VALID",
            undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}",
            why=f"ask new rows of {joins.name} to fit the partition",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=joins,
        )
        draft.validate(
            joins, check, why="check existing rows under a weak lock", phase=Phase.CONTRACT
        )


def _mismatch(parent: Table | None, table: Table | None, pg: int) -> PgError | None:
    """Columns that the two must share: by name, type and NOT NULL."""
    if parent is not None and parent.kind != "partitioned":
        return PgError(
            "42P17" if pg < 18 else "42809", f'table "{parent.name.name}" is not partitioned'
        )
    if parent is not None and table is not None:
        for extra in table.columns:
            if parent.column(extra.name) is None:
                message = (
                    f'table "{table.name.name}" contains column "{extra.name}" not found in parent'
                )
                return PgError("42804", message)
        for wanted in parent.columns:
            mine = table.column(wanted.name)
            if mine is None:
                return PgError("42804", f'child table is missing column "{wanted.name}"')
            if parse_type(mine.type) != parse_type(wanted.type):
                message = f'child table has different type for column "{wanted.name}"'
                return PgError("42804", message)
    for column in parent.columns if parent is not None else ():
        mine = table.column(column.name) if table is not None else None
        if column.not_null and mine is not None and not mine.not_null:
            message = f'column "{column.name}" in child table must be marked NOT NULL'
            return PgError("42804", message)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachIndex(Operation):
    """Make a partition's index part of the partitioned index `relation`."""

    kind: ClassVar[str] = "attach_index"
    index: QName

    def effects(self, at: Situation) -> Effects:
        """ACCESS SHARE on both tables; the index that joins is kept from plans for an instant."""
        assert self.relation is not None
        indexes = [at.schema.index(name) for name in (self.relation, self.index)]
        tables = [index.table for index in indexes if index is not None]
        taken = {indexes[1].name: _M.ACCESS_EXCLUSIVE} if indexes[1] is not None else {}
        return Effects(locks=dict.fromkeys(tables, _M.ACCESS_SHARE), index_locks=taken)

    def apply(self, schema: Schema) -> None:
        """Remember whose part it is."""
        assert self.relation is not None
        index = schema.index(self.index)
        if index is not None:
            schema.put_index(replace(index, parent=schema.resolve(self.relation)))

    def plan(self, draft: Draft) -> None:
        """As it is, in migrate, after the indexes were built; it cannot be undone."""
        draft.as_written(
            Phase.MIGRATE,
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
