"""What libpg_query refuses though Postgres does not: asked of a real server, and read."""

from __future__ import annotations

import psycopg
import pytest

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.operations import NotUnderstood, read_statement

#: libpg_query hands comments on as tokens, so that what looks one token ahead stumbles over them
STATEMENTS = (
    "CREATE TABLE a (b timestamp /* x */ WITH /* y */ TIME -- z\n ZONE)",
    "CREATE TABLE a (b text DEFAULT 'x' -- and on\n 'y' NOT NULL)",
    "CREATE TABLE a (b int); CREATE INDEX ON a (b NULLS /* x */ FIRST)",
)


@pytest.mark.pg
@pytest.mark.parametrize("sql", STATEMENTS)
def test_comments_where_a_parser_looks_ahead(database: str, sql: str) -> None:
    """The server takes it, and so does our reader."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.encode())

    for each in sql.split("; "):
        assert not any(isinstance(o, NotUnderstood) for o in read_statement(each))


@pytest.mark.pg
@pytest.mark.parametrize(
    "text", ["'a' -- x\n 'b'", r"E'\'\\\x41\u00e4\101'", r"U&'d\0061!'", "$x$ $$ $x$", "'\\'"]
)
def test_a_literal_says_what_the_server_says(database: str, text: str) -> None:
    """The same characters."""
    with psycopg.connect(database) as connection:
        row = connection.execute(f"SELECT {text}".encode()).fetchone()

    assert row == (Cursor(text).string(),)
