"""Facts that several rooms share: who else is locked, whose plans go stale, what waits behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from zdd_migrate.model.effects import Break
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table

_M = LockMode


def tree(schema: Schema, table: QName, *, only: bool = False) -> list[QName]:
    """A table (resolved) and, unless ONLY, all its partitions and inheritance children."""
    if only:
        return [table]
    return [table, *(child.name for child in schema.descendants_of(table))]


def lock_tree(
    schema: Schema, table: QName, mode: LockMode, *, only: bool = False
) -> dict[QName, LockMode]:
    """The same mode on a table and all that inherit from it."""
    return dict.fromkeys(tree(schema, table, only=only), mode)


def cached_plans(relations: Iterable[QName]) -> tuple[Break, ...]:
    """Prepared `SELECT *` and `RETURNING *` whose result type changed: SQLSTATE 0A000, once."""
    return tuple(
        Break(
            "old",
            "cached_plan",
            f"prepared SELECT * and RETURNING * on {relation} (cached plan must not change "
            "result type, once per prepared statement)",
            "0A000",
            relation,
        )
        for relation in relations
    )


def column_gone(
    relation: QName, column: str, *, renamed_to: str | None = None
) -> tuple[Break, ...]:
    """Every statement of old code that names a column that is gone or renamed: 42703."""
    kind = "renamed" if renamed_to else "removed"
    return (
        Break(
            "old",
            kind,
            f"every statement that names {relation.name}.{column}",
            "42703",
            relation,
            column,
        ),
    )


def new_code_early(relation: QName, column: str) -> Break:
    """New code that arrives before the column does: 42703."""
    return Break(
        "new",
        "missing",
        f"every statement that names {relation.name}.{column}, until the column is there",
        "42703",
        relation,
        column,
    )


def blocked_indirectly(
    locks: Mapping[QName, LockMode], schema: Schema
) -> dict[QName, tuple[bool, bool]]:
    """Who waits without being locked: relation → (reads, writes).

    A view waits where a relation it reads is locked against reading (or, for writes through it,
    writing). A row that references a locked table waits for the referenced row's key share; an
    insert into a table waits for its exclusively locked index, as does planning a SELECT.
    """
    out: dict[QName, tuple[bool, bool]] = {}

    def add(relation: QName, reads: bool, writes: bool) -> None:
        if not (reads or writes):
            return
        r, w = out.get(relation, (False, False))
        out[relation] = (r or reads, w or writes)

    for relation, mode in locks.items():
        index = schema.indexes.get(relation)
        if index is not None:
            if mode is _M.ACCESS_EXCLUSIVE:
                add(index.table, True, True)
            continue
        reads, writes = mode.blocks_reads, mode.blocks_writes
        if not (reads or writes):
            continue
        for view in _views_over(schema, relation):
            add(view, reads, writes)
        if mode.conflicts_with(_M.ROW_SHARE):
            for table, fk in schema.foreign_keys_to(relation):
                if fk.enforced and table.name not in locks:
                    add(table.name, False, True)
    return out


def _views_over(schema: Schema, relation: QName) -> list[QName]:
    found: dict[QName, None] = {}
    todo = [relation]
    while todo:
        for view in schema.views_on(todo.pop()):
            if view.name not in found and not view.materialized:
                found[view.name] = None
                todo.append(view.name)
    return list(found)


def foreign_key_break(referenced: QName, referencing: QName, on_delete: str) -> tuple[Break, ...]:
    """Deleting (or rekeying) a referenced row fails now, unless the key says what to do instead."""
    if on_delete in ("CASCADE", "SET NULL", "SET DEFAULT"):
        return ()
    return (
        Break(
            "old",
            "restriction",
            f"deleting rows of {referenced.name} that {referencing.name} refers to",
            "23503",
            referenced,
        ),
    )


def leaves(schema: Schema, tables: Iterable[QName]) -> list[QName]:
    """Those of the tables that hold rows themselves: partitioned parents left out."""
    return [
        name
        for name in tables
        if (table := schema.tables.get(name)) is None or table.kind != "partitioned"
    ]


_NOT_NULL = re.compile(r"\(*\s*(\"(?:[^\"]|\"\")+\"|[\w$]+)\s+IS\s+NOT\s+NULL\s*\)*", re.IGNORECASE)


def implied_not_null(table: Table | None, column: str, *, without: Iterable[str] = ()) -> bool:
    """Whether a validated CHECK proves that no row has NULL there (so SET NOT NULL need not scan).

    A conjunction counts when one of its terms is `column IS NOT NULL`; constraints named in
    `without` (dropped by the same statement) do not.
    """
    if table is None:
        return False
    gone = set(without)
    for constraint in table.constraints:
        if constraint.name in gone or not constraint.valid or not constraint.enforced:
            continue
        if constraint.kind == "not_null" and constraint.columns == (column,):
            return True
        if constraint.kind != "check" or constraint.expression is None:
            continue
        for term in re.split(r"\bAND\b", constraint.expression, flags=re.IGNORECASE):
            match = _NOT_NULL.fullmatch(term.strip())
            if match is None or re.search(r"\bOR\b", constraint.expression, re.IGNORECASE):
                continue
            named = match[1]
            folded = named[1:-1].replace('""', '"') if named.startswith('"') else named.lower()
            if folded == column:
                return True
    return False
