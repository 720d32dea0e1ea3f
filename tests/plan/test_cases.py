"""Plain migrations of every kind: how each ends, most of them planned, and the plans right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.plan.cases import BEFORE, Case, cases, outcome, table
from tests.proving import there_and_back
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.errors import ZddError
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.statements import read_sql

ALL = cases()
ROOT = Path(__file__).parents[2]


def test_there_are_cases_of_every_kind() -> None:
    """About a hundred, each by a name of its own."""
    assert len(ALL) > 100
    assert len({case.name for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name.replace(" ", "-"))
def test_a_case_ends_as_expected(case: Case) -> None:
    """Planned, ended by one question, or refused with the reason and what to do instead."""
    plan = case.plan()

    assert outcome(plan) == case.expect
    assert len(plan.questions) <= 1
    assert all(refusal.reason and refusal.instead for refusal in plan.refusals)


def test_most_are_planned_without_a_conversion_written_by_hand() -> None:
    """At least four of five."""
    by_itself = [case for case in ALL if case.expect == "planned" and not case.is_answered]

    assert len(by_itself) / len(ALL) >= 0.8


def test_the_table_in_the_docs_is_this_one() -> None:
    """`python -m tests.plan.cases` prints it."""
    assert table() in (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def start(pg_server: Server) -> str:
    """A database with the schema that every case starts from."""
    name = pg_server.create_database()
    with pg_server.connect(name) as connection:
        for statement in read_sql(BEFORE, "before.sql").statements:
            connection.execute(statement.sql.encode())
    return name


@pytest.mark.pg
@pytest.mark.broad(4)
@pytest.mark.parametrize(
    "case", [c for c in ALL if c.expect == "planned"], ids=lambda c: c.name.replace(" ", "-")
)
def test_a_planned_case_gets_there_and_back(case: Case, pg_server: Server, start: str) -> None:
    """Undone it is the starting catalog, done it is the plain migration's."""
    undone, done = there_and_back(case.plan(pg_server.major), case.sql, pg_server, start)

    assert not undone
    assert not done


@pytest.mark.pg
def test_a_wrong_way_back_is_seen(pg_server: Server, start: str) -> None:
    """A step that does not take itself back leaves a difference."""
    plan = next(c for c in ALL if c.name == "rename a table").plan(pg_server.major)
    first, *_ = [step for _, step in plan.all_steps()]
    trial = pg_server.create_database(template=start)
    with pg_server.connect(trial) as connection:
        begin = snapshot(connection)
        run_step(connection, first)
        undo_step(connection, replace(first, undo=("SELECT 1",)))
        found = differences(begin, snapshot(connection))
    pg_server.drop_database(trial)

    assert "view public.clients was not there" in found


@pytest.mark.pg
def test_steps_in_the_wrong_order_are_seen(pg_server: Server, start: str) -> None:
    """What contract does needs what expand did."""
    plan = next(c for c in ALL if c.name == "rename a table").plan(pg_server.major)
    steps = [step for _, step in plan.all_steps()]
    trial = pg_server.create_database(template=start)
    with pg_server.connect(trial) as connection, pytest.raises(ZddError, match="clients"):
        run_step(connection, steps[-1])
    pg_server.drop_database(trial)
