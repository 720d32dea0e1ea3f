"""sqlx: `1_name.sql` or `1_name.up.sql`; one transaction a file, unless it begins with
`-- no-transaction` (at its very first byte). Such a file is sent as one message, which Postgres runs
in a transaction all the same unless it holds a single statement.
"""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one file."""
    alone = text.startswith("-- no-transaction")
    down = path.name.endswith(".down.sql")
    return read_sql(
        text,
        str(path),
        name=path.name.removesuffix(".sql").removesuffix(".up").removesuffix(".down"),
        in_transaction=not alone,
        at_once=alone,
        direction="down" if down else "up",
    )
