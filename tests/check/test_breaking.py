"""The running code's queries against a migration, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.story import BEFORE, schema_of
from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Finding
from zdd_migrate.reading.queries import read_queries
from zdd_migrate.reading.statements import read_sql

RENAME = "ALTER TABLE users RENAME COLUMN user_name TO username"
MORE = (
    BEFORE
    + "CREATE FUNCTION greet(u bigint) RETURNS text LANGUAGE sql AS "
    + "'SELECT user_name FROM users WHERE id = u';"
)


def findings(tmp_path: Path, migration: str, *queries: str, before: str = MORE) -> list[Finding]:
    """What is found in queries, one a line."""
    file = tmp_path / "queries.sql"
    file.write_text(";\n".join(queries) + ";\n")
    read = read_sql(migration, "m.sql", in_transaction=False)
    checker = Checker(Config(root=tmp_path), queries=read_queries([file]).queries)
    report = checker.run([read], schema_of(before))
    return [f for f in report.findings if f.rule in ("ZDD240", "ZDD241", "ZDD242")]


CASES = {
    "named": (RENAME, "SELECT user_name FROM users", "ZDD240"),
    "not named": (RENAME, "SELECT email FROM users", None),
    "another table's": (RENAME, "SELECT note AS user_name FROM orders", None),
    "a star": (RENAME, "SELECT * FROM users", "ZDD241"),
    "a count": (RENAME, "SELECT count(*) FROM users", None),
    "copied in": (RENAME, "COPY users (email, user_name) FROM STDIN", "ZDD240"),
    "by a function": (RENAME, "SELECT greet($1)", "ZDD241"),
    "unknown call": (RENAME, "CALL tidy()", "ZDD242"),
    "not followed, named": (RENAME, "SELECT user_name FROM (users", "ZDD240"),
    "not followed, its table": (RENAME, "SELECT x FROM (users", "ZDD241"),
    "not followed, others": (RENAME, "SELECT x FROM (orders", "ZDD242"),
    "dropped table": ("DROP TABLE orders", "DELETE FROM orders WHERE id = 1", "ZDD240"),
    "dropped table, not used": ("DROP TABLE orders", "SELECT id FROM users", None),
    "renamed table": ("ALTER TABLE orders RENAME TO purchases", "SELECT 1 FROM orders", "ZDD240"),
    "required, left out": (
        "ALTER TABLE users ADD COLUMN city text NOT NULL",
        "INSERT INTO users (email) VALUES ($1)",
        "ZDD240",
    ),
    "required, only read": (
        "ALTER TABLE users ADD COLUMN city text NOT NULL",
        "SELECT email FROM users",
        None,
    ),
    "not null, left out": (
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        "INSERT INTO users (email) VALUES ($1)",
        "ZDD240",
    ),
    "not null, given": (
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        "INSERT INTO users (email, age) VALUES ($1, $2)",
        "ZDD241",
    ),
    "not null, set": (
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        "UPDATE users SET age = $1",
        "ZDD241",
    ),
    "not null, another set": (
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        "UPDATE users SET email = $1",
        None,
    ),
    "restricted": (
        "ALTER TABLE users ADD CONSTRAINT adult CHECK (age > 17)",
        "UPDATE users SET age = $1",
        "ZDD241",
    ),
    "upsert": (
        "ALTER TABLE users DROP CONSTRAINT users_email_key",
        "INSERT INTO users (email) VALUES ($1) ON CONFLICT (email) DO NOTHING",
        "ZDD241",
    ),
    "not understood": ("ALTER TABLE users FROBNICATE", "SELECT email FROM users", "ZDD242"),
    "harmless": ("ALTER TABLE users ADD COLUMN city text", "SELECT email FROM users", None),
}


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_a_query(name: str, tmp_path: Path) -> None:
    """The rule that speaks, or none."""
    migration, query, wanted = CASES[name]

    found = findings(tmp_path, migration, query)

    assert [f.rule for f in found] == ([wanted] if wanted else [])


def test_the_finding_stands_at_the_query(tmp_path: Path) -> None:
    """Its file and line, its own text, the statement that breaks it, the SQLSTATE."""
    (found,) = findings(tmp_path, RENAME, "SELECT 1", "SELECT id,\n  user_name\nFROM users")

    assert found.span.path.endswith("queries.sql")
    assert (found.span.line, found.span.end_line) == (2, 4)
    assert found.statement == "SELECT id,\n  user_name\nFROM users"
    assert RENAME in found.message
    assert "42703" in found.message
    assert found.relation == "public.users"


def test_a_query_is_judged_by_the_worst_that_happens_to_it(tmp_path: Path) -> None:
    """Once for each statement of the migration."""
    migration = f"{RENAME}; ALTER TABLE users DROP COLUMN age, DROP COLUMN email;"

    found = findings(tmp_path, migration, "SELECT user_name, age, email FROM users")

    assert [f.rule for f in found] == ["ZDD240", "ZDD240"]
