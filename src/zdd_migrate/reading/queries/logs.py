"""Statements in a server's log: log_statement, log_min_duration_statement, auto_explain.

The line prefix is anybody's, so a line is known by its severity; what goes on in the next lines is
indented by a tab. Parameters come in a DETAIL line of their own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator

Row = tuple[str, int, tuple[str | None, ...] | None]
#: a message, its detail, and the line it stands on
_Entry = tuple[str, str, int]

_SEVERITY = re.compile(
    r"(?:^|\s|:)(?P<level>LOG|DETAIL|ERROR|FATAL|PANIC|STATEMENT|HINT|CONTEXT|WARNING|NOTICE|INFO|QUERY|LOCATION|DEBUG\d?):\s{1,2}(?P<text>.*)$",
    re.DOTALL,
)
_STATEMENT = re.compile(
    r"^(?:duration: [\d.]+ ms\s+)?(?:statement|(?:parse|bind|execute|execute fetch from) [^:]*):\s(?P<sql>.*)$",
    re.DOTALL,
)
_PLAN = re.compile(r"^duration: [\d.]+ ms\s+plan:\s*(?P<plan>.*)$", re.DOTALL)
#: in auto_explain's text the query ends where the first node of the plan begins
_PLAN_TEXT = re.compile(
    r"Query Text: (?P<sql>.*?)\n(?:\s*Query Parameters: (?P<values>[^\n]*)\n)?"
    r"\s*(?=[A-Z][\w ]*?(?: on [^\n]*?| using [^\n]*?)?  ?\((?:cost|actual|never)|[A-Z][A-Za-z ]+\s*(?:\n|$))",
    re.DOTALL,
)
_PARAMETERS = re.compile(r"^(?:Query )?parameters: (?P<values>.*)$", re.DOTALL | re.IGNORECASE)
_VALUE = re.compile(r"\$\d+ = (?:'(?P<text>(?:[^']|'')*)'|(?P<null>NULL))(?:\.\.\.)?")
_CSV_MESSAGE, _CSV_DETAIL, _CSV_LEAST = 13, 14, 22


def read_stderr(text: str) -> list[Row]:
    """The plain log."""
    return list(_rows(_entries(text)))


def read_csv(text: str) -> list[Row] | None:
    """csvlog; None where this is none."""
    first = text.split("\n", 1)[0]
    if first.count(",") < _CSV_LEAST or not re.match(r"\d{4}-\d\d-\d\d ", first):
        return None

    def entries() -> Iterator[_Entry]:
        reader = csv.reader(io.StringIO(text.replace("\0", "")))
        line = 1
        for row in reader:
            if len(row) >= _CSV_LEAST:
                yield row[_CSV_MESSAGE], row[_CSV_DETAIL], line
            line = reader.line_num + 1

    return list(_rows(entries()))


def read_json(text: str) -> list[Row] | None:
    """jsonlog; None where this is none."""
    if not text.lstrip("\ufeff").startswith("{"):
        return None
    entries: list[_Entry] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a log that is being written
        if not isinstance(entry, dict) or "error_severity" not in entry:
            return None
        entries.append((str(entry.get("message", "")), str(entry.get("detail", "")), number))
    return list(_rows(entries))


def _entries(text: str) -> Iterator[_Entry]:
    """LOG messages with their DETAIL, continuation lines put back."""
    message: list[str] = []
    detail: list[str] = []
    start = 0
    current: list[str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("\t") or (current and not line.strip()):
            if current is not None:
                current.append(line.removeprefix("\t").rstrip("\r"))
            continue
        match = _SEVERITY.search(line)
        if match is None:
            continue
        if match["level"] == "DETAIL":
            current = detail
            detail.append(match["text"])
            continue
        if message:
            yield "\n".join(message), "\n".join(detail), start
        message, detail, current = [], [], None
        if match["level"] == "LOG":
            message, start = [match["text"].rstrip("\r")], number
            current = message
    if message:
        yield "\n".join(message), "\n".join(detail), start


def _rows(entries: Iterable[_Entry]) -> Iterator[Row]:
    for message, detail, line in entries:
        plan = _PLAN.match(message)
        if plan is not None:
            yield from _from_plan(plan["plan"], line)
            continue
        statement = _STATEMENT.match(message)
        if statement is not None:
            values = _PARAMETERS.match(detail)
            yield statement["sql"], line, _values(values["values"]) if values else None


def _from_plan(plan: str, line: int) -> Iterator[Row]:
    if plan.lstrip().startswith("{"):
        try:
            told = json.loads(plan)
        except ValueError:
            return
        sql = told.get("Query Text")
        if sql:
            given = told.get("Query Parameters")
            yield sql, line, _values(given) if given else None
        return
    match = _PLAN_TEXT.search(plan)
    if match is not None:
        yield match["sql"], line, _values(match["values"]) if match["values"] else None


def _values(text: str) -> tuple[str | None, ...]:
    return tuple(None if m["null"] else m["text"].replace("''", "'") for m in _VALUE.finditer(text))
