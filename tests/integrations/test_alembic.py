"""Alembic projects: read without running them, planned as revisions, upgraded for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import ROOT
from zdd_migrate.errors import InputError
from zdd_migrate.integrations.alembic import reading
from zdd_migrate.integrations.alembic.project import find
from zdd_migrate.postgres.servers import Server

HEAD = '"""x"""\nimport sqlalchemy as sa\nfrom alembic import op\nrevision = "{}"\n{}\n\n\n'
RENAME = "migrations/versions/c3d4_rename_user_name.py"

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example project, and we are in it."""
    path = tmp_path / "shop"
    shutil.copytree(
        ROOT / "fixtures" / "alembic_shop", path, ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.chdir(path)
    return path


def add(project: Path, id_: str, down: str | None, body: str) -> Path:
    """A revision more."""
    path = project / "migrations" / "versions" / f"{id_}_more.py"
    head = HEAD.format(id_, f"down_revision = {down!r}")
    path.write_text(head + f"def upgrade() -> None:\n{body}\n", encoding="utf-8")
    return path


def zdd(*arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "zdd_migrate", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def alembic(database: str, *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        env={**os.environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def findings(done: Done) -> list[tuple[str, str, int]]:
    return [
        (f["rule"], Path(f["path"]).name, f["line"])
        for f in json.loads(done.stdout)["findings"]
        if f["rule"] != "ZDD123"  # said of the new tables: the foreign key has no index
    ]


def test_findings_stand_at_the_line_of_the_python_file(project: Path) -> None:
    """The call in upgrade(), with what ran before as the schema."""
    done = zdd("check", RENAME, "--format", "json")

    assert done.returncode == 1
    found = json.loads(done.stdout)["findings"]
    assert ("ZDD201", "c3d4_rename_user_name.py", 16) in findings(done)
    assert {f["column"] for f in found} == {5}
    assert found[0]["statement"] == "ALTER TABLE users RENAME user_name TO username"
    assert all(f["assumed"] == [] for f in found)  # the earlier revisions are known


def test_a_whole_project(project: Path) -> None:
    """The directory, its root, and a revision's id all work; new tables are nobody's."""
    whole = zdd("check", ".", "--format", "json")
    assert json.loads(whole.stdout)["summary"]["files"] == 3
    assert {name for _, name, _ in findings(whole)} == {
        "b2c3_order_status.py",
        "c3d4_rename_user_name.py",
    }
    by_id = zdd("check", "c3d4", "--format", "json")
    assert findings(by_id) == findings(zdd("check", RENAME, "--format", "json"))
    assert findings(zdd("check", "head", "--format", "json")) == findings(by_id)


def test_several_statements_of_one_call_and_transactions(project: Path) -> None:
    """autocommit_block is outside a transaction, whatever stands in it; execute is read too."""
    add(
        project,
        "d4e5",
        "c3d4",
        "    op.execute(\n        'CREATE INDEX CONCURRENTLY i ON orders (status)'\n    )\n"
        "    with op.get_context().autocommit_block():\n"
        "        op.execute('CREATE INDEX CONCURRENTLY j ON orders (status)')\n"
        "    op.execute('ALTER TABLE orders DROP COLUMN status; DROP TABLE users')",
    )
    found = findings(zdd("check", "d4e5", "--format", "json"))
    lines = {(rule, line) for rule, _, line in found}
    assert ("ZDD401", 9) in lines  # in a transaction: refused by Postgres
    assert not any(line in (12, 13) for _, line in lines)
    assert {("ZDD202", 14), ("ZDD204", 14)} <= lines


def test_what_cannot_be_rendered_is_a_finding(project: Path) -> None:
    """A query whose answer decides: that revision is not understood, the others are checked."""
    (project / "zdd-migrate.toml").write_text("scratch = 'never'\n")
    add(
        project,
        "d4e5",
        "c3d4",
        "    op.drop_column('orders', 'status')\n"
        "    rows = op.get_bind().execute(sa.text('SELECT 1')).all()\n"
        "    op.drop_table('users')",
    )
    add(project, "e5f6", "d4e5", "    import nowhere_to_be_found")
    done = zdd("check", ".", "--format", "json")

    found = findings(done)
    assert done.returncode == 1
    assert ("ZDD901", "d4e5_more.py", 10) in found
    assert any(name == "d4e5_more.py" and line == 9 for _, name, line in found)
    assert ("ZDD901", "e5f6_more.py", 9) in found
    assert ("ZDD201", "c3d4_rename_user_name.py", 16) in found
    only = zdd("check", "e5f6")
    assert only.returncode == 2
    assert "cannot be rendered without a database" in " ".join(only.stdout.split())
    assert "nowhere_to_be_found" in only.stdout


def test_several_heads_are_said(project: Path) -> None:
    """Each is checked, and that nobody knows which runs first is a finding."""
    add(project, "d4e5", "b2c3", "    op.drop_table('orders')")
    done = zdd("check", ".", "--format", "json")
    messages = [f["message"] for f in json.loads(done.stdout)["findings"]]
    assert any("2 heads (c3d4, d4e5)" in m and "alembic merge heads" in m for m in messages)
    head = zdd("check", "head")
    assert head.returncode == 2
    assert "2 heads" in head.stderr


def test_suppressions_stand_beside_the_call(project: Path) -> None:
    """The comment is Python's."""
    file = project / RENAME
    call = '    op.alter_column("users"'
    file.write_text(
        file.read_text().replace(
            call, f"    # zdd: ignore ZDD201 because nobody reads it yet\n{call}", 1
        )
    )
    found = json.loads(zdd("check", RENAME, "--format", "json").stdout)["findings"]
    renamed = [f for f in found if f["rule"] == "ZDD201"]
    assert [f["suppressed"] for f in renamed] == [True]
    assert renamed[0]["reason"] == "nobody reads it yet"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def upgrade(:\n    pass", "this is not Python"),
        ("", "no revision"),
    ],
)
def test_files_that_are_no_revisions(project: Path, body: str, says: str) -> None:
    """One line naming the file, exit status 2."""
    file = project / "migrations" / "versions" / "zz_more.py"
    file.write_text(f"down_revision = 'c3d4'\n{body}\ndef upgrade(): pass\n")
    done = zdd("check", str(file))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_reading_runs_no_env_and_prints_nothing(project: Path) -> None:
    """env.py would connect; revisions that print do not spoil the output."""
    (project / "migrations" / "env.py").write_text("raise SystemExit('env.py was run')")
    add(project, "d4e5", "c3d4", "    print('hello')\n    op.execute('SELECT 1')")
    done = zdd("check", "d4e5", "--format", "json")
    assert json.loads(done.stdout)["summary"]["statements"] == 1


def test_the_order_of_revisions(project: Path) -> None:
    """Branches and a merge: each after those it follows; what runs before one is just its past."""
    add(project, "d4e5", "c3d4", "    pass")
    add(project, "d4e6", "c3d4", "    pass")
    merge = add(project, "e5f6", None, "    pass")
    merge.write_text(
        merge.read_text().replace("down_revision = None", 'down_revision = ("d4e5", "d4e6")')
    )
    found = find(project)
    assert found is not None
    assert [r.id for r in found.revisions] == ["a1b2", "b2c3", "c3d4", "d4e5", "d4e6", "e5f6"]
    assert found.heads == ["e5f6"]
    assert [r.id for r in found.before(found.named("d4e6"))] == ["a1b2", "b2c3", "c3d4"]
    with pytest.raises(InputError, match="is ambiguous"):
        found.named("d4e")
    assert reading.project_of(["nothing-here"]) is None


def columns(database: str) -> set[str]:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass "
            "AND attnum > 0 AND NOT attisdropped"
        ).fetchall()
    return {str(name) for (name,) in rows}


def version(database: str) -> str:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    return str(row[0])


COMPARE = """
import sys
from pathlib import Path
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from models import Base
from zdd_migrate.integrations.alembic.autogenerate import hide_helpers

url, hide = sys.argv[1:]
include = hide_helpers(Path("migrations/versions/zdd")) if hide == "True" else None
with create_engine(url.replace("postgresql:", "postgresql+psycopg:")).connect() as connection:
    context = MigrationContext.configure(connection, opts={"include_object": include})
    print(compare_metadata(context, Base.metadata))
"""


def differences(project: Path, database: str, *, hide: bool) -> str:
    """What autogenerate would write, with our objects hidden or not."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, database, str(hide)],
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.pg
def test_planned_revisions_run_one_by_one(project: Path, database: str) -> None:
    """upgrade stops before contract; autogenerate sees nothing of ours; downgrade is the undo."""
    assert alembic(database, "upgrade", "b2c3").returncode == 0
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (email, user_name) SELECT 'a' || n, 'name ' || n "
            "FROM generate_series(1, 2500) n"
        )
    planned = zdd("plan", RENAME, "--format", "alembic")
    assert planned.returncode == 0, planned.stderr
    assert "c3d4_expand" in planned.stdout
    assert (
        project / "migrations/versions/zdd/c3d4_rename_user_name/c3d4_rename_user_name.py.orig"
    ).is_file()

    assert alembic(database, "upgrade", "c3d4_expand").returncode == 0
    assert columns(database) >= {"user_name", "username"}
    down = alembic(database, "downgrade", "b2c3")
    assert down.returncode == 0, down.stderr
    assert "username" not in columns(database)

    stopped = alembic(database, "upgrade", "head")
    assert stopped.returncode != 0
    assert "alembic -x zdd-approve=c3d4_rename_user_name upgrade" in stopped.stderr
    assert version(database) == "c3d4_switch"
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM users WHERE username = user_name").fetchone()
    assert row == (2500,)
    assert "user_name" in differences(project, database, hide=False)
    assert differences(project, database, hide=True) == "[]"

    approved = alembic(database, "-x", "zdd-approve=c3d4_rename_user_name", "upgrade", "head")
    assert approved.returncode != 0
    assert "alembic -x zdd-approve-drop=c3d4_rename_user_name upgrade" in approved.stderr
    assert version(database) == "c3d4_contract"
    assert columns(database) == {"id", "email", "username", "created_at", "zdd_old_username"}
    assert differences(project, database, hide=True) == "[]"
    dropping = ("-x", "zdd-approve-drop=c3d4_rename_user_name", "upgrade", "head")
    early = alembic(database, *dropping)
    assert early.returncode != 0
    assert "waits until" in early.stderr
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE zdd.step SET changed_at = changed_at - interval '8 days'")
    dropped = alembic(database, *dropping)
    assert dropped.returncode == 0, dropped.stderr
    assert version(database) == "c3d4"
    assert columns(database) == {"id", "email", "username", "created_at"}
    same = alembic(database, "check")
    assert "No new upgrade operations detected" in same.stdout + same.stderr
    back = alembic(database, "downgrade", "c3d4_contract")
    assert back.returncode != 0
    assert version(database) == "c3d4"


@pytest.mark.pg
def test_a_database_that_no_code_uses_yet(project: Path, database: str) -> None:
    """From nothing to head in one go, when somebody says that this is one."""
    assert zdd("plan", "c3d4", "--format", "alembic", "--name", "rename").returncode == 0
    done = alembic(database, "-x", "zdd-approve=all", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert "username" in columns(database)
    assert "user_name" not in columns(database)


@pytest.mark.pg
def test_a_gate_for_clients_does_not_wait_for_alembic_itself(project: Path, database: str) -> None:
    """Its connection is older than the exchange of two types; another client's is waited for."""
    add(
        project,
        "d4e5",
        "c3d4",
        "    op.execute(\"CREATE TYPE mood AS ENUM ('sad', 'numb')\")\n"
        "    op.execute('CREATE TABLE people (id int PRIMARY KEY, mood mood)')\n",
    )
    add(
        project,
        "e5f6",
        "d4e5",
        "    op.execute('ALTER TYPE mood RENAME TO mood_old')\n"
        "    op.execute(\"CREATE TYPE mood AS ENUM ('sad')\")\n"
        "    op.execute('ALTER TABLE people ALTER mood TYPE mood USING mood::text::mood')\n"
        "    op.execute('DROP TYPE mood_old')\n",
    )
    planned = zdd("plan", "e5f6", "--format", "alembic", "--name", "moods")
    assert planned.returncode == 0, planned.stderr
    upgrade = ("-x", "zdd-approve=all", "upgrade", "head")
    with psycopg.connect(database):
        waiting = alembic(database, *upgrade)
    assert waiting.returncode != 0
    assert "connections of before public.mood was exchanged are still open" in waiting.stderr

    done = alembic(database, *upgrade)

    assert done.returncode == 0, done.stderr
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("DROP SCHEMA zdd CASCADE")
        connection.execute("CREATE SCHEMA public")
    at_once = alembic(database, *upgrade)
    assert at_once.returncode == 0, at_once.stderr


def test_planned_revisions_are_not_found_fault_with(project: Path) -> None:
    """They were judged when they were planned; what comes after sees their schema."""
    assert zdd("plan", RENAME, "--format", "alembic").returncode == 0
    add(project, "d4e5", "c3d4", "    op.drop_column('users', 'username')")
    done = zdd("check", ".", "--format", "json")
    assert {name for _, name, _ in findings(done)} == {"b2c3_order_status.py", "d4e5_more.py"}
    assert all(f["assumed"] == [] for f in json.loads(done.stdout)["findings"])
    again = zdd("plan", RENAME, "--format", "alembic")
    assert again.returncode == 2
    assert "is a phase of a plan already" in again.stderr


def test_sql_scripts_of_phases(project: Path) -> None:
    """--sql gives each step; rows in batches cannot be a script, and that is said."""
    assert zdd("plan", RENAME, "--format", "alembic").returncode == 0
    script = alembic("postgresql://none", "upgrade", "b2c3:c3d4_expand", "--sql")
    assert script.returncode == 0, script.stderr
    assert "SET LOCAL lock_timeout" in script.stdout
    assert "CREATE TRIGGER" in script.stdout
    refused = alembic("postgresql://none", "upgrade", "b2c3:c3d4_migrate", "--sql")
    assert refused.returncode != 0
    assert "fills rows in batches and cannot be a script" in refused.stderr


def test_alembic_alone_never_meets_us() -> None:
    """No plug-in is registered: `import alembic` imports nothing of ours."""
    code = "import alembic, sys; print([m for m in sys.modules if m.startswith('zdd')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ASKING = """    bind = op.get_bind()
    if 'note' not in {c['name'] for c in sa.inspect(bind).get_columns('orders')}:
        op.add_column('orders', sa.Column('note', sa.Text()))
    bind.execute(sa.text("UPDATE orders SET note = :note"), {"note": "it's 100%"})
    with op.get_context().autocommit_block():
        op.create_index('i', 'orders', ['note'], postgresql_concurrently=True)
    op.drop_column('orders', 'status')"""


@pytest.mark.pg
def test_revisions_that_ask_are_run_on_a_scratch_server(project: Path, pg_server: Server) -> None:
    """The history runs up to there, and what they say is read, with values in their places."""
    add(project, "d4e5", "c3d4", ASKING)
    add(project, "e5f6", "d4e5", "    op.drop_column('orders', 'note')")
    (project / "zdd-migrate.toml").write_text(f"scratch = '{pg_server.dsn()}'\n")
    done = zdd("explain", "d4e5", "--format", "json")
    statements = json.loads(done.stdout)["statements"]

    assert [(s["sql"], s["line"], s["in_transaction"]) for s in statements] == [
        ("ALTER TABLE orders ADD COLUMN note TEXT", 11, True),
        ("UPDATE orders SET note = 'it''s 100%'", 12, True),
        ("CREATE INDEX CONCURRENTLY i ON orders (note)", 14, False),
        ("ALTER TABLE orders DROP COLUMN status", 15, True),
    ]
    found = findings(zdd("check", ".", "--format", "json"))
    assert ("ZDD202", "d4e5_more.py", 15) in found
    assert ("ZDD202", "e5f6_more.py", 9) in found
    assert not any(rule in ("ZDD901", "ZDD401") for rule, _, _ in found)


@pytest.mark.pg
def test_rows_that_decide_are_not_seen_on_an_empty_database(
    project: Path, pg_server: Server
) -> None:
    """What a revision reads from tables leaves it not understood, but its DDL is checked."""
    body = (
        "    for row in op.get_bind().execute(sa.text('SELECT id FROM users')):\n"
        "        op.drop_table('orders')\n"
        "    op.drop_column('orders', 'status')"
    )
    add(project, "d4e5", "c3d4", body)
    (project / "zdd-migrate.toml").write_text(f"scratch = '{pg_server.dsn()}'\n")
    done = zdd("check", "d4e5", "--format", "json")

    assert ("ZDD901", "d4e5_more.py", 9) in findings(done)
    assert ("ZDD202", "d4e5_more.py", 11) in findings(done)
    assert "rows that it reads here" in done.stdout


@pytest.mark.pg
def test_a_history_that_does_not_run_is_said(project: Path, pg_server: Server) -> None:
    """Where it stops, and nothing is claimed."""
    add(project, "d4e5", "c3d4", "    op.execute('DROP TABLE nowhere')")
    add(project, "e5f6", "d4e5", "    op.get_bind().execute(sa.text('SELECT 1')).all()")
    (project / "zdd-migrate.toml").write_text(f"scratch = '{pg_server.dsn()}'\n")
    done = zdd("check", "e5f6")

    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "cannot be rendered without a database" in said
    assert "d4e5_more.py fails on an empty database" in said
    assert "nowhere" in said


def test_a_project_without_a_transaction(project: Path) -> None:
    """env.py says so."""
    env = project / "migrations" / "env.py"
    env.write_text(env.read_text() + "\n# context.configure(transactional_ddl=False)\n")
    add(project, "d4e5", "c3d4", "    op.execute('CREATE INDEX CONCURRENTLY i ON orders (status)')")
    assert "ZDD401" in {rule for rule, _, _ in findings(zdd("check", "d4e5", "--format", "json"))}

    env.write_text(env.read_text() + "\ncontext.configure(transactional_ddl=False)\n")
    assert "ZDD401" not in {
        rule for rule, _, _ in findings(zdd("check", "d4e5", "--format", "json"))
    }
