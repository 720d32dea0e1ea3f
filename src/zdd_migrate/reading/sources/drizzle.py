"""Drizzle: `0000_name.sql` in the order of `meta/_journal.json`, or `<time>_<name>/migration.sql`.

Everything that is pending runs in one transaction, and there is no way out of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql


def read(text: str, path: Path) -> Migration:
    """Read one migration; `--> statement-breakpoint` is a comment to Postgres."""
    name = path.parent.name if path.name == "migration.sql" else None
    return read_sql(text, str(path), name=name, in_transaction=True)


def in_order(files: Sequence[Path]) -> list[Path]:
    """As the journal has them; a file that is not in it comes last, where it would be added."""
    places: dict[Path, int] = {}
    for directory in {file.parent for file in files}:
        for tag, index in _journal(directory / "meta" / "_journal.json").items():
            places[directory / f"{tag}.sql"] = index
    return sorted(files, key=lambda file: places.get(file, len(places) + len(files)))


def _journal(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return {str(entry["tag"]): int(entry["idx"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: this is no journal of Drizzle: {error}") from None
