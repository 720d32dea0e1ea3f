"""Each tool's layout: found, in the order it runs, with its own sections and transactions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zdd_migrate.cli import cli
from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.schema_source import load_schema_file
from zdd_migrate.reading.sources import (
    SOURCES,
    files_of,
    forward_of,
    history_root,
    is_way_back,
    kind_of,
    read_file,
    read_history,
    read_paths,
)

CONCURRENTLY = "CREATE INDEX CONCURRENTLY i ON t (a);"
PLAIN = "ALTER TABLE t ADD COLUMN b int;"


def write(root: Path, files: dict[str, str]) -> Path:
    """Files below `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def checked(*arguments: str | Path) -> list[dict[str, Any]]:
    """The findings of `zdd-migrate check`."""
    done = CliRunner().invoke(cli, ["check", *map(str, arguments), "--format", "json"])
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found


def sql(migration: Migration) -> list[str]:
    return [s.sql for s in migration.statements]


def inside(migration: Migration) -> list[bool]:
    return [s.in_transaction for s in migration.statements]


def test_every_source_has_its_module() -> None:
    """And every module its line."""
    there = {
        p.stem for p in (Path(__file__).parents[2] / "src/zdd_migrate/reading/sources").glob("*.py")
    }

    assert {name.replace("-", "_") for name in SOURCES} == there - {"__init__"}


LAYOUTS = {
    "plain": ({"1_a.sql": PLAIN, "10_b.sql": PLAIN, "2_c.sql": PLAIN, "x.down.sql": PLAIN}, "1_a 2_c 10_b"),
    "flyway": (
        {"V1__a.sql": PLAIN, "V1.10__b.sql": PLAIN, "V1_2__c.sql": PLAIN, "R__z.sql": PLAIN, "R__y.sql": PLAIN,
         "U1__a.sql": PLAIN},
        "V1__a V1_2__c V1.10__b R__y R__z",
    ),
    "golang-migrate": (
        {"1_a.up.sql": PLAIN, "1_a.down.sql": PLAIN, "10_b.up.sql": PLAIN, "9_c.up.sql": PLAIN}, "1_a 9_c 10_b"
    ),
    "goose": (
        {"00001_a.sql": f"-- +goose Up\n{PLAIN}", "00002_b.sql": f"-- +goose up\n{PLAIN}"}, "00001_a 00002_b"
    ),
    "dbmate": (
        {"9_a.sql": f"-- migrate:up\n{PLAIN}\n-- migrate:down", "10_b.sql": f"-- migrate:up\n{PLAIN}\n-- migrate:down"},
        "10_b 9_a",
    ),
    "diesel": (
        {"2020-01-02-000000_a/up.sql": PLAIN, "2020-01-02-000000_a/down.sql": PLAIN, "2020-01-03-000000_b/up.sql": PLAIN},
        "2020-01-02-000000_a 2020-01-03-000000_b",
    ),
    "sqlx": (
        {"Cargo.toml": "[dependencies]\nsqlx = '0.8'\n", "migrations/1_a.sql": PLAIN, "migrations/2_b.up.sql": PLAIN,
         "migrations/2_b.down.sql": PLAIN},
        "1_a 2_b",
    ),
    "prisma": (
        {"prisma/migrations/migration_lock.toml": "", "prisma/migrations/20200101_a/migration.sql": PLAIN,
         "prisma/migrations/20200102_b/migration.sql": PLAIN},
        "20200101_a 20200102_b",
    ),
    "drizzle": (
        {"0000_b.sql": PLAIN, "0001_a.sql": f"{PLAIN}--> statement-breakpoint\n{PLAIN}", "0002_new.sql": PLAIN,
         "meta/_journal.json": json.dumps({"entries": [{"idx": 0, "tag": "0001_a"}, {"idx": 1, "tag": "0000_b"}]})},
        "0001_a 0000_b 0002_new",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts_are_told_and_ordered(kind: str, tmp_path: Path) -> None:
    """Without being named, and the same when named; ways back are left out."""
    files, order = LAYOUTS[kind]
    root = write(tmp_path, files)

    found = files_of(root)
    assert {kind_of(f, f.read_text()) for f in found} == {kind}
    assert [m.name for m in read_paths([str(root)])] == order.split()
    assert read_paths([str(root)], kind) == read_paths([str(root)])
    last = found[-1]
    assert [m.name for m in read_history([str(last)])] == order.split()[:-1]
    if kind != "sqlx":
        assert history_root(last) == root / ("prisma/migrations" if kind == "prisma" else "")


#: tool, text, file's name, which statements run inside a transaction
RULES: list[tuple[str, str, str, list[bool]]] = [
    ("plain", f"{PLAIN} {CONCURRENTLY}", "1.sql", [False, False]),
    ("flyway", PLAIN, "V1__a.sql", [True]),
    ("flyway", CONCURRENTLY, "V1__a.sql", [False]),
    ("flyway", f"{CONCURRENTLY} VACUUM t;", "V1__a.sql", [False, False]),
    ("flyway", f"{PLAIN} {CONCURRENTLY}", "V1__a.sql", [True, True]),
    ("golang-migrate", CONCURRENTLY, "1_a.up.sql", [False]),
    ("golang-migrate", f"{PLAIN} {CONCURRENTLY}", "1_a.up.sql", [True, True]),
    ("golang-migrate", f"COMMIT; {CONCURRENTLY}", "1_a.up.sql", [True, True]),
    ("goose", f"-- +goose Up\n{CONCURRENTLY}", "1_a.sql", [True]),
    ("goose", f"-- +goose NO TRANSACTION\n-- +goose Up\n{PLAIN}\n{CONCURRENTLY}", "1_a.sql", [False, False]),
    (
        "goose",
        f"-- +goose Up\n-- +goose no transaction\n{PLAIN}\n-- +goose StatementBegin\n{PLAIN}\n{PLAIN}\n-- +goose StatementEnd\n-- +goose StatementBegin\n{CONCURRENTLY}\n-- +goose StatementEnd\n",
        "1_a.sql",
        [False, True, True, False],
    ),
    ("dbmate", f"-- migrate:up\n{CONCURRENTLY}\n-- migrate:down", "1_a.sql", [True]),
    ("dbmate", f"-- migrate:up transaction:false\n{CONCURRENTLY}\n-- migrate:down", "1_a.sql", [False]),
    ("dbmate", f"-- migrate:up transaction:false\n{PLAIN}{CONCURRENTLY}\n-- migrate:down", "1_a.sql", [True, True]),
    ("diesel", CONCURRENTLY, "1_a/up.sql", [True]),
    ("sqlx", CONCURRENTLY, "1_a.sql", [True]),
    ("sqlx", f"-- no-transaction\n{CONCURRENTLY}", "1_a.sql", [False]),
    ("sqlx", f"\n-- no-transaction\n{CONCURRENTLY}", "1_a.sql", [True]),
    ("sqlx", f"-- no-transaction\n{PLAIN}{CONCURRENTLY}", "1_a.sql", [True, True]),
    ("prisma", CONCURRENTLY, "1_a/migration.sql", [False]),
    ("prisma", f"{CONCURRENTLY}{CONCURRENTLY}", "1_a/migration.sql", [True, True]),
    ("drizzle", CONCURRENTLY, "0000_a.sql", [True]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "name", "expected"), RULES)
def test_transactions(
    kind: str, text: str, name: str, expected: list[bool], tmp_path: Path
) -> None:
    """As the tool opens them, and as Postgres does for several statements of one message."""
    root = write(tmp_path, {name: text})

    assert inside(read_file(root / name, kind)) == expected


def test_flyways_configuration(tmp_path: Path) -> None:
    """A script's own, the project's, its placeholders; a mixture is refused unless allowed."""
    mixed = f"{PLAIN}\n{CONCURRENTLY}\n"
    root = write(
        tmp_path,
        {
            "db/V1__a.sql": PLAIN,
            "db/V1__a.sql.conf": "executeInTransaction=false\n",
            "db/V2__b.sql": mixed,
            "db/V3__c.sql": "ALTER TABLE ${schema}.t DROP COLUMN a;",
            "flyway.conf": "# a remark\nflyway.placeholders.schema=app\n",
        },
    )
    first, second, third = read_paths([str(root / "db")])

    assert inside(first) == [False]
    assert [line for line, _ in second.problems] == [2]
    assert "mixes statements" in second.problems[0][1]
    assert str(third.statements[0].operations[0].relation) == "app.t"

    other = write(
        tmp_path / "toml",
        {
            "V2__b.sql": mixed,
            "flyway.toml": "[flyway]\nmixed = true\n[flyway.placeholders]\na='b'\n",
        },
    )
    (allowed,) = read_paths([str(other)])
    assert (inside(allowed), allowed.problems) == ([False, False], ())


def test_a_baseline_stands_for_what_came_before(tmp_path: Path) -> None:
    """Flyway starts a new database from the newest one."""
    names = ("V1__a.sql", "B2__b.sql", "V2__b.sql", "V3__c.sql")
    root = write(tmp_path, dict.fromkeys(names, PLAIN))

    assert [m.name for m in read_paths([str(root)])] == ["B2__b", "V3__c"]


def test_diesels_metadata(tmp_path: Path) -> None:
    """A migration's own file says that there is no transaction."""
    root = write(
        tmp_path,
        {"1_a/up.sql": CONCURRENTLY, "1_a/metadata.toml": "run_in_transaction = false\n"},
    )
    assert inside(read_file(root / "1_a/up.sql")) == [False]

    write(tmp_path, {"1_a/metadata.toml": "run_in_transaction = \n"})
    with pytest.raises(InputError, match=r"metadata\.toml"):
        read_file(root / "1_a/up.sql")


GOOSE = """-- +goose Up
ALTER TABLE t ADD COLUMN b int;
-- +goose StatementBegin
DO $$ BEGIN
  PERFORM 1;
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE t DROP COLUMN b;
"""
DBMATE = """-- migrate:up
ALTER TABLE t ADD COLUMN b int;
-- migrate:down
ALTER TABLE t DROP COLUMN b;
"""


@pytest.mark.parametrize(("text", "lines"), [(GOOSE, [2, 4]), (DBMATE, [2])])
def test_the_way_back_is_no_way_forward(text: str, lines: list[int], tmp_path: Path) -> None:
    """Its section is not read, and the lines are the file's."""
    found = read_file(write(tmp_path, {"1_a.sql": text}) / "1_a.sql")

    assert [s.span.line for s in found.statements] == lines
    assert not any("DROP" in s for s in sql(found))
    assert found.problems == ()


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("goose", "ALTER TABLE t ADD COLUMN b int;", "no -- +goose Up"),
        ("goose", "-- +goose Up\nDO $$ BEGIN\n  PERFORM 1;\nEND $$;", "StatementBegin"),
        ("dbmate", PLAIN, "no -- migrate:up"),
        ("dbmate", f"-- migrate:up\n{PLAIN}", "no -- migrate:down"),
    ],
)
def test_what_the_tool_refuses(kind: str, text: str, says: str, tmp_path: Path) -> None:
    """Is a problem of the file."""
    found = read_file(write(tmp_path, {"1_a.sql": text}) / "1_a.sql", kind)

    assert [says in message for _, message in found.problems] == [True]


def test_ways_back_by_name() -> None:
    """And what they take back."""
    for back, forward in {
        "1_a.down.sql": "1_a.up.sql",
        "1_a/down.sql": "1_a/up.sql",
        "U1.2__a.sql": "V1.2__a.sql",
        "x_rollback.sql": "x_up.sql",
    }.items():
        assert is_way_back(Path(back))
        assert forward_of(Path(back)) == Path(forward)
    for name in (
        "1_a.up.sql",
        "up.sql",
        "V1__undo.sql.sql",
        "1_countdown.sql",
        "V2__slow_down_.sql",
    ):
        assert not is_way_back(Path(name)), name


def test_check_of_a_way_back(tmp_path: Path) -> None:
    """What it locks is said, not what it takes away: that is what it is for."""
    root = write(
        tmp_path,
        {
            "1_a.up.sql": "CREATE TABLE t (a int);",
            "2_b.up.sql": "SET lock_timeout = '1s'; ALTER TABLE t ADD COLUMN b int;",
            "2_b.down.sql": "ALTER TABLE t DROP COLUMN b;",
            "3_c.up.sql": "SET lock_timeout = '1s'; ALTER TABLE t ADD COLUMN c int;",
        },
    )
    found = checked(root / "2_b.up.sql", root / "2_b.down.sql")

    assert {f["rule"] for f in found if f["path"].endswith("down.sql")} == {"ZDD110"}
    assert all(f["assumed"] == [] for f in found)
    forward = write(tmp_path / "forward", {"1_a.sql": "ALTER TABLE t DROP COLUMN b;"})
    assert "ZDD202" in {f["rule"] for f in checked(forward / "1_a.sql")}


@pytest.mark.parametrize("kind", [k for k in LAYOUTS if k not in ("plain", "golang-migrate")])
def test_check_knows_the_history_of_each_layout(kind: str, tmp_path: Path) -> None:
    """A table that an earlier migration made is known, and one that this one makes is nobody's."""
    root = write(tmp_path, LAYOUTS[kind][0])
    first, *_, last = [p for p in files_of(root) if not p.name.startswith("R__")]
    marks = {"goose": ("-- +goose Up\n", ""), "dbmate": ("-- migrate:up\n", "\n-- migrate:down\n")}
    before, after = marks.get(kind, ("", ""))
    first.write_text(f"{before}CREATE TABLE t (a int, c int);{after}")
    for path in files_of(root):
        if path not in (first, last):
            path.write_text(f"{before}SELECT 1;{after}")
    last.write_text(f"{before}ALTER TABLE t DROP COLUMN c;{after}")

    found = checked(last)
    assert "ZDD202" in {f["rule"] for f in found}
    assert all(f["assumed"] == [] for f in found)
    assert "ZDD202" in {f["rule"] for f in checked(root, "--source", kind)}


def test_a_source_nobody_knows() -> None:
    """The known ones are named."""
    with pytest.raises(InputError, match=r"liquibase: known are alembic, .*prisma"):
        read_paths(["-"], "liquibase")


def test_standard_input_of_a_tool() -> None:
    """Annotations are seen there too, and a tool may be named."""
    for arguments in ([], ["--source", "goose"]):
        done = CliRunner().invoke(
            cli, ["explain", "-", "--format", "json", *arguments], input=GOOSE
        )
        statements = json.loads(done.stdout)["statements"]
        assert [(s["line"], s["in_transaction"]) for s in statements] == [(2, True), (4, True)]


def test_a_schema_is_what_the_way_forward_builds(tmp_path: Path) -> None:
    """Neither ways back nor psql's own lines are in the script that builds it."""
    root = write(
        tmp_path,
        {
            "1_a.sql": "-- migrate:up\nCREATE TABLE t (a int);\n-- migrate:down\nDROP TABLE t;\n",
            "2_b.sql": "-- migrate:up\n\\set x 1\nSELECT 1;\n-- migrate:down\n",
        },
    )
    schema, script = load_schema_file(root)

    assert [str(name) for name in schema.tables] == ["public.t"]
    assert "CREATE TABLE t (a int);" in script
    assert "DROP" not in script
    assert "\\set" not in script
