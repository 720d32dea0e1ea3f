"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zdd_deploy.config import FILE, Settings, load
from zdd_deploy.journal import PostgresJournal

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path(FILE),
    show_default=True,
    help="The environment, its builds and its pace.",
)
database_option = click.option(
    "--database",
    envvar="DATABASE_URL",
    required=True,
    metavar="URL",
    help="The database whose phases are run (default: DATABASE_URL).",
)
journal_option = click.option(
    "--journal", metavar="URL", help="Where releases are recorded (default: the same database)."
)
format_option = click.option(
    "--format", "format_", type=click.Choice(("text", "json")), default="text", help="How to print."
)


def environment(
    config: Path, database: str, journal: str | None
) -> tuple[Settings, PostgresJournal]:
    """The settings, and the journal of their environment."""
    settings = load(config, database)
    return settings, PostgresJournal(settings.environment, journal or database, database)
