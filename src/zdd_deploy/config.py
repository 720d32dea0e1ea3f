"""`zdd-deploy.toml`: the environment, its builds, how instances are asked, how fast it goes.

environment = "shop"             # what journal and locks are kept under
desired = 3                      # ready instances there must always be
state = ".zdd-deploy"            # where the local driver keeps its files
[builds.old]                     # and [builds.new]
name = "v41"
command = "python app/old/shop.py"
[balancer]
bind = "127.0.0.1:8080"
[instances]
ready = "/readyz"
warm = ["/report"]
smoke = ["/report", {path = "/users", method = "POST", body = "{}", status = 400}]
[flag]
name = "read-path"
file = "flag"                    # or environment = "READ_PATH": learnt by a restart
[pace]
weights = [5, 20, 50, 100]
[judge]
source = "haproxy"               # or "prometheus", with url
max_error_rate = 0.01
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from zdd_deploy.core import Flag, variant
from zdd_deploy.drivers.local.driver import LocalSettings, Request
from zdd_deploy.drivers.local.processes import Build
from zdd_deploy.judge import Criteria
from zdd_deploy.model import Fleet
from zdd_deploy.pace import Pace
from zdd_deploy.signals import FAILED, TOTAL
from zdd_migrate.errors import InputError

FILE = "zdd-deploy.toml"

_SECTIONS: dict[str, frozenset[str]] = {
    "builds.old": frozenset({"name", "command", "directory", "environment"}),
    "builds.new": frozenset({"name", "command", "directory", "environment"}),
    "balancer": frozenset({"bind"}),
    "instances": frozenset(
        {"ready", "state", "warm", "warm_rounds", "smoke", "ready_timeout", "drain_timeout"}
        | {"request_timeout", "stop_grace"}
    ),
    "flag": frozenset({"name", "file", "environment", "on", "off"}),
    "pace": frozenset(f.name for f in fields(Pace)),
    "judge": frozenset({"source", "url", "total", "failed", "settle"})
    | {f.name for f in fields(Criteria)},
}
_TOP = frozenset({"environment", "desired", "state", "builds"}) | {
    name for name in _SECTIONS if "." not in name
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where error rates come from: `name` is haproxy or prometheus, the rest is for the latter."""

    name: str = "haproxy"
    url: str = ""
    total: str = TOTAL
    failed: str = FAILED
    settle: float = 8.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says. `flag_file` is None when the flag is learnt by a restart."""

    environment: str
    fleet: Fleet
    local: LocalSettings
    pace: Pace
    criteria: Criteria
    source: Source
    flag: Flag | None = None
    flag_file: Path | None = None


def load(path: Path, database: str) -> Settings:
    """Read a configuration; `database` is what instances get as DATABASE_URL. InputError."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such configuration; --config names one")
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: the configuration cannot be read: {error}") from None
    return _Reader(file, raw).settings(database)


class _Reader:
    """Takes values out of a configuration; every fault names the file and the key."""

    def __init__(self, file: Path, raw: Mapping[str, Any]) -> None:
        self.file, self.raw = file, raw
        self.root = file.parent.resolve()

    def settings(self, database: str) -> Settings:
        self._known()
        old, new = self._build("old", database), self._build("new", database)
        names = [str(self._get(f"builds.{one}", "name", str, one)) for one in ("old", "new")]
        if names[0] == names[1]:
            raise InputError(
                f"{self.file}: builds.old.name and builds.new.name are both {names[0]}"
            )
        flag, flag_file, by_restart = self._flag()
        builds = {names[0]: old, names[1]: new}
        if flag is not None and by_restart is not None:
            on = {**new.environment, by_restart: flag.on}
            builds[variant(names[1], flag.on)] = replace(new, environment=on)
        desired = int(self._get("", "desired", int, 2))
        if desired < 1:
            raise InputError(f"{self.file}: desired must be at least 1, not {desired}")
        return Settings(
            environment=str(self._get("", "environment", str, self.root.name)),
            fleet=Fleet(names[0], names[1], desired),
            local=self._local(builds),
            pace=self._pace(),
            criteria=self._criteria(),
            source=self._source(),
            flag=flag,
            flag_file=flag_file,
        )

    def _known(self) -> None:
        self._no_strangers("", self.raw, _TOP)
        self._no_strangers("builds", self._table("builds"), frozenset({"old", "new"}))
        for name, keys in _SECTIONS.items():
            self._no_strangers(name, self._table(name), keys)

    def _no_strangers(self, where: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
        unknown = sorted(set(table) - known)
        if unknown:
            place = f"[{where}] " if where else ""
            raise InputError(
                f"{self.file}: {place}{unknown[0]!r} is not a setting; known are "
                f"{', '.join(sorted(known))}"
            )

    def _table(self, name: str) -> Mapping[str, Any]:
        found: Any = self.raw
        for part in name.split(".") if name else ():
            found = found.get(part, {})
            if not isinstance(found, dict):
                raise InputError(f"{self.file}: {name} must be a table, not {found!r}")
        table: Mapping[str, Any] = found
        return table

    def _get(self, table: str, key: str, kind: type, otherwise: Any) -> Any:
        value = self._table(table).get(key, otherwise)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value is not None and (
            not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        ):
            name = f"{table}.{key}" if table else key
            raise InputError(f"{self.file}: {name} must be {_WORDS[kind]}, not {value!r}")
        return value

    def _build(self, which: str, database: str) -> Build:
        table = f"builds.{which}"
        command = self._get(table, "command", str, None)
        if not command:
            raise InputError(f"{self.file}: {table}.command is missing: how is the build started?")
        environment = self._get(table, "environment", dict, {})
        return Build(
            command,
            self.root / str(self._get(table, "directory", str, ".")),
            {"DATABASE_URL": database, **{str(k): str(v) for k, v in environment.items()}},
        )

    def _flag(self) -> tuple[Flag | None, Path | None, str | None]:
        if not self._table("flag"):
            return None, None, None
        name = self._get("flag", "name", str, None)
        file = self._get("flag", "file", str, None)
        variable = self._get("flag", "environment", str, None)
        if not name or (file is None) == (variable is None):
            raise InputError(
                f"{self.file}: [flag] needs a name, and either file (instances read it) or "
                "environment (a variable, learnt by a restart)"
            )
        flag = Flag(
            name,
            str(self._get("flag", "on", str, "on")),
            str(self._get("flag", "off", str, "off")),
            by_restart=variable is not None,
        )
        return flag, self.root / file if file is not None else None, variable

    def _local(self, builds: Mapping[str, Build]) -> LocalSettings:
        table = self._table("instances")
        given = {
            key: self._get("instances", key, float, None)
            for key in ("ready_timeout", "drain_timeout", "request_timeout", "stop_grace")
            if key in table
        }
        if "state" in table:
            given["state"] = self._get("instances", "state", str, None)
        return LocalSettings(
            directory=self.root / str(self._get("", "state", str, ".zdd-deploy")),
            bind=str(self._get("balancer", "bind", str, "127.0.0.1:8080")),
            builds=builds,
            ready=str(self._get("instances", "ready", str, "/readyz")),
            warm=self._requests("warm"),
            warm_rounds=int(self._get("instances", "warm_rounds", int, 8)),
            smoke=self._requests("smoke"),
            **given,
        )

    def _requests(self, key: str) -> tuple[Request, ...]:
        out = []
        for one in self._get("instances", key, list, []):
            try:
                out.append(Request(one) if isinstance(one, str) else Request(**one))
            except TypeError:
                raise InputError(
                    f"{self.file}: instances.{key}: {one!r} is neither a path nor a table of path, "
                    "method, body and status"
                ) from None
        return tuple(out)

    def _pace(self) -> Pace:
        table = dict(self._table("pace"))
        for key in ("judge", "budget", "soak", "window"):
            if key in table:
                table[key] = self._get("pace", key, float, None)
        if "batch" in table and int(self._get("pace", "batch", int, 1)) < 1:
            raise InputError(f"{self.file}: pace.batch must be at least 1")
        if "weights" in table:
            table["weights"] = self._weights(self._get("pace", "weights", list, []))
        return Pace(**table)

    def _weights(self, given: list[Any]) -> tuple[int, ...]:
        whole = [w for w in given if isinstance(w, int) and 0 < w <= 100]
        if whole != given or not given or given[-1] != 100 or sorted(set(given)) != given:
            raise InputError(
                f"{self.file}: pace.weights are percents that rise to 100, such as "
                f"[5, 20, 50, 100], not {given!r}"
            )
        return tuple(whole)

    def _criteria(self) -> Criteria:
        rate = float(self._get("judge", "max_error_rate", float, Criteria().max_error_rate))
        alpha = float(self._get("judge", "alpha", float, Criteria().alpha))
        if not 0 < rate < 1 or not 0 < alpha < 1:
            raise InputError(f"{self.file}: judge.max_error_rate and alpha lie between 0 and 1")
        sample = self._get("judge", "min_sample", int, None)
        return Criteria(rate, sample, alpha)

    def _source(self) -> Source:
        table = {
            key: self._get("judge", key, float if key == "settle" else str, None)
            for key in ("url", "total", "failed", "settle")
            if key in self._table("judge")
        }
        name = str(self._get("judge", "source", str, "haproxy"))
        if name not in ("haproxy", "prometheus"):
            raise InputError(f"{self.file}: judge.source is haproxy or prometheus, not {name}")
        if name == "prometheus" and not table.get("url"):
            raise InputError(f"{self.file}: judge.url is missing: where is Prometheus?")
        return Source(name, **table)


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}
