"""The exercise of each version works where its code fits the schema, and tells where it does not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

STORY = Path(__file__).resolve().parents[2] / "fixtures" / "shop"
MIGRATION = (STORY / "migration.sql").read_bytes()

# What makes both versions live together: both columns, kept in step whoever writes.
EXPAND = b"""
    ALTER TABLE users ADD COLUMN username varchar(255);
    CREATE FUNCTION keep_names_in_step() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            IF NEW.username IS NOT NULL THEN NEW.user_name := NEW.username;
            ELSE NEW.username := NEW.user_name; END IF;
        ELSIF NEW.username IS DISTINCT FROM OLD.username THEN NEW.user_name := NEW.username;
        ELSE NEW.username := NEW.user_name; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER keep_names_in_step BEFORE INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION keep_names_in_step();
"""
BACKFILL = b"UPDATE users SET username = user_name WHERE username IS NULL"


def start(version: str, database: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, STORY / "app" / version / "exercise.py", "--hold", "0.01", *options],
        env=os.environ | {"DATABASE_URL": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Exit status, one line per failure, stderr. The last line of stdout is a summary."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.splitlines()[:-1], err


def run(version: str, database: str, *options: str) -> tuple[int, list[str], str]:
    return finish(start(version, database, *options))


def test_versions_differ_only_by_the_rename() -> None:
    old, new = STORY / "app" / "old", STORY / "app" / "new"
    names = sorted(path.name for path in old.glob("*.py"))
    assert names == sorted(path.name for path in new.glob("*.py"))
    for name in names:
        renamed = (old / name).read_text().replace("user_name", "username")
        renamed = renamed.replace("app/old", "app/new").replace(
            'VERSION = "old"', 'VERSION = "new"'
        )
        assert ast.dump(ast.parse(renamed)) == ast.dump(ast.parse((new / name).read_text())), name


@pytest.mark.pg
def test_each_version_works_on_its_own_schema_alone(
    shop_database: str, connection: psycopg.Connection
) -> None:
    assert run("old", shop_database) == (0, [], "")
    assert run("new", shop_database)[0] == 1
    connection.execute(MIGRATION)
    assert run("new", shop_database) == (0, [], "")
    status, failures, err = run("old", shop_database)
    assert (status, err) == (1, "")
    assert {line.split(" | ")[0] for line in failures} == {"42703"}
    statements = [line.split(" | ")[1] for line in failures]
    for kind in ("INSERT", "SELECT", "UPDATE", "DELETE", "COPY"):
        assert any(statement.startswith(kind) for statement in statements), kind
    assert any("ON CONFLICT" in statement for statement in statements)
    assert any("GROUP BY u.id, u.user_name" in statement for statement in statements)
    assert len(set(statements)) == len(statements)


@pytest.mark.pg
def test_exercise_repeats_and_runs_beside_itself(
    shop_database: str, connection: psycopg.Connection
) -> None:
    processes = [start("old", shop_database, "--loops", "3") for _ in range(3)]
    assert [finish(process) for process in processes] == [(0, [], "")] * 3
    row = connection.execute("SELECT count(*) FROM users WHERE email LIKE '%@exercise.example'")
    # Each round leaves: one by the ORM, one by upsert, four of five by COPY, one of the refusals.
    assert row.fetchone() == (3 * 3 * 7,)


@pytest.mark.pg
def test_both_versions_work_on_the_expanded_schema_at_once(
    shop_database: str, connection: psycopg.Connection
) -> None:
    old = start("old", shop_database, "--seconds", "4")
    wrote = "SELECT 1 FROM users WHERE email LIKE '%@exercise.example'"
    while old.poll() is None and connection.execute(wrote).fetchone() is None:
        pass  # the change must meet a session that is at work
    connection.execute(EXPAND)
    connection.execute(BACKFILL)
    new = start("new", shop_database, "--seconds", "2")
    assert finish(new) == (0, [], "")
    assert finish(old) == (0, [], "")
    differ = connection.execute(
        "SELECT count(*) FROM users WHERE username IS DISTINCT FROM user_name"
    )
    assert differ.fetchone() == (0,)


@pytest.mark.pg
def test_new_version_sees_names_that_were_not_backfilled(
    shop_database: str, connection: psycopg.Connection
) -> None:
    connection.execute(EXPAND)
    status, failures, _ = run("new", shop_database)
    assert status == 1
    assert [line.split(" | ")[:2] for line in failures] == [
        ["-----", "the report of the best buyers"]
    ]


@pytest.mark.pg
def test_exercise_notices_a_lost_write(shop_database: str, connection: psycopg.Connection) -> None:
    connection.execute(
        """
        CREATE FUNCTION lose_the_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.user_name := OLD.user_name; RETURN NEW; END $$;
        CREATE TRIGGER lose_the_change BEFORE UPDATE ON users
            FOR EACH ROW EXECUTE FUNCTION lose_the_change();
        """
    )
    status, failures, _ = run("old", shop_database)
    assert status == 1
    assert "----- | load a user, change its name, flush" in "\n".join(failures)
    assert "----- | read back every name written so far" in "\n".join(failures)
    assert all("wrong answer" in line for line in failures)


@pytest.mark.pg
def test_exercise_keeps_the_name_and_limits_of_its_address(
    shop_database: str, connection: psycopg.Connection
) -> None:
    address = make_conninfo(
        shop_database, application_name="the-caller", options="-c statement_timeout=300ms"
    )
    waiting = """
        SELECT application_name FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
    """
    with psycopg.connect(shop_database) as blocker:
        blocker.execute("LOCK TABLE users")
        process = start("old", address)
        names: list[tuple[str, ...]] = []
        while process.poll() is None and not names:
            names = connection.execute(waiting).fetchall()
        status, failures, _ = finish(process)
    assert names == [("the-caller",)]
    assert status == 1
    assert {line.split(" | ")[0] for line in failures} == {"57014"}


@pytest.mark.pg
def test_statements_are_limited_to_ten_seconds_unless_told_otherwise(database: str) -> None:
    program = (
        "import os; from common.database import open_engine\n"
        "with open_engine(os.environ['DATABASE_URL'], 'shop').connect() as c:\n"
        "    print(*(c.exec_driver_sql(f'SHOW {s}').scalar() for s in "
        "('statement_timeout', 'application_name')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=STORY / "app",
        env=os.environ | {"DATABASE_URL": database},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["10s", "shop"]


def test_exercise_gives_up_without_a_server() -> None:
    process = start("old", "postgresql://nobody@127.0.0.1:1/nothing")
    status, failures, err = finish(process)
    assert (status, err) == (1, "")
    assert len(failures) == 1
    assert failures[0].startswith("----- | insert a user through the ORM | ")


@pytest.mark.parametrize("address", ["", "postgresql://[broken"])
def test_exercise_names_what_is_wrong_with_its_address(address: str) -> None:
    status, _, err = run("new", address)
    assert status == 2
    assert err.startswith("shop new: DATABASE_URL ")
    assert len(err.splitlines()) == 1
