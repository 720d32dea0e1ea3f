"""The users' queries, from wherever they are written down: SQL files, exports, server logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.tokens import NUMBER, STRING, WORD, tokenise
from zdd_migrate.model.query import Query
from zdd_migrate.reading.queries import exports, logs, scripts
from zdd_migrate.reading.queries.parameters import numbered
from zdd_migrate.reading.statements import decode

#: first words of what reads or writes rows; anything else is no query
_QUERIES = frozenset(
    "SELECT INSERT UPDATE DELETE MERGE WITH VALUES TABLE COPY ( CALL DECLARE EXECUTE DO".split()
)
_LITERAL_SETS = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A statement with the place it was found at, and the values of its parameters where known."""

    sql: str
    line: int
    values: tuple[str | None, ...] | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Collection:
    """All queries of some files. `left_out` counts statements that are no queries."""

    queries: tuple[Query, ...]
    left_out: int = 0


def read_queries(paths: Sequence[Path]) -> Collection:
    """Read files, or the files of directories; InputError where there is nothing to read."""
    queries: dict[str, Query] = {}
    left_out = 0
    for path in _files(paths):
        text = decode(path.read_bytes(), str(path))
        found = False
        for seen in _read(path, text):
            found = True
            sql = seen.sql.strip().rstrip(";").rstrip()
            if not _is_query(sql):
                left_out += 1
                continue
            _add(queries, Query(sql, str(path), seen.line, *numbered(sql)), seen)
        if not found:
            raise InputError(
                f"{path}: no statement found; this reads SQL, pg_stat_statements as CSV or JSON, "
                "and server logs (stderr, csvlog, jsonlog) with log_statement, "
                "log_min_duration_statement or auto_explain"
            )
    return Collection(tuple(queries.values()), left_out)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file with queries")
        if path.is_file():
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix in (".sql", ".csv", ".json", ".log"))
        if not inside:
            raise InputError(f"{path}: no files with queries (*.sql, *.csv, *.json, *.log) in it")
        yield from inside


def _read(path: Path, text: str) -> Iterable[Seen]:
    if path.suffix == ".sql":
        return (Seen(sql, line) for sql, line in scripts.read(text))
    for reader in (exports.read_json, exports.read_csv, logs.read_json, logs.read_csv):
        rows = reader(text)
        if rows is not None:
            return [Seen(*row) for row in rows]
    return [Seen(*row) for row in logs.read_stderr(text)]


def _is_query(sql: str) -> bool:
    try:
        tokens = tokenise(sql)
    except UnreadError:
        return True  # whatever it is, it is named later as not understood
    return bool(tokens) and tokens[0].up in _QUERIES


def _add(queries: dict[str, Query], query: Query, seen: Seen) -> None:
    """Once for each shape: logs hold the same statement with a thousand different values."""
    key = _shape(query.sql)
    values = (seen.values,) if seen.values is not None else ()
    known = queries.get(key)
    if known is None:
        queries[key] = replace(query, values=values, calls=seen.calls)
        return
    more = tuple(dict.fromkeys((*known.values, *values)))[:_LITERAL_SETS]
    queries[key] = replace(known, values=more, calls=known.calls + seen.calls)


def _shape(sql: str) -> str:
    """The text without literals and white space."""
    try:
        tokens = tokenise(sql)
    except UnreadError:
        return sql
    return " ".join(
        "?"
        if t.kind == STRING or (t.kind == NUMBER and not t.text.startswith("$"))
        else (t.text.lower() if t.kind == WORD else t.text)
        for t in tokens
    )
