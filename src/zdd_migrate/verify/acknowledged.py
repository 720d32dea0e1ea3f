"""What clients were told was committed: written down by themselves, one file for each process.

The record never comes from the database, so a write that the database forgot is found. A line is
`[act, [schema, table], key, values]`: `put` after the commit was acknowledged, `drop` for a
delete, `doubt` for a row that was being written when the connection went.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.verify.shapes import Shape

Row = dict[str, str | None]
Key = tuple[QName, tuple[str | None, ...]]


@dataclass(slots=True)
class Ledger:
    """The record of one code version on one lineage of databases: table and key → last values.

    `rows` is what a copy of the database started with; the files hold what came since.
    """

    directory: Path
    rows: dict[Key, Row] = field(default_factory=dict)
    _files: int = 0

    def page(self) -> Path:
        """A file for one process to write."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._files += 1
        return self.directory / f"{self._files:04}.jsonl"

    def snapshot(self) -> dict[Key, Row]:
        """Every row that must be there, with the values last acknowledged."""
        rows = {key: dict(row) for key, row in self.rows.items()}
        for act, key, values in self._lines():
            if act == "put":
                rows.setdefault(key, {}).update(values)
            else:
                rows.pop(key, None)
        return rows

    def branch(self) -> Ledger:
        """The record so far, going on separately for a copy of the database."""
        directory = self.directory.with_name(f"{self.directory.name}-{secrets.token_hex(4)}")
        return Ledger(directory, self.snapshot())

    def _lines(self) -> Iterator[tuple[str, Key, Row]]:
        for file in sorted(self.directory.glob("*.jsonl")) if self.directory.exists() else ():
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):
                    continue  # cut off with its process: nobody was told of it yet
                act, table, key, values = json.loads(line)
                yield act, (QName(*table), tuple(key)), values


Rows = dict[tuple[str | None, ...], Row]


class Tables:
    """The rows of a database in which nobody works: each table is read once."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._read: dict[str, Rows] = {}

    def of(self, shape: Shape) -> Rows:
        """All rows of a table by its key, every value as text."""
        names = list(dict.fromkeys((*shape.key, *(c.name for c in shape.readable))))
        shown = ", ".join(f"{quote_ident(name)}::text" for name in names)
        query = f"SELECT {shown} FROM {shape.sql}"
        known = f"{len(shape.key)} {query}"
        if known not in self._read:
            width = len(shape.key)
            found = self.connection.execute(query.encode()).fetchall()
            self._read[known] = {row[:width]: dict(zip(names, row, strict=True)) for row in found}
        return self._read[known]


def compare(
    tables: Tables,
    ledger: Ledger,
    shapes: Sequence[Shape],
    filled: frozenset[tuple[QName, str]] = frozenset(),
    restless: frozenset[tuple[QName, str]] = frozenset(),
) -> tuple[int, int, str]:
    """Acknowledged rows against the tables, as `shapes` see them: (missing, differing, an example).

    Columns and keys that these shapes do not have are left out of the comparison, and so are NULLs
    in columns of `filled`, which the plan is meant to fill, and columns of `restless`, which the
    users' own triggers change behind whoever writes.
    """
    by_name = {shape.name: shape for shape in shapes}
    written: dict[QName, dict[tuple[str | None, ...], Row]] = {}
    for (table, key), row in ledger.snapshot().items():
        written.setdefault(table, {})[key] = row
    missing = differing = 0
    example = ""
    for table, rows in written.items():
        shape = by_name.get(table)
        if shape is None or not shape.key:
            continue
        there = tables.of(shape)
        for key, row in rows.items():
            if len(key) != len(shape.key):
                continue
            found = there.get(key)
            if found is None:
                missing += 1
                example = example or f"{table} {dict(zip(shape.key, key, strict=True))} is gone"
                continue
            kept = {
                c: v
                for c, v in row.items()
                if (table, c) not in restless
                and (
                    found.get(c, v) == v or not same_value(tables.connection, table, c, found[c], v)
                )
            }
            wrong = differences_of(table, kept, found, shape, filled)
            if wrong:
                differing += 1
                example = example or wrong
    return missing, differing, example


def restless_columns(
    tables: Tables, ledger: Ledger, shapes: Sequence[Shape]
) -> set[tuple[QName, str]]:
    """Columns that do not keep what was written, where nothing was changed at all."""
    found: set[tuple[QName, str]] = set()
    there = {s.name: (s, tables.of(s)) for s in shapes if s.key}
    for (table, key), row in ledger.snapshot().items():
        shape, rows = there.get(table, (None, {}))
        for column, value in row.items():
            if shape and column not in shape.key and rows.get(key, row).get(column, value) != value:
                found.add((table, column))
    return found


def differences_of(
    table: QName, row: Row, found: Row, shape: Shape, but: frozenset[tuple[QName, str]]
) -> str:
    """The first column that is not what was written; columns of `but` may lose a NULL."""
    for column, value in row.items():
        if column in shape.key or column not in found or found[column] == value:
            continue
        if value is None and (table, column) in but:
            continue
        return f"{table}.{column} is {found[column]!r}, {value!r} was written"
    return ""


def same_value(
    connection: psycopg.Connection,
    table: QName,
    column: str,
    value: str | None,
    written: str | None,
) -> bool:
    """Whether what was written under another type is what the column's type makes of it: 11.00 and
    11.0000, or JSON spaced otherwise."""
    if value is None or written is None:
        return False
    found = connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attname = %s",
        (quote_qname(table), column),
    ).fetchone()
    if found is None:
        return False
    kind = "jsonb" if found[0] == "json" else found[0]
    query = f"SELECT %s::text::{kind}::text = %s::text::{kind}::text"
    try:
        with connection.transaction():
            same = connection.execute(query.encode(), (value, written)).fetchone()
    except psycopg.Error:
        return False
    return bool(same and same[0])
