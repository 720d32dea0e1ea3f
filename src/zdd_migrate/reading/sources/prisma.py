"""Prisma: `migrations/<time>_<name>/migration.sql`, sent as one message without a transaction.

Postgres runs several statements of one message in a transaction all the same. Prisma from 7.4 on
cuts some files apart, where its own parser follows them; a file with the one statement works with
every version, so that is what is asked for.
"""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one migration."""
    return read_sql(text, str(path), name=path.parent.name, in_transaction=False, at_once=True)
