"""Statements prepared before a type is exchanged go on, and the old type waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.story import plan_of
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.errors import FindingsError
from zdd_migrate.model.plan import Gate, Phase
from zdd_migrate.postgres.servers import Server

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
}
BARE = "SELECT count(*) FROM people WHERE mood = %s"
READS = {
    BARE: 1,
    "SELECT count(*) FROM people WHERE %s = mood": 1,
    "SELECT count(*) FROM people WHERE mood <> %s": 1,
    "SELECT count(*) FROM people WHERE mood IS DISTINCT FROM %s": 1,
    "SELECT count(*) FROM people WHERE mood IN (%s, %s)": 2,
    "SELECT count(*) FROM people WHERE mood NOT IN (%s, %s)": 2,
    "SELECT count(*) FROM people WHERE mood > %s::mood": 1,
    "SELECT count(*) FROM people WHERE mood = ANY(%s::mood[])": 1,
}
#: what a plan says of them: only these, and only until they are prepared anew
FAILING = {
    "SELECT count(*) FROM people WHERE mood > %s": psycopg.errors.UndefinedFunction,
    "UPDATE people SET mood = coalesce(%s, mood) WHERE id = 3": psycopg.errors.CannotCoerce,
}
#: each must find its rows by the index, whatever stands between the types
BY_INDEX = (
    "mood = 'glad'",
    "mood IN ('glad', 'sad')",
    "'glad' = mood",
    "mood = ANY('{sad}'::mood[])",
)


def shown(client: psycopg.Connection, statement: str) -> str:
    """How a statement is run where nothing is read through that need not be."""
    with client.transaction():
        client.execute("SET LOCAL enable_seqscan = off")
        return str(client.execute(f"EXPLAIN {statement}".encode()).fetchall())


@pytest.fixture(params=[16, 18])
def database(server_of: Callable[[int], Server], request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database of each major: how operators are chosen is the server's own matter."""
    server = server_of(request.param)
    with server.scratch_database() as name:
        yield server.dsn(name)


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
            for statement in FAILING:
                client.execute(statement.encode(), ["glad"])
            for step in [s for s in most if s in plan.steps[Phase.CONTRACT]]:
                run_step(runner, step)
                assert ran(client, WRITES | READS) == before, step
            for statement, error in FAILING.items():
                with pytest.raises(error):
                    client.execute(statement.encode(), ["glad"])
            (prepared,) = client.execute(
                "SELECT name FROM pg_prepared_statements WHERE statement LIKE '%WHERE mood = $1'"
            ).fetchall()
            assert "Index Cond" in shown(client, f"EXECUTE {prepared[0]} ('glad')")
            for condition in BY_INDEX:
                assert "Index Cond" in shown(client, f"SELECT FROM people WHERE {condition}")
            with pytest.raises(
                FindingsError, match=r"connections of before public\.mood was exchanged"
            ):
                run_step(runner, gate)
        with psycopg.connect(database, autocommit=True) as later:
            later.prepare_threshold = 0
            assert ran(later, WRITES | READS) == before
            _wait_until_gone(runner, pid)
            run_step(runner, gate)
            run_step(runner, drop)
            assert ran(later, WRITES | READS) == before
        assert left_of_it(runner) == (0, 0, 0)


def left_of_it(runner: psycopg.Connection) -> Any:
    """Casts, operators, and whatever stands in our schema."""
    return runner.execute(
        "SELECT (SELECT count(*) FROM pg_cast WHERE oid >= 16384), "
        "(SELECT count(*) FROM pg_operator WHERE oid >= 16384), "
        "(SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass "
        "AND refobjid = 'zdd'::regnamespace)"
    ).fetchone()


def test_what_was_prepared_after_writes_on_the_way_back(database: str) -> None:
    """Undone, values of the type that has gone back to its working name are taken."""
    client, runner = clients(database)
    plan = plan_of(MIGRATION, BEFORE)
    steps = [step for _, step in plan.all_steps() if step.undo is not None]
    with runner, client:
        for step in steps:
            run_step(runner, step)
        before = ran(client, WRITES | READS)
        for step in reversed([s for s in steps if s in plan.steps[Phase.CONTRACT]]):
            undo_step(runner, step)
            assert ran(client, WRITES | READS) == before, step
        assert client.execute("SELECT FROM people WHERE mood = 'numb'").fetchall() == []
        for condition in BY_INDEX:
            assert "Index Cond" in shown(client, f"SELECT FROM people WHERE {condition}")
        # there once more, and back to where nothing of it is left
        for step in steps:
            if step in plan.steps[Phase.CONTRACT]:
                run_step(runner, step)
        assert ran(client, WRITES | READS) == before
        client.close()
        for step in reversed(steps):
            undo_step(runner, step)
        assert left_of_it(runner) == (0, 0, 0)


def _wait_until_gone(runner: psycopg.Connection, pid: int) -> None:
    """The server notices a closed connection an instant later."""
    query = "SELECT FROM pg_stat_activity WHERE pid = %s"
    for _ in range(3000):
        if runner.execute(query, (pid,)).fetchone() is None:
            return
        runner.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(f"the connection of {pid} does not end")
