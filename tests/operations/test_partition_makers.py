"""Which functions are known to do nothing else than make partitions of the table they are given."""

from __future__ import annotations

import pytest

from tests.story import schema_of
from zdd_migrate.model.names import QName
from zdd_migrate.operations.partition_makers import parent_of_partitions
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

MAKE = "EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING INDEXES)', part, parent);"
STORE = "EXECUTE format('ALTER TABLE %I SET (fillfactor = %s)', part, fill);"
ATTACH = (
    "EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (''%s'') TO (''%s'')', "
    "parent, part, since, till);"
)
CALL = "SELECT make('events', now()::date)"


def function(*statements: str, declare: str = "") -> str:
    body = "\n  ".join(statements)
    return (
        "CREATE FUNCTION make(parent text, day date, fill int DEFAULT 90) RETURNS int\n"
        f"LANGUAGE plpgsql AS $$\nDECLARE\n  part text; since text; till text; {declare}\nBEGIN\n"
        "  SELECT to_char(day, 'YYYYMMDD') INTO since;\n"
        "  SELECT lower(format('%s_%s', parent, since)) INTO part;\n"
        "  IF EXISTS (SELECT 1 FROM pg_tables WHERE tablename = part) THEN RETURN 0; END IF;\n"
        f"  {body}\n  RETURN 1;\nEND;\n$$;"
    )


def parent(body: str, call: str = CALL) -> QName | None:
    return parent_of_partitions(call, schema_of(body))


def test_made_stored_and_attached_is_only_partitions() -> None:
    made = function(MAKE, STORE, ATTACH)
    assert parent(made) == QName("public", "events")
    assert parent(made, "SELECT make('events'::text, now()::date, 80)") == QName("public", "events")


@pytest.mark.parametrize(
    ("statements", "call"),
    [
        ((STORE, ATTACH), CALL),  # of a table that may have been there
        ((MAKE, "IF day > now() THEN", ATTACH, "END IF;"), CALL),  # perhaps without the first
        ((MAKE, "part := 'users';", STORE), CALL),  # another table by then
        ((MAKE, "parent := 'users';", ATTACH), CALL),
        ((MAKE, "SELECT 'users' INTO parent;", ATTACH), CALL),
        ((MAKE, "DELETE FROM users;"), CALL),
        ((MAKE, "PERFORM other(parent);"), CALL),
        ((MAKE, "EXECUTE format('DROP TABLE %I', part);"), CALL),
        (
            (
                MAKE,
                "EXECUTE format('ALTER TABLE %I SET (fillfactor = 9); DROP TABLE users', part);",
            ),
            CALL,
        ),
        (("EXECUTE format('CREATE TABLE IF NOT EXISTS %I (LIKE %I)', part, parent);", STORE), CALL),
        (("EXECUTE format('CREATE TABLE %I AS SELECT * FROM %I', part, parent);",), CALL),
        (("EXECUTE format('CREATE TABLE %s (LIKE %s)', part || day, parent);",), CALL),
        (("EXECUTE day;",), CALL),
        ((), CALL),
        ((MAKE, ATTACH), "SELECT make(name, now()::date) FROM tables"),
        ((MAKE, ATTACH), "SELECT make((SELECT 'events'), now()::date)"),
        ((MAKE, ATTACH), "SELECT make('events', remove_all())"),
        ((MAKE, ATTACH), "SELECT make('Events', now()::date)"),
        ((MAKE, ATTACH), "SELECT make('even' || 'ts', now()::date)"),
    ],
)
def test_anything_else_is_not(statements: tuple[str, ...], call: str) -> None:
    assert parent(function(*statements), call) is None


def test_a_table_that_old_code_uses_is_left_alone() -> None:
    before = "CREATE TABLE events (id int, day date) PARTITION BY RANGE (day);" + function(
        MAKE, ATTACH
    )
    plan = make_plan([read_sql(CALL, "m.sql")], schema_of(before), name="x", before=before)
    assert [r.reason[:14] for r in plan.refusals] == ["not understood"]
