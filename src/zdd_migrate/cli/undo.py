"""`zdd-migrate undo`: walk a plan back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from zdd_migrate.cli.apply import database_option
from zdd_migrate.cli.options import format_option, quiet_option


@click.command(name="undo")
@click.argument("plan", type=click.Path(path_type=Path))
@database_option
@click.option(
    "--to",
    type=click.Choice(("start", "expand", "migrate", "switch")),
    default="start",
    help="The phase to stand after (start: as if nothing had been run).",
)
@format_option("text", "json")
@quiet_option
def command(plan: Path, database: str, to: str, format_: str, quiet: bool) -> None:
    """Undo PLAN step by step, newest first."""
    from zdd_migrate.apply import undo

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    result = undo(plan, database, to, say=say)
    if format_ == "json":
        click.echo(json.dumps({"version": 1, "to": to, **asdict(result)}, indent=2))
    else:
        click.echo(f"{result.plan}: undone {', '.join(result.ran) or 'nothing'}; now at {to}")
