"""Which tables a trial works on, and how rows of them can be made: derived from a schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.types import parse_type, type_name
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Schema, Table, UserType
from zdd_migrate.verify.patterns import Pattern, pattern_of

#: how far made-up numbers go; bigint no farther than integer, which it may have been or become
_WHOLE = {"smallint": 30_000, "integer": 2_000_000_000, "bigint": 2_000_000_000}
#: ranges are made of whole numbers, or of days a few thousand years ahead, which nobody has taken
_RANGES = {
    "int4range": (1_000_000_000, 1_000_000_000, ""),
    "int8range": (1_000_000_000, 1_000_000_000, ""),
    "numrange": (1_000_000_000, 1_000_000_000, ""),
    "daterange": (4_000_000, 90_000_000, "J"),
    "tsrange": (4_000_000, 90_000_000, "J"),
    "tstzrange": (4_000_000, 90_000_000, "J"),
}
_TEXT = ("text", "character varying", "character", "citext", "bpchar", "name")


@dataclass(frozen=True, slots=True)
class Conflict:
    """What can stand between ON CONFLICT and DO. `name` is the constraint's or the index's."""

    target: str
    columns: tuple[str, ...]
    name: str
    by_name: bool = False
    #: what must hold of a row for the target to catch it: NULLs and rows outside a predicate pass by
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a code version sees one table.

    `columns` can be written; `key` identifies a row; `vary` are columns that must differ in each
    new row (they stand in a unique key); `omit` may be left to their default. `insertable` is
    False where no new row can be made without knowing more. `conflicts` is what ON CONFLICT can name,
    `nulls` the columns that may be set to NULL without breaking what either version asks.
    """

    name: QName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    vary: tuple[str, ...]
    omit: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    insertable: bool
    readable: tuple[Column, ...]
    #: columns that a CHECK names: never left to their default while the others are sampled
    checked: frozenset[str] = frozenset()
    #: whether COPY can write to it: not where a view stands in for the table
    copyable: bool = True
    nulls: frozenset[str] = frozenset()
    #: the name that statements reach it by, where that is not its own: a view in the search path
    reached: QName | None = None

    #: what texts of `vary` must look like, where a CHECK asks for something
    patterns: tuple[tuple[str, Pattern], ...] = ()
    #: columns of the other shape that this code writes too: (column, SQL for it over this shape's)
    mirror: tuple[tuple[str, str], ...] = ()
    #: the columns that those are computed from: always given
    sources: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """The name that statements reach it by, quoted."""
        return quote_qname(self.reached or self.name)


def shapes(schema: Schema, tables: Iterable[QName], other: Schema | None = None) -> list[Shape]:
    """Shapes of those of `tables` that rows can be read from and written to.

    `other` is the schema of the other code version, which has to bear with the rows too.
    """
    out = []
    for name in tables:
        table = schema.tables.get(name)
        if table is not None and table.kind != "foreign" and table.columns:
            later = other.tables.get(name) if other is not None else None
            shape = _shape(schema, table, _keys_to_come(table, other), later)
            shape = replace(shape, patterns=tuple(_patterns(shape, schema, other)))
            nulls = _nullable(table, later)
            out.append(replace(shape, nulls=nulls))
    return out


def _patterns(shape: Shape, schema: Schema, other: Schema | None) -> Iterator[tuple[str, Pattern]]:
    """What this version's CHECKs want, else the other's: its rows must be able to stay."""
    for name in shape.vary:
        for one in (schema, other):
            table = one.tables.get(shape.name) if one is not None else None
            column = table.column(name) if table is not None else None
            if one is None or table is None or column is None:
                continue
            pattern = pattern_of(one, table, column)
            if pattern is not None:
                yield name, pattern
                break


def _nullable(table: Table, other: Table | None) -> frozenset[str]:
    """Columns that no constraint of either table minds to be NULL."""
    if other is None:
        return frozenset()
    # a required column that only the other version has may be this one under another name
    if any(c.not_null and table.column(c.name) is None for c in other.columns):
        return frozenset()
    bound = {
        column
        for t in (table, other)
        for constraint in t.constraints
        for column in constraint.columns
        if constraint.kind != "foreign_key"
    }
    bound |= {c.name for t in (table, other) for c in t.columns if c.not_null}
    plain = {c.name for c in table.columns if c.generated is None and c.identity is None}
    return frozenset(plain - bound)


def _conflicts(schema: Schema, table: Table) -> Iterator[Conflict]:
    """Every unique key as a target: by its columns, by its constraint's name, by its index."""
    named = set()
    for c in table.constraints:
        if c.kind in ("primary_key", "unique") and not c.deferrable:
            named.add(c.index or c.name)
            yield Conflict(f"({', '.join(map(quote_ident, c.columns))})", c.columns, c.name)
            yield Conflict(f"ON CONSTRAINT {quote_ident(c.name)}", c.columns, c.name, by_name=True)
    for index in schema.indexes_of(table.name):
        if not index.unique or not index.valid or index.name.name in named or index.constraint:
            continue
        keys = ", ".join(
            quote_ident(key) if table.column(key) is not None else f"({key})" for key in index.keys
        )
        where = f" WHERE {index.predicate}" if index.predicate else ""
        # everything the index depends on must be in the row for the target to mean this row
        catches = [f"({quote_ident(k) if table.column(k) else k}) IS NOT NULL" for k in index.keys]
        catches += [f"({index.predicate})"] if index.predicate else []
        yield Conflict(
            f"({keys}){where}",
            tuple(sorted(index.columns)),
            index.name.name,
            condition=" AND ".join(catches),
        )


def changed_tables(
    before: Schema, after: Schema, written: Iterable[QName] = ()
) -> tuple[list[QName], list[QName]]:
    """Tables that differ between two schemas, and tables that refer to them: (before, after).

    `written` are those whose rows the migration changes besides.
    """
    changed = {
        name
        for name in before.tables.keys() | after.tables.keys()
        if before.tables.get(name) != after.tables.get(name)
        or _indexes(before, name) != _indexes(after, name)
        or _types(before, name) != _types(after, name)
        or _published(before, name) != _published(after, name)
    }
    changed |= {name for name in written if name in before.tables and name in after.tables}
    return _with_referencing(before, changed), _with_referencing(after, changed)


def _types(schema: Schema, name: QName) -> list[UserType | None]:
    """What the users' own types of its columns are."""
    table = schema.tables.get(name)
    columns = table.columns if table is not None else ()
    return [schema.user_type(type_name(c.type)) for c in columns]


def _published(schema: Schema, name: QName) -> set[tuple[str, frozenset[str], frozenset[str]]]:
    """The publications of a table, and what of it: a row that cannot be told from others there
    can be neither changed nor deleted."""
    return {
        (
            one.name,
            frozenset(column for table, column in one.columns if table == name),
            frozenset(column for table, column in one.filters if table == name),
        )
        for one in schema.publications.values()
        if one.all_tables or name in one.tables
    }


def _indexes(schema: Schema, name: QName) -> set[tuple[object, ...]]:
    return {(i.name, i.keys, i.unique, i.predicate, i.valid) for i in schema.indexes_of(name)}


def _with_referencing(schema: Schema, names: set[QName]) -> list[QName]:
    found = {name for name in names if name in schema.tables}
    for name in list(found):
        found |= {table.name for table, _ in schema.foreign_keys_to(name)}
        parent = schema.tables[name].parent
        if parent is not None:
            found.add(parent)
    # partitions are reached through their parents
    return sorted(n for n in found if schema.tables[n].parent is None)


def _keys_to_come(table: Table, other: Schema | None) -> list[tuple[str, ...]]:
    """Unique keys that only the other version's schema has, over columns that are here too."""
    later = other.tables.get(table.name) if other is not None else None
    if other is None or later is None:
        return []
    keys = [c.columns for c in later.constraints if c.kind in ("unique", "primary_key")]
    for index in other.indexes_of(table.name):
        if index.unique:
            plain = all(later.column(k) for k in index.keys)
            keys.append(index.keys if plain else tuple(sorted(index.columns)[:1]))
    return [tuple(key) for key in keys if key and all(table.column(k) for k in key)]


def exclusions(table: Table) -> Iterator[tuple[tuple[str, str], ...]]:
    """What each exclusion constraint compares, as (column, operator): two rows must never agree in
    all of it. What is no plain column is left out."""
    for constraint in table.constraints:
        if constraint.kind == "exclude":
            yield tuple(
                (column, found[1])
                for column in constraint.columns
                for found in re.finditer(
                    rf"(?:^|[(,])\s*{re.escape(quote_ident(column))}(?:\s+[\w.]+)*?\s+WITH\s+"
                    r"([^\s,()]+)",
                    constraint.definition or constraint.expression or "",
                )
            )


def _apart(column: Column | None, operator: str) -> bool:
    """Whether new rows can differ in a column so that an exclusion's operator never holds."""
    if column is None or column.generated is not None:
        return False
    kind = parse_type(column.type)
    ranged = not kind.dimensions and kind.base in _RANGES
    return (operator == "&&" and ranged) or (operator == "=" and (ranged or _variable(column)))


def _shape(
    schema: Schema, table: Table, to_come: list[tuple[str, ...]], later: Table | None = None
) -> Shape:
    writable = tuple(c for c in table.columns if c.generated is None and c.identity != "always")
    uniques = [c.columns for c in table.constraints if c.kind in ("primary_key", "unique")]
    uniques += [
        i.keys
        for i in schema.indexes_of(table.name)
        if i.unique
        and i.predicate is None
        and i.valid
        and i.keys not in uniques
        and all(table.column(k) for k in i.keys)
    ]
    uniques_to_keep = [
        *uniques,
        # rows of this version must not break what the migration is about to ask
        *to_come,
        # a partial one cannot be named in ON CONFLICT, but no row may break it either
        *(
            i.keys
            for i in schema.indexes_of(table.name)
            if i.unique and i.predicate is not None and all(table.column(k) for k in i.keys)
        ),
    ]
    expression_uniques = [
        i
        for i in schema.indexes_of(table.name)
        if i.unique and not all(table.column(k) for k in i.keys)
    ]
    references = {
        column
        for constraint in table.constraints
        if constraint.kind == "foreign_key"
        for column in constraint.columns
    }
    automatic = {
        c.name
        for c in table.columns
        if c.identity is not None or (c.default or "").startswith("nextval(")
    }
    vary: dict[str, None] = {}
    insertable = True
    for unique in uniques_to_keep:
        if any(c in automatic for c in unique):
            continue
        able = [c for c in unique if c not in references and _variable(table.column(c))]
        if able:
            vary[able[0]] = None
        else:
            insertable = False
    for index in expression_uniques:
        for column in sorted(index.columns):
            if _variable(table.column(column)):
                vary[column] = None
    for exclusion in (*exclusions(table), *(exclusions(later) if later is not None else ())):
        if any(operator == "=" and column in automatic for column, operator in exclusion):
            continue
        able = [
            column
            for column, operator in exclusion
            if column not in references and _apart(table.column(column), operator)
        ]
        if able:
            vary[able[0]] = None
        else:
            insertable = False
    key = table.primary_key.columns if table.primary_key else (uniques[0] if uniques else ())
    return Shape(
        name=table.name,
        columns=writable,
        key=tuple(key),
        vary=tuple(vary),
        omit=tuple(automatic),
        checked=frozenset(
            column for c in table.constraints if c.kind == "check" for column in c.columns
        ),
        conflicts=tuple(_conflicts(schema, table)),
        insertable=insertable,
        readable=table.columns,
    )


def _variable(column: Column | None) -> bool:
    if column is None or column.generated is not None:
        return False
    base = parse_type(column.type)
    if base.dimensions:
        return False
    return base.base in (
        *_WHOLE,
        *_TEXT,
        "uuid",
        "numeric",
        "timestamp with time zone",
        "timestamp without time zone",
    )


def length_of(column: Column) -> int | None:
    """The longest text a column takes, where its type says so."""
    modifiers = parse_type(column.type).modifiers
    return int(modifiers[0]) if modifiers and isinstance(modifiers[0], int) else None


def vary(column: Column, sample: str | None, number: int, marker: str) -> str:
    """A value like `sample` that no other row has, as text."""
    kind = parse_type(column.type)
    if kind.base in _WHOLE:
        span = _WHOLE[kind.base]
        return str(span // 2 + number % (span // 2))
    if kind.base in _RANGES:
        first, many, mark = _RANGES[kind.base]
        start = first + number % many
        return f"[{mark}{start},{mark}{start + 1})"
    if kind.base == "uuid":
        return f"{number:08x}-0000-4000-8000-{abs(hash(marker)) % (1 << 48):012x}"
    if kind.base == "numeric":
        whole = 12
        if kind.modifiers and all(isinstance(m, int) for m in kind.modifiers):
            scale = int(kind.modifiers[1]) if len(kind.modifiers) > 1 else 0
            whole = max(1, int(kind.modifiers[0]) - scale)
        return str(number % 10 ** min(whole, 12))
    if kind.base.startswith("timestamp"):
        return f"2001-01-01 00:00:00.{number % 1_000_000:06d}"
    head = f"{marker}{number}"
    limit = length_of(column) or 200
    tail = (sample or "")[-max(0, limit - len(head)) :] if limit > len(head) else ""
    return (head + tail)[:limit]
