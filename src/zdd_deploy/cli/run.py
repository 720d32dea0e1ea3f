"""`zdd-deploy run`: release a verified plan, or go on with a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from zdd_deploy.assemble import Wanted, runner_of
from zdd_deploy.cli.options import config_option, database_option, format_option, journal_option
from zdd_deploy.config import load
from zdd_deploy.failures import BusyError, FencedError
from zdd_deploy.history import History
from zdd_deploy.strategies import STRATEGIES
from zdd_migrate.errors import EXIT_FINDINGS, EnvironmentFailedError, LockNotObtainedError
from zdd_migrate.model.plan import Phase


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--strategy", type=click.Choice(sorted(STRATEGIES)), required=True)
@click.option("--driver", default="local", show_default=True, help="The platform.")
@config_option
@database_option
@journal_option
@click.option(
    "--until",
    type=click.Choice([p.value for p in Phase if p is not Phase.MIGRATE]),
    default=Phase.CONTRACT.value,
    show_default=True,
    help="The last phase to walk; contract is the whole release.",
)
@click.option("--approve", is_flag=True, help="Contract needs no further yes.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=0,
    metavar="SECONDS",
    help="How long to wait for a person before ending with the release still open.",
)
@format_option
@click.pass_context
def run(
    ctx: click.Context,
    plan: Path,
    strategy: str,
    driver: str,
    config: Path,
    database: str,
    journal: str | None,
    until: str,
    approve: bool,
    wait: float,
    format_: str,
) -> None:
    """Release PLAN, a verified plan's directory; run again after a crash to go on."""
    wanted = Wanted(plan, strategy, database, journal, driver, Phase(until), approve, wait)
    runner = runner_of(wanted, load(config, database), say=say)
    try:
        history = runner.run()
    except (BusyError, FencedError):
        raise
    except (EnvironmentFailedError, LockNotObtainedError) as error:
        goes_on = "nothing is lost, zdd-deploy run goes on where this one stopped"
        raise type(error)(f"{error}; {goes_on}") from None
    if format_ == "json":
        click.echo(json.dumps(result(history), indent=2, ensure_ascii=False))
    else:
        click.echo(sentence(history))
    ctx.exit(0 if history.ended == "done" else EXIT_FINDINGS)


def say(text: str) -> None:
    """A line of progress."""
    click.echo(f"  {text}", err=True)


def result(history: History) -> dict[str, Any]:
    """How a run stands, as JSON."""
    return {
        "version": 1,
        "run": history.run,
        "status": history.ended or ("stopped" if why(history) else "running"),
        "direction": history.direction,
        "why": why(history),
        "stage": history.world.stage.value,
        "done": history.position,
        "steps": len(history.program),
    }


def why(history: History) -> str:
    """Why a run does not go on, or why it went back."""
    if history.frozen:
        return f"frozen: {history.frozen}"
    if history.waiting:
        return f"waits for a yes to {history.waiting}"
    return history.paused or history.reason


def sentence(history: History) -> str:
    """How a run ended, for people."""
    if history.ended == "done":
        return f"released: run {history.run}, {len(history.program)} steps"
    if history.ended:
        return f"taken back: {history.reason}"
    return (
        f"{why(history)}\nthe release is open and traffic stays as it is: zdd-deploy promote, "
        "resume or abort, then run again"
    )
