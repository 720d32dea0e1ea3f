"""Under what production does, the plan goes through and traffic keeps flowing, or it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.story import BEFORE, RENAME, SEED, plan_of
from tests.verify.planted import FAULTS, STORIES
from zdd_migrate.formats.verdict import render
from zdd_migrate.model.names import QName
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify import hostile as conditions
from zdd_migrate.verify.hostile import CONDITIONS, hostile
from zdd_migrate.verify.walk import Effort, verify_plan

pytestmark = pytest.mark.pg
_EFFORT = Effort(rounds=1, settle=1, rows=200, every_undo=False)
_SLOW = [pytest.mark.e2e]


@pytest.mark.broad(2)
@pytest.mark.parametrize(
    "condition",
    [
        "killed-backend",
        *(
            pytest.param(c, marks=_SLOW)
            for c in ("long-transaction", "lock-timeout", "autovacuum", "deadlocks")
        ),
    ],
)
def test_a_good_plan_comes_through(condition: str, pg_server: Server) -> None:
    """No statement fails or waits long, every step runs in the end, every way back is walked."""
    verdict = verify_plan(
        plan_of(RENAME),
        schema_sql=BEFORE,
        server=pg_server,
        seed_sql=SEED,
        effort=replace(_EFFORT, hostile=(condition,)),
    )

    assert verdict.judgement is Judgement.PASS, render(verdict)
    assert verdict.conditions == (condition,)
    assert any(f"{condition} came to pass" in note for note in verdict.notes)


def test_every_condition_is_tried() -> None:
    """A new one gets its test."""
    marks = test_a_good_plan_comes_through.pytestmark  # type: ignore[attr-defined]
    given = next(mark for mark in marks if mark.name == "parametrize").args[1]

    assert {getattr(g, "values", (g,))[0] for g in given} == set(CONDITIONS)


def test_a_bad_plan_is_no_better_for_hostile_conditions(tmp_path: Path, pg_server: Server) -> None:
    """A row lost is a row lost, whoever's connection was ended besides."""
    fault = next(f for f in FAULTS if f.name == "trigger for inserts only")
    story = STORIES[fault.story]

    verdict = verify_plan(
        story.broken(tmp_path / "plan", fault),
        schema_sql=story.before,
        server=pg_server,
        seed_sql=story.seed,
        effort=replace(_EFFORT, rounds=3, hostile=("killed-backend",)),
    )

    assert verdict.judgement is Judgement.FAIL


def test_a_condition_that_never_came_to_pass_proves_nothing(
    pg_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for and not made is inconclusive."""
    monkeypatch.setattr(conditions, "CONDITIONS", {"autovacuum": lambda _: None})

    verdict = verify_plan(
        plan_of("ALTER TABLE users ADD COLUMN city text"),
        schema_sql=BEFORE,
        server=pg_server,
        effort=replace(_EFFORT, hostile=("autovacuum",)),
    )

    assert verdict.judgement is Judgement.INCONCLUSIVE
    assert "autovacuum was asked for and never came to pass" in verdict.notes


def test_what_is_made_ends_with_its_block(pg_server: Server) -> None:
    """No connection of a condition is left behind."""
    with pg_server.scratch_database() as database, pg_server.connect(database) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1), (2)")
        with hostile(tuple(CONDITIONS), pg_server, database, [QName("public", "t")]) as done:
            while not done["deadlocks"] or not done["autovacuum"]:
                connection.execute("SELECT pg_sleep(0.05)")
        left: object = None
        for _ in range(100):  # a backend is there for a moment after its client has gone
            left = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%hostile%' "
                "AND datname = current_database()"
            ).fetchone()
            if left == (0,):
                break
            connection.execute("SELECT pg_sleep(0.05)")

    assert left == (0,)
