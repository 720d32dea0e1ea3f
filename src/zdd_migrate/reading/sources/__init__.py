"""Where migrations come from: each tool's layout, its sections and its transaction rules.

A tool is one module of this package with `read(text, path)`, and `in_order(files)` where the order
is not that of the names. It is named with `--source`, or told by its files' names and annotations.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import decode

#: `--source` → what it is
SOURCES = {
    "plain": "SQL files, run statement by statement as psql does",
    "flyway": "V1__name.sql, R__name.sql, with .conf beside them",
    "golang-migrate": "1_name.up.sql and 1_name.down.sql",
    "goose": "-- +goose Up and -- +goose Down",
    "dbmate": "-- migrate:up and -- migrate:down",
    "diesel": "directories with up.sql and down.sql",
    "sqlx": "1_name.sql or 1_name.up.sql of a Rust crate that uses sqlx",
    "prisma": "directories with migration.sql",
    "drizzle": "--> statement-breakpoint, meta/_journal.json",
}
#: kinds whose migrations are directories of their own
_DIRECTORIES = ("diesel", "prisma")

_FLYWAY = re.compile(r"(?:[VUB]\d+(?:[._]\d+)*|R)__.+\.sql$")
_UP_DOWN = re.compile(r"\d+_.*\.(?:up|down)\.sql$")
_NUMBERED = re.compile(r"\d+_.*\.sql$")
_GOOSE = re.compile(r"^--\s*\+goose\s", re.IGNORECASE | re.MULTILINE)
_DBMATE = re.compile(r"^--\s*migrate:(?:up|down)\b", re.MULTILINE)
_DOWN = re.compile(
    r"(?:(?:^|[._-])(?:down|undo|rollback)|^U\d+(?:[._]\d+)*__.*)\.sql$", re.IGNORECASE
)


def read_paths(paths: Sequence[str], source: str | None = None) -> list[Migration]:
    """The migrations at `paths` (files, directories, or - for standard input), in order."""
    _known(source)
    found: list[Migration] = []
    for given in paths:
        if given == "-":
            found.append(read_text(decode(sys.stdin.buffer.read(), "-"), Path("-"), source))
            continue
        path = Path(given)
        if not path.exists():
            raise InputError(f"{path}: no such file or directory")
        files = files_of(path, source)
        if path.is_dir() and not files:
            raise InputError(f"{path}: no migrations (*.sql) in this directory")
        found.extend(read_file(file, source) for file in files)
    return found


def read_file(path: Path, source: str | None = None) -> Migration:
    """The migration in one file."""
    return read_text(decode(path.read_bytes(), str(path)), path, source)


def read_text(text: str, path: Path, source: str | None = None) -> Migration:
    """The migration in a text that stands (or would stand) at `path`."""
    _known(source)
    migration: Migration = _tool(source or kind_of(path, text)).read(text, path)
    return migration


def read_history(
    paths: Sequence[str], history: str | None = None, source: str | None = None
) -> list[Migration]:
    """Earlier migrations: those of `history`, else those beside the given files that come first."""
    if history is not None:
        return read_paths([history], source)
    files = [Path(p) for p in paths if p != "-"]
    if not files or any(p.is_dir() for p in files):
        return []
    given = {p.resolve() for p in files}
    root = history_root(files[0])
    if not is_ordered(files[0], root):
        return []
    beside = files_of(root, source)
    first = next((n for n, p in enumerate(beside) if p.resolve() in given), 0)
    return [read_file(p, source) for p in beside[:first]]


def kind_of(path: Path, text: str = "") -> str:
    """Which tool a file is for, by its name, its neighbours, and its annotations."""
    name = path.name
    if _FLYWAY.match(name):
        return "flyway"
    if name in ("up.sql", "down.sql"):
        return "diesel"
    if name == "migration.sql":
        return _directory_kind(path)
    if (path.parent / "meta" / "_journal.json").is_file():
        return "drizzle"
    if text and _GOOSE.search(text):
        return "goose"
    if text and _DBMATE.search(text):
        return "dbmate"
    if "--> statement-breakpoint" in text:
        return "drizzle"
    if _NUMBERED.match(name) and (text.startswith("-- no-transaction") or _crate(path.parent)):
        return "sqlx"
    return "golang-migrate" if _UP_DOWN.match(name) else "plain"


def _directory_kind(path: Path) -> str:
    """migration.sql in a directory of its own: Prisma's, newer Drizzle's, or nobody's."""
    above = path.parent.parent
    if (above / "migration_lock.toml").is_file() or "prisma" in path.parts:
        return "prisma"
    return "drizzle" if (path.parent / "snapshot.json").is_file() else "plain"


@lru_cache(maxsize=256)
def _crate(directory: Path) -> bool:
    """Whether the directory belongs to a Rust crate that uses sqlx."""
    for above in (directory, *directory.absolute().parents[:3]):
        manifest = above / "Cargo.toml"
        if manifest.is_file():
            return "sqlx" in manifest.read_text(encoding="utf-8", errors="replace")
    return False


def history_root(path: Path) -> Path:
    """The directory that holds the whole history of a file."""
    if kind_of(path) in _DIRECTORIES or (path.name == "migration.sql" and kind_of(path) != "plain"):
        return path.parent.parent
    return path.parent


def is_ordered(path: Path, root: Path) -> bool:
    """Whether the order of the migrations below `root` can be told."""
    if kind_of(path) != "plain":
        return True
    return re.match(r"[vV]?\d", path.relative_to(root).parts[0]) is not None


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which 2 comes before 10."""
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < 1000 else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def is_way_back(path: Path) -> bool:
    """Whether a file takes a migration back: x.down.sql, down.sql, U1__x.sql."""
    return _DOWN.search(path.name) is not None


def forward_of(path: Path) -> Path:
    """The file that a way back takes back."""
    name = re.sub(r"(?<![A-Za-z])(?:down|undo|rollback)\.sql$", "up.sql", path.name)
    return path.with_name("V" + name[1:] if name == path.name and name[0] == "U" else name)


def files_of(path: Path, source: str | None = None) -> list[Path]:
    """A file, or a directory's migrations in the order they run; ways back are left out."""
    if path.is_file():
        return [path]
    found = [
        p
        for p in path.rglob("*.sql")
        if p.is_file() and not p.name.startswith(".") and not is_way_back(p)
    ]
    found.sort(key=lambda p: natural(str(p.relative_to(path))))
    by_kind: dict[str, list[Path]] = {}
    for file in found:
        by_kind.setdefault(source or kind_of(file), []).append(file)
    return [p for kind, files in by_kind.items() for p in _in_order(kind, files)]


def _in_order(kind: str, files: Iterable[Path]) -> Sequence[Path]:
    files = list(files)
    if kind == "plain" and files:  # an annotation says what the name does not
        kind = kind_of(files[0], files[0].read_bytes()[:8192].decode("utf-8", "replace"))
    in_order = getattr(_tool(kind), "in_order", None)
    ordered: Sequence[Path] = in_order(files) if in_order is not None else files
    return ordered


def _tool(kind: str) -> Any:
    return import_module(f"{__name__}.{kind.replace('-', '_')}")


def _known(source: str | None) -> None:
    if source is not None and source not in SOURCES:
        every = sorted([*SOURCES, "alembic", "django"])
        raise InputError(f"--source {source}: known are {', '.join(every)}")
