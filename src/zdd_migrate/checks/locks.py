"""Locks: who waits, for what, and what is read while they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zdd_migrate.checks.case import Case
from zdd_migrate.checks.rooms import is_alter_column_type
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.operations.base import Situation
from zdd_migrate.operations.facts import implied_not_null

_UNBOUNDED = ("0", "0ms", "0s", "")


def lock_timeout_missing(case: Case) -> Mapping[str, Any] | None:
    """A lock that stops others is asked for while nothing bounds the queue behind it."""
    asked = {
        r: m
        for r, m in case.effects.locks.items()
        if m.blocks_writes and r not in case.explained.created
    }
    if not asked or not unbounded(case):
        return None
    held = case.explained.held
    waiting = {r: m for r, m in asked.items() if r not in held or held[r].strength < m.strength}
    if not waiting or case.operation.kind == "data_statement":
        return None  # the wait is already over
    strongest = max(waiting.values(), key=lambda m: m.strength)
    return {
        "locked": ", ".join(str(r) for r in waiting),
        "lock": str(strongest),
        "who": "every read and write" if strongest.blocks_reads else "every write",
        "once": tuple(sorted(waiting)),
    }


def unbounded(case: Case) -> bool:
    """Whether no lock_timeout is in force."""
    return case.schema.settings.get("lock_timeout", "0").strip("'") in _UNBOUNDED


def other_table_locked(case: Case) -> Mapping[str, Any] | None:
    """A foreign key takes the lock to a table that the statement is not about."""
    own = case.relation
    if own is None or case.effects.locks.keys() <= {own}:
        return None
    family = {own, *(t.name for t in case.schema.descendants_of(own))}
    table = case.schema.tables.get(own)
    while table is not None and table.parent is not None:
        family.add(table.parent)
        family |= {t.name for t in case.schema.descendants_of(table.parent)}
        table = case.schema.tables.get(table.parent)
    partner = getattr(case.operation, "partition_of", None) or getattr(
        case.operation, "partition", None
    )
    if isinstance(partner, QName):
        resolved = case.schema.resolve(partner)
        family |= {resolved, *(t.name for t in case.schema.descendants_of(resolved))}
    others = {
        r: m
        for r, m in case.effects.locks.items()
        if m.blocks_writes
        and r not in family
        and r not in case.explained.created
        and (r in case.schema.tables or case.operation.kind in ("add_constraint", "create_table"))
    }
    if not others:
        return None
    strongest = max(others.values(), key=lambda m: m.strength)
    return {
        "others": ", ".join(str(r) for r in others),
        "other_lock": str(strongest),
        "who": "reads and writes" if strongest.blocks_reads else "writes",
        "once": tuple(sorted(others)),
    }


def default_partition_scanned(case: Case) -> Mapping[str, Any] | None:
    """A new partition makes Postgres read the default partition for rows that belong to it."""
    for name in case.effects.scans:
        table = case.schema.tables.get(name)
        if table is not None and table.bound == "DEFAULT":
            return {"default_partition": str(name), "parent": str(table.parent)}
    return None


def attached_partition_scanned(case: Case) -> Mapping[str, Any] | None:
    """The table that joins is read for rows outside its bound."""
    partition = getattr(case.operation, "partition", None)
    joins = case.schema.resolve(partition) if isinstance(partition, QName) else None
    return {"partition": str(joins)} if joins in case.effects.scans else None


def proof_dropped_too_soon(case: Case) -> Mapping[str, Any] | None:
    """The CHECK that would have spared the scan is dropped by the same statement."""
    column = getattr(case.operation, "column", "")
    dropped = [
        o
        for o in case.explained.statement.operations
        if o.kind == "drop_constraint" and o.relation == case.operation.relation
    ]
    if not case.effects.scans or not dropped or not implied_not_null(case.table, column):
        return None
    return {"proof": getattr(dropped[0], "constraint", "")}


def using_rewrites(case: Case) -> Mapping[str, Any] | None:
    """Without its USING the change of type would rewrite nothing."""
    operation = case.operation
    if not is_alter_column_type(operation) or operation.using is None:
        return None
    if not case.effects.rewrites:
        return None
    at = Situation(
        schema=case.schema,
        pg=case.explained.pg,
        in_transaction=case.explained.statement.in_transaction,
        created=set(case.explained.created),
        held=dict(case.explained.held),
    )
    plain = replace(operation, using=None).effects(at)
    return None if plain.rewrites or plain.error is not None else {}


def time_zone_decides_rewrite(case: Case) -> Mapping[str, Any] | None:
    """From timestamp to timestamptz or back, without USING, in a session that is not at UTC."""
    operation, table = case.operation, case.table
    if not is_alter_column_type(operation) or not case.effects.rewrites or table is None:
        return None
    known = table.column(operation.column)
    types = {parse_type(operation.type).base, parse_type(known.type).base if known else ""}
    if operation.using is None and types == {
        "timestamp with time zone",
        "timestamp without time zone",
    }:
        return {}
    return None


def table_read_twice(case: Case) -> Mapping[str, Any] | None:
    """An earlier statement of the migration already worked through the same table."""
    if not any(m.blocks_writes for m in case.effects.locks.values()):
        return None
    for name in (*case.effects.rewrites, *case.effects.scans):
        if name in case.story.worked and name not in case.explained.created:
            return {"relation": str(name), "first_line": case.story.worked[name], "once": name}
    return None


def drop_without_concurrently(case: Case) -> Mapping[str, Any] | None:
    """There is a way that blocks nobody (a partitioned index has none)."""
    index = case.schema.index(case.operation.relation) if case.operation.relation else None
    if index is not None:
        table = case.schema.tables.get(index.table)
        if index.constraint is not None or (table is not None and table.kind == "partitioned"):
            return None
    return {"table": str(index.table) if index is not None else "its table"}


def detach_without_concurrently(case: Case) -> Mapping[str, Any] | None:
    """DETACH … CONCURRENTLY would do: it needs a parent without a default partition."""
    parent = case.relation
    default = parent is not None and any(
        p.bound == "DEFAULT" for p in case.schema.partitions_of(parent)
    )
    return None if default else {}


def ways_of_refresh(case: Case) -> Mapping[str, Any] | None:
    """Whether the materialized view has the unique index that CONCURRENTLY needs."""
    name = case.relation
    has = name is not None and any(
        i.unique and i.predicate is None for i in case.schema.indexes_of(name)
    )
    if has:
        return {"way": f"REFRESH MATERIALIZED VIEW CONCURRENTLY {name} instead"}
    return {
        "way": f"Give {name} a unique index over plain columns without WHERE, then REFRESH "
        "MATERIALIZED VIEW CONCURRENTLY"
    }


CHECKS = (
    lock_timeout_missing,
    other_table_locked,
    default_partition_scanned,
    attached_partition_scanned,
    proof_dropped_too_soon,
    using_rewrites,
    time_zone_decides_rewrite,
    table_read_twice,
    drop_without_concurrently,
    detach_without_concurrently,
    ways_of_refresh,
)
