"""Conversions tried on real rows: what does not come back, what fails, and what could not be tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.story import plan_of
from zdd_migrate.model.plan import Plan
from zdd_migrate.postgres.roundtrip import try_conversions

pytestmark = pytest.mark.pg
TABLE = "CREATE TABLE items (id int PRIMARY KEY, price numeric NOT NULL, size text, code text);"
NARROW = "ALTER TABLE items ALTER COLUMN price TYPE integer"
CUT = "ALTER TABLE items ALTER COLUMN code TYPE varchar(3) USING left(code, 3)"
#: text to another type, under another name
SIZES = """
ALTER TABLE items ADD COLUMN size_cm int;
UPDATE items SET size_cm = replace(size, ' cm', '')::int;
ALTER TABLE items DROP COLUMN size;
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "zdd_migrate", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def tried(database: str, migration: str, rows: str, **answers: str) -> Plan:
    """The plan for `TABLE` with `rows` in it, tried there."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute((TABLE + rows).encode())
        before = connection.execute("SELECT xmin, * FROM items ORDER BY id").fetchall()
        plan = try_conversions(database, plan_of(migration, TABLE, **answers))
        assert connection.execute("SELECT xmin, * FROM items ORDER BY id").fetchall() == before
    return plan


def test_rows_that_do_not_come_back_are_told_with_their_keys(database: str) -> None:
    """A cut text: how many, of how many, and a few of them."""
    plan = tried(
        database,
        CUT,
        "INSERT INTO items SELECT g, 1, NULL, CASE WHEN g % 4 = 0 THEN 'abcd' ELSE 'abc' END "
        "FROM generate_series(1, 20) g",
        down__items__code="code",
    )

    assert not plan.questions
    (said,) = [n for n in plan.notes if "come back" in n]
    assert "5 of the 20 rows of public.items do not come back the same" in said
    assert "(id = 4; id = 8; id = 12)" in said


def test_all_that_come_back_are_told_too(database: str) -> None:
    """And how many were looked at."""
    plan = tried(database, NARROW, "INSERT INTO items VALUES (1, 3), (2, 4)")

    assert "items.price: all of the 2 rows of public.items come back" in " ".join(plan.notes)


def test_a_value_that_the_new_type_cannot_hold_waits_for_contract(database: str) -> None:
    """numeric to int: neither too large nor broken ones have a place."""
    plan = tried(database, NARROW, "INSERT INTO items VALUES (1, 3), (2, 3e12), (3, 2.5)")

    (said,) = [n for n in plan.notes if "cannot hold" in n and "rows" in n]
    assert "2 of the 3 rows" in said
    assert "(id = 2; id = 3)" in said


def test_rows_that_up_fails_on_are_a_question(database: str) -> None:
    """Each is found among the good ones, and what the server says of it is told."""
    plan = tried(
        database,
        SIZES,
        "INSERT INTO items SELECT g, 1, CASE WHEN g IN (7, 300) THEN 'large' ELSE g || ' cm' END "
        "FROM generate_series(1, 500) g",
        down__items__size="size_cm || ' cm'",
    )

    (question,) = plan.questions
    assert question.about == "items.size_cm"
    assert "fails on 2 of the 500 rows of public.items (id = 7; id = 300: 22P02" in question.ask
    assert "--up items.size_cm=" in question.answer_with


def test_a_value_that_is_only_computed_is_tried_too(database: str) -> None:
    """A column that the other one stays beside has no way back."""
    fills = "ALTER TABLE items ADD COLUMN part int; UPDATE items SET part = (1 / (id % 5))::int"

    plan = tried(database, fills, "INSERT INTO items SELECT g, 1 FROM generate_series(1, 9) g")

    (question,) = plan.questions
    assert "fails on 1 of the 9 rows of public.items (id = 5: 22012" in question.ask


def test_one_that_cannot_be_tried_says_why(database: str) -> None:
    """No privilege: no silence, and no failure of the plan."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        connection.execute("CREATE ROLE passer_by LOGIN PASSWORD 'passing'")
        try:
            info = psycopg.conninfo.make_conninfo(database, user="passer_by", password="passing")
            plan = try_conversions(info, plan_of(NARROW, TABLE))
        finally:
            connection.execute("DROP ROLE passer_by")

    (said,) = [n for n in plan.notes if "was not tried" in n]
    assert "42501 permission denied for table items" in said
    assert not plan.questions


def test_an_empty_table_and_one_without_a_key(database: str) -> None:
    """Nothing tried is said; rows without a key are named by their place."""
    assert "has no rows" in " ".join(tried(database, NARROW, "").notes)
    before = TABLE.replace(" PRIMARY KEY", "")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE items")
        connection.execute((before + "INSERT INTO items VALUES (1, 2.5)").encode())

    plan = try_conversions(database, plan_of(NARROW, before))

    assert "(ctid = (0,1))" in " ".join(plan.notes)


def test_a_large_table_is_sampled_all_over(database: str) -> None:
    """By rows, and where there are many pages by pages; the note says how many were looked at."""
    rows = "INSERT INTO items SELECT g, g FROM generate_series(1, 20000) g; ANALYZE items;"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((TABLE + rows).encode())
    for pages in (10_000, 20):
        plan = try_conversions(database, plan_of(NARROW, TABLE), rows=500, pages=pages)

        (said,) = [n for n in plan.notes if "come back" in n]
        assert "rows looked at in public.items, which has about 20,000" in said


def test_rows_are_looked_at_where_the_pages_drawn_hold_none(database: str) -> None:
    """One page in a hundred has rows: a draw of pages nearly always misses it."""
    rows = """
    ALTER TABLE items SET (autovacuum_enabled = off);
    INSERT INTO items SELECT g, g FROM generate_series(1, 20000) g; ANALYZE items;
    DELETE FROM items WHERE id < 20000;"""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((TABLE + rows).encode())

    plan = try_conversions(database, plan_of(NARROW, TABLE), rows=500, pages=20)

    assert any("come back" in note for note in plan.notes)


def test_the_command_asks_before_it_writes(database: str, tmp_path: Path) -> None:
    """`plan --database` takes the schema from there, exits 1 on a question and writes nothing."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((TABLE + "INSERT INTO items VALUES (1, 1, 'large')").encode())
    path = tmp_path / "m.sql"
    path.write_text(SIZES)
    arguments = ["plan", str(path), "--database", database, "-o", str(tmp_path / "out")]
    arguments += ["--down", "items.size=size_cm || ' cm'"]

    refused = run(*arguments)
    answer = "items.size_cm=CASE WHEN size ~ '^[0-9]+ cm$' THEN replace(size, ' cm', '')::int END"
    planned = run(*arguments, "--up", answer)

    assert refused.returncode == 1
    assert "fails on 1 of the 1 rows" in " ".join(refused.stdout.split())
    assert planned.returncode == 0, planned.stderr
    assert (tmp_path / "out" / "plan.yaml").is_file()
