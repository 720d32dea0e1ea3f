"""Plain SQL files, one migration each, run statement by statement as psql does."""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import decode, read_sql


def read(path: Path) -> Migration:
    """Read one file. Plain files run outside a transaction unless they open one themselves."""
    return read_sql(decode(path.read_bytes(), str(path)), str(path), in_transaction=False)
