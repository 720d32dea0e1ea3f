"""check with a snapshot, a baseline, a team's own rules, per-path overrides and --since."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from zdd_migrate.postgres.servers import Server

DROP = "ALTER TABLE users DROP COLUMN age;\n"
BEFORE = "CREATE TABLE users (id bigint PRIMARY KEY, email text, age int);\n"


def run(where: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """zdd-migrate in a directory."""
    command = [str(Path(sys.executable).parent / "zdd-migrate"), *map(str, arguments)]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def found(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Findings of a run, without those that are suppressed or for the curious."""
    assert done.returncode in (0, 1), done.stderr
    every: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [f for f in every if not f["suppressed"] and f["severity"] != "info"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two migrations, of which the second breaks something."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001.sql").write_text(BEFORE)
    (tmp_path / "migrations" / "0002.sql").write_text(DROP)
    return tmp_path


def test_a_baseline_lets_an_old_repository_start_clean(project: Path) -> None:
    """Written once; what comes later is found."""
    assert found(run(project, "check", "migrations", "--format", "json"))

    written = run(project, "check", "migrations", "--write-baseline", "--baseline", "b.json")
    assert written.returncode == 0
    clean = run(project, "check", "migrations", "--baseline", "b.json", "--format", "json")
    assert clean.returncode == 0
    assert found(clean) == []
    (project / "migrations" / "0003.sql").write_text("DROP TABLE users;\n")
    later = run(project, "check", "migrations", "--baseline", "b.json", "--format", "json")
    assert {f["rule"] for f in found(later)} == {"ZDD204"}


def test_a_missing_baseline_fails_closed(project: Path) -> None:
    """Exit 2 and one line."""
    done = run(project, "check", "migrations", "--baseline", "none.json")

    assert done.returncode == 2
    assert "none.json: the baseline cannot be read" in done.stderr


RULE = """+++
id = "SHOP001"
name = "users-untouchable"
severity = "error"
check = "touches-users"
message = "{relation} belongs to another team."
fix = "Ask them first."
+++
# Users

The table is another team's.
"""


def test_a_team_adds_its_own_rules(project: Path) -> None:
    """A directory of documents and a Python file, named in the configuration."""
    (project / "ours").mkdir()
    (project / "ours" / "SHOP001-users-untouchable.md").write_text(RULE)
    (project / "ours" / "checks.py").write_text(
        "def touches_users(case):\n"
        "    '''Any lock on it.'''\n"
        "    return {} if any(r.name == 'users' for r in case.effects.locks) else None\n"
    )
    toml = project / "zdd-migrate.toml"
    toml.write_text('rules = ["ours"]\nchecks = "ours/checks.py"\n')
    done = run(project, "check", "migrations/0002.sql", "--format", "json")

    mine = [f for f in found(done) if f["rule"] == "SHOP001"]
    assert [f["message"] for f in mine] == ["public.users belongs to another team."]
    assert "SHOP001" in run(project, "rules").stdout
    sarif = run(project, "check", "migrations/0002.sql", "--format", "sarif")
    assert "SHOP001" in sarif.stdout

    toml.write_text('rules = ["ours"]\n')
    missing = run(project, "check", "migrations")
    assert missing.returncode == 2
    assert "touches-users" in missing.stderr


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('colour = "red"', "'colour'"),
        ('ignore = ["ZDD1"]', "no rule ZDD1"),
        ('[severity]\nZDD202 = "fatal"', "severity.ZDD202"),
        ('[paths."a/*"]\nskip = true', "'skip'"),
        ('[paths."a/*"]\nignore = ["nothing"]', "no rule nothing"),
        ("[cost]\nlong_seconds = -1", "cost.long_seconds"),
        ("[cost]\nspeed = 1", "'speed'"),
        ('fail_on = "fatal"', "fail_on"),
        ('checks = "gone.py"\nrules = ["migrations"]', ""),
        ('snapshot = "gone.json"', "gone.json"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(project: Path, toml: str, said: str) -> None:
    """Exit 2, one line with the file; never silence."""
    (project / "zdd-migrate.toml").write_text(toml + "\n")
    done = run(project, "check", "migrations")

    if said:
        assert done.returncode == 2, done.stdout
        assert said in done.stderr
        assert len(done.stderr.strip().split("\n")) == 1


def test_paths_have_settings_of_their_own(project: Path) -> None:
    """Globs are seen from the configuration, whatever the working directory."""
    (project / "zdd-migrate.toml").write_text(
        '[severity]\ncolumn-dropped = "warning"\n'
        '[paths."migrations/0002.sql"]\nignore = ["lock-timeout-missing"]\n'
        'severity = {ZDD202 = "info"}\n'
    )
    (project / "migrations" / "0003.sql").write_text("ALTER TABLE users DROP COLUMN email;\n")
    done = run(project / "migrations", "check", ".", "--format", "json")
    severities = {
        (Path(f["path"]).name, f["rule"]): f["severity"]
        for f in json.loads(done.stdout)["findings"]
    }

    assert severities["0002.sql", "ZDD202"] == "info"
    assert severities["0003.sql", "ZDD202"] == "warning"
    assert ("0002.sql", "ZDD110") not in severities
    assert ("0003.sql", "ZDD110") in severities


# -- what changed ------------------------------------------------------------------------------


@pytest.fixture
def repository(project: Path) -> Path:
    """The project under version control, with the migrations of before committed."""
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-qm", "before")
    return project


def git(where: Path, *arguments: str) -> None:
    """git with a name of its own."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=where, check=True)


@pytest.mark.e2e
def test_since_checks_only_what_changed(repository: Path) -> None:
    """The rest of the history is the schema: a column that is gone is known to be."""
    (repository / "migrations" / "0003.sql").write_text("ALTER TABLE users DROP COLUMN age;\n")
    done = run(repository, "check", "migrations", "--since", "main", "--format", "json")

    assert {Path(f["path"]).name for f in found(done)} == {"0003.sql"}
    assert "ZDD402" in {f["rule"] for f in found(done)}
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "third")
    nothing = run(repository, "check", "migrations", "--since", "HEAD", "--format", "json")
    assert json.loads(nothing.stdout)["summary"]["files"] == 0
    assert nothing.returncode == 0


@pytest.mark.e2e
def test_since_fails_closed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A base that is not there, or no repository at all, is not "nothing changed"."""
    gone = run(repository, "check", "migrations", "--since", "no-such-branch")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.sql").write_text(DROP)
    outside = run(elsewhere, "check", "a.sql", "--since", "main")

    assert gone.returncode == 2
    assert "no-such-branch" in gone.stderr
    assert outside.returncode == 2
    assert "not in a git repository" in outside.stderr


# -- snapshots ---------------------------------------------------------------------------------


@pytest.fixture
def reader(pg_server: Server) -> Iterator[str]:
    """The URL of a database with a large table, as a role that may connect and no more."""
    with pg_server.scratch_database() as name:
        with pg_server.connect(name) as connection:
            connection.execute(
                "CREATE TABLE users (id bigint PRIMARY KEY, email text DEFAULT 'secret', age int);"
                "INSERT INTO users SELECT g, repeat('x', 200), g FROM generate_series(1, 20000) g;"
            )
            connection.execute("ANALYZE users")
            connection.execute("DROP ROLE IF EXISTS zdd_reader")
            connection.execute("CREATE ROLE zdd_reader LOGIN PASSWORD 'r'")
        dsn = pg_server.dsn(name)
        yield psycopg.conninfo.make_conninfo(dsn, user="zdd_reader", password="r")
        with pg_server.connect(name) as connection:
            connection.execute("DROP ROLE zdd_reader")


@pytest.mark.pg
def test_a_snapshot_by_a_role_without_rights(project: Path, reader: str) -> None:
    """Read-only and without privileges; twice the same; check grades and says by it."""
    for name in ("a.json", "b.json"):
        done = run(project, "snapshot", reader, "-o", name)
        assert done.returncode == 0, done.stderr
    texts = [
        re.sub(r'"writes_per_second": [\d.]+', "", (project / name).read_text())
        for name in ("a.json", "b.json")  # the rate of a server that started just now
    ]
    (project / "m.sql").write_text("CREATE INDEX i ON users (email);\n")
    slow = "[cost]\nindex_mb_per_second = 0.1\n"
    (project / "zdd-migrate.toml").write_text(slow)
    checked = run(project, "check", "m.sql", "--schema", "a.json", "--format", "json")
    (project / "zdd-migrate.toml").write_text(
        "[cost]\nindex_mb_per_second = 100000\nbusy_writes_per_second = 1e9\n"
    )
    quick = run(project, "check", "m.sql", "--schema", "a.json", "--format", "json")

    assert texts[0] == texts[1]
    assert "secret" not in texts[0]
    assert '"rows": 20000' in texts[0]
    (finding,) = [f for f in found(checked) if f["rule"] == "ZDD101"]
    assert " MB that is about " in finding["message"]
    assert finding["severity"] == "error"
    assert found(quick) == []


@pytest.mark.pg
def test_sizes_are_added_to_a_replayed_history(project: Path, reader: str) -> None:
    """The configuration names the snapshot; the schema comes from the migrations."""
    assert run(project, "snapshot", reader, "-o", "db.json").returncode == 0
    (project / "zdd-migrate.toml").write_text(
        'snapshot = "db.json"\n[cost]\nindex_mb_per_second = 0.1\n'
    )
    (project / "migrations" / "0003.sql").write_text("CREATE INDEX i ON users (email);\n")
    done = run(project, "check", "migrations/0003.sql", "--format", "json")

    (finding,) = [f for f in found(done) if f["rule"] == "ZDD101"]
    assert " MB that is about " in finding["message"]
    assert finding["assumed"] == []


@pytest.mark.pg
def test_nothing_is_built_from_a_snapshot(project: Path, reader: str) -> None:
    """A plan's way back would put blotted-out defaults in place: refused."""
    assert run(project, "snapshot", reader, "-o", "db.json").returncode == 0
    done = run(project, "plan", "migrations/0002.sql", "--schema", "db.json")

    assert done.returncode == 2
    assert "a snapshot holds no literals" in done.stderr


def test_no_server_is_one_line(project: Path) -> None:
    """Exit 3."""
    done = run(project, "snapshot", "postgresql://localhost:1/none")

    assert done.returncode == 3
    assert len(done.stderr.strip().split("\n")) == 1
