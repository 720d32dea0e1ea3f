"""Configuration: `zdd-migrate.toml`, or `[tool.zdd-migrate]` in pyproject.toml, the same keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.model.cost import Prices

FILE = "zdd-migrate.toml"
_KEYS = frozenset(
    {
        "pg_version",
        "source",
        "schema",
        "history",
        "fail_on",
        "ignore",
        "select",
        "severity",
        "baseline",
        "scratch",
        "rules",
        "checks",
        "versions",
        "verify",
        "paths",
        "snapshot",
        "cost",
        "base",
        "migrations",
    }
)


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration says. `root` is the directory its relative paths start from.

    `versions` are the code versions by name (`old`, `new`), each a table of its keys. `ignore`
    and `select` are rule ids; `severity` maps rule ids to severities. `paths` are overrides:
    glob → table of the keys ignore and severity. `raw` is everything, for keys others own.
    """

    root: Path
    path: Path | None = None
    pg_version: int | None = None
    source: str | None = None
    schema: str | None = None
    history: str | None = None
    fail_on: str | None = None
    ignore: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    severity: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    checks: str | None = None
    baseline: str | None = None
    scratch: str = "auto"
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshot: str | None = None
    prices: Prices = field(default_factory=Prices)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def rule_directories(self) -> tuple[str, ...]:
        """Where the team's own rules are."""
        return tuple(str(self.root / directory) for directory in self.rules)

    def overrides(self, path: str) -> Iterator[dict[str, Any]]:
        """The tables under `paths` whose glob a file matches, as given or seen from the root."""
        for glob, table in self.paths.items():
            if fnmatch(path, glob) or fnmatch(self.relative(path), glob):
                yield table

    def relative(self, path: str) -> str:
        """A file's path seen from the root, with slashes; as it is where it lies elsewhere."""
        try:
            return Path(path).resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return path

    def refuse_strangers(self, known: Collection[str]) -> None:
        """InputError where a rule is named that does not exist: a typing error would be silent."""
        named = [*self.ignore, *self.select, *self.severity]
        for table in self.paths.values():
            named += [*table.get("ignore", ()), *table.get("severity", {})]
        for name in named:
            if name not in known:
                raise InputError(
                    f"{self.path or 'the configuration'}: there is no rule {name}; "
                    "zdd-migrate rules lists them"
                )


def load(start: Path) -> Config:
    """The nearest configuration at or above `start` (a file or directory); empty when none."""
    import tomllib

    here = start.resolve()
    for directory in (here, *here.parents) if here.is_dir() else here.parents:
        own = directory / FILE
        if own.is_file():
            return _config(own, _read(own, tomllib.loads))
        project = directory / "pyproject.toml"
        if project.is_file():
            table = _read(project, tomllib.loads).get("tool", {}).get("zdd-migrate")
            if table is not None:
                return _config(project, table)
    return Config(root=here if here.is_dir() else here.parent)


def _read(path: Path, loads: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: the configuration cannot be read: {error}") from None
    return found


def _config(path: Path, raw: dict[str, Any]) -> Config:
    table = {key.replace("-", "_"): value for key, value in raw.items()}
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise InputError(
            f"{path}: {unknown[0]!r} is not a setting; known are {', '.join(sorted(_KEYS))}"
        )
    severity = dict(_typed(path, table, "severity", dict) or {})
    _severities(path, "severity", severity)
    paths = dict(_typed(path, table, "paths", dict) or {})
    for glob, override in paths.items():
        _override(path, glob, override)
    bar = _typed(path, table, "fail_on", str)
    if bar not in (None, "never", *_SEVERITIES):
        raise InputError(f"{path}: fail_on is error, warning, info or never, not {bar!r}")
    return Config(
        root=path.parent,
        path=path,
        pg_version=_typed(path, table, "pg_version", int),
        source=_typed(path, table, "source", str),
        schema=_typed(path, table, "schema", str),
        history=_typed(path, table, "history", str),
        fail_on=bar,
        ignore=tuple(_typed(path, table, "ignore", list) or ()),
        select=tuple(_typed(path, table, "select", list) or ()),
        severity=severity,
        rules=tuple(_typed(path, table, "rules", list) or ()),
        checks=_typed(path, table, "checks", str),
        baseline=_typed(path, table, "baseline", str),
        scratch=_typed(path, table, "scratch", str) or "auto",
        versions=dict(_typed(path, table, "versions", dict) or {}),
        paths=paths,
        snapshot=_typed(path, table, "snapshot", str),
        prices=_prices(path, _typed(path, table, "cost", dict) or {}),
        raw=table,
    )


_SEVERITIES = ("error", "warning", "info")


def _severities(path: Path, where: str, table: dict[str, Any]) -> None:
    for rule, severity in table.items():
        if severity not in _SEVERITIES:
            raise InputError(f"{path}: {where}.{rule} is error, warning or info, not {severity!r}")


def _override(path: Path, glob: str, table: Any) -> None:
    """`[paths."legacy/*"]`: ignore and severity, for files that match."""
    if not isinstance(table, dict):
        raise InputError(f"{path}: paths.{glob!r} must be a table, not {table!r}")
    for key in table:
        if key not in ("ignore", "severity"):
            raise InputError(f"{path}: paths.{glob!r} has no {key!r}; known are ignore, severity")
    if not isinstance(table.get("ignore", []), list):
        raise InputError(f"{path}: paths.{glob!r}.ignore must be a list")
    if not isinstance(table.get("severity", {}), dict):
        raise InputError(f"{path}: paths.{glob!r}.severity must be a table")
    _severities(path, f"paths.{glob!r}.severity", table.get("severity", {}))


def _prices(path: Path, table: dict[str, Any]) -> Prices:
    """`[cost]`: throughputs and bars, each a number above nothing."""
    known = {spec.name for spec in fields(Prices)}
    given = {key.replace("-", "_"): value for key, value in table.items()}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{path}: cost has no {key!r}; known are {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise InputError(f"{path}: cost.{key} must be a number above 0, not {value!r}")
    return Prices(**given)


def _typed(path: Path, table: dict[str, Any], key: str, kind: type) -> Any:
    value = table.get(key)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{path}: {key} must be {_WORDS[kind]}, not {value!r}")
    return value


_WORDS = {int: "a whole number", str: "a text", list: "a list", dict: "a table"}
