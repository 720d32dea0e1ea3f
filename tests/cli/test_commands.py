"""The command line as scripts call it: JSON shapes, exit statuses, and one clear line for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.story import BEFORE, RENAME

PROGRAM = [sys.executable, "-m", "zdd_migrate"]


def run(*arguments: str | Path, stdin: str | None = None, cwd: Path | None = None) -> Any:
    """The finished process, output as text."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A schema and a migration."""
    (tmp_path / "before.sql").write_text(BEFORE)
    (tmp_path / "migration.sql").write_text(f"-- a comment\n{RENAME};\n")
    return tmp_path


def test_check_json(files: Path) -> None:
    """The shape of the public contract, at the statement's line and columns."""
    done = run(
        "check", files / "migration.sql", "--schema", files / "before.sql", "--format", "json"
    )
    result = json.loads(done.stdout)
    finding = next(f for f in result["findings"] if f["rule"] == "ZDD201")

    assert done.returncode == 1
    assert result["version"] == 1
    assert result["summary"] == {
        "files": 1, "statements": 1, "error": 1, "warning": 0, "info": 1, "suppressed": 0,
        "not_understood": 0,
    }  # fmt: skip
    assert finding | {"message": "", "fix": ""} == {
        "rule": "ZDD201",
        "name": "column-renamed",
        "severity": "error",
        "path": str(files / "migration.sql"),
        "line": 2,
        "column": 1,
        "end_line": 2,
        "end_column": len(RENAME) + 1,
        "statement": RENAME,
        "relation": "public.users",
        "message": "",
        "fix": "",
        "suppressed": False,
        "assumed": [],
    }


def test_explain_json_from_stdin() -> None:
    """The example of the contract: a volatile default rewrites, scans and rebuilds."""
    done = run(
        "explain", "-", "--format", "json", "--pg-version", "16",
        stdin="ALTER TABLE users ADD COLUMN c1 uuid DEFAULT gen_random_uuid()",
    )  # fmt: skip
    (statement,) = json.loads(done.stdout)["statements"]

    assert done.returncode == 0
    assert statement["operations"][0]["kind"] == "add_column"
    assert statement["operations"][0]["relation"] == "public.users"
    assert statement["operations"][0]["column"] == "c1"
    assert statement["locks"] == {"public.users": "AccessExclusiveLock"}
    assert statement["blocks"] == {"public.users": {"reads": True, "writes": True}}
    assert statement["rewrites"] == ["public.users"]
    assert statement["scans"] == ["public.users"]
    assert statement["transactional"] is True
    assert statement["error"] is None
    assert statement["understood"] is True
    assert {b["sqlstate"] for b in statement["breaks"]} >= {"0A000"}


def test_plan_json(files: Path) -> None:
    """Phases with steps; null undo at the point of no return alone."""
    done = run(
        "plan", files / "migration.sql", "--schema", files / "before.sql", "--format", "json"
    )
    result = json.loads(done.stdout)
    steps = [s for p in result["phases"] for s in p["steps"]]

    assert done.returncode == 0
    assert [p["phase"] for p in result["phases"]] == ["expand", "migrate", "switch", "contract"]
    assert [s["id"] for s in steps if s["undo"] is None] == [steps[-1]["id"]]
    assert steps[0]["kind"] == "sql"
    assert steps[0]["lock"] == "AccessExclusiveLock"
    assert result["questions"] == []
    assert [f["rule"] for f in result["findings"]] == ["ZDD110", "ZDD201"]


def test_a_plan_that_the_code_keeps_in_step(files: Path) -> None:
    """Three releases where they stand, what is written twice, the ways there are; not as revisions."""
    asked = (
        "plan",
        files / "migration.sql",
        "--schema",
        files / "before.sql",
        "--sync",
        "application",
    )
    result = json.loads(run(*asked, "--format", "json").stdout)
    releases = [
        (p["phase"], s["code"])
        for p in result["phases"]
        for s in p["steps"]
        if s["kind"] == "release"
    ]
    refused = run(*asked, "--format", "alembic")

    assert releases == [("migrate", "writes-both"), ("switch", "reads-new"), ("switch", "new")]
    assert [one["table"] for one in result["dual_writes"]] == [["public", "users"]]
    assert [one["via"] for one in result["alternatives"] if one["chosen"]] == ["dual write"]
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--sync application waits for releases within a phase" in refused.stderr


def test_a_question_writes_nothing(files: Path) -> None:
    """Exit 1, the question in JSON, no directory."""
    (files / "m.sql").write_text("ALTER TABLE users ADD COLUMN city text NOT NULL;")
    target = files / "out"

    done = run(
        "plan", files / "m.sql", "--schema", files / "before.sql", "--format", "json", "-o", target
    )

    assert done.returncode == 1
    assert json.loads(done.stdout)["questions"][0]["about"] == "users.city"
    assert "--fill users.city=" in json.loads(done.stdout)["questions"][0]["answer_with"]
    assert not target.exists()


def test_a_suppression_needs_its_reason(files: Path) -> None:
    """With one it suppresses; without, it is a problem; unused, a finding."""
    sql = files / "m.sql"
    sql.write_text("-- zdd: ignore ZDD101 because it is tiny\nCREATE INDEX i ON users (age);\n")
    good = json.loads(
        run("check", sql, "--schema", files / "before.sql", "--format", "json").stdout
    )
    sql.write_text("-- zdd: ignore ZDD101\nCREATE INDEX i ON users (age);\n")
    bare = json.loads(
        run("check", sql, "--schema", files / "before.sql", "--format", "json").stdout
    )
    sql.write_text("-- zdd: ignore ZDD101 because once\nSELECT 1;\n")
    unused = json.loads(
        run("check", sql, "--schema", files / "before.sql", "--format", "json").stdout
    )

    assert [(f["rule"], f["suppressed"]) for f in good["findings"]] == [("ZDD101", True)]
    assert {f["rule"] for f in bare["findings"]} == {"ZDD101", "ZDD903"}
    assert [f["rule"] for f in unused["findings"]] == ["ZDD902"]


def test_earlier_files_are_the_schema(tmp_path: Path) -> None:
    """An index on a table that an earlier file made is on a table in use."""
    (tmp_path / "1_users.sql").write_text("CREATE TABLE users (id int, a int);")
    (tmp_path / "2_index.sql").write_text("CREATE INDEX i ON users (a);")

    both = run("check", tmp_path, "--format", "json")
    second = run("check", tmp_path / "2_index.sql", "--format", "json")

    assert [f["rule"] for f in json.loads(second.stdout)["findings"]] == ["ZDD101"]
    assert [f["rule"] for f in json.loads(both.stdout)["findings"]] == ["ZDD101"]


def test_a_table_made_in_the_same_file_is_quiet(tmp_path: Path) -> None:
    """Nobody uses it yet."""
    sql = tmp_path / "m.sql"
    sql.write_text(
        "CREATE TABLE t (id int, a int);\nCREATE INDEX i ON t (a);\nALTER TABLE t ADD b int;"
    )

    assert run("check", sql).returncode == 0


BAD: dict[str, tuple[list[str], bytes | None, int, str]] = {
    "a binary file": (["check", "{f}"], b"\x7fELF\x00\x01\x02", 2, "binary file"),
    "another encoding": (["check", "{f}"], "SELECT 'é';".encode("latin-1"), 2, "not UTF-8"),
    "no such file": (["check", "{d}/none.sql"], None, 2, "no such file"),
    "an empty directory": (["check", "{d}/empty"], None, 2, "no migrations"),
    "no such schema": (["check", "{f}", "--schema", "{d}/none.sql"], b"SELECT 1;", 2, "no such schema"),
    "an unreachable database": (
        ["check", "{f}", "--schema", "postgresql://x@127.0.0.1:1/x"], b"SELECT 1;", 3, "database",
    ),
    "not a plan": (["status", "{d}", "--database", "postgresql://x@127.0.0.1:1/x"], None, 2, "no plan"),
    "no such verb": (["frobnicate"], None, 2, "frobnicate"),
    "a wrong option": (["check", "{f}", "--fail-on", "sometimes"], b"SELECT 1;", 2, "sometimes"),
    "no such rule": (["rules", "ZDD999"], None, 2, "no rule ZDD999"),
    "no such provider": (
        ["verify", "{f}", "--schema", "{f}", "--postgres", "sqlite"], b"SELECT 1;", 2, "choose auto",
    ),
    "a plan of what is not understood": (["plan", "{f}"], b"ALTER TABLE x FROB;", 2, "not understood"),
    "a plan of nothing": (["plan", "{f}", "-o", "{d}/plan"], b"-- later\n", 2, "no statement"),
    "nothing known to verify on": (["verify", "{f}"], b"SELECT 1;", 2, "--schema"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case: str, tmp_path: Path) -> None:
    """On stderr, with the status of the contract, and never a traceback."""
    arguments, content, status, says = BAD[case]
    file = tmp_path / "m.sql"
    (tmp_path / "empty").mkdir()
    if content is not None:
        file.write_bytes(content)

    done = run(*(a.format(f=file, d=tmp_path) for a in arguments))

    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    """Nothing in it, nothing wrong with it."""
    (tmp_path / "m.sql").write_text("")

    done = run("check", tmp_path / "m.sql")

    assert done.returncode == 0
    assert "nothing found in 0 statements" in done.stdout


def test_a_schema_that_is_not_understood_is_told(tmp_path: Path) -> None:
    """By file and line on stderr; the verdict says what it takes for granted."""
    (tmp_path / "s.sql").write_text("CREATE TABLE a (id int);\nCREATE TABLE b (id int;\n")
    (tmp_path / "m.sql").write_text("DROP TABLE b;")

    done = run("check", tmp_path / "m.sql", "--schema", tmp_path / "s.sql", "--format", "json")

    assert f"{tmp_path / 's.sql'}:2: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert any(f["assumed"] for f in json.loads(done.stdout)["findings"])


def test_a_syntax_error_costs_itself_alone(tmp_path: Path) -> None:
    """The rest of the file is still read."""
    (tmp_path / "m.sql").write_text(
        "CREATE TABLE a (id int);\nALTER TABLE a ADD COLUMN COLUMN COLUMN x;\nDROP TABLE b;\n"
        "SELECT 'never ends;\n\nDROP TABLE c;\n"
    )

    done = run("check", tmp_path / "m.sql", "--format", "json")
    found = {(f["rule"], f["line"]) for f in json.loads(done.stdout)["findings"]}

    assert found >= {("ZDD901", 2), ("ZDD204", 3), ("ZDD901", 4), ("ZDD204", 6)}


@pytest.mark.pg
def test_verify_json_and_the_verdict_file(files: Path) -> None:
    """The shape of the contract; the evidence is for one plan's hash."""
    plan = files / "plan"
    run("plan", files / "migration.sql", "--schema", files / "before.sql", "-o", plan)

    done = run("verify", plan, "--quick", "--postgres", "embedded", "--format", "json")
    result = json.loads(done.stdout)
    kept = json.loads((plan / "verdict.json").read_text())

    assert done.returncode == 0, done.stdout
    assert result["verdict"] == "pass"
    assert result["pg_version"].startswith("18")
    assert {"phase", "when", "code", "expected", "outcome", "statements", "errors",
            "longest_wait_ms"} <= result["trials"][0].keys()  # fmt: skip
    assert {"name", "phase", "holds", "violations"} <= result["laws"][0].keys()
    assert {"from", "to", "schema_restored", "rows_lost"} <= result["rollbacks"][0].keys()
    assert kept["plan_hash"]
    assert kept["verdict"] == "pass"


@pytest.mark.pg
def test_a_schema_that_does_not_apply_is_named_by_file_and_line(tmp_path: Path) -> None:
    """Also in a directory, where the lines of several files become one script."""
    history = tmp_path / "history"
    history.mkdir()
    (history / "1_a.sql").write_text("CREATE TABLE a (id int);\n")
    (history / "2_b.sql").write_text("\n-- two\nALTER TABLE a ADD b nowhere;\n")
    (tmp_path / "m.sql").write_text("ALTER TABLE a DROP COLUMN id;")

    done = run("verify", tmp_path / "m.sql", "--schema", history, "--postgres", "embedded")

    assert done.returncode == 2
    assert f"{history / '2_b.sql'}:3: does not apply" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.pg
def test_a_plan_whose_schema_has_moved_is_refused(files: Path) -> None:
    """Its steps were made for other tables than these."""
    plan, moved = files / "plan", files / "moved.sql"
    run("plan", files / "migration.sql", "--schema", files / "before.sql", "-o", plan)
    moved.write_text(BEFORE + "ALTER TABLE users ALTER COLUMN user_name TYPE varchar(9);")

    done = run("verify", plan, "--schema", moved, "--quick", "--postgres", "embedded")

    assert done.returncode == 2, done.stdout
    assert "is not the one plan" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.pg
def test_a_program_that_does_not_start_is_named(files: Path) -> None:
    """It is the caller's word that is wrong, not the plan."""
    plan = files / "plan"
    run("plan", files / "migration.sql", "--schema", files / "before.sql", "-o", plan)

    done = run(
        "verify", plan, "--quick", "--postgres", "embedded", "--old", "command:/no/such/program"
    )

    assert done.returncode == 2, done.stdout
    assert "/no/such/program" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.pg
def test_a_missing_extension_names_itself(tmp_path: Path) -> None:
    """And which servers to try."""
    (tmp_path / "s.sql").write_text("CREATE EXTENSION nowhere_to_be_found;")
    (tmp_path / "m.sql").write_text("CREATE TABLE t (id int);")

    done = run(
        "verify", tmp_path / "m.sql", "--schema", tmp_path / "s.sql", "--postgres", "embedded"
    )

    assert done.returncode == 3
    assert "nowhere_to_be_found" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_running_codes_queries_are_traced_by_check_and_plan(files: Path) -> None:
    """Without any server: the query that breaks, at its own place; from the configuration too."""
    (files / "queries.sql").write_text("SELECT id FROM users;\nSELECT user_name FROM users;\n")
    arguments = ("migration.sql", "--schema", "before.sql")
    checked = run("check", *arguments, "--queries", "queries.sql", "--format", "json", cwd=files)
    found = [f for f in json.loads(checked.stdout)["findings"] if f["rule"] == "ZDD240"]
    planned = run("plan", *arguments, "--queries", "queries.sql", cwd=files)
    (files / "zdd-migrate.toml").write_text('[versions.old]\nqueries = "queries.sql"\n')
    configured = run("plan", *arguments, "--format", "json", cwd=files)
    rules = [f["rule"] for f in json.loads(configured.stdout)["findings"]]
    missing = run("check", *arguments, "--queries", "gone.sql", cwd=files)

    assert [(f["path"], f["line"], f["statement"]) for f in found] == [
        ("queries.sql", 2, "SELECT user_name FROM users")
    ]
    assert checked.returncode == 1
    assert "1 of 2 queries must be gone from the running code before contract" in planned.stdout
    assert "ZDD240" in rules
    assert missing.returncode == 2
    assert missing.stderr.strip() == "zdd-migrate: gone.sql: no such file with queries"
