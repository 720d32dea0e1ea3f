"""Measuring the cases of `fixtures/facts` on a running server: for their table, and for a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg

from tests.facts import FACTS, Case, Seen, seen_in
from zdd_migrate.postgres.servers import Server
from zdd_migrate.postgres.trace import trace
from zdd_migrate.reading.split import split
from zdd_migrate.reading.statements import read_sql


def measure(server: Server, cases: Iterable[Case]) -> Iterator[tuple[str, Seen | None]]:
    """Case ids and what was seen, one after another; None where the major cannot run the setup."""
    template = server.create_database()
    try:
        failed = _script(server, template, (FACTS / "schema.sql").read_text(encoding="utf-8"))
        assert failed is None, f"schema.sql: {failed}"
        for case in cases:
            yield case.id, _one(server, template, case)
    finally:
        server.drop_database(template)


def _one(server: Server, template: str, case: Case) -> Seen | None:
    migration = read_sql(case.sql, case.id, in_transaction=case.in_transaction)
    prepared = server.create_database(template=template) if case.setup else template
    try:
        if case.setup and _script(server, prepared, case.setup) is not None:
            return None
        traced = trace(server, prepared, migration.statements, code=False)
    finally:
        if prepared != template:
            server.drop_database(prepared)
    return seen_in(t.effects for t in traced if t.reached)


def _script(server: Server, database: str, text: str) -> psycopg.Error | None:
    """Run SQL; the error of the first statement that fails."""
    with server.connect(database) as connection:
        for piece in split(text):
            if piece.kind == "statement":
                try:
                    connection.execute(piece.text.encode())
                except psycopg.Error as error:
                    return error
    return None
