"""Archives of pg_dump (custom, directory, tar): their rows as SQL, by pg_restore."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.postgres import binaries

_MAGIC = b"PGDMP"
#: where a tar holds its table of contents: the name of its first file
_TAR = b"toc.dat"
#: settings that servers older than the program do not know, and that rows do not need
_UNKNOWN = re.compile(r"^SET transaction_timeout = 0;$", re.MULTILINE)
_NOT_SQL = re.compile(r"^\\(?:un)?restrict \S+$", re.MULTILINE)


def is_archive(path: Path) -> bool:
    """Whether this is what pg_dump writes as -Fc, -Fd or -Ft."""
    if path.is_dir():
        return (path / "toc.dat").is_file()
    with path.open("rb") as file:
        head = file.read(len(_TAR))
    return head.startswith(_MAGIC) or head == _TAR


def rows_of(path: Path) -> str:
    """The rows of an archive as SQL. Nothing checks them while they are loaded: tables come by
    name, not with those they refer to first. EnvironmentFailedError, InputError."""
    programs = _programs()
    if not programs:
        raise EnvironmentFailedError(
            f"{path} is an archive of pg_dump, and there is no pg_restore here: install Postgres' "
            f"client programs, or make SQL of it where there is one (pg_restore --data-only "
            f"--disable-triggers -f rows.sql {path.name})"
        )
    said = ""
    for program in programs:
        done = subprocess.run(
            [program, "--data-only", "--disable-triggers", "--no-owner", "-f", "-", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return _NOT_SQL.sub("", _UNKNOWN.sub("", done.stdout))
        said = said or (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise InputError(f"{path}: pg_restore cannot read it: {said[:200]}")


def _programs() -> list[str]:
    """pg_restore, the newest first: it reads what older ones wrote."""
    places = sorted(
        (*binaries.system(), *binaries.embedded()), key=lambda place: place.major, reverse=True
    )
    found = [str(place.directory / "pg_restore") for place in places]
    found += filter(None, [shutil.which("pg_restore")])
    return [program for program in dict.fromkeys(found) if Path(program).is_file()]
