"""Paths of an Alembic project as migrations, and what ran before them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zdd_migrate.config import load
from zdd_migrate.errors import InputError
from zdd_migrate.integrations.alembic.project import Project, Revision, find
from zdd_migrate.integrations.alembic.render import render
from zdd_migrate.model.statement import Migration


def project_of(paths: Sequence[str], source: str | None = None) -> Project | None:
    """The one project that all paths belong to; None when they are something else.

    A name that is no path may be a revision's id, or `head`, of the project here.
    """
    if source not in (None, "alembic") or not paths or "-" in paths:
        return None
    found = [_find(path) for path in paths]
    if not any(found):
        if source == "alembic":
            raise InputError(f"{paths[0]}: no Alembic project: no alembic.ini, no revisions")
        return None
    roots = {p.root if p is not None else None for p in found}
    if len(roots) > 1:
        raise InputError(f"{', '.join(paths)}: one Alembic project at a time, and nothing else")
    project = found[0]
    assert project is not None
    if not project.revisions:
        raise InputError(f"{paths[0]}: no revisions in {project.versions[0]}")
    return project


def _find(path: str) -> Project | None:
    if Path(path).exists():
        return find(Path(path))
    here = find(Path())
    if here is not None and any(r.id.startswith(path) for r in here.revisions):
        return here
    if here is not None and path == "head":
        return here
    return None


def wanted(project: Project, paths: Sequence[str]) -> list[Revision]:
    """The revisions that the paths name, in the order they run."""
    chosen: set[str] = set()
    for path in paths:
        if Path(path).is_dir():
            chosen |= {r.id for r in project.revisions}
        elif Path(path).exists():
            chosen.add(project.at(Path(path)).id)
        elif path == "head":
            if len(project.heads) > 1:
                raise InputError(_several(project))
            chosen.add(project.heads[0])
        else:
            chosen.add(project.named(path).id)
    return [r for r in project.revisions if r.id in chosen]


def read(project: Project, paths: Sequence[str]) -> tuple[list[Migration], list[Migration]]:
    """(the migrations that the paths name, everything that runs before the first of them).

    Several heads are a problem of the last file: which of them runs first is nobody's decision.
    """
    chosen = wanted(project, paths)
    first = min(project.revisions.index(r) for r in chosen)
    names = {r.id for r in chosen}
    earlier = {r.id for r in project.before(chosen[0])}
    before = [r for r in project.revisions[:first] if r.id in earlier and r.id not in names]
    rendered = render(project, [*before, *chosen], load(project.root).scratch)
    migrations = rendered[len(before) :]
    if len(project.heads) > 1:
        last = migrations[-1]
        problem = (1, _several(project))
        migrations[-1] = _with_problem(last, problem)
    return migrations, rendered[: len(before)]


def _with_problem(migration: Migration, problem: tuple[int, str]) -> Migration:
    from dataclasses import replace

    return replace(migration, problems=(*migration.problems, problem))


def _several(project: Project) -> str:
    return (
        f"there are {len(project.heads)} heads ({', '.join(project.heads)}), so that alembic "
        "upgrade head refuses to run: merge them with alembic merge heads"
    )
