"""Plain SQL files, one migration each, run statement by statement as psql does."""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one file. Plain files run outside a transaction unless they open one themselves."""
    name = "stdin" if str(path) == "-" else None
    return read_sql(text, str(path), name=name, in_transaction=False)
