"""Options and small services that several verbs share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zdd_migrate.config import Config, load
from zdd_migrate.errors import InputError
from zdd_migrate.model.query import Query
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.operations.base import DEFAULT_PG, SUPPORTED_PG

if TYPE_CHECKING:
    from zdd_migrate.reading.snapshot import Snapshot

F = TypeVar("F", bound=Callable[..., Any])

_DSN = re.compile(r"^(postgres(ql)?://|.*\b(host|dbname|service)=)")


def format_option(*formats: str) -> Callable[[F], F]:
    """`--format`, the first named being the default."""
    return click.option(
        "--format", "format_", type=click.Choice(formats), default=formats[0], help="How to print."
    )


quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but the result.")
schema_option = click.option(
    "--schema",
    metavar="FILE|DIR|DSN",
    help="What the database looks like before: SQL that builds it, a snapshot, or a database to read.",
)
pg_option = click.option(
    "--pg-version",
    type=click.IntRange(min(SUPPORTED_PG), 30),
    help=f"Postgres major to reason about (default: configuration, else {DEFAULT_PG}).",
)
source_option = click.option(
    "--source",
    metavar="KIND",
    help="Tool the migrations are for (default: detected): plain, flyway, goose, …; see docs/sources.md.",
)


queries_option = click.option(
    "--queries",
    multiple=True,
    metavar="FILE",
    help="The running code's queries: SQL, a pg_stat_statements export, a server log (repeatable).",
)


def read_queries(given: Sequence[str], config: Config) -> tuple[Query, ...]:
    """The queries of `--queries`, else those that the configuration names for the old code."""
    configured = config.versions.get("old", {}).get("queries", ())
    if not given and not configured:
        return ()
    from zdd_migrate.reading.queries import read_queries as read

    names = [configured] if isinstance(configured, str) else configured
    paths = [Path(g) for g in given] or [config.root / name for name in names]
    return read(paths).queries


def config_for(paths: Sequence[str]) -> Config:
    """The configuration nearest to the first path, or to here."""
    first = Path(paths[0]) if paths and paths[0] != "-" else Path()
    return load(first if first.exists() else Path())


def read_migrations(paths: Sequence[str], source: str | None) -> list[Migration]:
    """The migrations at `paths`, in the order they run."""
    revisions = _revisions(tuple(paths), source)
    if revisions is not None:
        return revisions[0]
    from zdd_migrate.reading.sources import read_paths

    return read_paths(paths, source)


@lru_cache(maxsize=4)
def _revisions(
    paths: tuple[str, ...], source: str | None
) -> tuple[list[Migration], list[Migration]] | None:
    """Migrations in Python at `paths` and those before them; None where there are none."""
    if source == "django" or (source is None and _may_be_django(paths)):
        from zdd_migrate.integrations.django import reading as django

        directory = django.project_of(paths, source)
        if directory is not None:
            return django.read(directory, paths)
    if source != "alembic" and not _may_be_alembic(paths):
        return None
    from zdd_migrate.integrations.alembic import reading

    project = reading.project_of(paths, source)
    return reading.read(project, paths) if project is not None else None


def _may_be_django(paths: Sequence[str]) -> bool:
    """Whether it is worth looking closer."""
    return any(
        Path(path, "manage.py").exists()
        or (path.endswith(".py") and "migrations" in Path(path).absolute().parts)
        or (Path(path).name == "migrations" and Path(path, "__init__.py").exists())
        for path in paths
        if path != "-"
    )


def _may_be_alembic(paths: Sequence[str]) -> bool:
    """Whether it is worth importing Alembic to find out."""
    return any(
        path.endswith(".py")
        or not Path(path).exists()
        or any(Path(path, name).exists() for name in ("alembic.ini", "env.py", "versions"))
        or (Path(path).is_dir() and any(Path(path).glob("*.py")))
        for path in paths
        if path != "-"
    )


def is_dsn(text: str) -> bool:
    """Whether `--schema` names a database rather than a file."""
    return _DSN.match(text) is not None and not Path(text).exists()


def starting_schema(
    schema: str | None,
    paths: Sequence[str],
    config: Config,
    *,
    history: str | None = None,
    source: str | None = None,
    pg: int = DEFAULT_PG,
    snapshots: bool = False,
) -> tuple[Schema, str]:
    """The schema before the migrations, and SQL that builds it ("" when read from a database).

    `--schema` first; else `--history`, or the earlier migrations beside those given; else nothing
    is known, and every verdict says what it assumed. A snapshot holds no literals: it will do only
    where `snapshots` says so.
    """
    wanted = _wanted(schema, config)
    if wanted is not None and is_dsn(wanted):
        from zdd_migrate.postgres.catalog import read_live

        return read_live(wanted), ""
    if wanted is not None:
        if not Path(wanted).exists():
            raise InputError(
                f"{wanted}: no such schema file; --schema takes SQL, a directory or a database URL"
            )
        if (kept := snapshot_of(schema, config)) is not None:
            if not snapshots:
                raise InputError(
                    f"{wanted}: a snapshot holds no literals, so nothing can be built from it; "
                    "give SQL (pg_dump --schema-only), earlier migrations, or a database URL"
                )
            return kept.schema, ""
        from zdd_migrate.reading.schema_source import load_schema_file

        loaded = load_schema_file(Path(wanted), pg)
        tell_gaps(loaded[0])
        return loaded
    from zdd_migrate.operations.walk import replay
    from zdd_migrate.reading.schema_source import script

    found = Schema()
    if history is None and config.history is not None:
        history = str(config.root / config.history)
    earlier = _earlier(paths, history, source)
    for migration in earlier:
        replay(migration.statements, found)
    found.complete = bool(earlier) and not found.gaps
    tell_gaps(found)
    return found, script(earlier)


def _wanted(schema: str | None, config: Config) -> str | None:
    """What `--schema` or else the configuration names."""
    if schema is None and config.schema is not None and not is_dsn(config.schema):
        return str(config.root / config.schema)
    return schema or config.schema


def snapshot_of(schema: str | None, config: Config) -> Snapshot | None:
    """The snapshot that is named as the schema, where one is."""
    wanted = _wanted(schema, config)
    if wanted is None or not Path(wanted).is_file():
        return None
    with Path(wanted).open("rb") as file:
        if b'"zdd-migrate snapshot"' not in file.read(200):
            return None
    from zdd_migrate.reading.snapshot import load

    return load(Path(wanted))


def tell_gaps(schema: Schema) -> None:
    """Say on stderr what of the starting schema was not understood."""
    for gap in schema.gaps[:3]:
        click.echo(f"zdd-migrate: {gap} (so what it defines is not known)", err=True)
    if len(schema.gaps) > 3:
        click.echo(f"zdd-migrate: … and {len(schema.gaps) - 3} more", err=True)


def _earlier(paths: Sequence[str], history: str | None, source: str | None) -> list[Migration]:
    if history is None:
        revisions = _revisions(tuple(paths), source)
        if revisions is not None:
            return revisions[1]
    from zdd_migrate.reading.sources import read_history

    return read_history(paths, history, source)


def style(text: str, name: str) -> str:
    """Colour for a terminal (click drops it when the output is none)."""
    colours: dict[str, dict[str, Any]] = {
        "error": {"fg": "red", "bold": True},
        "warning": {"fg": "yellow", "bold": True},
        "info": {"fg": "blue"},
        "ok": {"fg": "green", "bold": True},
        "bold": {"bold": True},
        "dim": {"dim": True},
        "fix": {"fg": "green"},
    }
    return click.style(text, **colours.get(name, {}))


def width() -> int:
    """Columns to print in: the terminal's, at most 100."""
    import shutil

    return min(shutil.get_terminal_size((100, 24)).columns, 100) if sys.stdout.isatty() else 100


def output_of(text: str, formats: Sequence[str]) -> tuple[str, Path]:
    """`-o html=report.html` → ("html", Path("report.html"))."""
    form, _, file = text.partition("=")
    if form not in formats or not file:
        raise InputError(f"-o {text}: write FORMAT=FILE, with one of {', '.join(formats)}")
    return form, Path(file)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; InputError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
