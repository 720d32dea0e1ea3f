"""A starting schema from SQL: a dump, a script, or a directory of earlier migrations.

The SQL of several files becomes one script. Comment lines in it say which file and line the text
below them comes from, so that whoever runs it can name the place that does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.sources import read_paths


def load_schema_file(path: Path, pg_version: int = DEFAULT_PG) -> tuple[Schema, str]:
    """The schema that the SQL at `path` builds, and that SQL."""
    schema = Schema()
    migrations = read_paths([str(path)])
    for migration in migrations:
        replay(migration.statements, schema)
    schema.complete = not schema.gaps
    return schema, script(migrations)


def script(migrations: Iterable[Migration]) -> str:
    """The statements of migrations as one script that a driver can run.

    psql's commands are left out, and so is COPY FROM STDIN, whose rows only psql can send.
    """
    return "\n".join(
        f"{_marker(statement.span.path, statement.span.line)}\n{statement.sql};"
        for migration in migrations
        for statement in migration.statements
        if not statement.sql.startswith("\\") and not _COPY_STDIN.match(statement.sql)
    )


_COPY_STDIN = re.compile(r"COPY\b.*\bFROM\s+STDIN\b", re.IGNORECASE | re.DOTALL)


def place(script_: str, offset: int, otherwise: str) -> str:
    """`file:line` of a character of a script; `otherwise` names a script without such lines."""
    before = script_[:offset]
    last = None
    for last in _MARKER.finditer(before):  # noqa: B007 - the last one is what is wanted
        pass
    if last is None:
        return f"{otherwise}:{before.count(chr(10)) + 1}"
    return f"{last[1]}:{int(last[2]) + before.count(chr(10), last.end() + 1)}"


def _marker(path: str, line: int) -> str:
    return f"-- from {path}:{line}"


_MARKER = re.compile(r"^-- from (.+):(\d+)$", re.MULTILINE)
