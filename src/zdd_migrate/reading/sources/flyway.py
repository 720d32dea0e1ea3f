"""Flyway: `V1.2__name.sql` by version, then `R__name.sql` by name; `U1.2__name.sql` takes back.

One transaction a file. A file all of whose statements refuse to run in one (CREATE INDEX
CONCURRENTLY, VACUUM, …) runs without; a mixture is refused unless `mixed` is set; and
`executeInTransaction` in `V1.2__name.sql.conf` decides for one file. Each statement is its own
message. Placeholders come from the project's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration, Statement
from zdd_migrate.reading.statements import read_sql

_NAME = re.compile(r"(?:(?P<kind>[VUB])(?P<version>\d+(?:[._]\d+)*)|R)__.+\.sql$")
#: what Flyway takes for a statement that must run outside a transaction
_OUTSIDE = re.compile(
    r"(?:(?:CREATE|DROP)\s+(?:DATABASE|TABLESPACE|SUBSCRIPTION)|ALTER\s+SYSTEM"
    r"|(?:CREATE|DROP)\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY"
    r"|REINDEX\s+(?:VERBOSE\s+)?(?:SCHEMA|DATABASE|SYSTEM)|VACUUM|DISCARD\s+ALL)\b",
    re.IGNORECASE,
)
_MIXED = (
    "Flyway refuses a file that mixes statements which need a transaction with those which must not "
    "have one: put this one into a file of its own"
)
_CONFIGURATIONS = ("flyway.toml", "flyway.conf", "conf/flyway.toml", "conf/flyway.conf")


def read(text: str, path: Path) -> Migration:
    """Read one file."""
    project = _project(path.parent)
    own = _properties(path.with_name(path.name + ".conf"))
    known = {k.partition(".")[2]: v for k, v in project.items() if k.startswith("placeholders.")}
    if (own.get("placeholderReplacement") or project.get("placeholderReplacement")) == "false":
        known = {}
    match = _NAME.match(path.name)
    down = match is not None and match["kind"] == "U"

    def once(wrapped: bool) -> Migration:
        return read_sql(
            text,
            str(path),
            in_transaction=wrapped,
            known=known,
            direction="down" if down else "up",
        )

    migration = once(True)
    told = own.get("executeInTransaction", project.get("executeInTransaction"))
    if told is not None:
        return migration if told != "false" else once(False)
    outside = [s for s in migration.statements if _refuses(s)]
    if not outside:
        return migration
    if len(outside) == len(migration.statements) or project.get("mixed") == "true":
        return once(False)
    problem = (outside[0].span.line, _MIXED)
    return replace(migration, problems=(*migration.problems, problem))


def _refuses(statement: Statement) -> bool:
    return _OUTSIDE.match(statement.sql) is not None


def in_order(files: Sequence[Path]) -> list[Path]:
    """From the newest baseline on by version, then what is run again by name."""
    versioned = sorted((v, n) for n, f in enumerate(files) if (v := _version(f)) is not None)
    baselines = [v for v, n in versioned if files[n].name[0] == "B"]
    if baselines:
        newest = max(baselines)
        versioned = [
            (v, n) for v, n in versioned if v > newest or (v == newest and files[n].name[0] == "B")
        ]
    again = sorted((f for f in files if _version(f) is None), key=lambda f: f.name)
    return [*(files[n] for _, n in versioned), *again]


def _version(file: Path) -> tuple[int, ...] | None:
    match = _NAME.match(file.name)
    if match is None or match["version"] is None:
        return None
    parts = [int(part) for part in re.split(r"[._]", match["version"])]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


@lru_cache(maxsize=64)
def _project(directory: Path) -> dict[str, str]:
    """The nearest configuration of Flyway, up to four directories above."""
    for above in (directory, *directory.absolute().parents[:4]):
        for name in _CONFIGURATIONS:
            found = _toml(above / name) if name.endswith(".toml") else _properties(above / name)
            if found:
                return found
    return {}


def _properties(path: Path) -> dict[str, str]:
    """`key=value` lines; `flyway.` before a key is left out."""
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", "!")):
            found[key.strip().removeprefix("flyway.")] = value.strip()
    return found


def _toml(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("flyway", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this cannot be read: {error}") from None
    found = {k: str(v).lower() for k, v in table.items() if isinstance(v, (bool, str))}
    placeholders = table.get("placeholders", {})
    return {**found, **{f"placeholders.{k}": str(v) for k, v in placeholders.items()}}
