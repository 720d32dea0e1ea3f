"""Changed files as histories: each with the migrations around it, in the order they run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zdd_migrate.errors import InputError
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.sources import files_of, read_paths


@dataclass(frozen=True, slots=True)
class Moment:
    """A migration in its history: `changed` by the branch, or there before."""

    migration: Migration
    changed: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """One history in the order it runs, on a starting schema and the SQL that builds that."""

    moments: tuple[Moment, ...]
    start: Schema
    start_sql: str = ""


_ROOTS = frozenset({"migrations", "migration", "migrate", "versions"})


def timelines(
    changed: Sequence[str], checkout: Path, given: tuple[Schema, str] | None
) -> list[Timeline]:
    """One for each Alembic project and each directory of SQL migrations among the changed files.

    `given` is the schema before the changed migrations and the SQL that builds it; the unchanged
    ones are replayed where it is None.
    """
    revisions = [p for p in changed if p.endswith(".py")]
    scripts = [p for p in changed if p.endswith(".sql")]
    return [*_alembic(revisions, checkout, given), *_plain(scripts, checkout, given)]


def around(paths: Sequence[str]) -> list[Timeline]:
    """Files given one by one, each in the history of its own directory, where it can be told.

    Names that begin with a number, or directories that do, say the order; else a file stands alone
    and its schema is unknown.
    """
    by_root: dict[Path, list[Path]] = {}
    for path in map(Path, paths):
        root = Path(_root(path.as_posix()))
        if not re.match(r"[vV]?\d", path.relative_to(root).parts[0]):
            root = path
        by_root.setdefault(root, []).append(path)
    return [_around(root, chosen) for root, chosen in by_root.items()]


def _around(root: Path, chosen: list[Path]) -> Timeline:
    """The chosen files among those of `root`, up to the last one."""
    fresh = {path.resolve() for path in chosen}
    files = [f for f in files_of(root) if f.resolve() in fresh or root.is_dir()]
    missing = [path for path in chosen if path.resolve() not in {f.resolve() for f in files}]
    files = [*files, *missing]  # a way back, asked for by name
    last = max(n for n, file in enumerate(files) if file.resolve() in fresh)
    moments = tuple(
        Moment(migration, file.resolve() in fresh)
        for file in files[: last + 1]
        for migration in read_paths([str(file)])
    )
    start = Schema()
    start.complete = any(not moment.changed for moment in moments)
    return Timeline(moments, start)


def _plain(
    changed: Sequence[str], checkout: Path, given: tuple[Schema, str] | None
) -> list[Timeline]:
    out = []
    for root in sorted({_root(p) for p in changed}):
        fresh = {(checkout / p).resolve() for p in changed if _root(p) == root}
        files = files_of(checkout / root)
        if given is not None:
            files = [f for f in files if f.resolve() in fresh]
        moments = tuple(
            Moment(migration, path.resolve() in fresh)
            for path in files
            for migration in read_paths([_shown(path)])
        )
        out.append(_timeline(moments, given))
    return out


def _root(path: str) -> str:
    """The directory that holds the whole history of a file."""
    parents = PurePosixPath(path).parents
    named = [str(p) for p in parents if p.name in _ROOTS]
    return named[0] if named else str(parents[0])


def _alembic(
    changed: Sequence[str], checkout: Path, given: tuple[Schema, str] | None
) -> list[Timeline]:
    if not changed:
        return []
    from zdd_migrate.integrations.alembic.project import find, is_revision
    from zdd_migrate.integrations.alembic.reading import read

    by_root: dict[Path, set[Path]] = {}
    for name in changed:
        path = checkout / name
        project = find(path) if is_revision(path) else None
        if project is not None:
            by_root.setdefault(project.versions[0], set()).add(path.resolve())
    out = []
    for versions, fresh in sorted(by_root.items()):
        project = find(versions)
        if project is None:
            raise InputError(f"{versions}: no Alembic project")
        migrations, _ = read(project, [str(versions)])
        pairs = zip(project.revisions, migrations, strict=True)
        out.append(_revisions([(r.path.resolve() in fresh, m) for r, m in pairs], given))
    return out


def _revisions(pairs: list[tuple[bool, Migration]], given: tuple[Schema, str] | None) -> Timeline:
    moments = [Moment(migration, changed) for changed, migration in pairs]
    if given is not None:
        moments = [m for m in moments if m.changed]
    return _timeline(tuple(moments), given)


def _timeline(moments: tuple[Moment, ...], given: tuple[Schema, str] | None) -> Timeline:
    if given is not None:
        return Timeline(moments, given[0].copy(), given[1])
    start = Schema()
    start.complete = True  # the whole history is here, from its first file
    return Timeline(moments, start)


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
