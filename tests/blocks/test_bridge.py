"""Statements prepared before a type is exchanged go on, and the old type waits for them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.story import plan_of
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.errors import FindingsError
from zdd_migrate.model.plan import Gate, Phase

pytestmark = pytest.mark.pg
BEFORE = """
CREATE TYPE mood AS ENUM ('sad', 'numb', 'glad');
CREATE TABLE people (id int PRIMARY KEY, mood mood NOT NULL DEFAULT 'sad');
CREATE INDEX people_mood_idx ON people (mood);
"""
MIGRATION = """
CREATE TYPE mood_new AS ENUM ('sad', 'glad', 'proud');
ALTER TABLE people ALTER COLUMN mood DROP DEFAULT;
ALTER TABLE people ALTER COLUMN mood TYPE mood_new USING (mood::text::mood_new);
ALTER TYPE mood RENAME TO mood_old;
ALTER TYPE mood_new RENAME TO mood;
DROP TYPE mood_old;
ALTER TABLE people ALTER COLUMN mood SET DEFAULT 'sad';
"""
ROWS = "INSERT INTO people SELECT g, (ARRAY['sad', 'glad'])[1 + g % 2]::mood FROM generate_series(1, 2000) g"
#: statements whose parameter has the type of the column that it meets
WRITES = {
    "INSERT INTO people (id, mood) VALUES (5000, %s) ON CONFLICT (id) DO UPDATE SET mood = excluded.mood": 1,
    "UPDATE people SET mood = %s WHERE id = 1": 1,
    "UPDATE people SET mood = %s::mood WHERE id = 2": 1,
    "UPDATE people SET mood = CASE WHEN id > 0 THEN %s ELSE mood END WHERE id = 3": 1,
}
READS = {
    "SELECT count(*) FROM people WHERE mood = %s::mood": 1,
    "SELECT count(*) FROM people WHERE mood <> %s::text::mood": 1,
    "SELECT count(*) FROM people WHERE mood IN (%s, %s)": 2,
    "SELECT count(*) FROM people WHERE mood = ANY(%s::mood[])": 1,
}
BARE = "SELECT count(*) FROM people WHERE mood = %s"


def ran(client: psycopg.Connection, statements: dict[str, int]) -> list[Any]:
    """All of them, as prepared as they are, and what they gave."""
    given = [
        client.execute(s.encode(), [["glad"]] if "[]" in s else ["glad"] * n)
        for s, n in statements.items()
    ]
    return [one.fetchall() if one.description else one.rowcount for one in given]


def clients(database: str) -> tuple[psycopg.Connection, psycopg.Connection]:
    """One that keeps what it has prepared, and one that runs the plan."""
    client, runner = (psycopg.connect(database, autocommit=True) for _ in range(2))
    client.prepare_threshold = 0
    runner.execute(BEFORE.encode())
    runner.execute(ROWS.encode())
    return client, runner


def test_what_was_prepared_before_goes_on_after(database: str) -> None:
    """Writes, and reads that say the type; the old one is not dropped while they are there."""
    client, runner = clients(database)
    plan = plan_of(MIGRATION, BEFORE)
    steps = [step for _, step in plan.all_steps()]
    *most, gate, drop = steps
    assert isinstance(gate, Gate)
    with runner:
        for step in steps:
            if step in plan.steps[Phase.CONTRACT]:
                break
            run_step(runner, step)
        with client:
            pid = client.info.backend_pid
            before = ran(client, WRITES | READS)
            client.execute(BARE, ["glad"])
            for step in [s for s in most if s in plan.steps[Phase.CONTRACT]]:
                run_step(runner, step)
                assert ran(client, WRITES | READS) == before, step
            # what a plan says of them: only these, and only until they are prepared anew
            with pytest.raises(psycopg.errors.UndefinedFunction):
                client.execute(BARE, ["glad"])
            with pytest.raises(
                FindingsError, match=r"connections of before public\.mood was exchanged"
            ):
                run_step(runner, gate)
        with psycopg.connect(database, autocommit=True) as later:
            later.prepare_threshold = 0
            assert ran(later, WRITES | READS | {BARE: 1})[:-1] == before
            _wait_until_gone(runner, pid)
            run_step(runner, gate)
            run_step(runner, drop)
            assert ran(later, WRITES | READS | {BARE: 1})[:-1] == before
        left = runner.execute(
            "SELECT (SELECT count(*) FROM pg_cast WHERE oid >= 16384), "
            "to_regclass('zdd.exchanged_public_mood')"
        ).fetchone()
        assert left == (0, None)


def test_what_was_prepared_after_writes_on_the_way_back(database: str) -> None:
    """Undone, values of the type that has gone back to its working name are taken."""
    client, runner = clients(database)
    plan = plan_of(MIGRATION, BEFORE)
    steps = [step for _, step in plan.all_steps() if step.undo is not None]
    with runner, client:
        for step in steps:
            run_step(runner, step)
        before = ran(client, WRITES)
        for step in reversed([s for s in steps if s in plan.steps[Phase.CONTRACT]]):
            undo_step(runner, step)
            assert ran(client, WRITES) == before, step
        client.execute("SELECT FROM people WHERE mood = 'numb'")


def _wait_until_gone(runner: psycopg.Connection, pid: int) -> None:
    """The server notices a closed connection an instant later."""
    query = "SELECT FROM pg_stat_activity WHERE pid = %s"
    for _ in range(3000):
        if runner.execute(query, (pid,)).fetchone() is None:
            return
        runner.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(f"the connection of {pid} does not end")
