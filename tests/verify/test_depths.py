"""Real code of both versions at every depth: queries, SQLAlchemy models, programs, services."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.story import BEFORE, RENAME, SEED, plan_of
from zdd_migrate.errors import InputError
from zdd_migrate.model.verdict import Judgement, Trial, Verdict
from zdd_migrate.postgres.pooler import pooled
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.judge import Limits
from zdd_migrate.verify.specs import Settings, settings, versions
from zdd_migrate.verify.versions import CodeVersion
from zdd_migrate.verify.walk import Effort, verify_migration, verify_plan

pytestmark = pytest.mark.pg
QUICK = Effort(rounds=2, settle=1, rows=200, every_undo=False, bystander=False)

MODELS = """
import datetime
from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, relationship
class Base(DeclarativeBase): pass
class User(Base):
    __tablename__ = "users"
    id = Column(BigInteger, Identity(), primary_key=True)
    email = Column(String(200), unique=True, nullable=False)
    {name} = Column(String(100), nullable=False, server_default="nobody")
    age = Column(Integer)
    orders = relationship("Order", back_populates="user")
class Order(Base):
    __tablename__ = "orders"
    id = Column(BigInteger, primary_key=True)
    user_id = Column(ForeignKey("users.id"), nullable=False)
    note = Column(Text)
    user = relationship("User", back_populates="orders")
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is checked out goes with it."""
    with ExitStack() as opened:
        yield opened


def plain(
    server: Server, old: Sequence[CodeVersion] = (), new: Sequence[CodeVersion] = ()
) -> Verdict:
    """The plain rename with these versions."""
    return verify_migration(
        [RENAME],
        in_transaction=False,
        schema_sql=BEFORE,
        server=server,
        seed_sql=SEED,
        effort=QUICK,
        old=old,
        new=new,
    )


def planned(
    server: Server, old: Sequence[CodeVersion] = (), new: Sequence[CodeVersion] = ()
) -> Verdict:
    """The plan of the rename with these versions."""
    return verify_plan(
        plan_of(RENAME),
        schema_sql=BEFORE,
        server=server,
        seed_sql=SEED,
        effort=QUICK,
        old=old,
        new=new,
    )


def of(verdict: Verdict, code: str, phase: str) -> list[Trial]:
    """The steady trials of one version in a phase."""
    return [t for t in verdict.trials if (t.code, t.phase, t.when) == (code, phase, "steady")]


def explain(verdict: Verdict) -> str:
    """Why a verdict is what it is, for a failing test."""
    from zdd_migrate.formats.verdict import render

    return render(verdict)


def queries(tmp_path: Path, name: str, stack: ExitStack) -> list[CodeVersion]:
    """The queries of a version: old ones say user_name, new ones username."""
    column = "user_name" if name == "old" else "username"
    file = tmp_path / f"{name}.sql"
    file.write_text(
        f"SELECT {column} FROM users WHERE id = :id;\n"
        f"SELECT * FROM users WHERE {column} = %(name)s LIMIT %(n)s;\n"
        f"INSERT INTO users (email, {column}) VALUES ($1, $2)\n"
        f"  ON CONFLICT (email) DO UPDATE SET {column} = excluded.{column};\n"
        f"UPDATE users SET {column} = upper({column}) WHERE age = $1 RETURNING *;\n"
        f"DELETE FROM orders WHERE user_id IN (SELECT id FROM users WHERE {column} = $1);\n"
        f"COPY users (email, {column}) FROM STDIN;\n"
        "SELECT count(*) FROM users, pg_sleep($1) WHERE $2::point <@ circle '((0,0),1)';\n"
        "SELECT gone FROM users;\n"
    )
    return versions(name, Settings(queries=(str(file),)), tmp_path, stack)


def test_queries_of_both_versions_in_every_phase(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """They run where they must; the plain rename is caught by them."""
    old, new = (queries(tmp_path, name, stack) for name in ("old", "new"))

    passed = planned(pg_server, old=old, new=new)
    failed = plain(pg_server, old=old)
    broken = {
        e.statement.split()[0] for t in of(failed, "old queries", "migration") for e in t.errors
    }

    assert passed.judgement is Judgement.PASS, explain(passed)
    assert all(t.outcome == "works" for t in of(passed, "new queries", "switch"))
    assert [t.outcome for t in of(passed, "old queries", "contract")] == ["breaks"]
    assert of(passed, "old queries", "start")[0].statements > 20
    assert any('old.sql:9 (column "gone" does not exist)' in n for n in passed.notes), passed.notes
    assert any(
        "1 of 7 queries of the old code were prepared and not run" in n for n in passed.notes
    )
    assert failed.judgement is Judgement.FAIL
    assert broken == {"SELECT", "INSERT", "UPDATE", "DELETE", "COPY"}


def test_queries_change_nothing(tmp_path: Path, pg_server: Server, stack: ExitStack) -> None:
    """Whatever they write is rolled back, so any may be given."""
    from zdd_migrate.verify.queries import Queries
    from zdd_migrate.verify.workers import Crew

    file = tmp_path / "wild.sql"
    file.write_text("DELETE FROM orders; TRUNCATE orders; UPDATE users SET age = 1;\n")
    (version,) = versions("old", Settings(queries=(str(file),)), tmp_path, stack)
    assert isinstance(version, Queries)
    with (
        pg_server.scratch_database() as name,
        Crew() as crew,
        pg_server.connect(name) as connection,
    ):
        connection.execute((BEFORE + SEED).encode())
        count = "SELECT (SELECT count(*) FROM orders), (SELECT sum(age) FROM users)"
        before = connection.execute(count.encode()).fetchone()
        from zdd_migrate.postgres.catalog import read_schema

        version.prepare(pg_server, name, read_schema(connection), crew)
        session = version.open(pg_server, name, crew)
        session.work_once()
        seen = session.take()
        session.close()
        after = connection.execute(count.encode()).fetchone()

    assert seen.statements >= 6
    assert not seen.errors
    assert before == after


def test_queries_that_do_not_work_at_all_are_bad_input(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """And not a broken migration."""
    file = tmp_path / "q.sql"
    file.write_text("SELECT nothing FROM nowhere;\n")
    old = versions("old", Settings(queries=(str(file),)), tmp_path, stack)

    with pytest.raises(InputError, match=r"none of the 1 queries of the old code works.*nowhere"):
        plain(pg_server, old=old)


def models(tmp_path: Path, name: str, stack: ExitStack) -> list[CodeVersion]:
    """The models of a version, in a directory of their own."""
    directory = tmp_path / name
    directory.mkdir(exist_ok=True)
    text = MODELS.replace("{name}", "user_name" if name == "old" else "username")
    (directory / "shop_models.py").write_text(text)
    return versions(name, Settings(models=f"{name}/shop_models:Base"), tmp_path, stack)


def test_models_of_both_versions_in_every_phase(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """Real sessions: they work where they must, and their writes are looked for afterwards."""
    old, new = (models(tmp_path, name, stack) for name in ("old", "new"))

    passed = planned(pg_server, old=old, new=new)
    failed = plain(pg_server, old=old)
    errors = [e for t in of(failed, "old models", "migration") for e in t.errors]

    assert passed.judgement is Judgement.PASS, explain(passed)
    assert [t.outcome for t in of(passed, "old models", "contract")] == ["breaks"]
    laws = {law.name for law in passed.laws if law.holds}
    assert "no write acknowledged to old models code is lost" in laws
    assert "no write acknowledged to new models code is lost" in laws
    assert failed.judgement is Judgement.FAIL
    assert {e.sqlstate for e in errors} == {"42703"}
    assert not [n for n in passed.notes if "by itself" in n], passed.notes


def test_models_do_everything_a_session_does(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """Insert, select, update, delete, refresh; relationships when touched, by IN, by a join."""
    from zdd_migrate.postgres.catalog import read_schema
    from zdd_migrate.verify.acknowledged import Tables, compare
    from zdd_migrate.verify.models import Models
    from zdd_migrate.verify.shapes import shapes
    from zdd_migrate.verify.workers import Crew, WorkSession

    (version,) = models(tmp_path, "old", stack)
    assert isinstance(version, Models)
    with (
        pg_server.scratch_database() as name,
        Crew() as crew,
        pg_server.connect(name) as connection,
    ):
        connection.execute((BEFORE + SEED).encode())
        schema = read_schema(connection)
        notes = version.prepare(pg_server, name, schema, crew)
        session = version.open(pg_server, name, crew)
        assert isinstance(session, WorkSession)
        for _ in range(6):
            session.work_once()
        texts = "\n".join(t for w in session.workers for t in w.statements)
        seen = session.take()
        session.close()
        assert version.ledger is not None
        kept = version.ledger.snapshot()
        found = compare(Tables(connection), version.ledger, shapes(schema, schema.tables))
        connection.execute("UPDATE users SET user_name = 'x' WHERE email LIKE 'zm%'")
        tampered = compare(Tables(connection), version.ledger, shapes(schema, schema.tables))

    assert notes == []
    assert not seen.errors
    assert len(kept) > 8
    assert found == (0, 0, "")
    assert tampered[1] > 0
    for part in (
        r"INSERT INTO users",
        r"INSERT INTO orders",
        r"UPDATE users SET user_name",
        r"UPDATE orders",
        r"DELETE FROM",
        r"FROM orders.*\nWHERE .*orders.user_id",
        r"LEFT OUTER JOIN",
        r"WHERE orders.user_id IN",
    ):
        assert re.search(part, texts), part


def test_models_that_cannot_be_imported_are_bad_input(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """One line, with what Python said."""
    (tmp_path / "broken_models.py").write_text("raise RuntimeError('no settings')\n")
    for target, said in {
        "broken_models:Base": "RuntimeError: no settings",
        "nowhere_models:Base": "ModuleNotFoundError: No module named 'nowhere_models'",
        "json:loads": "TypeError: json:loads is no declarative base",
    }.items():
        old = versions("old", Settings(models=target), tmp_path, stack)
        with pytest.raises(InputError, match=rf"versions\.old\.models {target}: {said}"):
            plain(pg_server, old=old)


def example(heading: str) -> dict[str, str]:
    """The files that the documentation shows below a heading, by name."""
    text = (Path(__file__).parents[2] / "docs" / "verify.md").read_text()
    start = text.index(f"### {heading}\n")
    end = re.compile(r"^##+ ", re.MULTILINE).search(text, start + 5)
    section = text[start : end.start() if end else len(text)]
    files = {}
    for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        named = re.match(r"(?:#|--) (\S+)\n", body)
        files[named[1] if named else f"zdd-migrate.{kind}"] = body
    return files


def example_settings(heading: str, name: str) -> Settings:
    """What the documentation configures there for a version."""
    table = tomllib.loads(example(heading)["zdd-migrate.toml"])
    return settings(name, (), table["versions"][name])


def git(directory: Path, *arguments: str) -> None:
    """Run git as somebody."""
    who = {
        f"GIT_{a}_{b}": "x@y.example" for a in ("AUTHOR", "COMMITTER") for b in ("NAME", "EMAIL")
    }
    subprocess.run(
        ["git", "-C", str(directory), "-c", "init.defaultBranch=main", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, **who},
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Django app in two revisions: v1 reads user_name, v2 username; each is set up by a script."""
    directory = tmp_path / "repo"
    (directory / "app" / "shop").mkdir(parents=True)
    git(directory, "init")
    for revision, column in (("v1", "user_name"), ("v2", "username")):
        for name, text in example("A Django app").items():
            (directory / "app" / name).write_text(text.replace("user_name", column))
        (directory / "app" / "make.py").write_text(
            f"import pathlib; pathlib.Path('made').write_text({revision!r})\n"
        )
        (directory / "app" / "tables.py").write_text(
            f"import pathlib; assert pathlib.Path('made').read_text() == {revision!r}\n"
            + MODELS.replace("{name}", column)
        )
        git(directory, "add", ".")
        git(directory, "commit", "-m", revision)
        git(directory, "tag", revision)
    return directory


def worktrees(repository: Path) -> int:
    """How many worktrees a repository has beside itself."""
    done = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"],
        check=True,
        capture_output=True,
        text=True,
    )
    return len(done.stdout.strip().splitlines()) - 1


def test_a_django_app_and_models_of_two_revisions(repository: Path, pg_server: Server) -> None:
    """As documented; each in a worktree, set up there; gone afterwards."""
    with ExitStack() as stack:
        code = {}
        for name in ("old", "new"):
            wanted = replace(
                example_settings("A Django app", name),
                directory="app",
                setup="python make.py",
                models="tables:Base" if name == "old" else None,
            )
            code[name] = versions(name, wanted, repository, stack)
        during = worktrees(repository)
        verdict = planned(pg_server, code["old"], code["new"])
    labels = {t.code for t in verdict.trials}
    after = of(verdict, "old command", "contract")

    assert verdict.judgement is Judgement.PASS, explain(verdict)
    assert {"old command", "new command", "old models"} <= labels
    assert [t.outcome for t in after] == ["breaks"]
    assert [e.sqlstate for e in after[0].errors] == ["42703"]
    assert after[0].errors[0].statement.startswith('INSERT INTO "users" ("email"')
    assert during == 2
    assert worktrees(repository) == 0


def test_worktrees_of_the_dead_are_tidied_up(repository: Path) -> None:
    """A killed run leaves one behind; the next takes it away."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from zdd_migrate.verify.worktrees import checkout\n"
        f"with checkout(Path({str(repository)!r}), 'v1'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    left = worktrees(repository)
    with ExitStack() as stack:
        versions("old", Settings(revision="v2", command="true"), repository, stack)
        during = worktrees(repository)

    assert (left, during, worktrees(repository)) == (1, 1, 0)


SERVICE = """
import http.server, json, os, sys
import psycopg
column = sys.argv[1]
connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=0)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, b"ready"
        if self.path.startswith("/users"):
            try: body = json.dumps(connection.execute(f"SELECT {column} FROM users LIMIT 1").fetchall()).encode()
            except psycopg.Error as error: status, body = 500, str(error).encode()
        self.send_response(status); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
LOAD = """
import os, sys, urllib.request
try: urllib.request.urlopen(f"http://127.0.0.1:{os.environ['PORT']}/users").read()
except OSError as error: sys.exit(f"the shop says {error}")
"""


def service(tmp_path: Path, name: str, stack: ExitStack, ready: str) -> list[CodeVersion]:
    """A web service and the script that calls it."""
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "load.py").write_text(LOAD)
    column = "user_name" if name == "old" else "username"
    wanted = Settings(
        start=f"python service.py {column}", ready=ready, command="python load.py", ready_seconds=20
    )
    return versions(name, wanted, tmp_path, stack)


def test_a_running_service_is_called_over_http(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """It stays up while steps run; what it fails with is read from the server's log."""
    old = service(tmp_path, "old", stack, "http://127.0.0.1:{port}/")
    new = service(tmp_path, "new", stack, "python load.py")
    marks = [f"service.py {c}" for c in ("user_name", "username")]

    passed = planned(pg_server, old=old, new=new)
    failed = plain(pg_server, old=old)
    errors = [e for t in of(failed, "old command", "migration") for e in t.errors]

    assert passed.judgement is Judgement.PASS, explain(passed)
    assert [t.outcome for t in of(passed, "old command", "contract")] == ["breaks"]
    assert failed.judgement is Judgement.FAIL
    assert {e.sqlstate for e in errors} == {"42703"}
    assert not [m for m in marks if running(str(tmp_path), m)]


@pytest.mark.skipif(
    shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin") is None,
    reason="no pgbouncer is installed",
)
def test_every_depth_works_through_a_pooler_in_transaction_mode(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """Nobody counts on a prepared statement, a setting, or the same connection."""
    (tmp_path / "shop.py").write_text(MODELS.format(name="user_name"))
    (tmp_path / "program.py").write_text(
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DATABASE_URL'], prepare_threshold=None) as c:\n"
        "    c.execute('SELECT user_name FROM users').fetchone()\n"
    )
    wanted = Settings(models="shop:Base", command="python program.py")
    with pooled(pg_server):
        verdict = verify_plan(
            plan_of("ALTER TABLE users ADD COLUMN city text"),
            schema_sql=BEFORE,
            server=pg_server,
            seed_sql=SEED,
            effort=QUICK,
            old=[*queries(tmp_path, "old", stack), *versions("old", wanted, tmp_path, stack)],
        )

    assert verdict.judgement is Judgement.PASS, explain(verdict)
    assert verdict.conditions == ("pooled",)
    assert any("transaction mode" in note for note in verdict.notes)
    assert {t.code for t in verdict.trials if (t.phase, t.when) == ("expand", "undo")} == {
        "old", "old queries", "old models", "old command",
    }  # fmt: skip


def test_a_script_for_psql_is_a_program(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """It finds the database by libpq's variables, and its errors by psql's name in the log."""
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("no psql here")
    (tmp_path / "smoke.sql").write_text(example("A script for psql")["smoke.sql"])
    wanted = example_settings("A script for psql", "old")
    old = versions("old", wanted, tmp_path, stack)

    verdict = plain(pg_server, old=old)
    errors = [e for t in of(verdict, "old command", "migration") for e in t.errors]

    assert [t.outcome for t in of(verdict, "old command", "start")] == ["works"]
    assert [e.sqlstate for e in errors] == ["42703"]
    assert errors[0].statement.startswith("INSERT INTO users (email, user_name)")


PROVOKING = """
import os, sys, time, psycopg
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    try: connection.execute("SELECT 1 / 0")
    except psycopg.errors.DivisionByZero: pass
    time.sleep(0.4)
    columns = connection.execute("SELECT attname FROM pg_attribute WHERE attname = 'username'")
    sys.exit("not as it was" if columns.fetchone() else 0)
"""


def test_a_program_is_judged_by_how_it_ends(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """Not by how long it runs, nor by errors in the log that it bears with when it works."""
    (tmp_path / "provoking.py").write_text(PROVOKING)
    old = versions("old", Settings(command="python provoking.py"), tmp_path, stack)

    verdict = verify_migration(
        [RENAME],
        in_transaction=False,
        schema_sql=BEFORE,
        server=pg_server,
        seed_sql=SEED,
        effort=QUICK,
        old=old,
        limits=Limits(longest_wait_ms=300),
    )
    began = of(verdict, "old command", "start")
    errors = [e for t in of(verdict, "old command", "migration") for e in t.errors]

    assert [(t.outcome, t.longest_wait_ms > 300) for t in began] == [("works", True)]
    assert {e.sqlstate for e in errors} == {"-----"}
    assert all(e.message.endswith("not as it was") for e in errors)


def running(directory: str, mark: str) -> list[int]:
    """Processes with this in their command line that stand in a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            here = str((entry / "cwd").readlink())
        except OSError:
            continue
        if mark in words and here == directory and "keeper.py" not in words:
            found.append(int(entry.name))
    return found


def test_a_service_that_does_not_come_up_is_bad_input(
    tmp_path: Path, pg_server: Server, stack: ExitStack
) -> None:
    """With what it printed last."""
    wanted = Settings(
        start="python -c 'raise SystemExit(\"no licence\")'", ready="false", command="true"
    )
    old = versions("old", wanted, tmp_path, stack)

    with pytest.raises(InputError, match=r"versions\.old\.start: .*it ended with 1: no licence"):
        plain(pg_server, old=old)


def test_programs_end_when_verify_is_killed(tmp_path: Path) -> None:
    """With all that they started themselves."""
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, 'child.py'])\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "child.py").write_text("import time; time.sleep(60)\n")
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from zdd_migrate.verify.programs import Kept\n"
        f"kept = Kept([sys.executable, 'parent.py'], Path({str(tmp_path)!r}), {{}})\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: bool(running(str(tmp_path), "child.py")))
    owner.kill()
    owner.wait()

    wait_until(
        lambda: not running(str(tmp_path), "child.py") and not running(str(tmp_path), "parent.py")
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """For other processes."""
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never came")


SPECS = {
    ("queries:q.sql", "queries:more.csv"): Settings(queries=("q.sql", "more.csv")),
    ("models:app.models:Base", "rev:v1.2", "python:.venv/bin/python"): Settings(
        models="app.models:Base", revision="v1.2", python=".venv/bin/python"
    ),
    ("synthetic",): Settings(),
    ("command:pytest -q tests:fast",): Settings(command="pytest -q tests:fast"),
}


@pytest.mark.parametrize("specs", SPECS, ids=str)
def test_specs_of_the_command_line(specs: tuple[str, ...]) -> None:
    """Options say all of it; the configuration then says nothing."""
    assert settings("old", specs, {"command": "no"}) == SPECS[specs]


@pytest.mark.parametrize(
    ("specs", "table", "said"),
    [
        (("pytest",), {}, "--old pytest: write synthetic, queries:FILE"),
        (("queries:",), {}, "--old queries:: write synthetic"),
        ((), {"comand": "x"}, "versions.old.comand is not a setting; known are command"),
        ((), {"command": 3}, "versions.old.command must be a text, not 3"),
    ],
)
def test_what_is_no_version_is_said(
    specs: tuple[str, ...], table: dict[str, object], said: str
) -> None:
    """One line each."""
    with pytest.raises(InputError, match=re.escape(said)):
        settings("old", specs, table)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Settings(start="x", command="y"), "versions.old.ready is missing"),
        (Settings(start="x", ready="y"), "versions.old.command is missing"),
        (Settings(models="app.models"), "versions.old.models app.models: write module:Base"),
        (Settings(revision="v1"), "is in no git repository"),
        (Settings(setup="false", command="x"), "versions.old.setup: false ended with 1"),
        (Settings(directory="gone", command="x"), "is no directory"),
    ],
)
def test_versions_that_cannot_be_had_are_said(
    wanted: Settings, said: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Before any server is started."""
    with pytest.raises(InputError, match=re.escape(said)):
        versions("old", wanted, tmp_path, stack)
