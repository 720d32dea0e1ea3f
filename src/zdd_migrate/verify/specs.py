"""Code versions as people write them: `--old SPEC`, or `[versions.old]` in the configuration.

A SPEC is `synthetic`, `queries:FILE`, `models:MODULE:BASE`, `command:PROGRAM`, `rev:REVISION` or
`python:PATH`, and may be given several times: together they say what one version is. The
configuration has the same words for keys, and more (`setup`, `start`, `ready`, …).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.reading.queries import read_queries
from zdd_migrate.verify.commands import Command, Service
from zdd_migrate.verify.models import Models
from zdd_migrate.verify.programs import Kept, last_line, words
from zdd_migrate.verify.queries import Queries
from zdd_migrate.verify.versions import CodeVersion
from zdd_migrate.verify.worktrees import checkout

_SETUP_SECONDS = 1800.0
_KINDS = ("synthetic", "queries", "models", "command", "rev", "python")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is known of one version; the keys of `[versions.old]`."""

    revision: str | None = None
    directory: str = "."
    setup: str | None = None
    command: str | None = None
    start: str | None = None
    ready: str | None = None
    models: str | None = None
    python: str | None = None
    queries: tuple[str, ...] = ()
    ready_seconds: float = 60.0
    command_seconds: float = 120.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def without_programs(self) -> Settings:
        """The same for a quick try: nothing that has to be installed, started or waited for."""
        revision = self.revision if self.queries else None
        return Settings(revision, self.directory, queries=self.queries)


def settings(name: str, specs: Sequence[str], table: Mapping[str, Any]) -> Settings:
    """From options when there are any, else from the configuration. InputError."""
    if not specs:
        return _configured(name, table)
    found = Settings()
    for spec in specs:
        kind, _, rest = spec.partition(":")
        if kind not in _KINDS or (kind != "synthetic" and not rest):
            raise InputError(
                f"--{name} {spec}: write synthetic, queries:FILE, models:MODULE:BASE, "
                "command:PROGRAM, rev:REVISION or python:PATH"
            )
        if kind == "queries":
            found = replace(found, queries=(*found.queries, rest))
        elif kind == "rev":
            found = replace(found, revision=rest)
        elif kind == "models":
            found = replace(found, models=rest)
        elif kind == "command":
            found = replace(found, command=rest)
        elif kind == "python":
            found = replace(found, python=rest)
    return found


def _configured(name: str, table: Mapping[str, Any]) -> Settings:
    known = set(Settings.__dataclass_fields__)
    given = {key.replace("-", "_"): value for key, value in table.items()}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InputError(
            f"versions.{name}.{unknown[0]} is not a setting; known are {', '.join(sorted(known))}"
        )
    for key, value in given.items():
        wanted = _TYPES.get(key, (str,))
        if not isinstance(value, wanted):
            raise InputError(f"versions.{name}.{key} must be {_WORDS[wanted[0]]}, not {value!r}")
    queries = given.get("queries", ())
    given["queries"] = (queries,) if isinstance(queries, str) else tuple(map(str, queries))
    given["environment"] = {str(k): str(v) for k, v in given.get("environment", {}).items()}
    return Settings(**given)


_TYPES: dict[str, tuple[type, ...]] = {
    "queries": (str, list),
    "environment": (dict,),
    "ready_seconds": (float, int),
    "command_seconds": (float, int),
}
_WORDS: dict[type, str] = {str: "a text", dict: "a table", float: "a number of seconds"}


def versions(
    name: str,
    wanted: Settings,
    root: Path,
    stack: ExitStack,
    say: Callable[[str], None] = lambda _: None,
) -> list[CodeVersion]:
    """One version's code at every depth that is asked for, checked out and set up. InputError.

    `root` is where relative paths start; what is checked out goes when `stack` is closed.
    """
    home = root / wanted.directory
    if wanted.revision is not None:
        say(f"checking out {wanted.revision} for the {name} code")
        home = stack.enter_context(checkout(home, wanted.revision))
    if not home.is_dir():
        raise InputError(f"versions.{name}.directory: {home} is no directory")
    python = _python(name, wanted.python, home)
    if wanted.setup is not None:
        say(f"setting up the {name} code")
        _set_up(name, wanted.setup, home, wanted.environment)
        python = _python(name, wanted.python, home)
    found: list[CodeVersion] = []
    if wanted.queries:
        paths = [Path(q) if Path(q).is_absolute() else home / q for q in wanted.queries]
        found.append(Queries(name, read_queries(paths).queries))
    if wanted.models is not None:
        found.append(_models(name, wanted, home, python))
    if wanted.command is not None:
        service = None
        if wanted.start is not None:
            if wanted.ready is None:
                raise InputError(f"versions.{name}.ready is missing: a URL, or a command")
            service = Service(wanted.start, wanted.ready, float(wanted.ready_seconds))
        found.append(
            Command(
                name,
                wanted.command,
                home,
                dict(wanted.environment),
                python,
                service,
                float(wanted.command_seconds),
            )
        )
    elif wanted.start is not None:
        raise InputError(f"versions.{name}.command is missing: what is to be run at the service")
    return found


def _models(name: str, wanted: Settings, home: Path, python: str) -> Models:
    """`module:Base`; `dir/module:Base` is imported from that directory."""
    target = wanted.models or ""
    module, colon, base = target.partition(":")
    directory, _, module = module.rpartition("/")
    if not colon or not base or not module:
        raise InputError(f"versions.{name}.models {target}: write module:Base")
    place = home / directory if directory else home
    if not place.is_dir():
        raise InputError(f"versions.{name}.models {target}: {place} is no directory")
    target = f"{module.removesuffix('.py')}:{base}"
    return Models(name, target, place, python, dict(wanted.environment))


def _python(name: str, given: str | None, home: Path) -> str:
    """The version's interpreter: relative to its own directory, so that each has its own."""
    if given is None:
        return sys.executable
    path = home / given
    return str(path) if path.exists() or "/" in given else given


def _set_up(name: str, text: str, home: Path, environment: Mapping[str, str]) -> None:
    argv = words(f"versions.{name}.setup", text, sys.executable)
    program = Kept(argv, home, environment)
    try:
        status = program.wait(_SETUP_SECONDS)
        output = program.output
    finally:
        program.end()
    if status != 0:
        ended = f"ended with {status}" if status is not None else "did not end"
        raise InputError(f"versions.{name}.setup: {text} {ended}: {last_line(output)}")
