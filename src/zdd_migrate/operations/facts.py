"""Facts that several rooms share: who else is locked, whose plans go stale, what waits behind."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from zdd_migrate.grammar.constraints import composed_name
from zdd_migrate.model.effects import Break
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Index, Schema, Table, View

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


def views_gone(schema: Schema, relation: QName, column: str | None = None) -> tuple[Break, ...]:
    """Views that CASCADE takes along, with those over them: 42P01 for whoever names them."""
    found: dict[QName, Break] = {}
    for first in schema.views_on(relation, column):
        for name in (first.name, *(v.name for v in views_over(schema, first.name))):
            what = f"every statement that names {name.name}"
            found[name] = Break("old", "removed", what, "42P01", name)
    return tuple(found.values())


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


def views_over(schema: Schema, relation: QName) -> list[View]:
    """Views that read a relation, and those that read them, nearest first."""
    found: dict[QName, View] = {}
    todo = [relation]
    while todo:
        for view in schema.views_on(todo.pop(0)):
            if view.name not in found:
                found[view.name] = view
                todo.append(view.name)
    return list(found.values())


def kind_of(view: View) -> str:
    """What a view is called in DROP and ALTER."""
    return "MATERIALIZED VIEW" if view.materialized else "VIEW"


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


_NEXTVAL = re.compile(r"(?:nextval|setval)\s*\(\s*'([^']+)'", re.IGNORECASE)


def sequences_read(schema: Schema, expression: str) -> dict[QName, LockMode]:
    """Sequences of the schema that an expression takes numbers from: ROW EXCLUSIVE on each."""
    found: dict[QName, LockMode] = {}
    for written in _NEXTVAL.findall(expression):
        parts = [part.strip('"') for part in written.split(".")]
        name = QName(parts[0], parts[1]) if len(parts) == 2 else QName(None, parts[0])
        resolved = schema.resolve(name)
        if resolved in schema.sequences:
            found[resolved] = _M.ROW_EXCLUSIVE
    return found


def owned_sequences(schema: Schema, table: QName, column: str | None = None) -> list[QName]:
    """Sequences that a table's columns own, or one of its columns."""
    return [sequence.name for sequence in schema.sequences_of(table, column)]


def owned_by(schema: Schema, role: str) -> list[QName]:
    """Relations that a role is known to own."""
    return [relation for relation, owner in schema.owners.items() if owner == role]


def partition_columns(table: Table) -> list[str]:
    """The columns a table is partitioned by; expressions are left out."""
    key = table.partition_key or ""
    parts = [part.strip().split()[0].strip('"') for part in key.split(",") if part.strip()]
    return [part for part in parts if table.column(part) is not None]


def leaves(schema: Schema, tables: Iterable[QName]) -> list[QName]:
    """Those of the tables that hold rows themselves: partitioned parents left out."""
    return [
        name
        for name in tables
        if (table := schema.tables.get(name)) is None or table.kind != "partitioned"
    ]


_NOT_NULL = re.compile(
    r"\(*\s*(\"(?:[^\"]|\"\")+\"|[\w$]+)\s*\)*\s*\bIS\s+(?:NOT\s+NULL|DISTINCT\s+FROM\s+NULL)\s*\)*",
    re.IGNORECASE,
)


_NOT_IS_NULL = re.compile(
    r"\(*\s*NOT\s*\(+\s*(\"(?:[^\"]|\"\")+\"|[\w$]+)\s*\)*\s*\bIS\s+NULL\s*\)+", re.IGNORECASE
)


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
            match = _NOT_NULL.fullmatch(term.strip()) or _NOT_IS_NULL.fullmatch(term.strip())
            if match is None or re.search(r"\bOR\b", constraint.expression, re.IGNORECASE):
                continue
            named = match[1]
            folded = named[1:-1].replace('""', '"') if named.startswith('"') else named.lower()
            if folded == column:
                return True
    return False


# -- indexes of partitions -------------------------------------------------------------------------

#: what Postgres ends the names of the indexes behind constraints with
SUFFIXES = {"primary_key": "pkey", "unique": "key", "exclude": "excl"}
_CALL = re.compile(r"(?:[\w$]+\.)?([\w$]+)\(.*\)")


def index_default_name(
    schema: Schema,
    table: QName,
    columns: Iterable[str],
    *,
    suffix: str = "idx",
    taken: Collection[QName] = (),
) -> QName:
    """The name Postgres chooses for an index: columns, called functions, `expr` for the rest."""
    words = []
    for column in columns:
        called = _CALL.fullmatch(column)
        words.append(called[1] if called else column if re.fullmatch(r"[\w$]+", column) else "expr")
    middle = "" if suffix == "pkey" else "_".join(words)
    name, n = table.sibling(composed_name(table.name, middle, suffix)), 0
    while name in schema.indexes or name in schema.tables or name in taken:
        n += 1
        name = table.sibling(composed_name(table.name, middle, f"{suffix}{n}"))
    return name


def index_copies(schema: Schema, index: Index, suffix: str | None = None) -> list[Index]:
    """What an index of a partitioned table makes on its partitions, in order.

    A partition that has an index like it already gives that one instead of building another.
    """
    copies: list[Index] = []
    for partition in schema.partitions_of(index.table):
        taken = {c.name for c in copies}
        copies += partition_copies(schema, partition, index, taken, suffix)
    return copies


def partition_copies(
    schema: Schema,
    partition: Table,
    index: Index,
    taken: Collection[QName] = (),
    suffix: str | None = None,
) -> list[Index]:
    """The index that `partition` and its own partitions get for the parent's `index`."""
    if any(alike(mine, index) for mine in schema.indexes_of(partition.name)):
        return []
    suffix = suffix or _suffix(schema, index)
    columns = (*index.keys, *index.include)
    name = index_default_name(schema, partition.name, columns, suffix=suffix, taken=taken)
    made = replace(
        index,
        name=name,
        table=partition.name,
        parent=index.name,
        on_only=False,
        constraint=name.name if index.constraint is not None else None,
        definition="",
    )
    below = [made]
    for child in schema.partitions_of(partition.name):
        used = {*taken, *(c.name for c in below)}
        below += partition_copies(schema, child, made, used, suffix)
    return below


def _suffix(schema: Schema, index: Index) -> str:
    above = schema.tables.get(index.table)
    if index.constraint is None or above is None:
        return "idx"
    known = above.constraint(index.constraint)
    return SUFFIXES.get(known.kind, "key") if known is not None else "key"


def alike(mine: Index, theirs: Index) -> bool:
    """Whether a partition's index can serve as its part of the parent's."""
    return (
        mine.parent in (None, theirs.name)
        and mine.valid
        and (mine.keys, mine.unique, mine.method, mine.include, mine.predicate)
        == (theirs.keys, theirs.unique, theirs.method, theirs.include, theirs.predicate)
        and (theirs.constraint is None or mine.constraint is not None)
    )


def built_on(schema: Schema, heaps: Iterable[QName], copies: Iterable[Index]) -> tuple[QName, ...]:
    """Names of those copies that stand on tables with rows of their own."""
    wanted = set(heaps)
    return tuple(c.name for c in copies if c.table in wanted)
