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
from zdd_migrate.reading.statements import decode


def load_schema_file(path: Path, pg_version: int = DEFAULT_PG) -> tuple[Schema, str]:
    """The schema that the SQL at `path` builds, and that SQL."""
    schema = Schema()
    texts: list[str] = []
    for migration in read_paths([str(path)]):
        replay(migration.statements, schema)
        text = decode(Path(migration.path).read_bytes(), migration.path)
        texts.append(f"{_marker(migration.path, 1)}\n{text}")
    schema.complete = not schema.gaps
    return schema, "\n".join(texts)


def script(migrations: Iterable[Migration]) -> str:
    """The statements of migrations as one script."""
    return "\n".join(
        f"{_marker(statement.span.path, statement.span.line)}\n{statement.sql};"
        for migration in migrations
        for statement in migration.statements
    )


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
