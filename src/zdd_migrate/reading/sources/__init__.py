"""Where migrations come from: each tool's layout, its sections and its transaction rules."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.sources import plain
from zdd_migrate.reading.statements import decode, read_sql

SOURCES = {"plain": plain}


def read_paths(paths: Sequence[str], source: str | None = None) -> list[Migration]:
    """The migrations at `paths` (files, directories, or - for standard input), in order."""
    if source is not None and source not in SOURCES:
        raise InputError(f"--source {source}: known are {', '.join(sorted(SOURCES))}")
    found: list[Migration] = []
    for given in paths:
        if given == "-":
            text = decode(sys.stdin.buffer.read(), "-")
            found.append(read_sql(text, "-", name="stdin"))
            continue
        path = Path(given)
        if not path.exists():
            raise InputError(f"{path}: no such file or directory")
        files = files_of(path)
        if path.is_dir() and not files:
            raise InputError(f"{path}: no migrations (*.sql) in this directory")
        found.extend(plain.read(file) for file in files)
    return found


def read_history(
    paths: Sequence[str], history: str | None = None, source: str | None = None
) -> list[Migration]:
    """Earlier migrations: those of `history`, else those beside the given files that come first."""
    if history is not None:
        return read_paths([history], source)
    files = [Path(p) for p in paths if p != "-"]
    if not files or any(p.is_dir() for p in files):
        return []
    first = min(files, key=lambda p: natural(p.name))
    if not re.match(r"^[vV]?\d", first.name):
        return []
    given = {p.resolve() for p in files}
    earlier = [
        p
        for p in files_of(first.parent)
        if p.resolve() not in given and natural(p.name) < natural(first.name)
    ]
    return [plain.read(p) for p in earlier]


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which 2 comes before 10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


_DOWN = re.compile(r"(^|[._-])(down|undo|rollback)\.sql$", re.IGNORECASE)


def files_of(path: Path) -> list[Path]:
    """A file, or a directory's SQL files in natural order; ways back (x.down.sql) are left out."""
    if path.is_file():
        return [path]
    return sorted(
        (
            p
            for p in path.rglob("*.sql")
            if p.is_file() and not p.name.startswith(".") and not _DOWN.search(p.name)
        ),
        key=lambda p: natural(str(p.relative_to(path))),
    )
