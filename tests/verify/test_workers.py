"""Worker processes: they write at the same time, remember what they were told, and always end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.story import BEFORE, SEED, schema_of
from zdd_migrate.model.names import QName
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.acknowledged import Tables, compare
from zdd_migrate.verify.recording import Recorder
from zdd_migrate.verify.shapes import Shape, shapes
from zdd_migrate.verify.versions import Synthetic, SyntheticSession
from zdd_migrate.verify.workers import Crew, Kind, WorkSession

pytestmark = pytest.mark.pg
USERS = QName("public", "users")


def shop_shapes() -> list[Shape]:
    """Users and orders."""
    schema = schema_of(BEFORE)
    return shapes(schema, [USERS, QName("public", "orders")], schema)


@pytest.fixture
def shop_database(pg_server: Server) -> Iterator[str]:
    """A database with the shop's tables and rows."""
    with pg_server.scratch_database() as name:
        with pg_server.connect(name) as connection:
            connection.execute((BEFORE + SEED).encode())
        yield name


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Worker processes for one test."""
    with Crew() as hired:
        yield hired


def opened(version: Synthetic, server: Server, database: str, crew: Crew) -> SyntheticSession:
    """A session that works in the background."""
    session = version.open(server, database, crew)
    session.start()
    return session


def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def test_work_that_ends_by_itself_is_told_and_not_waited_for(tmp_path: Path, crew: Crew) -> None:
    """Although something else was asked meanwhile."""
    work = tmp_path / "work.py"
    work.write_text(
        "class Work:\n"
        "    def __init__(self, report): self.report = report\n"
        "    def round(self):\n"
        "        self.report.noted('begun')\n"
        "        raise ValueError('it cannot go on')\n"
        "    def close(self): pass\n"
        "def make(job, report): return Work(report)\n"
    )
    session = WorkSession(crew, Kind(str(work)), [{"dsn": ""}], Recorder())
    session.start()
    until("the round", lambda: "begun" in session.notes)
    session.take()
    session.take()
    session.stop()

    assert "it cannot go on" in session.take().unclear
    session.close()


def test_several_processes_write_at_the_same_time(
    pg_server: Server, shop_database: str, crew: Crew
) -> None:
    """Seen from the clients (statements that overlap) and from the server (open transactions)."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"), writers=3)
    session = opened(version, pg_server, shop_database, crew)
    pids = {worker.pid for worker in session.workers}
    together = 0

    with pg_server.connect(shop_database) as watching:

        def writing() -> bool:
            nonlocal together
            row = watching.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'zdd-old-%' "
                "AND backend_xid IS NOT NULL"
            ).fetchone()
            assert row is not None
            together = max(together, int(row[0]))
            return together >= 2 and session.recorder._at_once >= 2

        until("two transactions and two statements at once", writing)
    session.stop()
    seen = session.take()
    session.close()

    assert len(pids) == 3
    assert os.getpid() not in pids
    assert together >= 2
    assert not seen.errors


def test_the_record_holds_every_acknowledged_write(
    pg_server: Server, shop_database: str, crew: Crew
) -> None:
    """All of it is in the tables after an undisturbed run; what is taken away behind is missed."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    session = version.open(pg_server, shop_database, crew)
    for _ in range(4):
        session.work_once()
    session.close()
    with pg_server.connect(shop_database) as connection:
        kept = compare(Tables(connection), version.ledger, version.shapes)
        rows = [key for key in version.ledger.snapshot() if key[0] == USERS]
        connection.execute("DELETE FROM orders WHERE user_id = %s", rows[0][1])
        connection.execute("DELETE FROM users WHERE id = %s", rows[0][1])
        connection.execute("UPDATE users SET age = -7 WHERE id = %s", rows[1][1])
        missing, differing, example = compare(Tables(connection), version.ledger, version.shapes)

    assert kept == (0, 0, "")
    assert (missing, differing) == (1, 1)
    assert "users" in example


def test_a_killed_backend_is_an_error_and_the_writer_comes_back(
    pg_server: Server, shop_database: str, crew: Crew
) -> None:
    """What was under way is doubtful, not lost."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    session = opened(version, pg_server, shop_database, crew)
    with pg_server.connect(shop_database) as other:
        for _ in range(5):
            time.sleep(0.1)
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'zdd-old-%'"
            )
    # a round that began after the last cut, and its whole length: whoever was cut has noticed
    begun = [worker.rounds for worker in session.workers]
    until(
        "whole rounds after the connections were cut",
        lambda: all(w.rounds > n + 1 for w, n in zip(session.workers, begun, strict=True)),
    )
    broken = session.take()
    until("rounds without an error", lambda: session.recorder.rounds > 1)
    session.stop()
    after = session.take()
    session.close()
    with pg_server.connect(shop_database) as connection:
        found = compare(Tables(connection), version.ledger, version.shapes)

    assert {e.sqlstate for e in broken.errors} <= {"57P01", "08006"}
    assert broken.errors
    assert not after.errors
    assert found == (0, 0, "")


def test_processes_are_used_again(pg_server: Server, shop_database: str, crew: Crew) -> None:
    """Starting one takes longer than most of what it does."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    pids = []
    for _ in range(3):
        session = version.open(pg_server, shop_database, crew)
        pids.append([worker.pid for worker in session.workers])
        session.close()

    assert pids[0] == pids[1] == pids[2]


def test_a_worker_that_dies_makes_the_trial_unclear(
    pg_server: Server, shop_database: str, crew: Crew
) -> None:
    """Silence is no success; and the next session gets a new process."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    session = opened(version, pg_server, shop_database, crew)
    dead = session.workers[0].pid
    os.kill(dead, signal.SIGKILL)
    until("the end of the worker", lambda: session.workers[0].ended)
    session.stop()
    seen = session.take()
    session.close()
    again = version.open(pg_server, shop_database, crew)
    again.work_once()
    pids = [worker.pid for worker in again.workers]
    clean = again.take()
    again.close()

    assert "ended by itself" in seen.unclear
    assert dead not in pids
    assert not clean.unclear


def test_the_record_of_a_killed_worker_is_true(
    pg_server: Server, shop_database: str, crew: Crew
) -> None:
    """All that it wrote down before it was killed is there, but for the row it was changing."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    killed = 0
    for rows in (5, 10, 15):
        session = opened(version, pg_server, shop_database, crew)
        until("rows", partial(lambda wanted: len(version.ledger.snapshot()) > wanted, rows))
        dead = list(session.workers)
        for worker in dead:
            os.kill(worker.pid, signal.SIGKILL)
        until("their end", partial(lambda them: all(worker.ended for worker in them), dead))
        killed += len(dead)
        session.close()
    with pg_server.connect(shop_database) as connection:
        missing, differing, example = compare(Tables(connection), version.ledger, version.shapes)

    assert missing + differing <= killed, example
    assert len(version.ledger.snapshot()) > 15


def test_workers_end_with_whoever_started_them(tmp_path: Path) -> None:
    """Also when that one is killed and cannot say so."""
    work = tmp_path / "work.py"
    work.write_text("def make(job, report): raise ValueError('nothing to do')\n")
    program = (
        "import sys, time\n"
        "from zdd_migrate.verify.workers import Kind, Nursery, Worker\n"
        f"print(Worker(Nursery(Kind({str(work)!r}))).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        state = Path(f"/proc/{child}/stat")
        try:
            return state.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    until("the end of the worker", gone)


def test_the_reason_is_said_when_work_cannot_begin(crew: Crew, tmp_path: Path) -> None:
    """One line, from the process itself."""
    from zdd_migrate.errors import InputError

    work = tmp_path / "work.py"
    work.write_text("def make(job, report): raise ValueError('nothing to do')\n")
    worker = crew.hire(Kind(str(work)))

    with pytest.raises(InputError, match="ValueError: nothing to do"):
        worker.ask("open", job={}, record=None)


def test_every_kind_of_statement_is_tried(pg_server: Server, crew: Crew) -> None:
    """Each column, each unique key by every name it has, COPY both ways, and the star."""
    schema = schema_of(
        "CREATE TABLE t (id bigserial PRIMARY KEY, code text NOT NULL CONSTRAINT t_code UNIQUE, "
        "mail text, gone boolean NOT NULL DEFAULT false, note text, "
        "twice int GENERATED ALWAYS AS (length(note)) STORED);"
        "CREATE UNIQUE INDEX t_mail ON t (lower(mail));"
        "CREATE UNIQUE INDEX t_here ON t (mail) WHERE NOT gone;"
    )
    shape = shapes(schema, [QName("public", "t")], schema)
    with pg_server.scratch_database() as name:
        with pg_server.connect(name) as connection:
            connection.execute(
                "CREATE TABLE t (id bigserial PRIMARY KEY, code text NOT NULL CONSTRAINT t_code "
                "UNIQUE, mail text, gone boolean NOT NULL DEFAULT false, note text, "
                "twice int GENERATED ALWAYS AS (length(note)) STORED);"
                "CREATE UNIQUE INDEX t_mail ON t (lower(mail));"
                "CREATE UNIQUE INDEX t_here ON t (mail) WHERE NOT gone;"
                "INSERT INTO t (code, mail, gone, note) SELECT g, nullif(g, 3) || 'm', g % 2 = 0, g FROM generate_series(1, 50) g"
            )
        version = Synthetic("old", shape, crew.ledger("old"))
        session = version.open(pg_server, name, crew)
        for _ in range(8):
            session.work_once()
        texts = {t for w in session.workers for t in w.statements}
        seen = session.take()
        session.close()

    assert seen.errors == ()
    for part in (
        "SELECT * FROM public.t",
        "id, code, mail, gone, note, twice FROM public.t",
        "SET code = %s",
        "SET mail = %s",
        "SET gone = %s",
        "SET note = %s",
        "ON CONFLICT (code)",
        "ON CONFLICT ON CONSTRAINT t_code",
        "ON CONFLICT ((lower(mail)))",
        "ON CONFLICT (mail) WHERE ",
        "FROM STDIN",
        "TO STDOUT",
        "RETURNING *",
        "DELETE FROM",
        "FOR UPDATE",
    ):
        assert any(part in text for text in texts), part


def test_values_are_taken_from_old_rows(pg_server: Server, shop_database: str, crew: Crew) -> None:
    """Also when new ones lie before them: somebody may look for what they have just written."""
    with pg_server.connect(shop_database) as connection:
        connection.execute("UPDATE users SET age = age")
        mine = 0

        def first() -> bool:  # not while anybody, an ANALYZE say, may still look at the old rows
            nonlocal mine
            connection.execute("VACUUM users")
            connection.execute(
                "INSERT INTO users (email, user_name) "
                "SELECT g || 'mine', 'mine alone ' || g FROM generate_series(%s::int + 1, %s + 30) g",
                (mine, mine),
            )
            mine += 30
            row = connection.execute("SELECT user_name FROM users LIMIT 1").fetchone()
            return row is not None and str(row[0]).startswith("mine alone")

        until("rows of ours before all others", first)
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    session = version.open(pg_server, shop_database, crew)
    for _ in range(6):
        session.work_once()
    session.close()
    with pg_server.connect(shop_database) as connection:
        found = connection.execute(
            "SELECT count(*) FROM users WHERE user_name LIKE 'mine alone%'"
        ).fetchone()

    assert found == (mine,)


def test_connections_have_no_leftovers(pg_server: Server, shop_database: str, crew: Crew) -> None:
    """A closed session leaves no connection, so that databases can be copied and dropped."""
    version = Synthetic("old", shop_shapes(), crew.ledger("old"))
    session = opened(version, pg_server, shop_database, crew)
    session.close()
    with psycopg.connect(pg_server.dsn(), autocommit=True) as connection:

        def none() -> bool:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (shop_database,)
            ).fetchone()
            assert row is not None
            return bool(row[0] == 0)

        until("no connection to the database", none)
