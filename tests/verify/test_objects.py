"""What made-up code asks of views, functions, sequences and types."""

from __future__ import annotations

import pytest

from tests.story import schema_of
from zdd_migrate.model.names import QName
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.objects import asked_of
from zdd_migrate.verify.walk import Effort, verify_migration

BEFORE = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE DOMAIN mail AS text;
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE VIEW names AS SELECT id, name FROM users;
CREATE SEQUENCE numbers;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
CREATE FUNCTION note(x int) RETURNS void LANGUAGE sql AS 'DELETE FROM users WHERE id = x';
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
"""
CHANGES = {
    # what fails alike is told of once, by whichever statement failed first
    "DROP VIEW names": ('FROM "public"."names"', "42P01"),
    "DROP SEQUENCE numbers": ("SELECT nextval", "42P01"),
    "DROP FUNCTION twice(int)": ("twice", "42883"),
    "DROP FUNCTION note(int)": ("note", "42883"),
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'": ("'sad'", "22P02"),
    "DROP DOMAIN mail": ("mail", "42704"),
}


def test_what_is_the_same_in_both_is_not_asked_for() -> None:
    """But a view over a table that differs is."""
    schema = schema_of(BEFORE)

    assert asked_of(schema, schema.copy(), ()) == ()
    over = asked_of(schema, schema.copy(), [QName("public", "users")])
    assert len(over) == 2
    assert all("names" in statement for statement in over)


def test_what_may_write_is_only_planned() -> None:
    """And a trigger's function is called by nobody."""
    after = schema_of(BEFORE)
    asked = asked_of(after, schema_of(""), ())

    assert [s for s in asked if "note" in s and not s.startswith("EXPLAIN ")] == []
    assert [s for s in asked if "seen" in s] == []


@pytest.mark.pg
@pytest.mark.parametrize("change", CHANGES)
def test_code_is_seen_to_miss_it(change: str, pg_server: Server) -> None:
    """Each is asked for by old code, which fails where it is gone."""
    asked, sqlstate = CHANGES[change]
    verdict = verify_migration(
        [change],
        in_transaction=True,
        schema_sql=BEFORE,
        server=pg_server,
        effort=Effort(rounds=1, settle=1, rows=20),
    )

    assert verdict.judgement is Judgement.FAIL
    missed = [f for f in verdict.failures if f.sqlstate == sqlstate and f.code == "old"]
    assert any(asked.replace('"', "") in f.statement.replace('"', "") for f in missed), (
        verdict.failures
    )


@pytest.mark.pg
def test_code_works_on_tables_that_are_published(pg_server: Server) -> None:
    """Rows that cannot be told from each other can be neither changed nor deleted from then on."""
    verdict = verify_migration(
        ["ALTER PUBLICATION feed ADD TABLE logs"],
        in_transaction=True,
        schema_sql="CREATE TABLE logs (line text); CREATE PUBLICATION feed",
        server=pg_server,
        effort=Effort(rounds=1, settle=1, rows=20),
    )

    assert verdict.judgement is Judgement.FAIL
    assert {f.sqlstate for f in verdict.failures} == {"55000"}
