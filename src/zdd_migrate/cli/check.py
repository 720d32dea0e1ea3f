"""`zdd-migrate check`: what a migration breaks, locks and loses."""

from __future__ import annotations

import click

from zdd_migrate.check import Checker
from zdd_migrate.cli.options import (
    config_for,
    format_option,
    pg_option,
    quiet_option,
    read_migrations,
    schema_option,
    source_option,
    starting_schema,
    style,
    width,
)
from zdd_migrate.errors import EXIT_FINDINGS, EXIT_INPUT
from zdd_migrate.model.finding import Report, Severity
from zdd_migrate.operations.base import DEFAULT_PG


@click.command(name="check")
@click.argument("paths", nargs=-1, required=True)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, replayed as the schema.")
@pg_option
@source_option
@click.option(
    "--fail-on",
    type=click.Choice(("error", "warning", "info", "never")),
    help="Exit with 1 when something at least this bad is found (default: error).",
)
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
    fail_on: str | None,
    format_: str,
    quiet: bool,
) -> None:
    """Check migrations: files, directories, or - for standard input."""
    config = config_for(paths)
    pg = pg_version or config.pg_version or DEFAULT_PG
    source = source or config.source
    migrations = read_migrations(paths, source)
    start, _ = starting_schema(schema, paths, config, history=history, source=source, pg=pg)
    report = Checker(config, pg=pg).run(migrations, start)
    if format_ == "json":
        from zdd_migrate.formats import findings_json

        click.echo(findings_json.render(report))
    elif not quiet or report.findings:
        from zdd_migrate.formats import findings_text

        click.echo(findings_text.render(report, style=style, width=width()))
    ctx.exit(exit_status(report, fail_on or config.fail_on or "error"))


def exit_status(report: Report, fail_on: str) -> int:
    """1 for findings at or above the bar; 2 where something was not understood and nothing worse."""
    if fail_on == "never":
        return 0
    worst = report.worst()
    if worst is not None and worst.rank >= Severity(fail_on).rank:
        understood_worse = any(
            f.rule != "ZDD901" and not f.suppressed and f.severity.rank >= Severity(fail_on).rank
            for f in report.findings
        )
        return EXIT_FINDINGS if understood_worse else EXIT_INPUT
    return 0
