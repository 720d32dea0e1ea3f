"""`zdd-migrate init`: a first configuration, and how to hook it in."""

from __future__ import annotations

from pathlib import Path

import click

from zdd_migrate.config import FILE
from zdd_migrate.errors import InputError
from zdd_migrate.operations.base import DEFAULT_PG

_TEMPLATE = """\
# Settings of zdd-migrate; `zdd-migrate check --help` says what each option does.
pg-version = {pg}
# schema = "schema.sql"      # what the database looks like: a dump, a directory, or a database URL
# fail-on = "error"

# [versions.old]             # how to run the two code versions in `zdd-migrate verify`
# command = "python -m pytest tests/smoke"
# [versions.new]
# command = "python -m pytest tests/smoke"
"""


@click.command(name="init")
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--pg-version", type=int, default=DEFAULT_PG, help="Postgres major in production.")
def command(directory: Path, pg_version: int) -> None:
    """Write zdd-migrate.toml into DIRECTORY (here by default); an existing one is kept."""
    path = directory / FILE
    if path.exists():
        raise InputError(f"{path} is there already; edit it, or delete it first")
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(_TEMPLATE.format(pg=pg_version), encoding="utf-8")
    click.echo(f"wrote {path}")
    click.echo("next: zdd-migrate check MIGRATION.sql")
