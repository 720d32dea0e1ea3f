"""golang-migrate: `1_name.up.sql`, `1_name.down.sql`; a file is one message without a transaction.

Postgres runs several statements of one message in a transaction all the same, so CREATE INDEX
CONCURRENTLY has to be the only statement of its file (unless the database's URL says
x-multi-statement, which is not known here).
"""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one file."""
    down = path.name.endswith(".down.sql")
    name = path.name.removesuffix(".sql").removesuffix(".up").removesuffix(".down")
    return read_sql(
        text,
        str(path),
        name=name,
        in_transaction=False,
        at_once=True,
        direction="down" if down else "up",
    )
