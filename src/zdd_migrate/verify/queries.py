"""Given queries as a code version: prepared in every phase, and run where their values are known.

Values come from where the query was found (a log), else from the data: a parameter compared with
or written to a column gets values of that column. What does not work before anything was changed
(or, for new code, once the plain migration is done) is left out, and said.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.errors import InputError
from zdd_migrate.grammar.usage import analyse
from zdd_migrate.model.names import QName
from zdd_migrate.model.query import Query, Usage
from zdd_migrate.model.schema import Schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.querying import run_one
from zdd_migrate.verify.recording import Recorder
from zdd_migrate.verify.shapes import vary
from zdd_migrate.verify.versions import Session
from zdd_migrate.verify.workers import Crew, Kind, WorkSession

ASKER = Kind("zdd_migrate.verify.querying")
_DRAWS = 3
_TRIES = 8
_NOTED = 5
#: statements that PREPARE does not take
_NOT_PREPARED = ("COPY", "CALL", "DO", "DECLARE")
#: what a parameter gets that belongs to no column: LIMIT, OFFSET, an interval …
_PLAIN = {
    "integer": "1",
    "bigint": "1",
    "smallint": "1",
    "numeric": "1",
    "double precision": "1",
    "real": "1",
    "text": "a",
    "character varying": "a",
    "boolean": "true",
    "date": "2024-01-01",
    "timestamp with time zone": "2024-01-01 00:00Z",
    "timestamp without time zone": "2024-01-01 00:00",
    "interval": "1 day",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json": "{}",
    "jsonb": "{}",
}


@dataclass(slots=True)
class Queries:
    """Queries of one release's code. `jobs` are those that can be tried, set by `prepare`."""

    name: str
    queries: tuple[Query, ...]
    writers: int = 2
    depth: str = "queries"
    ledger: Ledger | None = None
    jobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_work(self) -> bool:
        """Whether any query can be tried."""
        return bool(self.jobs)

    def branched(self) -> Queries:
        """It keeps no record."""
        return self

    def prepare(self, server: Server, database: str, schema: Schema, crew: Crew) -> list[str]:
        """Find out on a database where each must work what can be prepared, and what run."""
        left_out: list[str] = []
        only_prepared = 0
        self.jobs = []
        with server.connect(database, application_name="zdd-migrate trying") as connection:
            connection.prepare_threshold = None
            for query in self.queries:
                try:
                    job = _job(connection, query, schema)
                except psycopg.Error as error:
                    said = error.diag.message_primary or str(error)
                    left_out.append(f"{query.where} ({' '.join(said.split())[:100]})")
                    continue
                self.jobs.append(job)
                only_prepared += job["prepare"] and not job["sets"]
        if left_out and not self.jobs:
            raise InputError(
                f"none of the {len(self.queries)} queries of the {self.name} code works on its own "
                f"schema: {left_out[0]}"
            )
        notes = [f"query of the {self.name} code left out: {one}" for one in left_out[:_NOTED]]
        if len(left_out) > _NOTED:
            notes.append(f"and {len(left_out) - _NOTED} more queries of the {self.name} code")
        if only_prepared:
            notes.append(
                f"{only_prepared} of {len(self.jobs)} queries of the {self.name} code were prepared "
                "and not run: no values that they work with are known"
            )
        return notes

    def open(self, server: Server, database: str, crew: Crew) -> Session:
        """Connect, and prepare every query."""
        names = [f"zdd-{self.name}-q{i}" for i in range(self.writers)]
        pooled = server.pooler is not None
        jobs = [
            {"dsn": server.made_up_dsn(database, name), "queries": self.jobs, "pooled": pooled}
            for name in names
        ]
        return WorkSession(crew, ASKER, jobs, Recorder())


def _job(connection: psycopg.Connection, query: Query, schema: Schema) -> dict[str, Any]:
    """How a query is tried; raises psycopg.Error when it does not work at all."""
    if query.sql.lstrip().split(None, 1)[0].upper().rstrip("(") in _NOT_PREPARED:
        with connection.transaction(force_rollback=True):
            run_one(connection, query.prepared)
        return {"text": query.prepared, "prepare": False, "sets": []}
    connection.execute(f"PREPARE zdd_try AS {query.prepared}".encode())
    try:
        row = connection.execute(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'zdd_try'"
        ).fetchone()
        types = list(row[0] or ()) if row is not None else []
        usage = analyse(query.prepared, schema)
        sets = [
            list(values)
            for values in _candidates(connection, query, types, usage, schema)
            if _works(connection, values)
        ]
    finally:
        connection.execute("DEALLOCATE zdd_try")
    return {"text": query.prepared, "prepare": True, "sets": sets[:_DRAWS]}


def _works(connection: psycopg.Connection, values: Sequence[str | None]) -> bool:
    given = ", ".join("NULL" if v is None else quote_literal(v) for v in values)
    try:
        with connection.transaction(force_rollback=True):
            run_one(connection, f"EXECUTE zdd_try{f' ({given})' if values else ''}")
    except psycopg.Error:
        return False
    return True


def _candidates(
    connection: psycopg.Connection,
    query: Query,
    types: Sequence[str],
    usage: Usage,
    schema: Schema,
) -> Iterator[tuple[str | None, ...]]:
    """Values to try: those it was seen with, then those drawn from rows."""
    if not types:
        yield ()
        return
    yield from (v for v in query.values if len(v) == len(types))
    draw = random.Random(query.prepared)  # noqa: S311 - the same every time, and no secret
    for attempt in range(_TRIES):
        rows: dict[QName, dict[str, str | None]] = {}
        values: list[str | None] = []
        for number, type_ in enumerate(types, 1):
            drawn = _drawn(connection, usage, number, rows, schema, draw)
            if drawn is None:
                if type_ not in _PLAIN:
                    return
                values.append(_PLAIN[type_])
                continue
            table, column, value = drawn
            known = schema.tables[table].column(column)
            if known is not None and attempt % 2 and _inserts(usage, table, column):
                value = vary(known, value, draw.randrange(10**6), "zq")
            values.append(f"{{{value}}}" if type_.endswith("[]") and value is not None else value)
        yield tuple(values)


def _inserts(usage: Usage, table: QName, column: str) -> bool:
    return any(i.table == table and column in (i.columns or (column,)) for i in usage.insertions)


def _drawn(
    connection: psycopg.Connection,
    usage: Usage,
    number: int,
    rows: dict[QName, dict[str, str | None]],
    schema: Schema,
    draw: random.Random,
) -> tuple[QName, str, str | None] | None:
    """The value of the column that a parameter belongs to, all of a table's from the same row."""
    for parameter, table, column in usage.sources:
        if parameter != number or table not in schema.tables:
            continue
        if table not in rows:
            rows[table] = _row(connection, schema, table, draw.randrange(200))
        if column in rows[table]:
            return table, column, rows[table][column]
    return None


def _row(
    connection: psycopg.Connection, schema: Schema, table: QName, offset: int
) -> dict[str, str | None]:
    names = [c.name for c in schema.tables[table].columns]
    shown = ", ".join(f"{quote_ident(name)}::text" for name in names)
    for skip in _offsets(offset):
        query = f"SELECT {shown} FROM {quote_qname(table)} OFFSET {skip} LIMIT 1"
        found = connection.execute(query.encode()).fetchone()
        if found is not None:
            return dict(zip(names, found, strict=True))
    return {}


def _offsets(offset: int) -> Iterable[int]:
    return (offset, offset % 10, 0)
