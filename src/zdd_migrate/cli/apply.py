"""`zdd-migrate apply`: run one phase of a plan on a database."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from zdd_migrate.cli.options import format_option, quiet_option
from zdd_migrate.model.plan import Phase

database_option = click.option(
    "--database", required=True, metavar="URL", envvar="DATABASE_URL", help="The database."
)


@click.command(name="apply")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--phase", required=True, type=click.Choice([p.value for p in Phase]), help="Which phase."
)
@database_option
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
@click.option("--approve", is_flag=True, help="Needed for contract: no old code is left running.")
@click.option(
    "--approve-drop",
    is_flag=True,
    help="Needed for contract's last steps, which drop for good: nothing was missed.",
)
@click.option("--early", is_flag=True, help="With --approve-drop: before the day it waits for.")
@click.option("--attempts", type=click.IntRange(1), default=30, help="Tries for each lock.")
@format_option("text", "json")
@quiet_option
def command(
    plan: Path,
    phase: str,
    database: str,
    dry_run: bool,
    approve: bool,
    approve_drop: bool,
    early: bool,
    attempts: int,
    format_: str,
    quiet: bool,
) -> None:
    """Run one phase of PLAN. A run that was stopped goes on where it stopped."""
    from zdd_migrate.apply import Policy, run_phase

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    bar = _Bar(show=not quiet and sys.stderr.isatty())
    result = run_phase(
        plan,
        Phase(phase),
        database,
        dry_run=dry_run,
        approve=approve,
        approve_drop=approve_drop,
        early=early,
        policy=Policy(attempts=attempts, say=say),
        say=say,
        progress=bar.update,
    )
    bar.close()
    if format_ == "json":
        click.echo(json.dumps({"version": 1, "dry_run": dry_run, **asdict(result)}, indent=2))
        return
    for statement in result.statements:
        click.echo(f"{statement};")
    verb = "would run" if dry_run else "ran"
    steps = ", ".join(result.ran) or "nothing"
    before = f"; done before: {', '.join(result.skipped)}" if result.skipped else ""
    left = f"; left: {', '.join(result.left)}" if result.left else ""
    click.echo(f"{phase} of {result.plan}: {verb} {steps}{before}{left}")
    if result.left and phase == Phase.CONTRACT.value:
        click.echo(
            "what is left drops for good: when nothing was missed, --phase contract --approve-drop "
            "(zdd-migrate status says from which day on)"
        )
    for code in result.releases:
        then = "contract comes when no old instance is left"
        if result.left:
            then = f"when no instance of the one before is left, run --phase {phase} again"
        click.echo(f"now release the {code} code; {then}")


class _Bar:
    """Progress of a backfill on a terminal, with the time it still takes."""

    def __init__(self, *, show: bool) -> None:
        self.show = show
        self.started = 0.0
        self.drawn = False

    def update(self, done: int, total: int) -> None:
        if not self.show:
            return
        from time import monotonic

        self.started = self.started or monotonic()
        took = monotonic() - self.started
        left = f", about {took / done * (total - done):.0f} s left" if 0 < done < total else ""
        click.echo(f"\r  {done:,} of about {total:,} rows{left}   ", nl=False, err=True)
        self.drawn = True

    def close(self) -> None:
        if self.drawn:
            click.echo(err=True)
