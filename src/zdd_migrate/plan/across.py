"""Rows that a migration carries from one table to another, where its own SQL says how.

`CREATE TABLE n …; INSERT INTO n … SELECT … FROM t; ALTER TABLE t DROP COLUMN …` takes columns out
into a table of their own; with SELECT DISTINCT, and an UPDATE that looks the rows up, it makes values
rows of their own. Rows copied once are not enough: old code goes on writing where they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zdd_migrate.blocks.across import Extract, Lookup, plan_extract, plan_lookup
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.moved_column import MovedColumn, plan_moved_column
from zdd_migrate.grammar.rows import (
    CopiedRows,
    JoinedUpdate,
    plain_name,
    qualified,
    read_all_rows,
    read_copied_rows,
    read_joined_update,
)
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.operations.drop_column import DropColumn
from zdd_migrate.operations.drop_table import DropTable
from zdd_migrate.plan.merging import Merging, merged_tables


@dataclass(slots=True)
class Carried:
    """What one INSERT … SELECT is part of, and how to plan it; `covered` are its other operations."""

    plan: Callable[[Draft], None]
    covered: set[int] = field(default_factory=set)
    #: operations that stay as they are, because the rest takes care of what comes after them
    accounted: set[int] = field(default_factory=set)


def carried_rows(
    start: Schema, final: Schema, statements: Sequence[Statement]
) -> dict[int, Carried]:
    """For each operation that carries rows out of a table old code writes: how it is planned."""
    operations = [o for s in statements for o in s.operations]
    drops = [o for o in operations if isinstance(o, DropColumn)]
    updates = [
        (o, joined)
        for o in operations
        if isinstance(o, DataStatement)
        and o.verb == "update"
        and (joined := read_joined_update(o.text)) is not None
    ]
    out: dict[int, Carried] = {}
    for update, joined in updates:
        moving = _moved(start, final, joined, drops)
        if moving is not None:
            out[id(update)] = moving
    for one in merged_tables(start, final, operations):
        first, *others = (insert for insert, _ in one.inserts)
        out[id(first)] = Carried(_merger(one, final), {id(o) for o in (*others, *one.drops)})
    covered = {o for carried in out.values() for o in carried.covered}
    for operation in operations:
        if not isinstance(operation, DataStatement) or operation.verb != "insert":
            continue
        if id(operation) in covered or id(operation) in out:
            continue
        merging = _merged(start, operation, operations)
        if merging is not None:
            out[id(operation)] = merging
            continue
        copied = read_copied_rows(operation.text)
        if copied is None or start.table(copied.source) is None:
            continue
        at, carried = _lookup(start, final, copied, updates, drops)
        if carried is None:
            at, carried = operation, _extract(start, final, copied, drops)
        else:
            carried.accounted.add(id(operation))
        if carried is not None:
            out[id(at)] = carried
    return out


def _merged(
    start: Schema, insert: DataStatement, operations: Sequence[Operation]
) -> Carried | None:
    """A table whose rows go into another that is there already, and which then goes itself."""
    rows = read_all_rows(insert.text)
    if rows is None:
        return None
    source, target = start.resolve(rows.source), start.resolve(rows.target)
    drop = next(
        (
            o
            for o in operations
            if isinstance(o, DropTable) and start.resolve(_relation(o)) == source
        ),
        None,
    )
    if drop is None or source == target or not {source, target} <= start.tables.keys():
        return None
    reason = (
        f"old code reads {target}, and from the moment rows of {source} stand there it would work with "
        "them as its own; and no table can tell it apart from new code, which has to find them"
    )
    instead = (
        f"copy both into a new table in a migration of its own (CREATE TABLE …; INSERT … SELECT FROM "
        f"{target.name}; …), and let new code write there beside the old ones; or release code first that "
        f"reads {target.name} and {source.name} together, then code that leaves rows of {source.name}'s "
        "kind out where it means the others, and merge when no other code is left"
    )
    return Carried(lambda draft: draft.refuse(reason, instead), {id(drop)})


def _moved(
    start: Schema, final: Schema, joined: JoinedUpdate, drops: Sequence[DropColumn]
) -> Carried | None:
    """A column that goes to another table that is there; None where it does not go."""
    source, target = start.resolve(joined.other), start.resolve(joined.target)
    table, other = start.tables.get(source), start.tables.get(target)
    taken = qualified(joined.value) or (source.name, plain_name(joined.value))
    sides = dict((joined.left, joined.right))
    drop = next(
        (d for d in drops if start.resolve(_relation(d)) == source and d.column == taken[1]), None
    )
    if table is None or other is None or drop is None or set(sides) != {source.name, target.name}:
        return None
    column, added = table.column(taken[1]), final.tables[target].column(joined.column)
    near, far = sides[source.name], sides[target.name]
    if column is None or added is None or not _unique(start, other, far):
        return None
    covered = {id(drop)}
    tied = any(
        c.kind == "foreign_key" and c.columns == (a,) and c.ref_table == b
        for t, a, b in ((table, near, target), (other, far, source))
        for c in t.constraints
    )
    what = f"{source}.{column.name}"
    refused: tuple[str, str] | None = None
    if not _unique(start, table, near):
        refused = (
            (
                f"several rows of {source} may have one {near}: which {column.name} is the one of {target} "
                "changes with every write of old code"
            ),
            (
                f"make {near} of {source} unique first (look with SELECT {near} FROM {source} GROUP BY 1 "
                f"HAVING count(DISTINCT {column.name}) > 1), or keep all of them in a table of their own"
            ),
        )
    elif not tied:
        refused = (
            (
                f"no foreign key ties {source}.{near} to {target}.{far}: of two rows written at the same "
                "time neither would see the other's value"
            ),
            "add the foreign key in an earlier migration",
        )
    elif column.not_null or column.default is not None or added.not_null or added.default:
        refused = (
            (
                f"{what} or {target}.{added.name} is NOT NULL or has a default: a row of code that does not "
                "know the column would bring a value of its own"
            ),
            (
                f"drop NOT NULL and the default of {what} in an earlier migration, and set those of "
                f"{target}.{added.name} in a later one"
            ),
        )
    if refused is not None:
        reason, instead = refused
        return Carried(lambda draft: draft.refuse(reason, instead), covered)
    moved = MovedColumn(source, column.name, column.type, near, target, added.name, far)
    return Carried(lambda draft: plan_moved_column(draft, moved), covered)


def _unique(schema: Schema, table: Table, column: str) -> bool:
    """Whether no two rows have the same value there."""
    return any(
        c.columns == (column,) and c.kind in ("primary_key", "unique") for c in table.constraints
    ) or any(
        i.unique and i.keys == (column,) and i.predicate is None and i.valid
        for i in schema.indexes_of(table.name)
    )


def _extract(
    start: Schema, final: Schema, copied: CopiedRows, drops: Sequence[DropColumn]
) -> Carried | None:
    source, target = start.resolve(copied.source), final.resolve(copied.target)
    table, new = start.tables.get(source), final.tables.get(target)
    if (
        table is None
        or new is None
        or target in start.tables
        or copied.where is not None
        or copied.distinct
        or table.primary_key is None
    ):
        return None
    pairs = dict(zip(map(plain_name, copied.expressions), copied.columns, strict=True))
    keys = [(k, pairs[k]) for k in table.primary_key.columns if k in pairs]
    unique = any(
        set(c.columns) == {t for _, t in keys} and c.kind in ("primary_key", "unique")
        for c in new.constraints
    )
    moved = [(c, t) for c, t in pairs.items() if (c, t) not in keys]
    gone = {d.column: d for d in drops if start.resolve(_relation(d)) == source}
    types = {c.name: c.type for c in table.columns}
    if (
        len(keys) != len(table.primary_key.columns)
        or not unique
        or not moved
        or any(c not in gone or c not in types for c, _ in moved)
        or any((known := table.column(c)) is not None and known.not_null for c, _ in moved)
    ):
        return None
    extract = Extract(source, target, tuple(keys), tuple((c, t, types[c]) for c, t in moved))
    return Carried(
        lambda draft: plan_extract(draft, extract), {id(gone[column]) for column, _ in moved}
    )


def _lookup(
    start: Schema,
    final: Schema,
    copied: CopiedRows,
    updates: Sequence[tuple[Operation, JoinedUpdate]],
    drops: Sequence[DropColumn],
) -> tuple[Operation | None, Carried | None]:
    source, target = start.resolve(copied.source), final.resolve(copied.target)
    table, new = start.tables.get(source), final.tables.get(target)
    if not copied.distinct or len(copied.columns) != 1 or table is None or new is None:
        return None, None
    value, name = plain_name(copied.expressions[0]), copied.columns[0]
    unique = any(
        c.columns == (name,) and c.kind in ("unique", "primary_key") for c in new.constraints
    ) or any(i.unique and i.keys == (name,) for i in final.indexes_of(target))
    drop = next(
        (d for d in drops if start.resolve(_relation(d)) == source and d.column == value), None
    )
    old = table.column(value)
    for operation, joined in updates:
        sides = {joined.left, joined.right}
        taken = qualified(joined.value)
        if (
            final.resolve(joined.target) != source
            or final.resolve(joined.other) != target
            or sides != {(target.name, name), (source.name, value)}
            or taken is None
            or taken[0] != target.name
        ):
            continue
        id_ = new.column(taken[1])
        added = (final.tables.get(source) or table).column(joined.column)
        if not unique or drop is None or old is None or old.not_null or not id_ or not added:
            return None, None
        lookup = Lookup(source, value, old.type, joined.column, added.type, target, id_.name, name)
        return operation, Carried(_planner(lookup), {id(drop)})
    return None, None


def _merger(one: Merging, final: Schema) -> Callable[[Draft], None]:
    return lambda draft: one.plan(draft, final)


def _planner(lookup: Lookup) -> Callable[[Draft], None]:
    return lambda draft: plan_lookup(draft, lookup)


def _relation(operation: Operation) -> QName:
    assert operation.relation is not None
    return operation.relation
