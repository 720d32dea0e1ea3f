"""`zdd-migrate plan`: a migration rewritten into four phases, each with its undo."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from zdd_migrate.check import Checker
from zdd_migrate.cli.options import (
    config_for,
    format_option,
    pg_option,
    queries_option,
    quiet_option,
    read_migrations,
    read_queries,
    schema_option,
    source_option,
    starting_schema,
    style,
    width,
)
from zdd_migrate.errors import EXIT_FINDINGS, InputError
from zdd_migrate.model.plan import Plan
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.plan.planner import already_safe, make_plan, parse_answer


@click.command(name="plan")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Write the plan's directory here (--format alembic: the revisions; default: beside it).",
)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, replayed as the schema.")
@pg_option
@source_option
@click.option("--name", help="The plan's name (default: the migration's).")
@click.option("--up", multiple=True, metavar="T.C=EXPR", help="New column from the old row.")
@click.option("--down", multiple=True, metavar="T.C=EXPR", help="Old column from the new row.")
@click.option("--fill", multiple=True, metavar="T.C=EXPR", help="Value where none is known.")
@click.option(
    "--via",
    type=click.Choice(["copy", "view"]),
    help="How a thing has both names, or both types under one: a copy kept in step, or a view that new "
    "code finds first (default: the plan says).",
)
@click.option(
    "--sync",
    type=click.Choice(["trigger", "application"]),
    default="trigger",
    help="Who keeps copies in step: a trigger (default), or the code, in two more releases.",
)
@click.option(
    "--database",
    metavar="URL",
    help="Try the conversions on a sample of this database's rows, read only (and take its schema).",
)
@queries_option
@format_option("text", "json", "alembic")
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    output: str | None,
    schema: str | None,
    history: str | None,
    pg_version: int | None,
    source: str | None,
    name: str | None,
    up: tuple[str, ...],
    down: tuple[str, ...],
    fill: tuple[str, ...],
    via: str | None,
    sync: str,
    database: str | None,
    queries: tuple[str, ...],
    format_: str,
    quiet: bool,
) -> None:
    """Plan migrations as one release: expand, migrate, switch, contract."""
    config = config_for(paths)
    pg = pg_version or config.pg_version or DEFAULT_PG
    migrations = read_migrations(paths, source or config.source)
    for migration in migrations:
        if migration.planned:
            raise InputError(f"{migration.path}: this is a phase of a plan already")
    if not any(migration.statements for migration in migrations):
        raise InputError(f"{', '.join(paths)}: no statement in it, so there is nothing to plan")
    if database is not None and schema is None and history is None:
        schema = database
    start, before = starting_schema(schema, paths, config, history=history, source=source, pg=pg)
    answers = dict(
        parse_answer(kind, text)
        for kind, texts in (("up", up), ("down", down), ("fill", fill))
        for text in texts
    )
    plan = make_plan(
        migrations,
        start,
        name=name or _name(paths[0]),
        before=before,
        pg=pg,
        answers=answers,
        via=via,
        dual_write=sync == "application",
    )
    if database is not None:
        from zdd_migrate.postgres.roundtrip import try_conversions

        plan = try_conversions(database, plan)
    unplanned = bool(plan.questions or plan.refusals)
    if format_ == "alembic" and plan.dual_writes:
        raise InputError(
            "--sync application waits for releases within a phase, which a revision cannot: plan it as "
            "a directory (-o DIR) and run it with zdd-migrate apply"
        )
    if format_ == "alembic" and not unplanned:
        click.echo(_as_revisions(plan, paths, output))
        return
    if output is not None and not unplanned:
        from zdd_migrate.plan.directory import write

        write(plan, Path(output))
    checker = Checker(config, pg=pg, queries=read_queries(queries, config))
    if format_ == "json":
        from zdd_migrate.formats.findings_json import finding_to_dict
        from zdd_migrate.formats.plan_json import to_json

        report = checker.run(migrations, start.copy())
        result = {**to_json(plan), "findings": [finding_to_dict(f) for f in report.findings]}
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(_text(plan, output))
        if checker.queries:
            from zdd_migrate.formats import queries_text

            report = checker.run(migrations, start.copy())
            found = queries_text.render(report, len(checker.queries), style=style, width=width())
            click.echo(f"\n{found}")
    ctx.exit(EXIT_FINDINGS if unplanned else 0)


def _as_revisions(plan: Plan, paths: tuple[str, ...], output: str | None) -> str:
    """Write the plan as Alembic revisions; say which."""
    from zdd_migrate.integrations.alembic import reading
    from zdd_migrate.integrations.alembic.revisions import write_revisions

    project = reading.project_of(paths, "alembic")
    chosen = reading.wanted(project, paths) if project is not None else []
    if len(chosen) != 1:
        raise InputError(f"--format alembic plans one revision at a time, not {len(chosen)}")
    written = write_revisions(plan, chosen[0], Path(output) if output else chosen[0].path.parent)
    lines = [f"{id_}  {file}" for id_, file in written.revisions]
    lines.append(f"the plan itself: {written.plan_dir}")
    lines.append(f"next: zdd-migrate verify {written.plan_dir}, then alembic upgrade as usual")
    return "\n".join(lines)


def _text(plan: Plan, output: str | None) -> str:
    from zdd_migrate.formats import plan_text

    if plan.questions or plan.refusals:
        return plan_text.unplanned(plan, style=style, width=width()) + "\nnothing was written"
    text = plan_text.render(plan, style=style, width=width())
    if already_safe(plan):
        text += "\nold code does not notice this migration: one phase is enough"
    return f"{text}\nwritten to {output}" if output is not None else text


def _name(path: str) -> str:
    """A plan's name from the migration's: its file's, or its directory's for migration.sql."""
    if path == "-":
        return "migration"
    given = Path(path)
    stem = given.parent.resolve().name if given.stem in ("migration", "up") else given.stem
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "migration"
