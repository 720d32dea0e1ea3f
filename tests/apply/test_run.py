"""Phases on a real database: in order, once, resumable after a kill, and back without a trace."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.story import BEFORE, RENAME, SEED, write_plan
from zdd_migrate.apply import Policy, run_phase, status, undo
from zdd_migrate.apply.journal import Journal
from zdd_migrate.errors import (
    EnvironmentFailedError,
    FindingsError,
    InputError,
    LockNotObtainedError,
    PlanMovedError,
)
from zdd_migrate.model.plan import Phase
from zdd_migrate.plan.directory import read
from zdd_migrate.postgres.compare import differences, snapshot

pytestmark = pytest.mark.pg
QUICK = Policy(attempts=3, pause_s=0.01)


@pytest.fixture
def shop_db(database: str) -> str:
    """A database with the small shop in it."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(BEFORE)
        connection.execute(SEED)
    return database


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The rename's plan."""
    return write_plan(tmp_path / "plan")


def look(database: str) -> dict[str, str]:
    """The catalog."""
    with psycopg.connect(database, autocommit=True) as connection:
        return snapshot(connection)


def run_all(plan: Path, database: str) -> None:
    """Every phase."""
    for phase in Phase:
        run_phase(plan, phase, database, approve=True, approve_drop=True, early=True, policy=QUICK)


def test_the_end_is_the_plain_migrations(plan: Path, shop_db: str, pg_server: object) -> None:
    """Catalogs equal, every row there, the journal in schema zdd."""
    run_all(plan, shop_db)
    with psycopg.connect(shop_db, autocommit=True) as connection:
        counted = connection.execute("SELECT count(*), count(username) FROM users").fetchone()
        got = snapshot(connection)
        connection.execute("DROP TABLE orders, users CASCADE")
        connection.execute(BEFORE)
        connection.execute(RENAME)
        wanted = snapshot(connection)

    assert counted == (500, 500)
    assert not differences(wanted, got)


@pytest.mark.parametrize("last", list(Phase))
def test_undo_from_each_phase_leaves_nothing(plan: Path, shop_db: str, last: Phase) -> None:
    """Outside schema zdd the database is as it was."""
    before = look(shop_db)
    for phase in list(Phase)[: last.number]:
        run_phase(plan, phase, shop_db, approve=True, policy=QUICK)

    undo(plan, shop_db, policy=QUICK)

    assert not differences(before, look(shop_db))
    assert all(p.state == "open" for p in status(plan, shop_db).phases if p.done or p.running)


def test_past_the_point_of_no_return_undo_refuses(plan: Path, shop_db: str) -> None:
    """And says which step it was."""
    run_all(plan, shop_db)

    with pytest.raises(FindingsError, match=r"contract-2 .* point of no return"):
        undo(plan, shop_db)
    assert status(plan, shop_db).past_return


def test_what_drops_for_good_asks_and_waits(plan: Path, shop_db: str) -> None:
    """Approved contract is reversible; the drop has an approval and a day of its own."""
    for phase in Phase:
        last = run_phase(plan, phase, shop_db, approve=True, policy=QUICK)
    left = look(shop_db)
    with pytest.raises(FindingsError, match=r"contract-2 has no way back and waits until 20\d\d-"):
        run_phase(plan, Phase.CONTRACT, shop_db, approve_drop=True, policy=QUICK)
    waiting = status(plan, shop_db)
    with psycopg.connect(shop_db, autocommit=True) as connection:
        connection.execute("UPDATE zdd.step SET changed_at = changed_at - interval '8 days'")
    dropped = run_phase(plan, Phase.CONTRACT, shop_db, approve_drop=True, policy=QUICK)

    assert last.left == ["contract-2"]
    assert "column public.users.zdd_old_username" in left
    assert "--approve-drop from 20" in waiting.next
    assert not waiting.past_return
    assert dropped.ran == ["contract-2"]
    assert "column public.users.zdd_old_username" not in look(shop_db)


def test_order_approval_and_repetition(plan: Path, shop_db: str) -> None:
    """migrate waits for expand, contract for approval, and a phase runs once."""
    with pytest.raises(FindingsError, match="comes after expand"):
        run_phase(plan, Phase.MIGRATE, shop_db)
    first = run_phase(plan, Phase.EXPAND, shop_db)
    again = run_phase(plan, Phase.EXPAND, shop_db)
    with pytest.raises(InputError, match="--approve"):
        run_phase(plan, Phase.CONTRACT, shop_db)

    assert first.ran == ["expand-1"]
    assert again.ran == []
    assert again.skipped == ["expand-1"]


def test_a_moved_schema_is_refused(plan: Path, shop_db: str) -> None:
    """Nothing is touched, not even a journal made."""
    with psycopg.connect(shop_db, autocommit=True) as connection:
        connection.execute("ALTER TABLE users ADD COLUMN surprise int")

    with pytest.raises(PlanMovedError, match=r"public\.users"):
        run_phase(plan, Phase.EXPAND, shop_db)

    with psycopg.connect(shop_db) as connection:
        assert connection.execute("SELECT to_regnamespace('zdd')").fetchone() == (None,)


def test_a_changed_plan_is_refused_half_way(plan: Path, shop_db: str) -> None:
    """What was begun is finished or undone with the same plan."""
    run_phase(plan, Phase.EXPAND, shop_db)
    script = plan / "2_migrate.sql"
    script.write_text(script.read_text() + "\n-- edited\n")

    with pytest.raises(PlanMovedError, match="was changed after it was begun"):
        run_phase(plan, Phase.MIGRATE, shop_db)


def test_dry_run_changes_nothing(plan: Path, shop_db: str) -> None:
    """It says the statements."""
    before = look(shop_db)

    result = run_phase(plan, Phase.EXPAND, shop_db, dry_run=True)

    assert any("CREATE TRIGGER" in s for s in result.statements)
    assert look(shop_db) == before


def test_dry_run_says_what_approval_there_is_for(plan: Path, shop_db: str) -> None:
    """What would be left is not said to run."""
    for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
        run_phase(plan, phase, shop_db, policy=QUICK)

    approved = run_phase(plan, Phase.CONTRACT, shop_db, dry_run=True, approve=True)
    dropping = run_phase(plan, Phase.CONTRACT, shop_db, dry_run=True, approve_drop=True)

    assert (approved.ran, approved.left) == (["contract-1"], ["contract-2"])
    assert not any("DROP COLUMN" in s for s in approved.statements)
    assert (dropping.ran, dropping.left) == (["contract-1", "contract-2"], [])


def test_a_held_lock_is_tried_and_given_up(plan: Path, shop_db: str) -> None:
    """Nothing is changed, and the holder is named."""
    with psycopg.connect(shop_db, application_name="forgotten psql") as holder:
        holder.execute("SELECT * FROM users LIMIT 1")
        with pytest.raises(LockNotObtainedError, match="forgotten psql"):
            run_phase(plan, Phase.EXPAND, shop_db, policy=QUICK)

    run_phase(plan, Phase.EXPAND, shop_db, policy=QUICK)


def test_two_runs_do_not_meet(plan: Path, shop_db: str) -> None:
    """The second is refused by the database's advisory lock."""
    with psycopg.connect(shop_db, autocommit=True) as first:
        Journal(first, "x").lock()
        with pytest.raises(LockNotObtainedError, match="another zdd-migrate run"):
            run_phase(plan, Phase.EXPAND, shop_db)


def test_a_run_that_has_just_ended_is_waited_for(database: str) -> None:
    """Its session still holds the lock for an instant, until the server has noticed."""
    with (
        psycopg.connect(database, autocommit=True) as ending,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        Journal(ending, "first").lock()
        gone = threading.Timer(0.3, ending.close)
        gone.start()

        Journal(connection, "second").lock()

        gone.join()


def test_an_unreachable_database_is_one_line(plan: Path) -> None:
    """Exit status 3 for a command line."""
    with pytest.raises(EnvironmentFailedError, match="cannot be reached"):
        run_phase(plan, Phase.EXPAND, "postgresql://nobody@127.0.0.1:1/none")


def test_no_permission_is_said(plan: Path, shop_db: str) -> None:
    """A role that may not create the journal's schema."""
    with psycopg.connect(shop_db, autocommit=True) as connection:
        role = f"zdd_poor_{secrets.token_hex(4)}"  # others may be at work on the same server
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'poor'".encode())
        poor = psycopg.conninfo.make_conninfo(shop_db, user=role, password="poor")
    try:
        with pytest.raises(EnvironmentFailedError, match="schema zdd"):
            run_phase(plan, Phase.EXPAND, poor)
    finally:
        with psycopg.connect(shop_db, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}".encode())


def test_an_invalid_index_left_behind_is_built_again(plan: Path, shop_db: str) -> None:
    """IF NOT EXISTS would take it for a good one."""
    run_phase(plan, Phase.EXPAND, shop_db)
    with psycopg.connect(shop_db, autocommit=True) as connection:
        connection.execute(
            "CREATE INDEX zdd_users_user_name_idx_username ON users (lower(username))"
        )
        connection.execute(
            "UPDATE pg_index SET indisvalid = false "
            "WHERE indexrelid = 'zdd_users_user_name_idx_username'::regclass"
        )

    run_phase(plan, Phase.MIGRATE, shop_db)

    with psycopg.connect(shop_db) as connection:
        valid = connection.execute(
            "SELECT indisvalid FROM pg_index "
            "WHERE indexrelid = 'zdd_users_user_name_idx_username'::regclass"
        ).fetchone()
    assert valid == (True,)


#: runs every phase, and kills itself hard when a step's turn comes
_KILLED = """
import os, signal, sys
from pathlib import Path
from zdd_migrate.apply import run, steps
from zdd_migrate.model.plan import Phase
plan, database, victim, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
real = run._run
def killing(connection, journal, step, phase, policy, progress):
    if step.id == victim and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(connection, journal, step, phase, policy, progress)
    if step.id == victim:
        os.kill(os.getpid(), signal.SIGKILL)
run._run = killing
for phase in Phase:
    run.run_phase(plan, phase, database, approve=True)
"""


def test_killed_at_every_step_boundary_it_resumes_to_the_same_end(plan: Path, shop_db: str) -> None:
    """kill -9 before and after each step in turn, then the same command again."""
    steps = [step.id for _, step in read(plan).all_steps()]
    killed = 0
    for id_ in steps:
        for moment in ("before", "after"):
            done = subprocess.run(
                [sys.executable, "-c", _KILLED, str(plan), shop_db, id_, moment],
                capture_output=True,
                text=True,
                check=False,
            )
            killed += done.returncode == -signal.SIGKILL
            assert done.returncode in (-signal.SIGKILL, 0), done.stderr
            wait_until_gone(shop_db)
    run_all(plan, shop_db)

    assert killed >= len(steps)
    with psycopg.connect(shop_db) as connection:
        row = connection.execute(
            "SELECT count(*) FROM users WHERE username = 'Name ' || (id::text)"
        ).fetchone()
        columns = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 "
            "AND NOT attisdropped ORDER BY 1"
        ).fetchall()
    assert row == (500,)
    assert [c[0] for c in columns] == ["age", "email", "id", "username"]


def wait_until_gone(database: str) -> None:
    """Until the server has noticed that the killed client is gone."""
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(500):
            left = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'zdd-migrate%' "
                "AND datname = current_database()"
            ).fetchone()
            if left == (0,):
                return
            time.sleep(0.02)
    pytest.fail("the killed run's session is still there")


def test_a_backfill_killed_in_the_middle_goes_on(plan: Path, shop_db: str) -> None:
    """Its cursor was written with each batch."""
    run_phase(plan, Phase.EXPAND, shop_db)
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from zdd_migrate.apply import run_phase\n"
        "from zdd_migrate.model.plan import Phase\n"
        "from zdd_migrate.apply import backfill\n"
        "backfill._LARGEST = backfill._SMALLEST = 50\n"
        "def die(done, total):\n"
        "    if done >= 100: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_phase(Path(sys.argv[1]), Phase.MIGRATE, sys.argv[2], progress=die)\n"
    )
    text = (plan / "plan.yaml").read_text()
    (plan / "plan.yaml").write_text(text.replace("batch: 1000", "batch: 50"))
    with psycopg.connect(shop_db, autocommit=True) as connection:
        from zdd_migrate.plan.directory import plan_hash

        connection.execute("UPDATE zdd.plan SET plan_hash = %s", (plan_hash(plan),))
    done = subprocess.run(
        [sys.executable, "-c", program, str(plan), shop_db], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(shop_db)
    with psycopg.connect(shop_db) as connection:
        saved = connection.execute("SELECT rows FROM zdd.backfill").fetchone()

    run_phase(plan, Phase.MIGRATE, shop_db)

    assert saved is not None
    assert 0 < saved[0] < 500
    with psycopg.connect(shop_db) as connection:
        assert connection.execute("SELECT count(username) FROM users").fetchone() == (500,)


def test_a_lost_connection_says_to_run_again(plan: Path, shop_db: str) -> None:
    """The backend is killed while it works."""
    run_phase(plan, Phase.EXPAND, shop_db)

    def kill(done: int, total: int) -> None:
        with psycopg.connect(shop_db, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'zdd-migrate apply' AND datname = current_database()"
            )

    with pytest.raises(EnvironmentFailedError):
        run_phase(plan, Phase.MIGRATE, shop_db, progress=kill)
    run_phase(plan, Phase.MIGRATE, shop_db)
