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


def compare(
    connection: psycopg.Connection,
    ledger: Ledger,
    shapes: Sequence[Shape],
    filled: frozenset[tuple[QName, str]] = frozenset(),
) -> tuple[int, int, str]:
    """Acknowledged rows against the tables, as `shapes` see them: (missing, differing, an example).

    Columns and keys that these shapes do not have are left out of the comparison, and so are NULLs
    in columns of `filled`, which the plan is meant to fill.
    """
    by_name = {shape.name: shape for shape in shapes}
    missing = differing = 0
    example = ""
    for (table, key), row in ledger.snapshot().items():
        shape = by_name.get(table)
        if shape is None or not shape.key or len(shape.key) != len(key):
            continue
        known = {c.name for c in shape.readable}
        columns = [c for c in row if c in known and c not in shape.key]
        names = ", ".join(f"{quote_ident(c)}::text" for c in columns) or "1"
        where = " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
        query = f"SELECT {names} FROM {quote_qname(table)} WHERE {where}"
        found = connection.execute(query.encode(), key).fetchone()
        if found is None:
            missing += 1
            example = example or f"{table} {dict(zip(shape.key, key, strict=True))} is gone"
            continue
        for column, value in zip(columns, found, strict=False):
            if value != row[column] and not (row[column] is None and (table, column) in filled):
                differing += 1
                example = example or f"{table}.{column} is {value!r}, {row[column]!r} was written"
                break
    return missing, differing, example
