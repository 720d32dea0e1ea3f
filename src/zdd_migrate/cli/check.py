"""`zdd-migrate check`: what a migration breaks, locks and loses."""

from __future__ import annotations

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
    snapshot_of,
    source_option,
    starting_schema,
    style,
    width,
)
from zdd_migrate.config import Config
from zdd_migrate.errors import EXIT_FINDINGS, EXIT_INPUT, InputError
from zdd_migrate.formats import FINDINGS, render
from zdd_migrate.model.finding import Report, Severity
from zdd_migrate.operations.base import DEFAULT_PG


@click.command(name="check")
@click.argument("paths", nargs=-1, required=True)
@schema_option
@click.option("--history", metavar="DIR", help="Earlier migrations, replayed as the schema.")
@pg_option
@source_option
@queries_option
@click.option(
    "--fail-on",
    type=click.Choice(("error", "warning", "info", "never")),
    help="Exit with 1 when something at least this bad is found (default: error).",
)
@click.option("--baseline", metavar="FILE", help="Findings to leave alone: those of this file.")
@click.option("--write-baseline", is_flag=True, help="Make the baseline of what is found now.")
@click.option(
    "--since",
    metavar="GIT_REF",
    help="Check only what changed since then; the rest of the history is the schema.",
)
@format_option("text", *FINDINGS)
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    schema: str | None,
    history: str | None,
    pg_version: int | None,
    source: str | None,
    queries: tuple[str, ...],
    fail_on: str | None,
    baseline: str | None,
    write_baseline: bool,
    since: str | None,
    format_: str,
    quiet: bool,
) -> None:
    """Check migrations: files, directories, or - for standard input."""
    config = config_for(paths)
    kept = snapshot_of(schema, config)
    pg = pg_version or config.pg_version or (kept.pg if kept is not None else DEFAULT_PG)
    source = source or config.source
    checker = Checker(config, pg=pg, queries=read_queries(queries, config))
    if since is not None:
        report = _since(checker, since, paths, config, schema, history, pg)
    else:
        report = _check(checker, paths, config, schema, history, source, pg)
    if write_baseline or baseline or config.baseline:
        _baseline(report, config, baseline, write_baseline, quiet)
    if format_ != "text":
        text = render(report, format_, [p for p in paths if not Path(p).is_dir()])
        if text:
            click.echo(text.rstrip("\n"))
    elif not quiet or report.findings:
        from zdd_migrate.formats import findings_text

        click.echo(findings_text.render(report, style=style, width=width()))
    ctx.exit(exit_status(report, fail_on or config.fail_on or "error"))


def _check(
    checker: Checker,
    paths: tuple[str, ...],
    config: Config,
    schema: str | None,
    history: str | None,
    source: str | None,
    pg: int,
) -> Report:
    """Files given one by one are checked where they stand; anything else as one history."""
    named = schema or history or config.schema or config.history
    code = source in ("alembic", "django")
    if not named and not code and all(p.endswith(".sql") and Path(p).is_file() for p in paths):
        from zdd_migrate.integrations.timelines import around

        return checker.run_all(
            (t.start, [(m.migration, m.changed) for m in t.moments]) for t in around(paths, source)
        )
    migrations = read_migrations(paths, source)
    start, _ = starting_schema(
        schema, paths, config, history=history, source=source, pg=pg, snapshots=True
    )
    return checker.run(migrations, start)


def _since(
    checker: Checker,
    ref: str,
    paths: tuple[str, ...],
    config: Config,
    schema: str | None,
    history: str | None,
    pg: int,
) -> Report:
    """What changed since a commit, each file where it stands in its history."""
    from zdd_migrate.integrations import git
    from zdd_migrate.integrations.timelines import timelines

    if history is not None:
        raise InputError("--since takes the history from git: leave --history out")
    first = Path(paths[0])
    checkout = git.root(first if first.is_dir() else first.parent)
    _, fork = git.base_of(checkout, ref)
    wanted = [Path(path).resolve() for path in paths]
    changed = [
        name
        for name in git.changed(checkout, fork)
        if name.endswith((".sql", ".py"))
        and any(_within((checkout / name).resolve(), path) for path in wanted)
    ]
    given = None
    if schema is not None or config.schema is not None:
        given = starting_schema(schema, (), config, pg=pg, snapshots=True)
    found = timelines(changed, checkout, given, config.source)
    return checker.run_all((t.start, [(m.migration, m.changed) for m in t.moments]) for t in found)


def _within(path: Path, wanted: Path) -> bool:
    return path == wanted or wanted in path.parents


def _baseline(report: Report, config: Config, named: str | None, renew: bool, quiet: bool) -> None:
    """Leave alone what the baseline knows, or make it."""
    from zdd_migrate.check import baseline

    path = Path(named) if named else config.root / (config.baseline or "zdd-baseline.json")
    if renew:
        count = baseline.write(report, path, config.root)
        click.echo(f"{path}: {count} findings in the baseline", err=True)
    left = baseline.apply(report, path, config.root)
    if left and not quiet:
        click.echo(
            f"{path}: {left} entries match nothing any more; --write-baseline drops them", err=True
        )


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
