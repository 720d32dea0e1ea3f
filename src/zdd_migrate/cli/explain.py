"""`zdd-migrate explain`: what Postgres will do, statement by statement."""

from __future__ import annotations

import json

import click

from zdd_migrate.cli.options import (
    config_for,
    format_option,
    pg_option,
    quiet_option,
    read_migrations,
    schema_option,
    source_option,
    starting_schema,
)
from zdd_migrate.errors import EXIT_INPUT
from zdd_migrate.formats import explain
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.operations.walk import walk


@click.command(name="explain")
@click.argument("paths", nargs=-1)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, replayed as the schema.")
@pg_option
@source_option
@format_option("text", "json")
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    schema: str | None,
    history: str | None,
    pg_version: int | None,
    source: str | None,
    format_: str,
    quiet: bool,
) -> None:
    """Explain migrations: locks, rewrites, scans, what breaks. Reads - (stdin) by default."""
    paths = paths or ("-",)
    config = config_for(paths)
    pg = pg_version or config.pg_version or DEFAULT_PG
    migrations = read_migrations(paths, source or config.source)
    start, _ = starting_schema(
        schema, paths, config, history=history, source=source, pg=pg, snapshots=True
    )
    statements = [
        explain.statement(explained)
        for migration in migrations
        for explained in walk(migration, start, pg=pg)
    ]
    if format_ == "json":
        result = {"version": 1, "pg_version": pg, "statements": statements}
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(explain.text(one) for one in statements))
    ctx.exit(0 if all(one["understood"] for one in statements) else EXIT_INPUT)
