"""Columns in another table, kept in step: what a user's AFTER trigger writes once more is carried too."""

from __future__ import annotations

import psycopg
import pytest

from tests.stories import STORIES, Story
from zdd_migrate.apply.steps import run_step
from zdd_migrate.model.plan import Phase

TIDY = """
CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE {table} SET {column} = lower({column}) WHERE {key} = NEW.{key}; END IF;
  RETURN NULL; END $$;
CREATE TRIGGER aaa_tidy AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION tidy();
"""
#: the story; the table with the trigger, its column and key; what is written there; and where the two
#: tables then say the same
CASES = {
    "a column that moves": (
        "move-column",
        ("users", "email", "id"),
        "UPDATE users SET email = 'ANN' WHERE id = 1",
        "SELECT email, owner_mail FROM users JOIN accounts ON accounts.id = account_id",
    ),
    "what new code writes where it moves to": (
        "move-column",
        ("accounts", "owner_mail", "id"),
        "UPDATE accounts SET owner_mail = 'ANN' WHERE id = 1",
        "SELECT email, owner_mail FROM users JOIN accounts ON accounts.id = account_id",
    ),
    "columns that are taken out": (
        "extract-table",
        ("users", "street", "id"),
        "UPDATE users SET street = 'ANN' WHERE id = 1",
        "SELECT u.street, a.street FROM users u JOIN addresses a ON u.id = a.user_id",
    ),
    "what new code writes where they are": (
        "extract-table",
        ("addresses", "street", "user_id"),
        "UPDATE addresses SET street = 'ANN' WHERE user_id = 1",
        "SELECT u.street, a.street FROM users u JOIN addresses a ON u.id = a.user_id",
    ),
}
ROWS = {
    "move-column": "INSERT INTO accounts VALUES (1, 'one'); INSERT INTO users VALUES (1, 1, 'x', 'y')",
    "extract-table": "INSERT INTO users VALUES (1, 'x', 'y', 'z')",
}


@pytest.mark.pg
@pytest.mark.parametrize("name", CASES)
def test_what_a_users_after_trigger_writes_is_carried_too(name: str, database: str) -> None:
    """Its UPDATE is carried before the statement's own: that one must not bring the old value back."""
    story_name, (table, column, key), write, look = CASES[name]
    story = Story(STORIES / story_name)
    plan = story.plan(16)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"{story.before}; {ROWS[story_name]}".encode())
        for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
            for step in plan.steps[phase]:
                run_step(connection, step)
        connection.execute(TIDY.format(table=table, column=column, key=key).encode())
        connection.execute(write.encode())
        found = connection.execute(look.encode()).fetchall()

    assert found == [("ann", "ann")]
