"""A starting schema from SQL: a dump, a script, or a directory of earlier migrations."""

from __future__ import annotations

from pathlib import Path

from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.sources import read_paths


def load_schema_file(path: Path, pg_version: int = DEFAULT_PG) -> tuple[Schema, str]:
    """The schema that the SQL at `path` builds, and that SQL."""
    schema = Schema()
    texts: list[str] = []
    for migration in read_paths([str(path)]):
        replay(migration.statements, schema)
        texts.append(Path(migration.path).read_text(encoding="utf-8-sig"))
    schema.complete = not schema.gaps
    return schema, "\n".join(texts)
