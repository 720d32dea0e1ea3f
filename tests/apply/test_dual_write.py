"""A plan that the code keeps in step itself: apply waits at each release, and a gate finds whoever
was forgotten."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from tests.stories import STORIES, Story
from zdd_migrate.apply import Policy, run_phase, status, undo
from zdd_migrate.apply.run import Result
from zdd_migrate.cli.apply import command
from zdd_migrate.errors import FindingsError
from zdd_migrate.model.plan import Phase
from zdd_migrate.plan.directory import write
from zdd_migrate.postgres.compare import differences, snapshot

pytestmark = pytest.mark.pg
QUICK = Policy(attempts=3, pause_s=0.01)
ROWS = """INSERT INTO users (email, user_name, age)
  SELECT 'u' || g || '@x', 'Name ' || g, g FROM generate_series(1, 300) g"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The rename's plan, to be kept in step by the code."""
    write(Story(STORIES / "dual-write-rename").plan(16), tmp_path / "plan")
    return tmp_path / "plan"


@pytest.fixture
def users(database: str) -> str:
    """A database with the story's table and rows."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((STORIES / "dual-write-rename" / "before.sql").read_bytes())
        connection.execute(ROWS)
    return database


def _run(plan: Path, phase: Phase, database: str) -> Result:
    return run_phase(plan, phase, database, approve=True, policy=QUICK)


def test_what_waits_for_a_release_is_not_said_to_drop_anything(plan: Path, users: str) -> None:
    """It waits for the release, and no approval of a drop would help."""
    _run(plan, Phase.EXPAND, users)

    done = CliRunner().invoke(command, [str(plan), "--phase", "migrate", "--database", users])

    assert done.exit_code == 0
    assert "left: migrate-2" in done.output
    assert "now release the writes-both code" in done.output
    assert "drops for good" not in done.output


def test_apply_waits_at_each_release(plan: Path, users: str) -> None:
    """Nothing after a release is done before apply is run again, and then it goes on from there."""
    _run(plan, Phase.EXPAND, users)
    first = _run(plan, Phase.MIGRATE, users)
    assert (first.releases, first.ran) == (["writes-both"], ["migrate-1"])
    assert "migrate-2" in first.left
    with pytest.raises(FindingsError, match="migrate-2 is not done"):
        _run(plan, Phase.SWITCH, users)
    assert _run(plan, Phase.MIGRATE, users).left == []

    second = _run(plan, Phase.SWITCH, users)
    third = _run(plan, Phase.SWITCH, users)

    assert (second.releases, third.releases) == (["reads-new"], ["new"])
    assert {p.phase: p.state for p in status(plan, users).phases}[Phase.SWITCH] == "done"


def test_an_instance_that_writes_one_alone_is_found(plan: Path, users: str) -> None:
    """Neither is the new column read, nor written alone, while a row says two things."""
    for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.MIGRATE):
        _run(plan, phase, users)
    with psycopg.connect(users, autocommit=True) as forgotten:
        forgotten.execute("UPDATE users SET user_name = 'forgotten' WHERE id = 7")
        with pytest.raises(FindingsError, match=r"1 rows of .* are still to do|say two things"):
            _run(plan, Phase.SWITCH, users)
        forgotten.execute("UPDATE users SET username = user_name WHERE id = 7")
        assert _run(plan, Phase.SWITCH, users).releases == ["reads-new"]

        forgotten.execute("UPDATE users SET user_name = 'again' WHERE id = 8")
        with pytest.raises(FindingsError, match="say two things"):
            _run(plan, Phase.SWITCH, users)


def test_rows_of_the_last_release_come_back(plan: Path, users: str) -> None:
    """Undone, the old column has what the code without it wrote, and the schema is the start's."""
    with psycopg.connect(users, autocommit=True) as connection:
        begin = snapshot(connection)
        for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.MIGRATE, Phase.SWITCH, Phase.SWITCH):
            _run(plan, phase, users)
        _run(plan, Phase.CONTRACT, users)
        connection.execute("INSERT INTO users (email, username) VALUES ('new@x', 'New')")
        connection.execute("UPDATE users SET username = 'Changed' WHERE id = 3")

        undo(plan, users, policy=QUICK)

        rows = connection.execute(
            "SELECT user_name FROM users WHERE id = 3 OR email = 'new@x' ORDER BY id"
        ).fetchall()
        assert [row[0] for row in rows] == ["Changed", "New"]
        assert not differences(begin, snapshot(connection))
