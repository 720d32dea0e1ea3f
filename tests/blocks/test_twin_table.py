"""A table made anew never makes the running code fail, and never takes the name with a row missing."""

from __future__ import annotations

import psycopg
import pytest

from tests.stories import STORIES, Story
from tests.story import schema_of
from zdd_migrate.apply.steps import run_step
from zdd_migrate.errors import FindingsError
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Gate, Phase
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.plan.twin_tables import renamed_text
from zdd_migrate.reading.statements import read_sql

STORY = Story(STORIES / "partition-existing-table")
FITS = "INSERT INTO readings VALUES (1, '2020-01-01', 1)"
FITS_NOWHERE = "INSERT INTO readings VALUES (2, '1990-01-01', 2)"


@pytest.mark.pg
def test_a_row_that_fits_nowhere_is_written_and_found(database: str) -> None:
    """Old code goes on; the gate before the change of names says what is missing."""
    plan = STORY.plan(16)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(STORY.before.encode())
        for phase in (Phase.EXPAND, Phase.MIGRATE):
            for step in plan.steps[phase]:
                run_step(connection, step)
        connection.execute(FITS)
        connection.execute(FITS_NOWHERE)
        connection.execute(f"{FITS_NOWHERE} ON CONFLICT (id) DO UPDATE SET value = 2")
        strict, gate, *_ = plan.steps[Phase.CONTRACT]
        assert isinstance(gate, Gate)
        run_step(connection, strict)
        with pytest.raises(FindingsError, match=r"no partition for them.*for one: \(1,"):
            run_step(connection, gate)
        connection.execute("DELETE FROM readings WHERE id = 2")
        run_step(connection, gate)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(FITS_NOWHERE)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE TABLE readings (at date)", "CREATE TABLE public.zdd_new_readings (at date)"),
        (
            "create table if not exists public.readings(at date)",
            "create table if not exists public.zdd_new_readings(at date)",
        ),
        (
            "CREATE TABLE readings_1 PARTITION OF readings DEFAULT",
            "CREATE TABLE readings_1 PARTITION OF public.zdd_new_readings DEFAULT",
        ),
        (
            "CREATE INDEX readings_i ON ONLY \"readings\" (at) WHERE readings.at > '2000-01-01'",
            (
                "CREATE INDEX readings_i ON ONLY public.zdd_new_readings (at) "
                "WHERE readings.at > '2000-01-01'"
            ),
        ),
    ],
)
def test_a_statement_takes_the_name_that_is_free(statement: str, expected: str) -> None:
    """Only where it names the table that is made, and as it was written otherwise."""
    name = QName("public", "readings")
    assert renamed_text(statement, name, name.sibling("zdd_new_readings")) == expected


COUNTS = """
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE {table} SET {column} = {column} + 1 WHERE id = NEW.id; END IF;
  RETURN NULL; END $$;
CREATE TRIGGER count_up AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION count_up();
"""


@pytest.mark.pg
@pytest.mark.parametrize("made", ["anew", "by copy"])
def test_what_a_users_after_trigger_writes_is_carried_too(made: str, database: str) -> None:
    """Its UPDATE is carried before the statement's own: that one must not bring the old value back."""
    anew = made == "anew"
    story = STORY if anew else Story(STORIES / "rename-table-by-copy")
    table, column, other = (
        ("readings", "value", "zdd_new_readings") if anew else ("customers", "credit", "clients")
    )
    columns, values = (
        ("id, at, value", "1, '2020-01-01', 1") if anew else ("id, email, credit", "1, 'a', 1")
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(story.before.encode())
        connection.execute(COUNTS.format(table=table, column=column).encode())
        plan = story.plan(16)
        for phase in (Phase.EXPAND, Phase.MIGRATE):
            for step in plan.steps[phase]:
                run_step(connection, step)
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})".encode())
        connection.execute(f"UPDATE {table} SET {column} = 10 WHERE id = 1".encode())
        found = [
            connection.execute(f"SELECT {column} FROM {name}".encode()).fetchall()
            for name in (table, other)
        ]

    assert found == [[(11,)], [(11,)]]


#: a type of a session's own, called like one that our functions name, whose check runs code
TRAP = """
CREATE FUNCTION pg_temp.noted(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF current_user <> 'zdd_clerk' THEN RAISE EXCEPTION 'run as another'; END IF; RETURN true; END $$;
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.noted(VALUE));
"""


@pytest.mark.pg
def test_what_carries_with_its_owners_rights_runs_nobody_elses_code(database: str) -> None:
    """Whoever may write to a table must not come by the rights of whoever made the function."""
    before = "CREATE TABLE notes (id int PRIMARY KEY, doc json); GRANT ALL ON notes TO PUBLIC;"
    plan = make_plan(
        [read_sql("ALTER TABLE notes RENAME TO pages", "m.sql", in_transaction=False)],
        schema_of(before),
        name="test",
        before=before,
        via="copy",
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(before.encode())
        for step in plan.steps[Phase.EXPAND]:
            run_step(connection, step)
        connection.execute("CREATE ROLE zdd_clerk")
        try:
            connection.execute("SET ROLE zdd_clerk")
            connection.execute(TRAP)
            connection.execute("INSERT INTO notes VALUES (1, '{}')")
            connection.execute("UPDATE notes SET doc = '[]'")
            connection.execute("RESET ROLE")
            found = connection.execute("SELECT doc::pg_catalog.text FROM pages").fetchall()
            assert found == [("[]",)]
        finally:
            connection.execute("RESET ROLE; DROP OWNED BY zdd_clerk; DROP ROLE zdd_clerk")
