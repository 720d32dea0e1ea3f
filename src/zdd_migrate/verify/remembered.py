"""Verdicts kept by what they were reached from, so that nothing is tried twice for nothing.

The key is a hash over everything that could change the outcome: the plan or migration, the
schema, rows, both versions with the files they are made of, the options, this program and the
server. Where one of them cannot be known there is no key. Inconclusive verdicts are never kept.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import zdd_migrate
from zdd_migrate.model.verdict import Judgement, Verdict
from zdd_migrate.postgres.cluster import cache_directory

T = TypeVar("T")

_KEPT = 60
#: more files than this are not read through before every run
_MOST_FILES, _MOST_BYTES = 4000, 64 * 2**20
_NOT_CODE = frozenset({"__pycache__", "node_modules", "demo-output", "venv"})
_WRITTEN_BY_US = frozenset({"verdict.json", "verdict.html", "plan.yaml"})


def key_of(parts: Mapping[str, object], trees: Sequence[Path], server: str | None) -> str | None:
    """A key for a verdict; None where something about it cannot be known.

    `parts` are texts and options by name, `trees` the directories that code is run from, `server`
    the server's version.
    """
    if server is None:
        return None
    digest = hashlib.sha256()
    for name, part in sorted({**parts, "server": server, "python": sys.version}.items()):
        digest.update(f"{name}\0{part!r}\0".encode())
    for file in sorted(Path(zdd_migrate.__file__).parent.rglob("*.py")):
        found = file.stat()
        digest.update(f"{file.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    for tree in trees:
        content = _content(tree)
        if content is None:
            return None
        digest.update(content)
    return digest.hexdigest()


def revision_of(directory: Path, revision: str) -> str | None:
    """The commit that a revision names, None where git cannot say."""
    done = subprocess.run(
        ["git", "-C", str(directory), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def recall(key: str) -> Verdict | None:
    """The verdict reached before from the same, with when that was in `reused`."""
    file = _file(key)
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        verdict = _built(Verdict, kept["verdict"])
        return replace(verdict, reused=str(kept["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or of another time: it is tried again


def remember(key: str, verdict: Verdict) -> None:
    """Keep a verdict, unless it could not be told."""
    if verdict.judgement is Judgement.INCONCLUSIVE:
        return
    file = _file(key)
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        file.parent.mkdir(exist_ok=True, mode=0o700)
        partial = file.with_suffix(".partial")
        partial.write_text(
            json.dumps({"at": at, "verdict": asdict(verdict)}, default=_plain), encoding="utf-8"
        )
        partial.replace(file)
        kept = sorted(file.parent.glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return  # a full or read-only disk costs the reuse, nothing else


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value)} cannot be kept")


def _file(key: str) -> Path:
    return cache_directory() / "verdicts" / f"{key}.json"


def _content(tree: Path) -> bytes | None:
    """A hash over a directory's files, None when they are too many to read."""
    digest = hashlib.sha256()
    read = 0
    for number, file in enumerate(_files(tree)):
        try:
            text = file.read_bytes()
        except OSError:
            return None
        read += len(text)
        if number > _MOST_FILES or read > _MOST_BYTES:
            return None
        digest.update(f"{file.relative_to(tree)}\0{len(text)}\0".encode())
        digest.update(text)
    return digest.digest()


def _files(directory: Path) -> Iterator[Path]:
    """Files of code: nothing hidden, nothing that programs or we ourselves write beside it."""
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith(".") or entry.name in _NOT_CODE or entry.is_symlink():
            continue
        if entry.is_dir():
            if not (entry / "plan.yaml").is_file():
                yield from _files(entry)
        elif entry.name not in _WRITTEN_BY_US and entry.suffix != ".pyc":
            yield entry


def _built(kind: type[T], value: Any) -> T:
    """A frozen dataclass from what `asdict` made of it."""
    hints = get_type_hints(kind)
    return kind(**{f.name: _as(hints[f.name], value[f.name]) for f in fields(kind)})  # type: ignore[arg-type]


def _as(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin is tuple:
        return tuple(_as(get_args(hint)[0], one) for one in value)
    if origin in (types.UnionType, Union, Literal):
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return _built(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return value
