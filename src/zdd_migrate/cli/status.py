"""`zdd-migrate status`: how far a plan has come on a database."""

from __future__ import annotations

import json
from pathlib import Path

import click

from zdd_migrate.cli.apply import database_option
from zdd_migrate.cli.options import format_option, quiet_option, style


@click.command(name="status")
@click.argument("plan", type=click.Path(path_type=Path))
@database_option
@format_option("text", "json")
@quiet_option
def command(plan: Path, database: str, format_: str, quiet: bool) -> None:
    """Say how far PLAN has come, and what comes next."""
    from zdd_migrate.apply import status

    found = status(plan, database)
    if format_ == "json":
        phases = [
            {
                "phase": p.phase.value,
                "state": p.state,
                "done": list(p.done),
                "running": list(p.running),
                "open": list(p.open),
            }
            for p in found.phases
        ]
        result = {
            "version": 1,
            "plan": found.plan,
            "phases": phases,
            "past_point_of_no_return": found.past_return,
            "next": found.next,
        }
        click.echo(json.dumps(result, indent=2))
        return
    for one in found.phases:
        names = {"done": "ok", "partly": "warning", "open": "dim"}
        total = len(one.done) + len(one.open) + len(one.running)
        click.echo(
            f"{one.phase.number} {one.phase.value:9} {style(f'{one.state:7}', names[one.state])}"
            f" {len(one.done)} of {total} steps"
            + (f", interrupted in {', '.join(one.running)}" if one.running else "")
        )
    if found.past_return:
        click.echo("past the point of no return")
    if not quiet:
        click.echo(f"next: {found.next}")
