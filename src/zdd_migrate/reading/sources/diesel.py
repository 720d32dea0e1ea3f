"""Diesel: `<version>_<name>/up.sql` and `down.sql`; one transaction a migration.

`run_in_transaction = false` in the migration's `metadata.toml` leaves it out; the file is then one
message, which Postgres runs in a transaction all the same unless it holds a single statement.
"""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one direction of a migration."""
    wrapped = _in_transaction(path.parent / "metadata.toml")
    return read_sql(
        text,
        str(path),
        name=path.parent.name,
        in_transaction=wrapped,
        at_once=not wrapped,
        direction="down" if path.name == "down.sql" else "up",
    )


def _in_transaction(metadata: Path) -> bool:
    if not metadata.is_file():
        return True
    import tomllib

    try:
        table = tomllib.loads(metadata.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{metadata}: this cannot be read: {error}") from None
    return bool(table.get("run_in_transaction", True))
