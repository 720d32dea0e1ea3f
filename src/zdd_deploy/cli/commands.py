"""`zdd-deploy pause`, `resume`, `promote`, `abort`: what a person tells the release under way.

A command is written into the journal; the runner that is at work takes it up within a second, or
the next one does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zdd_deploy.cli.options import config_option, database_option, environment, journal_option
from zdd_deploy.history import History, fold
from zdd_deploy.journal import PostgresJournal
from zdd_migrate.errors import InputError


def _tell(config: Path, database: str, journal: str | None, body: dict[str, Any]) -> None:
    """Write a command; say who takes it up."""
    settings, found = environment(config, database, journal)
    try:
        history = fold(found.events())
        _refuse(settings.environment, history, body["command"])
        found.command(history.run, body)
        click.echo(_answer(found, str(body["command"])))
    finally:
        found.close()


def _refuse(name: str, history: History, command: str) -> None:
    if not history.active:
        raise InputError(f"no release is under way on {name}: there is nothing to {command}")
    if command == "promote" and not (history.waiting or history.paused):
        raise InputError(f"the release on {name} waits for nobody: there is nothing to promote")
    if command == "resume" and not (history.paused or history.frozen):
        raise InputError(f"the release on {name} is neither paused nor frozen")


def _answer(journal: PostgresJournal, command: str) -> str:
    if journal.busy():
        return f"{command}: the runner at work takes it up"
    return f"{command}: recorded; no runner is at work, zdd-deploy run takes it up"


@click.command()
@config_option
@database_option
@journal_option
def pause(config: Path, database: str, journal: str | None) -> None:
    """Stop before the next step; traffic stays as it is."""
    _tell(config, database, journal, {"command": "pause"})


@click.command()
@config_option
@database_option
@journal_option
def resume(config: Path, database: str, journal: str | None) -> None:
    """Go on after a pause, or after a freeze that was looked into."""
    _tell(config, database, journal, {"command": "resume"})


@click.command()
@config_option
@database_option
@journal_option
def promote(config: Path, database: str, journal: str | None) -> None:
    """Say yes: to contract, or to a build that could not be judged."""
    _tell(config, database, journal, {"command": "promote"})


@click.command()
@config_option
@database_option
@journal_option
@click.option("--undo-schema", is_flag=True, help="Take the plan's phases back too.")
def abort(config: Path, database: str, journal: str | None, undo_schema: bool) -> None:
    """Take the release back: traffic, then instances; the schema stays unless asked."""
    _tell(config, database, journal, {"command": "abort", "undo_schema": undo_schema})
