"""Where an Alembic project keeps its revisions, and in which order they run.

The graph is read from the files' text, not by importing them: a revision that cannot be imported
is a finding of its own and hides no other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zdd_migrate.errors import InputError


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision file: `down` are the revisions it follows, `needs` those it depends on."""

    id: str
    path: Path
    down: tuple[str, ...]
    needs: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Project:
    """A project's root (what its revisions import from) and its revisions, first to last."""

    root: Path
    versions: tuple[Path, ...]
    revisions: tuple[Revision, ...]

    @property
    def heads(self) -> list[str]:
        """Revisions that nothing follows."""
        followed = {d for r in self.revisions for d in r.down}
        return [r.id for r in self.revisions if r.id not in followed]

    def at(self, path: Path) -> Revision:
        """The revision in a file. InputError."""
        for revision in self.revisions:
            if revision.path.resolve() == path.resolve():
                return revision
        raise InputError(f"{path}: no revision: it sets no `revision = …`")

    def named(self, name: str) -> Revision:
        """The revision whose id begins with `name`. InputError."""
        found = [r for r in self.revisions if r.id.startswith(name)]
        exact = [r for r in found if r.id == name]
        if len(exact or found) != 1:
            what = "is ambiguous" if found else "is no revision"
            raise InputError(f"{name} {what} in {self.versions[0]}")
        return (exact or found)[0]

    def before(self, revision: Revision) -> list[Revision]:
        """Everything that runs before `revision`, in order."""
        wanted: set[str] = set()
        waiting = [*revision.down, *revision.needs]
        by_id = {r.id: r for r in self.revisions}
        while waiting:
            one = by_id.get(waiting.pop())
            if one is not None and one.id not in wanted:
                wanted.add(one.id)
                waiting += [*one.down, *one.needs]
        return [r for r in self.revisions if r.id in wanted]


def is_revision(path: Path) -> bool:
    """Whether a file looks like a revision of Alembic."""
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return "down_revision" in text and "def upgrade" in text


def find(path: Path) -> Project | None:
    """The project that `path` (a revision, a directory of them, or its root) belongs to."""
    start = path.resolve()
    if not start.is_dir():
        if not is_revision(start):
            return None
        start = start.parent
    if not _holds_project(start):
        return None
    for directory in (start, *start.parents):
        if (directory / "alembic.ini").is_file():
            root, versions = _configured(directory)
            if any(start == v or start in v.parents or v in start.parents for v in versions):
                return _project(root, versions)
    place = start / "versions" if (start / "versions").is_dir() else start
    return _project(place.parent.parent, (place,))


def _holds_project(directory: Path) -> bool:
    if (directory / "alembic.ini").is_file() or (directory / "env.py").is_file():
        return True
    return any(is_revision(p) for p in directory.glob("*.py"))


def _configured(directory: Path) -> tuple[Path, tuple[Path, ...]]:
    """Root and version locations as alembic.ini has them."""
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(str(directory / "alembic.ini"))
    try:
        location = config.get_main_option("script_location") or "alembic"
        listed = config.get_version_locations_list()
    except (CommandError, ValueError) as error:
        raise InputError(f"{directory / 'alembic.ini'}: {error}") from None
    script = directory / location
    if ":" in location and not script.exists():  # package:directory
        package, _, inner = location.partition(":")
        script = directory / package.replace(".", "/") / inner
    versions = tuple(directory / v for v in listed) if listed else (script / "versions",)
    return directory, tuple(v.resolve() for v in versions)


def _project(root: Path, versions: tuple[Path, ...]) -> Project:
    found: dict[str, Revision] = {}
    for directory in versions:
        for path in sorted(directory.glob("*.py")):
            revision = _read(path)
            if revision is None:
                continue
            if revision.id in found:
                raise InputError(
                    f"{path}: revision {revision.id} is in {found[revision.id].path.name} too"
                )
            found[revision.id] = revision
    return Project(root, versions, tuple(_in_order(found)))


def _read(path: Path) -> Revision | None:
    """A revision file's head; None when it is none. InputError when it is not Python."""
    if not is_revision(path):
        return None
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: this is not Python: {error.msg}") from None
    names = {name: value for node in tree.body for name, value in _assigned(node)}
    id_ = names.get("revision")
    if not isinstance(id_, str):
        return None
    return Revision(
        id_,
        path,
        _tuple(names.get("down_revision")),
        _tuple(names.get("depends_on")),
        text,
    )


def _assigned(node: ast.stmt) -> Iterator[tuple[str, object]]:
    """(name, value) of an assignment of a literal."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Name):
            try:
                yield target.id, ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except ValueError:
                continue


def _tuple(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)  # type: ignore[attr-defined]


def _in_order(found: dict[str, Revision]) -> Iterator[Revision]:
    """Each after those it follows; side by side ones by id. InputError for a circle."""
    waiting = dict(sorted(found.items()))
    done: set[str] = set()
    while waiting:
        ready = [
            r
            for r in waiting.values()
            if all(d in done or d not in found for d in r.down + r.needs)
        ]
        if not ready:
            raise InputError(f"{next(iter(waiting.values())).path}: its revisions form a circle")
        for revision in ready:
            done.add(revision.id)
            del waiting[revision.id]
            yield revision
