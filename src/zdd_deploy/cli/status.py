"""`zdd-deploy status`: where the release stands, and what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from zdd_deploy.assemble import driver_of
from zdd_deploy.cli.options import (
    config_option,
    database_option,
    environment,
    format_option,
    journal_option,
)
from zdd_deploy.cli.run import result, why
from zdd_deploy.config import Settings
from zdd_deploy.history import History, fold
from zdd_deploy.model import Observation, describe, show_weights
from zdd_migrate.cli.options import style
from zdd_migrate.errors import EnvironmentFailedError


@click.command()
@config_option
@database_option
@journal_option
@format_option
def status(config: Path, database: str, journal: str | None, format_: str) -> None:
    """Say where the newest release of the environment stands."""
    settings, found = environment(config, database, journal)
    try:
        history = fold(found.events())
        busy, tampered = found.busy(), found.tampered()
    finally:
        found.close()
    seen = _look(settings)
    if format_ == "json":
        out = {
            **result(history),
            "environment": settings.environment,
            "runner": busy,
            "journal_broken_at": tampered,
            "platform": _platform(seen),
        }
        click.echo(json.dumps(out, indent=2, ensure_ascii=False))
        return
    for line in _lines(settings, history, busy=busy):
        click.echo(line)
    if tampered is not None:
        click.echo(f"the journal was changed by hand: event {tampered} does not fit the one before")
    click.echo(
        "platform: " + (_words(seen) if seen is not None else "the balancer does not answer")
    )


def _look(settings: Settings) -> Observation | None:
    try:
        return driver_of(settings).observe()
    except EnvironmentFailedError:
        return None


def _platform(seen: Observation | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    return {
        "weights": dict(seen.weights),
        "epoch": seen.epoch,
        "instances": {
            build: {"ready": i.ready, "draining": i.draining, "broken": i.broken}
            for build, i in seen.instances.items()
        },
    }


def _words(seen: Observation) -> str:
    counts = [
        f"{i.ready} {build} ready"
        + (f", {i.draining} draining" if i.draining else "")
        + (f", {i.broken} broken" if i.broken else "")
        for build, i in sorted(seen.instances.items())
    ]
    return f"traffic {show_weights(seen.weights)}; {'; '.join(counts) or 'no instances'}"


def _lines(settings: Settings, history: History, *, busy: bool) -> Iterator[str]:
    if not history.run:
        yield f"no release was ever begun on {settings.environment}"
        return
    begun = history.begun
    way = "" if history.direction == "forward" else ", on the way back"
    state = history.ended or ("a runner is at work" if busy else "no runner is at work")
    yield (
        f"{settings.environment}: {begun['title']}, {begun['strategy']}, "
        f"{begun['fleet']['old']} to {begun['fleet']['new']}{way}: {state}"
    )
    if why(history):
        yield f"  {why(history)}"
    for number, step in enumerate(history.program):
        mark = "done" if number < history.position else "now" if history.intended else "next"
        if number > history.position or (history.ended and mark != "done"):
            mark = ""
        yield f"  {style(f'{mark:<5}', 'ok' if mark == 'done' else 'bold')} {describe(step)}"
