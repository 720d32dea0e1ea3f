"""`zdd-migrate snapshot`: a database's schema and sizes, for a repository to keep."""

from __future__ import annotations

from pathlib import Path

import click

from zdd_migrate.cli.options import quiet_option
from zdd_migrate.errors import InputError


@click.command(name="snapshot")
@click.argument("database", metavar="DSN")
@click.option("-o", "--output", metavar="FILE", help="Write it there (default: standard output).")
@click.option(
    "--format", "format_", type=click.Choice(("text", "json")), default="text", hidden=True
)
@quiet_option
def command(database: str, output: str | None, format_: str, quiet: bool) -> None:
    """Save the schema of the database at DSN with row counts, bytes and write rates.

    No rows and no literals are in it, so that it can be committed. Give it to check with --schema,
    or name it in the configuration (snapshot = "…") to add sizes to a replayed history. It reads
    only, and works as any role that may connect, also on a replica.
    """
    from zdd_migrate.postgres.catalog import read_sizes
    from zdd_migrate.reading.snapshot import Snapshot, write

    schema, major = read_sizes(database)
    text = write(Snapshot(schema, major))
    if output is None or output == "-":
        click.echo(text, nl=False)
        return
    path = Path(output)
    try:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}") from None
    if not quiet:
        tables = len(schema.tables)
        size = sum(t.bytes or 0 for t in schema.tables.values())
        from zdd_migrate.model.cost import in_bytes

        click.echo(f"{output}: {tables} tables, {in_bytes(size)}", err=True)
