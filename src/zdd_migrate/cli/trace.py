"""`zdd-migrate trace`: what statements really do, measured on a scratch copy of the schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from zdd_migrate.cli.options import (
    config_for,
    format_option,
    is_dsn,
    quiet_option,
    read_migrations,
    schema_option,
    source_option,
    starting_schema,
)
from zdd_migrate.config import Config
from zdd_migrate.errors import EXIT_FINDINGS, InputError
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.operations.base import DEFAULT_PG

#: how many rows are made up in each table that the schema's SQL leaves empty: what a statement does
#: to rows, and who waits for a row, is only seen where there are some
_ROWS = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """The server's major, and per statement what was predicted and what was measured."""

    pg_version: int
    predicted: list[dict[str, Any]]
    measured: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure, and where."""

    paths: tuple[str, ...]
    schema: str | None
    history: str | None
    source: str | None
    postgres: str
    major: int | None
    quiet: bool = False


postgres_option = click.option(
    "--postgres",
    default="auto",
    metavar="WHERE",
    help="auto, embedded, system, testcontainers, or the URL of a server for scratch databases.",
)


@click.command(name="trace")
@click.argument("paths", nargs=-1)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, run as the schema.")
@postgres_option
@click.option("--pg-version", type=int, help="Which major to measure.")
@click.option(
    "--database",
    metavar="URL",
    help="Measure in this very database instead: in a transaction that is rolled back.",
)
@source_option
@format_option("text", "json")
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    schema: str | None,
    history: str | None,
    postgres: str,
    pg_version: int | None,
    database: str | None,
    source: str | None,
    format_: str,
    quiet: bool,
) -> None:
    """Run migrations on a scratch database and measure what they lock, rewrite, read and block."""
    request = Request(paths or ("-",), schema, history, source, postgres, pg_version, quiet)
    measured = measure_in(database, request) if database is not None else measure(request)
    if format_ == "json":
        result = {
            "version": 1,
            "pg_version": measured.pg_version,
            "statements": measured.measured,
        }
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        from zdd_migrate.formats import traced

        click.echo("\n".join(traced.text(one) for one in measured.measured))
    failed = any(one["error"] is not None or not one["reached"] for one in measured.measured)
    ctx.exit(EXIT_FINDINGS if failed else 0)


def measure(request: Request) -> Measured:
    """Measure migrations one after another on a scratch database, and predict them as well."""
    from zdd_migrate.postgres.catalog import read_schema
    from zdd_migrate.postgres.servers import server
    from zdd_migrate.postgres.trace import session_zone, trace
    from zdd_migrate.verify.data import fill
    from zdd_migrate.verify.stage import run_script

    config = config_for(request.paths)
    migrations = read_migrations(request.paths, request.source or config.source)
    start, script = _schema(request, config)
    statements = [s for m in _numbered(migrations) for s in m.statements]
    with server(request.postgres, major=request.major) as found:
        template = found.create_database()
        with found.connect(template) as connection:
            run_script(connection, script, "the schema", found)
            start.session_settings["timezone"] = session_zone(connection)
            live = read_schema(connection)
            for note in fill(connection, live, list(live.tables), _ROWS):
                click.echo(f"zdd-migrate: {note}", err=True)
        traced = trace(found, template, statements)
        found.drop_database(template)
        major = found.major
    return _together(major, start, migrations, traced)


def measure_in(database: str, request: Request) -> Measured:
    """Measure in a database of the user's, and roll back."""
    from zdd_migrate.postgres.catalog import read_live
    from zdd_migrate.postgres.trace.inplace import trace_in_place

    if not request.quiet:
        click.echo(
            "zdd-migrate: running in the given database, in a transaction that is rolled back; "
            "its locks are real until then",
            err=True,
        )
    config = config_for(request.paths)
    migrations = read_migrations(request.paths, request.source or config.source)
    statements = [s for m in migrations for s in m.statements]
    start = read_live(database)
    major, traced = trace_in_place(database, statements)
    return _together(major, start, migrations, traced)


def _together(
    major: int, start: Schema, migrations: Sequence[Migration], traced: Sequence[Any]
) -> Measured:
    from zdd_migrate.formats import explain
    from zdd_migrate.formats import traced as formats
    from zdd_migrate.operations.walk import walk

    predicted, measured = [], []
    left = iter(traced)
    for migration in migrations:
        for explained in walk(migration, start, pg=major):
            predicted.append(explain.statement(explained))
            measured.append(formats.statement(explained, next(left)))
    return Measured(major, predicted, measured)


def _numbered(migrations: Sequence[Migration]) -> list[Migration]:
    """Migrations whose transactions have numbers of their own across all of them."""
    from dataclasses import replace

    out = []
    for at, migration in enumerate(migrations):
        statements = tuple(
            replace(s, transaction=at * 1_000_000 + (s.transaction or 0)) if s.in_transaction else s
            for s in migration.statements
        )
        out.append(replace(migration, statements=statements))
    return out


def _schema(request: Request, config: Config) -> tuple[Schema, str]:
    """The starting schema as `explain` would have it, and SQL that builds it."""
    wanted = request.schema or config.schema
    if wanted is not None and is_dsn(wanted):
        raise InputError(
            "--schema is a database: trace builds a scratch database from SQL; give a "
            "pg_dump --schema-only file, or measure in that database itself with --database URL"
        )
    return starting_schema(
        request.schema,
        request.paths,
        config,
        history=request.history,
        source=request.source,
        pg=request.major or DEFAULT_PG,
    )
