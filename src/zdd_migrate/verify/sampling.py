"""Rows copied from another database: a sample, closed over foreign keys, its texts masked.

The other database is only read, in one read-only transaction. Of each touched table some rows are
taken, and of every table they refer to the rows they refer to. Texts keep their length, their
punctuation and what is equal to what, and say nothing any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Constraint, Schema, Table

_TEXTS = ("text", "character varying", "character", "citext", "name")
_DOCUMENTS = {"json": "{}", "jsonb": "{}", "xml": "<masked/>", "bytea": "\\x"}
_BATCH = 500
_STATEMENT_TIMEOUT_MS = 60_000

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Which database, how many rows of each touched table, and what is masked.

    `mask` is None for all texts and documents that no CHECK lists the values of, else the columns
    as `table.column`; empty for none.
    """

    dsn: str
    rows: int = 2000
    mask: tuple[str, ...] | None = None


def copy_sample(
    target: psycopg.Connection, sample: Sample, schema: Schema, tables: Sequence[QName]
) -> list[str]:
    """Fill the tables of `target`; notes of what was taken. EnvironmentFailedError."""
    try:
        with psycopg.connect(
            sample.dsn,
            connect_timeout=10,
            options=f"-c default_transaction_read_only=on "
            f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
            application_name="zdd-migrate sampling",
        ) as source:
            source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            found = _Closure(source, schema, sample.rows).of(tables)
    except psycopg.Error as error:
        said = " ".join(str(error).split())[:200]
        raise EnvironmentFailedError(f"rows could not be copied: {said}") from None
    with target.transaction():
        # the rows are as they must be already: no trigger, no foreign key is to change them
        target.execute("SET LOCAL session_replication_role = replica")
        for name, rows in found.items():
            _load(target, schema.tables[name], rows.values(), sample.mask)
    taken = ", ".join(f"{len(rows)} of {name}" for name, rows in found.items())
    return [f"rows copied, masked where they are text: {taken or 'none'}"]


class _Closure:
    """Sampled rows with all that they refer to."""

    def __init__(self, source: psycopg.Connection, schema: Schema, rows: int) -> None:
        self.source = source
        self.schema = schema
        self.rows = rows
        self.found: dict[QName, dict[Row, Row]] = {}

    def of(self, tables: Sequence[QName]) -> dict[QName, dict[Row, Row]]:
        todo = [
            (name, row)
            for name in tables
            if (table := self.schema.tables.get(name)) is not None and table.parent is None
            for row in self._keep(table, self._some(table))
        ]
        while todo:
            wanted: dict[tuple[QName, tuple[str, ...]], dict[Row, None]] = {}
            for name, row in todo:
                for fk, key in _references(self.schema.tables[name], row):
                    parent = self.schema.tables.get(fk.ref_table) if fk.ref_table else None
                    if parent is not None:
                        keys = fk.ref_columns or (
                            parent.primary_key.columns if parent.primary_key else ()
                        )
                        wanted.setdefault((parent.name, keys), {})[key] = None
            todo = [
                (name, row)
                for (name, keys), values in wanted.items()
                for row in self._keep(
                    self.schema.tables[name], self._by_key(name, keys, list(values))
                )
            ]
        return self.found

    def _keep(self, table: Table, rows: Iterable[Row]) -> Iterator[Row]:
        """Those that are new."""
        here = self.found.setdefault(table.name, {})
        names = [c.name for c in _copied(table)]
        key = table.primary_key.columns if table.primary_key else tuple(names)
        for row in rows:
            identity = tuple(row[names.index(k)] for k in key if k in names)
            if identity not in here:
                here[identity] = row
                yield row

    def _some(self, table: Table) -> list[Row]:
        """A few rows from all over the table, without reading a large one through."""
        name = quote_qname(table.name)
        shown = _shown(table)
        size = self.source.execute(
            "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = to_regclass(%s)", (name,)
        ).fetchone()
        if size is None:
            return []
        part = 100.0 * self.rows * 3 / size[0] if size[0] else 100.0
        rows: list[Row] = []
        if part < 50:
            query = f"SELECT {shown} FROM {name} TABLESAMPLE system ({part}) REPEATABLE (0)"
            rows = self.source.execute(f"{query} LIMIT {self.rows}".encode()).fetchall()
        if len(rows) < self.rows // 4:
            query = f"SELECT {shown} FROM {name} LIMIT {self.rows}"
            rows = self.source.execute(query.encode()).fetchall()
        return rows

    def _by_key(self, name: QName, keys: tuple[str, ...], values: list[Row]) -> Iterator[Row]:
        table = self.schema.tables[name]
        columns = [table.column(key) for key in keys]
        if not keys or any(c is None for c in columns):
            return
        types = [c.type for c in columns if c is not None]
        listed = ", ".join(map(quote_ident, keys))
        for start in range(0, len(values), _BATCH):
            rows = ", ".join(
                "("
                + ", ".join(f"{_literal(v)}::{t}" for v, t in zip(row, types, strict=True))
                + ")"
                for row in values[start : start + _BATCH]
            )
            query = f"SELECT {_shown(table)} FROM {quote_qname(name)} WHERE ({listed}) IN ({rows})"
            yield from self.source.execute(query.encode()).fetchall()


def _references(table: Table, row: Row) -> Iterator[tuple[Constraint, Row]]:
    names = [c.name for c in _copied(table)]
    for constraint in table.constraints:
        if constraint.kind == "foreign_key" and set(constraint.columns) <= set(names):
            key = tuple(row[names.index(c)] for c in constraint.columns)
            if None not in key:
                yield constraint, key


def _copied(table: Table) -> list[Column]:
    return [c for c in table.columns if c.generated is None]


def _shown(table: Table) -> str:
    return ", ".join(f"{quote_ident(c.name)}::text" for c in _copied(table))


def _literal(value: str | None) -> str:
    return "NULL" if value is None else quote_literal(value)


def _load(
    target: psycopg.Connection, table: Table, rows: Iterable[Row], mask: tuple[str, ...] | None
) -> None:
    columns = _copied(table)
    names = ", ".join(quote_ident(c.name) for c in columns)
    marks = ", ".join(f"%s::{c.type.replace('%', '%%')}" for c in columns)
    masked = [_is_masked(table, c, mask) for c in columns]
    query = (
        f"INSERT INTO {quote_qname(table.name)} ({names}) OVERRIDING SYSTEM VALUE "
        f"VALUES ({marks}) ON CONFLICT DO NOTHING"
    )
    with target.cursor() as cursor:
        cursor.executemany(
            query.encode(),
            [
                tuple(
                    _masked(value, c) if hide and value is not None else value
                    for value, c, hide in zip(row, columns, masked, strict=True)
                )
                for row in rows
            ],
        )
    for column in columns:
        if column.identity is not None or (column.default or "").startswith("nextval("):
            target.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), coalesce(max({quote_ident(column.name)}), 1)) "
                f"FROM {quote_qname(table.name)}".encode(),
                (quote_qname(table.name), column.name),
            )


def _is_masked(table: Table, column: Column, mask: tuple[str, ...] | None) -> bool:
    if mask is not None:
        return f"{table.name.name}.{column.name}" in mask or f"{table.name}.{column.name}" in mask
    base = parse_type(column.type)
    if base.dimensions or base.base not in (*_TEXTS, *_DOCUMENTS):
        return False
    listed = any(
        c.kind == "check" and c.columns == (column.name,) and "'" in (c.expression or c.definition)
        for c in table.constraints
    )
    return not listed


def _masked(value: str, column: Column) -> str:
    """Another text of the same shape; the same for the same, so that keys still fit each other."""
    base = parse_type(column.type).base
    if base in _DOCUMENTS:
        return _DOCUMENTS[base]
    stream = hashlib.shake_256(value.encode()).digest(len(value))
    out = []
    for letter, byte in zip(value, stream, strict=True):
        if letter.isdigit():
            out.append(chr(ord("0") + byte % 10))
        elif letter.isalpha():
            out.append(chr(ord("A" if letter.isupper() else "a") + byte % 26))
        else:
            out.append(letter)
    return "".join(out)
