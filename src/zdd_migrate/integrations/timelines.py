"""Changed files as histories: each with the migrations around it, in the order they run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zdd_migrate.errors import InputError
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.sources import (
    SOURCES,
    files_of,
    forward_of,
    history_root,
    is_ordered,
    is_way_back,
    read_file,
)


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
    changed: Sequence[str],
    checkout: Path,
    given: tuple[Schema, str] | None,
    source: str | None = None,
) -> list[Timeline]:
    """One for each Alembic or Django project and each directory of SQL migrations among the changed
    files.

    `given` is the schema before the changed migrations and the SQL that builds it; the unchanged
    ones are replayed where it is None. `source` is the tool that SQL files are for.
    """
    python = [p for p in changed if p.endswith(".py")]
    scripts = [p for p in changed if p.endswith(".sql")]
    return [
        *_alembic(python, checkout, given),
        *_django(python, checkout, given),
        *_plain(scripts, checkout, given, source if source in SOURCES else None),
    ]


def around(paths: Sequence[str], source: str | None = None) -> list[Timeline]:
    """Files given one by one, each in the history of its own directory, where it can be told.

    Names that begin with a number, or directories that do, say the order, and so do the layouts of
    known tools; else a file stands alone and its schema is unknown. A way back stands behind what
    it takes back.
    """
    by_root: dict[Path, list[Path]] = {}
    back: list[tuple[Path, Path]] = []
    for path in map(Path, paths):
        root = Path(_root(path.as_posix()))
        if not is_ordered(path, root):
            root = path
        if is_way_back(path):
            back.append((root, path))
        else:
            by_root.setdefault(root, []).append(path)
    found = [_around(root, chosen, source) for root, chosen in by_root.items()]
    return [*found, *(_behind(root, path, source) for root, path in back)]


def _around(root: Path, chosen: list[Path], source: str | None) -> Timeline:
    """The chosen files among those of `root`, up to the last one."""
    fresh = {path.resolve() for path in chosen}
    files = [f for f in files_of(root, source) if f.resolve() in fresh or root.is_dir()]
    missing = [path for path in chosen if path.resolve() not in {f.resolve() for f in files}]
    files = [*files, *missing]
    last = max(n for n, file in enumerate(files) if file.resolve() in fresh)
    return _from_nothing(
        Moment(read_file(file, source), file.resolve() in fresh) for file in files[: last + 1]
    )


def _behind(root: Path, path: Path, source: str | None) -> Timeline:
    """A way back, after everything up to what it takes back."""
    files = files_of(root, source) if root.is_dir() else []
    forward = forward_of(path).resolve()
    count = next((n + 1 for n, file in enumerate(files) if file.resolve() == forward), 0)
    before = (Moment(read_file(file, source), changed=False) for file in files[:count])
    return _from_nothing([*before, Moment(read_file(path, source), changed=True)])


def _from_nothing(moments: Iterable[Moment]) -> Timeline:
    found = tuple(moments)
    start = Schema()
    start.complete = any(not moment.changed for moment in found)
    return Timeline(found, start)


def _plain(
    changed: Sequence[str],
    checkout: Path,
    given: tuple[Schema, str] | None,
    source: str | None,
) -> list[Timeline]:
    out = []
    for root in sorted({_root(p) for p in changed}):
        fresh = {(checkout / p).resolve() for p in changed if _root(p) == root}
        files = files_of(checkout / root, source)
        if given is not None:
            files = [f for f in files if f.resolve() in fresh]
        moments = tuple(
            Moment(read_file(Path(_shown(path)), source), path.resolve() in fresh) for path in files
        )
        out.append(_timeline(moments, given))
    return out


def _root(path: str) -> str:
    """The directory that holds the whole history of a file."""
    parents = PurePosixPath(path).parents
    named = [str(p) for p in parents if p.name in _ROOTS]
    return named[0] if named else history_root(Path(path)).as_posix()


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


def _django(
    changed: Sequence[str], checkout: Path, given: tuple[Schema, str] | None
) -> list[Timeline]:
    if not changed:
        return []
    from zdd_migrate.integrations.django import reading

    by_project: dict[Path, list[str]] = {}
    for name in changed:
        path = str(checkout / name)
        project = reading.project_of([path]) if reading.is_migration(Path(path)) else None
        if project is not None:
            by_project.setdefault(project, []).append(path)
    out = []
    for project, paths in sorted(by_project.items()):
        chosen, before = reading.read(project, paths)
        pairs = [*((False, m) for m in before), *((True, m) for m in chosen)]
        out.append(_revisions(pairs, given))
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
