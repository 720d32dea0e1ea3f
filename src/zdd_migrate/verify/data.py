"""Rows to try things on, made from the schema where the user gave none. The same for the same seed.

Candidates are computed by the server, one expression of `g` for each column, and those that the
table's own CHECKs would refuse are left out there. Among them are NULLs, the longest and shortest
values, the ends of ranges, and parents that have most of the children.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.types import parse_type, type_name
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Constraint, Schema, Table, UserType
from zdd_migrate.verify.patterns import beyond, pattern_of

_IN_LIST = re.compile(r"\bIN\s*\(([^()]*)\)|=\s*ANY\s*\(+\s*ARRAY\s*\[([^\]]*)\]", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.'])-?\d+(?:\.\d+)?(?![\w.])")
_BOUND_FROM = re.compile(r"FROM\s*\((.*)\)\s*TO\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_BOUND_IN = re.compile(r"\bIN\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_VALUE_WORD = re.compile(r"\bVALUE\b", re.IGNORECASE)
#: texts made for a pattern: enough to tell rows apart, or to show what there can be
_UNIQUE_TEXTS, _TEXTS_MADE = 4000, 200
#: candidates for each row wanted: CHECKs and unique keys leave some out
_SPARE = 4


@dataclass(frozen=True, slots=True)
class _Source:
    """What rows of a table are made from: its schema, and the seed that all draws hang on."""

    schema: Schema
    table: Table
    seed: int
    tame: bool = False

    def draw(self, column: str) -> str:
        """A whole number from 0 to 2^28 - 1, by row and column, as an SQL expression of `g`."""
        salt = quote_literal(f":{self.seed}:{self.table.name}:{column}").strip()
        return f"('x' || substr(md5(g::text || {salt}), 1, 7))::bit(28)::int"


def fill(
    connection: psycopg.Connection,
    schema: Schema,
    tables: Sequence[QName],
    rows: int,
    *,
    seed: int = 0,
    tame: bool = False,
) -> list[str]:
    """Give each of `tables` (and what they refer to) rows where it has none; notes what failed.

    `tame` leaves out the ends of types' ranges.
    """
    notes: list[str] = []
    for table in _in_order(schema, tables):
        if _has_rows(connection, table.name):
            continue
        source = _Source(schema, table, seed, tame)
        said = ""
        try:
            with connection.transaction():
                made = connection.execute(_insert(source, rows).encode()).rowcount
        except psycopg.Error as error:
            said = f" ({' '.join(str(error).split())[:120]})"
            made = _one_by_one(connection, source, min(rows, 50))
        if not made:
            why = "".join(f"; {reason}" for reason in beyond(schema, table))
            notes.append(
                f"no rows could be made up for {table.name}{said}{why}: give them with --seed or "
                "--data"
            )
        elif made < rows // 10:
            notes.append(f"only {made} rows could be made up for {table.name}{said}")
    return notes


def _in_order(schema: Schema, tables: Sequence[QName]) -> list[Table]:
    """Tables with those they refer to first; in a circle, those that they must refer to."""
    out: dict[QName, Table] = {}
    visiting: set[QName] = set()
    later: list[QName] = []

    def visit(name: QName) -> None:
        table = schema.tables.get(name)
        if table is None or name in out or name in visiting:
            return
        visiting.add(name)
        for target, required in _references(table):
            if not required and visiting & _required(schema, target):
                later.append(target)  # it must refer to one of these, and may wait for them
            else:
                visit(target)
        visiting.discard(name)
        if table.kind != "foreign" and table.parent is None:
            out[name] = table

    for name in tables:
        visit(name)
    for name in later:
        visit(name)
    return list(out.values())


def _references(table: Table) -> list[tuple[QName, bool]]:
    """The tables it refers to, and whether each of its rows must."""
    return [
        (c.ref_table, all((column := table.column(n)) and column.not_null for n in c.columns))
        for c in table.constraints
        if c.kind == "foreign_key" and c.ref_table is not None and c.ref_table != table.name
    ]


def _required(schema: Schema, name: QName) -> set[QName]:
    """A table and all that must have rows before it can have any."""
    found: set[QName] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        table = schema.tables.get(one)
        if table is None or one in found:
            continue
        found.add(one)
        todo += [target for target, required in _references(table) if required]
    return found


def _has_rows(connection: psycopg.Connection, table: QName) -> bool:
    query = f"SELECT 1 FROM {quote_qname(table)} LIMIT 1"
    return connection.execute(query.encode()).fetchone() is not None


def _insert(source: _Source, rows: int, start: int = 1) -> str:
    """INSERT … SELECT the candidates that the table's own rules let through."""
    table = source.table
    made = {
        column.name: value
        for column in table.columns
        if (value := _value(source, column)) is not None
    }
    name = quote_qname(table.name)
    if not made:
        return f"INSERT INTO {name} DEFAULT VALUES"
    columns = ", ".join(map(quote_ident, made))
    values = ", ".join(f"{v} AS {quote_ident(c)}" for c, v in made.items())
    outer = ", ".join(f"x.{quote_ident(c.name)}::{c.type}" for c in table.columns if c.name in made)
    # what is not made up is what its default gives, for the CHECKs to look at
    given = "".join(
        f", {c.default or 'NULL'} AS {quote_ident(c.name)}"
        for c in table.columns
        if c.name not in made and not (c.default or "").startswith("nextval(")
    )
    where = " AND ".join(_conditions(source, made)) or "true"
    spare = rows * _SPARE if rows > 1 else 1
    candidates = (
        f"SELECT {values}{given}, g AS zdd_g FROM generate_series({start}, {start + spare - 1}) g "
        "OFFSET 0"
    )
    # keys that are looked at when a transaction ends cannot say which rows to leave out
    deferred = any(c.deferrable for c in table.constraints if c.kind != "foreign_key")
    conflicts = "" if deferred else " ON CONFLICT DO NOTHING"
    keys = _whole_keys(source, made)
    firsts = "".join(
        f", row_number() OVER (PARTITION BY {', '.join(map(quote_ident, key))} ORDER BY zdd_g) "
        f"AS zdd_u{n}"
        for n, key in enumerate(keys)
    )
    once = (
        " AND ".join(
            f"(x.zdd_u{n} = 1 OR {' OR '.join(f'x.{quote_ident(c)} IS NULL' for c in key)})"
            for n, key in enumerate(keys)
        )
        or "true"
    )
    return (
        f"INSERT INTO {name} ({columns}) SELECT {outer} FROM (SELECT x.*{firsts} "
        f"FROM ({candidates}) x WHERE {where} OFFSET 0) x WHERE {once} LIMIT {rows}{conflicts}"
    )


def _whole_keys(source: _Source, made: dict[str, str]) -> list[tuple[str, ...]]:
    """Unique keys, also those that are still to come, all of whose columns are made up."""
    table = source.table
    keys = [c.columns for c in table.constraints if c.kind in ("unique", "primary_key")]
    keys += [i.keys for i in source.schema.indexes_of(table.name) if i.unique]
    return [key for key in dict.fromkeys(map(tuple, keys)) if key and set(key) <= set(made)]


def _conditions(source: _Source, made: dict[str, str]) -> list[str]:
    """What a candidate must satisfy: NOT NULL, the table's CHECKs, its domains' CHECKs."""
    table = source.table
    there = {c.name for c in table.columns if not (c.default or "").startswith("nextval(")}
    out = []
    for column in table.columns:
        if column.name not in made:
            continue
        value = f"x.{quote_ident(column.name)}"
        domain = _domain(source, column.type)
        if column.not_null or (domain is not None and domain.not_null):
            out.append(f"{value} IS NOT NULL")
        for check in domain.constraints if domain is not None else ():
            out.append(f"({_VALUE_WORD.sub(value, _expression(check))}) IS NOT FALSE")
    for constraint in table.constraints:
        known = constraint.expression and set(constraint.columns) <= there | set(made)
        if constraint.kind == "check" and known:
            out.append(f"({constraint.expression}) IS NOT FALSE")
    return out


def _expression(check: Constraint) -> str:
    return check.expression or re.sub(r"^\s*CHECK\s*", "", check.definition) or "true"


def _one_by_one(connection: psycopg.Connection, source: _Source, rows: int) -> int:
    """Row by row, so that one that breaks a rule costs itself alone; how many were made."""
    made = 0
    for n in range(1, rows + 1):
        try:
            with connection.transaction():
                made += connection.execute(_insert(source, 1, n).encode()).rowcount
        except psycopg.Error:
            if n > 5 and not made:
                return 0
    return made


def _value(source: _Source, column: Column) -> str | None:
    """An SQL expression of `g` for a column; None leaves it to its default."""
    table = source.table
    if column.generated is not None or column.identity is not None:
        return None
    if (column.default or "").startswith("nextval("):
        return None
    unique = _unique(source, column)
    for constraint in table.constraints:
        if constraint.kind == "foreign_key" and column.name in constraint.columns:
            key = _reference(source, constraint, column, unique)
            if key is None or column.not_null:
                return key
            # all columns of one reference are NULL together
            return (
                f"CASE WHEN {source.draw(constraint.name + '?')} % 10 = 0 THEN NULL ELSE {key} END"
            )
    allowed = _allowed(table, column) or _bounds(source, column)
    if allowed:
        return _one_of(source, column, allowed, "g")
    value = (
        _ranged(source, column, unique)
        or _patterned(source, column, unique)
        or _of_type(source, column.type, column.name, unique)
    )
    if value is None:
        return None if not column.not_null or column.default is not None else "NULL"
    named = _compared(table, column) if not unique else []
    if named:  # by a CHECK over several columns: mostly these, for the others to agree with
        pick = _one_of(source, column, named, source.draw(column.name + "="))
        value = f"(CASE WHEN g % 4 = 0 THEN {value} ELSE {pick} END)"
    if not column.not_null and not unique:
        return f"CASE WHEN {source.draw(column.name + '?')} % 10 = 0 THEN NULL ELSE {value} END"
    return value


def _reference(source: _Source, fk: Constraint, column: Column, unique: bool) -> str | None:
    """A key of the referenced table: most rows belong to a few of its rows."""
    if fk.ref_table is None:
        return None
    target = source.schema.tables.get(fk.ref_table)
    keys = fk.ref_columns or (target.primary_key.columns if target and target.primary_key else ())
    if not keys:
        return None
    key = keys[fk.columns.index(column.name)]
    order = ", ".join(quote_ident(k) for k in keys)
    draw = f"({source.draw(fk.name)} / 268435456.0)"
    table = quote_qname(fk.ref_table)
    # one row each where the reference is a key of its own, else by the cube of an even draw
    which = (
        f"1 + floor((SELECT count(*) FROM {table}) "
        f"* CASE WHEN g % 2 = 0 THEN {draw} ELSE {draw} ^ 3 END)::int"
    )
    if unique and len(_key_with(source, column)) == 1:
        which = "g"
    # neither query hangs on the row, so the server runs each once
    return f"(ARRAY(SELECT r.{quote_ident(key)} FROM {table} r ORDER BY {order}))[{which}]"


def _one_of(source: _Source, column: Column, literals: Sequence[str], number: str) -> str:
    array = ", ".join(f"{value}::{_plain_type(source, column.type)}" for value in literals)
    return f"(ARRAY[{array}])[1 + ({number}) % {len(literals)}]"


def _compared(table: Table, column: Column) -> list[str]:
    """Literals that CHECKs over several columns compare a text with."""
    base = parse_type(column.type).base
    found: dict[str, None] = {}
    for constraint in table.constraints:
        if constraint.kind != "check" or column.name not in constraint.columns[:20]:
            continue
        if base not in _TEXTS or len(constraint.columns) < 2:
            continue
        text = constraint.expression or ""
        name = re.escape(quote_ident(column.name))
        named = rf"(?<![\w\"]){name}(?![\w\"])\)?(?:::[\w ]+)?\s*"
        for match in re.finditer(rf"{named}=\s*('(?:[^']|'')*')", text):
            found[match[1]] = None
        for match in re.finditer(rf"{named}=\s*ANY\s*\(+\s*ARRAY\s*\[([^\]]*)\]", text):
            found.update(dict.fromkeys(re.findall(r"'(?:[^']|'')*'", match[1])))
    return list(found)


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


def _bounds(source: _Source, column: Column) -> list[str]:
    """Values that fall into the partitions of a table, for its key when that is this column."""
    table = source.table
    if table.kind != "partitioned" or (table.partition_key or "").strip('" ') != column.name:
        return []
    found: list[str] = []
    for part in source.schema.partitions_of(table.name):
        bound = part.bound or ""
        if listed := _BOUND_IN.search(bound):
            found += [v.strip() for v in listed[1].split(",") if v.strip().upper() != "NULL"]
        elif between := _BOUND_FROM.search(bound):
            lower = between[1].strip()
            if lower.upper() not in ("MINVALUE", "MAXVALUE"):
                found.append(lower)
    return found


def _ranged(source: _Source, column: Column, unique: bool) -> str | None:
    """Numbers around those that the column's own CHECKs name, the limits themselves among them."""
    base = parse_type(_plain_type(source, column.type)).base
    if base not in ("smallint", "integer", "bigint", "numeric", "real", "double precision"):
        return None
    domain = _domain(source, column.type)
    texts = [
        _expression(c)
        for c in (*source.table.constraints, *(domain.constraints if domain is not None else ()))
        if c.kind == "check" and c.columns in ((column.name,), (), ("value",))
    ]
    numbers = sorted(float(n) for text in texts for n in _NUMBER.findall(text))
    if not numbers or unique:
        return None
    low, high = int(numbers[0]), int(numbers[-1])
    draw = source.draw(column.name)
    span = high - low + 1 if high > low else 1000
    edges = [low, high, low + 1, high - 1, low - 1]
    listed = ", ".join(map(str, edges))
    return (
        f"(CASE WHEN g % 7 = 0 THEN (ARRAY[{listed}]::int8[])[1 + g / 7 % {len(edges)}] "
        f"WHEN g % 3 = 0 THEN {high} - ({draw}) % 1000 ELSE {low} + ({draw}) % {span} END)::{base}"
    )


def _patterned(source: _Source, column: Column, unique: bool) -> str | None:
    """Texts of the form that a CHECK asks for, and the odd ones, should it let them through."""
    parsed = parse_type(_plain_type(source, column.type))
    pattern = pattern_of(source.schema, source.table, column) if parsed.base in _TEXTS else None
    if pattern is None:
        return None
    numbers = [int(m) for m in parsed.modifiers if str(m).isdigit()]
    limit = numbers[0] if numbers else None
    draw = Random(f"{source.seed}:{source.table.name}:{column.name}")  # noqa: S311 - no secret
    count = _UNIQUE_TEXTS if unique else _TEXTS_MADE
    made = dict.fromkeys(pattern.example(draw, limit) for _ in range(count))
    listed = ", ".join(quote_literal(text).strip() for text in made)
    value = f"(ARRAY[{listed}]::text[])[1 + g % {len(made)}]"
    if unique:
        return value
    odd = _text(column.name, limit, unique)
    return f"(CASE WHEN g % 20 = 3 THEN {odd} ELSE {value} END)"


def _key_with(source: _Source, column: Column) -> tuple[str, ...]:
    """The narrowest unique key that holds a column."""
    table = source.table
    keys = [c.columns for c in table.constraints if c.kind in ("unique", "primary_key")]
    keys += [i.keys for i in source.schema.indexes_of(table.name) if i.unique]
    holding = sorted((k for k in keys if column.name in k), key=len)
    return holding[0] if holding else ()


def _unique(source: _Source, column: Column) -> bool:
    indexes = source.schema.indexes_of(source.table.name)
    return (
        bool(_key_with(source, column))
        or any(i.unique and column.name in i.columns for i in indexes)
        or any(c.kind == "exclude" and column.name in c.columns for c in source.table.constraints)
    )


def _domain(source: _Source, type_: str) -> UserType | None:
    user = source.schema.user_type(type_name(type_))
    return user if user is not None and user.kind == "domain" else None


def _plain_type(source: _Source, type_: str) -> str:
    """The type below all domains."""
    domain = _domain(source, type_)
    return _plain_type(source, domain.base) if domain is not None and domain.base else type_


def _of_type(source: _Source, type_: str, name: str, unique: bool) -> str | None:
    parsed = parse_type(type_)
    if parsed.dimensions:
        return f"'{{}}'::{type_}"
    user = source.schema.user_type(type_name(type_))
    if user is not None and user.kind == "enum" and user.labels:
        labels = ", ".join(quote_literal(label).strip() for label in user.labels)
        return f"(ARRAY[{labels}])[1 + g % {len(user.labels)}]::{type_}"
    if user is not None and user.kind == "domain" and user.base is not None:
        return _of_type(source, user.base, name, unique)
    base = parsed.base
    numbers = [int(m) for m in parsed.modifiers if str(m).isdigit()]
    limit = numbers[0] if numbers else None
    if base.startswith("bit"):
        return f"B'{'1' * (limit or 1)}'"
    if base in _TEXTS:
        return _text(name, limit, unique)
    value = _BY_TYPE.get(base)
    if unique or source.tame or value is None:
        return value
    ends = _ENDS.get(base, ())
    if base == "numeric":
        scale = numbers[1] if len(numbers) > 1 else 0
        whole = min((limit or 12) - scale, 12)
        top = ("9" * whole or "0") + (f".{'9' * scale}" if scale else "")
        ends = ("0", top, f"-{top}")
    if not ends:
        return value
    listed = ", ".join(f"({end})::{base}" for end in ends)
    chosen = f"(ARRAY[{listed}])[1 + g / 50 % {len(ends)}]"
    return f"(CASE WHEN g % 50 = 7 THEN {chosen} ELSE {value} END)"


def _text(name: str, limit: int | None, unique: bool) -> str:
    """Words, some of them long, with letters beyond ASCII, empty or as long as can be."""
    likely = next((part for part in _BY_NAME if part in name.lower()), "")
    shape = _BY_NAME[likely]
    if unique:
        return f"left(g::text || {shape}, {limit})" if limit else f"({shape})"
    longest = f"repeat('x', {min(limit or 2000, 2000)})"
    odd = quote_literal("Ünïcødé ☃ 'quoted'").strip()
    special = f"(ARRAY['', ' ', {odd}, {longest}])[1 + g / 20 % 4]"
    value = f"(CASE WHEN g % 20 = 3 THEN {special} ELSE {shape} END)"
    return f"left({value}, {limit})" if limit else value


_TEXTS = ("character varying", "character", "text", "citext")
#: what a column of such a name is likely to be checked for
_BY_NAME = {
    "mail": "'user' || g || '@example.test'",
    "url": "'https://example.test/' || g",
    "phone": "'+49' || (1000000 + g)",
    "slug": "'text-' || g",
    "country": "'DE'",
    "currency": "'EUR'",
    "": "'text ' || g",
}
_ENDS = {
    "smallint": ("-32768", "32767", "0"),
    "integer": ("-2147483648", "2147483647", "0"),
    "bigint": ("-9223372036854775808", "9223372036854775807", "0"),
    "date": ("'0001-01-01'", "'9999-12-31'"),
    "timestamp with time zone": ("'0001-01-01 00:00Z'", "'9999-12-31 23:59:59.999999Z'"),
    "timestamp without time zone": ("'0001-01-01'", "'9999-12-31 23:59:59.999999'"),
}
_BY_TYPE = {
    "smallint": "(g % 30000)::int2",
    "integer": "g",
    "bigint": "g::int8",
    "real": "g::real",
    "double precision": "g::float8",
    "numeric": "g % 1000",
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
    "int4range": "int4range(g * 10, g * 10 + 5)",
    "int8range": "int8range(g * 10, g * 10 + 5)",
    "numrange": "numrange(g * 10, g * 10 + 5)",
    "daterange": "daterange(date '2024-01-01' + g * 10, date '2024-01-01' + g * 10 + 5)",
    "tsrange": "tsrange(timestamp '2024-01-01' + g * interval '1 hour', "
    "timestamp '2024-01-01 00:45' + g * interval '1 hour')",
    "tstzrange": "tstzrange(timestamptz '2024-01-01 00:00Z' + g * interval '1 hour', "
    "timestamptz '2024-01-01 00:45Z' + g * interval '1 hour')",
    "point": "point(g, g)",
    "tsvector": "to_tsvector('simple', 'text ' || g)",
    "hstore": "''::hstore",
    "macaddr": "'08:00:2b:01:02:03'::macaddr",
}
