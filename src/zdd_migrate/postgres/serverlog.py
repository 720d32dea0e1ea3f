"""A scratch server's log: what failed, with its SQLSTATE, whoever sent it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(
    r"^\S+ \S+ \S+ zdd\[\d+\] app=(?P<app>.*?) sqlstate=(?P<state>\w{5}) "
    r"(?P<level>[A-Z]+):  (?P<text>.*)$"
)


@dataclass(frozen=True, slots=True)
class LoggedError:
    """A statement that failed on the server."""

    application: str
    sqlstate: str
    message: str
    statement: str


def read_errors(
    path: Path, offset: int = 0, application: str | None = None
) -> tuple[list[LoggedError], int]:
    """Errors logged from byte `offset` on (of one application name), and where the log ends."""
    with path.open("rb") as log:
        log.seek(offset)
        data = log.read()
    found: list[LoggedError] = []
    pending: list[str] = []
    last: tuple[str, str, str] | None = None
    reading_statement = False
    for line in data.decode(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            if reading_statement:
                pending.append(line.strip())
            continue
        if reading_statement and last is not None:
            found.append(LoggedError(*last, statement=" ".join(pending)))
            last, pending, reading_statement = None, [], False
        level = match["level"]
        if level in ("ERROR", "FATAL"):
            if last is not None:
                found.append(LoggedError(*last, statement=""))
            last = (match["app"], match["state"], match["text"])
        elif level == "STATEMENT" and last is not None:
            pending, reading_statement = [match["text"]], True
    if last is not None:
        found.append(LoggedError(*last, statement=" ".join(pending)))
    if application is not None:
        found = [e for e in found if e.application == application]
    return found, offset + len(data)
