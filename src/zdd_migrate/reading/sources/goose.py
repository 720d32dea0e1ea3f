"""goose: `-- +goose Up`, `Down`, `StatementBegin`, `StatementEnd`, `NO TRANSACTION`.

One transaction a file unless NO TRANSACTION says otherwise; then each statement is its own, save
that what stands between StatementBegin and StatementEnd is one message. goose cuts at every line
that ends with a semicolon, so a body with such lines has to stand between the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zdd_migrate.model.statement import Migration, Statement
from zdd_migrate.reading.statements import read_sql, section

_ANNOTATION = re.compile(r"^--[ \t]*\+goose[ \t]+([^\n\r]*)", re.IGNORECASE | re.MULTILINE)
_CUT = (
    "goose cuts this statement at the first line that ends with a semicolon: put it between "
    "-- +goose StatementBegin and -- +goose StatementEnd"
)
_REMARK = re.compile(r"\s--.*")


@dataclass(slots=True)
class _Annotations:
    """Where the way forward stands, whether in a transaction, and what is sent as one message."""

    start: int | None = None
    end: int | None = None
    alone: bool = False
    messages: tuple[tuple[int, int], ...] = ()


def read(text: str, path: Path) -> Migration:
    """Read the file's way forward."""
    found = _annotations(text)
    if found.start is None:
        problem = (1, "there is no -- +goose Up, so that goose refuses the file")
        return replace(read_sql(text, str(path)), problems=(problem,))
    end = len(text) if found.end is None else found.end
    migration = read_sql(section(text, found.start, end), str(path), in_transaction=not found.alone)
    statements = migration.statements
    if found.alone:
        statements = tuple(_together(statements, found.messages))
    cut = [
        (s.span.line, _CUT)
        for s in statements
        if _is_cut(text[s.span.start : s.span.end]) and not _message(s, found.messages)
    ]
    return replace(migration, statements=statements, problems=(*migration.problems, *cut))


def _is_cut(statement: str) -> bool:
    """Whether a line of it, but the last, ends with a semicolon."""
    lines = [line.strip() for line in statement.split("\n")[:-1]]
    return any(_REMARK.sub("", line).endswith(";") for line in lines if not line.startswith("--"))


def _annotations(text: str) -> _Annotations:
    found = _Annotations()
    begun: int | None = None
    for match in _ANNOTATION.finditer(text):
        words = " ".join(match[1].lower().split())
        if words == "up" and found.start is None:
            found.start = match.end()
        elif words.split(" ")[0] == "down" and found.end is None:
            found.end = match.start()
        elif words == "no transaction":
            found.alone = True
        elif words == "statementbegin":
            begun = match.end()
        elif words == "statementend" and begun is not None:
            found.messages += ((begun, match.start()),)
            begun = None
    return found


def _message(statement: Statement, messages: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
    start = statement.span.start
    return next((m for m in messages if m[0] <= start < m[1]), None)


def _together(
    statements: tuple[Statement, ...], messages: tuple[tuple[int, int], ...]
) -> Iterator[Statement]:
    """Several statements of one message share a transaction."""
    held = [_message(s, messages) for s in statements]
    for statement, message in zip(statements, held, strict=True):
        if message is not None and held.count(message) > 1:
            yield replace(statement, in_transaction=True, transaction=-message[0])
        else:
            yield statement
