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
from zdd_migrate.cli.trace import Request, measure, postgres_option
from zdd_migrate.errors import EXIT_FINDINGS, EXIT_INPUT, InputError
from zdd_migrate.formats import explain
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.operations.walk import walk


@click.command(name="explain")
@click.argument("paths", nargs=-1)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, replayed as the schema.")
@pg_option
@source_option
@click.option(
    "--compare", is_flag=True, help="Measure too, and show prediction and measurement side by side."
)
@postgres_option
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
    compare: bool,
    postgres: str,
    format_: str,
    quiet: bool,
) -> None:
    """Explain migrations: locks, rewrites, scans, what breaks. Reads - (stdin) by default."""
    paths = paths or ("-",)
    if compare:
        request = Request(paths, schema, history, source, postgres, pg_version, quiet)
        ctx.exit(0 if _compare(request, format_) else EXIT_FINDINGS)
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


def _compare(request: Request, format_: str) -> bool:
    """Print both sides; whether every statement did what was predicted."""
    from zdd_migrate.formats import comparison

    measured = measure(request)
    compared = [
        comparison.compare(ours, theirs)
        for ours, theirs in zip(measured.predicted, measured.measured, strict=True)
        if theirs["reached"]
    ]
    if not compared:
        raise InputError(f"{request.paths[0]}: nothing to compare: it holds no statement")
    same = sum(1 for one in compared if one["same"])
    if format_ == "json":
        result = {
            "version": 1,
            "pg_version": measured.pg_version,
            "same": same == len(compared),
            "statements": compared,
        }
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(comparison.text(one) for one in compared))
        click.echo(
            f"\n{same} of {len(compared)} statements as predicted (Postgres {measured.pg_version})"
        )
    return same == len(compared)
