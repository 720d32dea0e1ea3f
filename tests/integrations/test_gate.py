"""`zdd-migrate ci` in real git repositories: what a branch changes, judged where it stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import ROOT
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.integrations import git
from zdd_migrate.integrations.gate import migrations_among

TABLE = "CREATE TABLE users (id bigint PRIMARY KEY, user_name text NOT NULL);\n"
RENAME = "ALTER TABLE users RENAME COLUMN user_name TO username;\n"
SAFE = "SET lock_timeout = '2s';\nALTER TABLE users ADD COLUMN note text;\n"

Done = subprocess.CompletedProcess[str]


class Repository:
    """A git repository with a branch off main."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.write("migrations/001_users.sql", TABLE)
        self.write("migrations/002_more.sql", SAFE)
        self.commit()
        self.git("checkout", "-q", "-b", "feature")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.path, capture_output=True, text=True, check=True
        )
        return done.stdout

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def ci(self, *arguments: str, **environment: str) -> Done:
        return zdd(self.path, "ci", *arguments, **environment)


def zdd(cwd: Path, *arguments: str, **environment: str) -> Done:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "CI_"))}
    return subprocess.run(
        [sys.executable, "-m", "zdd_migrate", *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "checkout")


def test_nothing_changed(repository: Repository) -> None:
    """That is said, and passes."""
    repository.write("README.md", "x")
    done = repository.ci()
    assert done.returncode == 0
    assert done.stdout.strip() == "no migration was changed against main"


def test_safe_changes_pass(repository: Repository) -> None:
    """Committed or not; the rest of the directory is the history."""
    repository.write("migrations/003_note.sql", SAFE.replace("note", "remark"))
    repository.commit()
    repository.write("migrations/004_note.sql", SAFE.replace("note", "memo"))
    done = repository.ci("--format", "json")
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert [m["path"] for m in result["migrations"]] == [
        "migrations/003_note.sql",
        "migrations/004_note.sql",
    ]
    assert all(f["assumed"] == [] for f in result["findings"])


@pytest.mark.pg
def test_an_unsafe_change_is_planned_and_the_plan_is_tried(repository: Repository) -> None:
    """It fails, and shows what to write instead, and that this works on a real server."""
    repository.write("migrations/003_rename.sql", RENAME)
    repository.commit()
    done = repository.ci(
        "--postgres", "embedded", "--format", "json", "-o", "markdown=out/summary.md"
    )
    assert done.returncode == 1, done.stderr
    (one,) = json.loads(done.stdout)["migrations"]
    assert one["state"] == "unsafe"
    assert one["verdict"]["verdict"] == "pass"
    assert [p["phase"] for p in one["plan"]["phases"]] == [
        "expand",
        "migrate",
        "switch",
        "contract",
    ]
    summary = (repository.path / "out" / "summary.md").read_text()
    assert "`migrations/003_rename.sql` | ❌ unsafe; the plan works" in summary
    assert "ZDD201" in summary
    text = repository.ci("--no-verify")
    assert "fail  migrations/003_rename.sql  unsafe" in text.stdout
    assert "zdd-migrate plan migrations/003_rename.sql -o plans/003_rename" in text.stdout


@pytest.mark.pg
def test_a_plan_in_the_same_change_covers_it(repository: Repository) -> None:
    """The directory that `plan -o` wrote is tried; broken by hand, the gate closes."""
    repository.write("migrations/003_rename.sql", RENAME)
    planned = zdd(repository.path, "plan", "migrations/003_rename.sql", "-o", "plans/003_rename")
    assert planned.returncode == 0, planned.stderr
    repository.commit()
    done = repository.ci("--postgres", "embedded")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    migrations/003_rename.sql  planned" in done.stdout
    assert "ok    plans/003_rename  planned; tried on a real Postgres: it works" in done.stdout

    expand = repository.path / "plans" / "003_rename" / "1_expand.sql"
    kept = [s for s in expand.read_text().split(";\n") if "CREATE TRIGGER" not in s]
    expand.write_text(";\n".join(kept))
    broken = repository.ci("--postgres", "embedded")
    assert broken.returncode == 1
    assert "fail  plans/003_rename" in broken.stdout
    assert "fail  migrations/003_rename.sql" in broken.stdout


def test_it_fails_closed(repository: Repository) -> None:
    """Not understood: 2. No server to try a plan on: 3. Never 0."""
    repository.write("migrations/003_odd.sql", "FROBNICATE TABLE users;\n")
    odd = repository.ci("--no-verify")
    assert odd.returncode == 2
    assert "not understood" in odd.stdout
    repository.write("migrations/004_rename.sql", RENAME)
    both = repository.ci("--no-verify")
    assert both.returncode == 1
    gone = repository.ci("--postgres", "postgresql://127.0.0.1:1/none")
    assert gone.returncode == 3
    assert gone.stderr.count("\n") == 1


def test_the_schema_that_was_named(repository: Repository) -> None:
    """--schema is what was there before the change; the history is not replayed."""
    repository.write("schema.sql", "CREATE TABLE users (id int PRIMARY KEY, nick text);\n")
    repository.write("migrations/003_x.sql", "ALTER TABLE users RENAME COLUMN nick TO name;\n")
    done = repository.ci("--no-verify", "--schema", "schema.sql", "--format", "json")
    rules = {f["rule"] for f in json.loads(done.stdout)["findings"]}
    assert "ZDD201" in rules
    assert "ZDD402" not in rules


def test_the_base_is_what_ci_says(repository: Repository, tmp_path: Path) -> None:
    """GitHub and GitLab name the target; a detached head is as good as a branch."""
    repository.git("checkout", "-q", "main")
    repository.write("migrations/003_main.sql", SAFE.replace("note", "onmain"))
    repository.commit()
    repository.git("checkout", "-q", "feature")
    repository.write("migrations/004_mine.sql", RENAME)
    repository.commit()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.path), str(clone)], check=True)
    subprocess.run(["git", "checkout", "-q", "--detach", "origin/feature"], cwd=clone, check=True)
    for variable in ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"):
        done = zdd(clone, "ci", "--no-verify", "--format", "json", **{variable: "main"})
        result = json.loads(done.stdout)
        assert result["base"] == "origin/main"
        assert [m["path"] for m in result["migrations"]] == ["migrations/004_mine.sql"]


def test_no_repository(tmp_path: Path) -> None:
    """Exit status 2, one line."""
    done = zdd(tmp_path, "ci", GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert done.returncode == 2
    assert "is not in a git repository" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_shallow_clone_without_the_base(repository: Repository, tmp_path: Path) -> None:
    """What to fetch is said."""
    repository.write("migrations/003_x.sql", RENAME)
    repository.commit()
    clone = tmp_path / "clone"
    subprocess.run(
        [
            *("git", "clone", "-q", "--depth", "1", "--branch", "feature"),
            *(f"file://{repository.path}", str(clone)),
        ],
        check=True,
    )
    done = zdd(clone, "ci", "--base", "main")
    assert done.returncode == 2
    assert "it is shallow; fetch all of it" in done.stderr
    named = zdd(clone, "ci", GITHUB_BASE_REF="main")
    assert named.returncode == 2
    assert "the base origin/main or main is not in this clone" in named.stderr


def test_bad_outputs(repository: Repository) -> None:
    """-o is checked before anything is done."""
    for wrong in ("sarif", "html=x", "text="):
        done = repository.ci("-o", wrong)
        assert done.returncode == 2
        assert "write FORMAT=FILE" in done.stderr


def test_an_alembic_project(tmp_path: Path) -> None:
    """Revisions among the changed files are judged with the ones before them."""
    path = tmp_path / "checkout"
    repository = Repository(path)
    repository.git("checkout", "-q", "main")
    shutil.copytree(
        ROOT / "fixtures" / "alembic_shop",
        path / "shop",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    last = path / "shop/migrations/versions/c3d4_rename_user_name.py"
    text = last.read_text()
    last.unlink()
    repository.commit()
    repository.git("checkout", "-q", "-B", "feature")
    last.write_text(text)
    repository.commit()
    done = repository.ci("--no-verify", "--format", "json")
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(f["rule"], f["line"]) for f in result["findings"] if f["severity"] == "error"] == [
        ("ZDD201", 16)
    ]
    assert result["migrations"][0]["plan"]["phases"][0]["phase"] == "expand"


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("migrations/1.sql", True),
        ("app/db/migrate/1.sql", True),
        ("prisma/migrations/2024_x/migration.sql", True),
        ("alembic/versions/x.py", True),
        ("src/queries/users.sql", False),
        ("migrations/README.md", False),
    ],
)
def test_what_is_a_migration(path: str, is_one: bool, tmp_path: Path) -> None:
    """By where they usually are, unless the configuration says."""
    assert bool(migrations_among([path], Config(Path()), tmp_path)) is is_one
    chosen = Config(Path(), raw={"migrations": ["db/*.sql"]})
    assert migrations_among([path, "db/1.sql"], chosen, tmp_path) == ["db/1.sql"]


@pytest.mark.parametrize(
    ("path", "sql", "is_one"),
    [
        ("m/002.sql", RENAME, True),
        ("m/002.sql", "ALTER TABEL t ADD a int;", True),
        ("queries/users.sql", "SELECT id FROM users; UPDATE users SET id = 1;", False),
        ("tests/fixtures/users.sql", RENAME, False),
    ],
)
def test_sql_elsewhere_that_changes_a_schema(
    path: str, sql: str, is_one: bool, repository: Repository
) -> None:
    """It is judged as well: what nobody looks at must not pass."""
    repository.write(path, sql)

    done = repository.ci("--no-verify")

    assert (path in done.stdout) is is_one, done.stdout + done.stderr
    assert (done.returncode != 0) is is_one


def test_git_without_a_common_past(repository: Repository) -> None:
    """Unrelated histories have no fork."""
    repository.git("checkout", "-q", "--orphan", "other")
    repository.git("commit", "-q", "-m", "alone")
    with pytest.raises(InputError, match="no commit in common"):
        git.base_of(repository.path, "main", {})


# -- formats -----------------------------------------------------------------------------------


@pytest.fixture
def found(repository: Repository) -> Callable[[str], str]:
    """What `check` prints in a format, for a migration with findings and a suppressed one."""
    repository.write(
        "migrations/003, 100%.sql",
        '-- zdd: ignore ZDD110 because <it> is | "quiet"\n' + RENAME + "DROP TABLE users;\n",
    )

    def check(form: str) -> str:
        done = zdd(repository.path, "check", "migrations/003, 100%.sql", "--format", form)
        assert done.returncode == 1, done.stderr
        return done.stdout

    return check


def test_sarif(found: Callable[[str], str], sarif_schema: dict[str, Any]) -> None:
    """Valid by the published schema; every finding is there, suppressed ones as such."""
    import jsonschema

    log = json.loads(found("sarif"))
    jsonschema.validate(log, sarif_schema)
    results = log["runs"][0]["results"]
    assert {r["ruleId"] for r in results} >= {"ZDD201", "ZDD204", "ZDD110"}
    assert any("suppressions" in r for r in results)
    listed = log["runs"][0]["tool"]["driver"]["rules"]
    assert all(listed[r["ruleIndex"]]["id"] == r["ruleId"] for r in results)
    assert len({r["partialFingerprints"]["zddStatement/v1"] for r in results}) > 1
    location = results[0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "migrations/003%2C%20100%25.sql"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**log, "runs": [{"results": 1}]}, sarif_schema)


@pytest.fixture(scope="session")
def sarif_schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The published schema, out of a package that carries it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: the published SARIF schema is fetched with it")
    place = tmp_path_factory.mktemp("sarif")
    got = subprocess.run(
        [npm, "pack", "--silent", "@microsoft/jest-sarif@1.0.0-beta.0"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if got.returncode != 0:
        pytest.skip("the published SARIF schema cannot be fetched: npm has no registry here")
    shutil.unpack_archive(next(place.glob("*.tgz")), place)
    schema = place / "package" / "lib" / "schemas" / "sarif-2.1.0-rtm.5.json"
    read: dict[str, Any] = json.loads(schema.read_text(encoding="utf-8"))
    return read


def test_github(found: Callable[[str], str]) -> None:
    """One command a finding; what would end a property or the line is escaped."""
    lines = found("github").splitlines()
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    assert any("title=ZDD201 column-renamed" in line for line in lines)
    assert all("file=migrations/003%2C 100%25.sql,line=" in line for line in lines)


def test_gitlab(found: Callable[[str], str]) -> None:
    """The keys that GitLab asks for; fingerprints differ."""
    entries = json.loads(found("gitlab"))
    assert {"description", "check_name", "fingerprint", "severity", "location"} == set(entries[0])
    assert len({e["fingerprint"] for e in entries}) == len(entries)
    assert {e["location"]["lines"]["begin"] for e in entries} == {2, 3}


def test_junit(found: Callable[[str], str]) -> None:
    """A suite a file, a failure a finding, suppressed ones skipped."""
    root = ET.fromstring(found("junit"))  # noqa: S314  our own output
    (suite,) = root.findall("testsuite")
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > 1
    assert [e.attrib["message"] for e in suite.findall("testcase/skipped")] == ['<it> is | "quiet"']


def test_markdown(found: Callable[[str], str]) -> None:
    """A table whose cells hold, whatever the text."""
    table = [line for line in found("markdown").splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {6}
