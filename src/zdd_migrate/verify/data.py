"""Rows to try things on, made from the schema where the user gave none. The same every time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Schema, Table

_IN_LIST = re.compile(r"\bIN\s*\(([^()]*)\)|=\s*ANY\s*\(+\s*ARRAY\s*\[([^\]]*)\]", re.IGNORECASE)


def fill(
    connection: psycopg.Connection, schema: Schema, tables: Sequence[QName], rows: int
) -> list[str]:
    """Give each of `tables` (and what they refer to) rows where it has none; notes what failed."""
    notes: list[str] = []
    for table in _in_order(schema, tables):
        if _has_rows(connection, table.name):
            continue
        statement = _insert(schema, table, rows)
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            if not _one_by_one(connection, schema, table, min(rows, 50)):
                notes.append(
                    f"no rows could be made up for {table.name} "
                    f"({' '.join(str(error).split())[:120]}): give them with --seed"
                )
    return notes


def _in_order(schema: Schema, tables: Sequence[QName]) -> list[Table]:
    """Tables with those they refer to first."""
    out: dict[QName, Table] = {}
    visiting: set[QName] = set()

    def visit(name: QName) -> None:
        table = schema.tables.get(name)
        if table is None or name in out or name in visiting:
            return
        visiting.add(name)
        for constraint in table.constraints:
            if constraint.kind == "foreign_key" and constraint.ref_table is not None:
                visit(constraint.ref_table)
        visiting.discard(name)
        if table.kind != "foreign" and table.parent is None:
            out[name] = table

    for name in tables:
        visit(name)
    return list(out.values())


def _has_rows(connection: psycopg.Connection, table: QName) -> bool:
    query = f"SELECT 1 FROM {quote_qname(table)} LIMIT 1"
    return connection.execute(query.encode()).fetchone() is not None


def _insert(schema: Schema, table: Table, rows: int, start: int = 1) -> str:
    """INSERT … SELECT FROM generate_series: one expression of `g` for each column."""
    pairs = [
        (column, value)
        for column in table.columns
        if (value := _value(schema, table, column)) is not None
    ]
    name = quote_qname(table.name)
    if not pairs:
        return f"INSERT INTO {name} DEFAULT VALUES"
    columns = ", ".join(quote_ident(c.name) for c, _ in pairs)
    values = ", ".join(v for _, v in pairs)
    return (
        f"INSERT INTO {name} ({columns}) SELECT {values} "
        f"FROM generate_series({start}, {start + rows - 1}) g"
    )


def _one_by_one(connection: psycopg.Connection, schema: Schema, table: Table, rows: int) -> bool:
    """Row by row, so that one that breaks a rule costs itself alone."""
    made = 0
    for n in range(1, rows + 1):
        try:
            connection.execute(_insert(schema, table, 1, n).encode())
            made += 1
        except psycopg.Error:
            if n > 5 and not made:
                return False
    return made > 0


def _value(schema: Schema, table: Table, column: Column) -> str | None:
    """An SQL expression of `g` for a column; None leaves it to its default."""
    if column.generated is not None or column.identity is not None:
        return None
    if (column.default or "").startswith("nextval("):
        return None
    for constraint in table.constraints:
        if constraint.kind == "foreign_key" and column.name in constraint.columns:
            return _reference(
                constraint.ref_table, constraint.ref_columns, constraint.columns, column, schema
            )
    allowed = _allowed(table, column)
    if allowed:
        array = ", ".join(allowed)
        return f"(ARRAY[{array}])[1 + g % {len(allowed)}]::{column.type}"
    value = _of_type(schema, column.type, _unique(table, column))
    if value is None:
        return None if not column.not_null or column.default is not None else "NULL"
    if not column.not_null and not _unique(table, column):
        return f"CASE WHEN g % 10 = 0 THEN NULL ELSE {value} END"
    return value


def _reference(
    ref_table: QName | None,
    ref_columns: tuple[str, ...],
    columns: tuple[str, ...],
    column: Column,
    schema: Schema,
) -> str | None:
    if ref_table is None:
        return None
    target = schema.tables.get(ref_table)
    keys = ref_columns or (target.primary_key.columns if target and target.primary_key else ())
    if not keys:
        return None
    key = keys[columns.index(column.name)]
    first = ", ".join(quote_ident(k) for k in keys)
    return (
        f"(SELECT r.{quote_ident(key)} FROM (SELECT *, row_number() OVER (ORDER BY {first}) - 1 AS zdd_n, "
        f"count(*) OVER () AS zdd_c FROM {quote_qname(ref_table)}) r WHERE r.zdd_n = g % r.zdd_c)"
    )


def _allowed(table: Table, column: Column) -> list[str]:
    """Literals a CHECK lists for a column."""
    for constraint in table.constraints:
        if constraint.kind != "check" or constraint.columns != (column.name,):
            continue
        match = _IN_LIST.search(constraint.expression or "")
        if match is not None:
            listed = [part.strip() for part in (match[1] or match[2]).split(",")]
            return [re.sub(r"^\((.*)\)(::.*)?$", r"\1", item) for item in listed if item]
    return []


def _unique(table: Table, column: Column) -> bool:
    return any(
        column.name in c.columns and c.kind in ("unique", "primary_key") for c in table.constraints
    )


def _of_type(schema: Schema, type_: str, unique: bool) -> str | None:
    parsed = parse_type(type_)
    if parsed.dimensions:
        return f"'{{}}'::{type_}"
    user = schema.user_type(QName(None, parsed.base.rsplit(".", 1)[-1].strip('"')))
    if user is not None and user.kind == "enum" and user.labels:
        labels = ", ".join(quote_literal(label).strip() for label in user.labels)
        return f"(ARRAY[{labels}])[1 + g % {len(user.labels)}]::{type_}"
    if user is not None and user.kind == "domain" and user.base is not None:
        return _of_type(schema, user.base, unique)
    base = parsed.base
    if base in ("character varying", "character", "bit", "bit varying") and parsed.modifiers:
        limit = int(parsed.modifiers[0])
        if base.startswith("bit"):
            return f"B'{'1' * limit}'"
        return (
            f"left(g::text || 'abcdefghij', {limit})"
            if unique or limit < 8
            else f"left('name ' || g, {limit})"
        )
    return _BY_TYPE.get(base)


_BY_TYPE = {
    "smallint": "(g % 30000)::int2",
    "integer": "g",
    "bigint": "g::int8",
    "real": "g::real",
    "double precision": "g::float8",
    "numeric": "g % 1000",
    "text": "'text ' || g",
    "character varying": "'text ' || g",
    "citext": "'text ' || g",
    "name": "('n' || g)::name",
    "boolean": "g % 2 = 0",
    "uuid": "('00000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid",
    "json": "json_build_object('n', g)",
    "jsonb": "jsonb_build_object('n', g)",
    "bytea": "convert_to(g::text, 'UTF8')",
    "date": "date '2024-01-01' + (g % 300)",
    "timestamp with time zone": "timestamptz '2024-01-01 00:00Z' + g * interval '1 minute'",
    "timestamp without time zone": "timestamp '2024-01-01 00:00' + g * interval '1 minute'",
    "time without time zone": "time '00:00' + (g % 1440) * interval '1 minute'",
    "time with time zone": "timetz '00:00Z'",
    "interval": "g * interval '1 minute'",
    "inet": "'10.0.0.1'::inet + g",
    "cidr": "'10.0.0.0/8'::cidr",
    "money": "g::money",
    "oid": "g::oid",
    "xml": "('<a>' || g || '</a>')::xml",
    "point": "point(g, g)",
    "tsvector": "to_tsvector('simple', 'text ' || g)",
    "hstore": "''::hstore",
    "macaddr": "'08:00:2b:01:02:03'::macaddr",
}
