"""Tracing on a real server: what it sees, what it leaves, and where it refuses to run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from zdd_migrate.cli import cli
from zdd_migrate.errors import InputError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.postgres.servers import Server
from zdd_migrate.postgres.trace import Traced, trace
from zdd_migrate.postgres.trace.inplace import trace_in_place
from zdd_migrate.reading.statements import read_sql

pytestmark = pytest.mark.pg

SCHEMA = """
CREATE TABLE boats (id bigserial PRIMARY KEY, name varchar(20) UNIQUE, length int);
INSERT INTO boats (name, length) SELECT 'b' || g, g FROM generate_series(1, 30) g;
CREATE TABLE trips (id bigserial PRIMARY KEY, boat_id bigint NOT NULL REFERENCES boats (id));
INSERT INTO trips (boat_id) SELECT g FROM generate_series(1, 30) g;
CREATE VIEW long_boats AS SELECT id, name FROM boats WHERE length > 10;
CREATE TYPE state AS ENUM ('new');
"""
BOATS, TRIPS = QName("public", "boats"), QName("public", "trips")
_M = LockMode


@pytest.fixture(scope="module")
def template(pg_server: Server) -> Iterator[str]:
    """A database with the schema, and nobody connected to it."""
    with pg_server.scratch_database() as name:
        with pg_server.connect(name) as connection:
            connection.execute(SCHEMA.encode())
        yield name


def run(server: Server, template: str, sql: str, *, in_transaction: bool = True) -> list[Traced]:
    """Trace a migration's text."""
    migration = read_sql(sql, "m.sql", in_transaction=in_transaction)
    return trace(server, template, migration.statements)


def test_a_rewrite_is_seen_with_its_index_and_who_waits(pg_server: Server, template: str) -> None:
    """Files that changed, rows that were read, and statements that really waited."""
    (seen,) = run(pg_server, template, "ALTER TABLE boats ADD c uuid DEFAULT gen_random_uuid()")
    effects = seen.effects
    assert effects.locks == {BOATS: _M.ACCESS_EXCLUSIVE}
    assert effects.rewrites == (BOATS,)
    assert set(effects.scans) == {BOATS}
    assert [i.name for i in effects.index_rebuilds] == ["boats_name_key", "boats_pkey"]
    assert effects.blocked_indirectly == {
        TRIPS: (False, True),
        QName("public", "long_boats"): (True, True),
    }
    assert seen.probes[BOATS] == "siudl"
    assert any("rewriting table" in said for said in seen.said)


def test_a_probe_that_does_not_wait_is_not_counted(pg_server: Server, template: str) -> None:
    """SHARE lets readers through, and nobody who writes."""
    (seen,) = run(pg_server, template, "CREATE INDEX i ON trips (boat_id)")
    assert seen.effects.index_builds == (QName("public", "i"),)
    assert seen.effects.blocks[TRIPS] == (False, True)
    assert "s" not in seen.probes[TRIPS]
    assert BOATS not in seen.probes


def test_an_index_that_takes_the_old_file_over_is_not_rebuilt(
    pg_server: Server, template: str
) -> None:
    """A wider varchar makes the index again, without reading anything."""
    sql = "ALTER TABLE boats ALTER COLUMN length TYPE int"
    (seen,) = run(pg_server, template, sql.replace("length", "name").replace("int", "varchar(40)"))
    assert seen.effects.error is not None  # the view reads it
    first, second = run(
        pg_server,
        template,
        "DROP VIEW long_boats; ALTER TABLE boats ALTER COLUMN name TYPE varchar(40)",
    )
    assert first.effects.error is None
    assert (second.effects.rewrites, second.effects.index_rebuilds) == ((), ())
    assert second.effects.scans == {}


def test_a_statement_that_refuses_blocks_is_watched_where_it_waits(
    pg_server: Server, template: str
) -> None:
    """Its locks are seen while other sessions are in its way; then it runs to its end."""
    (seen,) = run(
        pg_server, template, "CREATE INDEX CONCURRENTLY i ON boats (length)", in_transaction=False
    )
    assert not seen.effects.transactional
    assert seen.effects.locks == {BOATS: _M.SHARE_UPDATE_EXCLUSIVE}
    assert seen.effects.index_builds == (QName("public", "i"),)
    assert seen.stages
    assert BOATS in {name for stage in seen.stages for name in stage.waited_for}


def test_the_same_inside_a_transaction_fails_as_it_does_there(
    pg_server: Server, template: str
) -> None:
    """25001, and nothing else is claimed."""
    (seen,) = run(pg_server, template, "DROP INDEX CONCURRENTLY boats_name_key")
    assert seen.effects.error is not None
    assert seen.effects.error.sqlstate == "25001"
    assert not seen.effects.transactional


def test_what_only_fails_in_one_transaction_is_found(pg_server: Server, template: str) -> None:
    """An enum label before its transaction commits; what follows is not reached."""
    sql = "ALTER TYPE state ADD VALUE 'old'; SELECT 'old'::state; DROP TABLE trips;"
    added, used, dropped = run(pg_server, template, sql)
    assert added.effects.error is None
    assert used.effects.error is not None
    assert used.effects.error.sqlstate == "55P04"
    assert not dropped.reached


def test_settings_of_the_transaction_hold_for_what_follows(
    pg_server: Server, template: str
) -> None:
    """SET LOCAL reaches the statements after it, and no other transaction."""
    sql = "SET LOCAL search_path = pg_catalog; DROP TABLE trips;"
    _, dropped = run(pg_server, template, sql)
    assert dropped.effects.error is not None
    assert dropped.effects.error.sqlstate == "42P01"


def test_prepared_reads_that_break_are_told(pg_server: Server, template: str) -> None:
    """0A000 for SELECT * as soon as its columns change; 42703 for a name that is gone."""
    (added,) = run(pg_server, template, "ALTER TABLE boats ADD COLUMN c int")
    assert [(b.relation, b.sqlstate) for b in added.effects.breaks] == [(BOATS, "0A000")]
    (dropped,) = run(pg_server, template, "ALTER TABLE trips DROP COLUMN boat_id")
    assert {(b.relation, b.sqlstate) for b in dropped.effects.breaks} == {
        (TRIPS, "0A000"),
        (TRIPS, "42703"),
    }
    (harmless,) = run(pg_server, template, "CREATE INDEX i ON trips (boat_id)")
    assert harmless.effects.breaks == ()


def test_relations_of_the_same_migration_are_left_out(pg_server: Server, template: str) -> None:
    """Nobody knows them yet."""
    seen = run(pg_server, template, "CREATE TABLE new (id int); CREATE INDEX i ON new (id);")
    assert [t.effects.locks for t in seen] == [{}, {}]
    assert [t.effects.index_builds for t in seen] == [(), ()]


def test_the_template_and_the_server_are_left_as_they_were(
    pg_server: Server, template: str
) -> None:
    """Everything happened in copies."""

    def databases() -> set[str]:
        with pg_server.connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database").fetchall()
        return {row[0] for row in rows}

    before = databases()
    run(pg_server, template, "DROP TABLE trips")
    assert databases() == before
    with pg_server.connect(template) as connection:
        assert connection.execute("SELECT count(*) FROM trips").fetchone() == (30,)


def test_in_place_everything_is_rolled_back(pg_server: Server, template: str) -> None:
    """A database given explicitly is measured in one transaction, and comes back unchanged."""
    with pg_server.scratch_database(template) as name:
        statements = read_sql("ALTER TABLE boats ADD c uuid DEFAULT gen_random_uuid()", "m.sql")
        major, (seen,) = trace_in_place(pg_server.dsn(name), statements.statements)
        assert major == pg_server.major
        assert seen.effects.rewrites == (BOATS,)
        with psycopg.connect(pg_server.dsn(name)) as connection:
            found = connection.execute("SELECT * FROM boats LIMIT 1").description
        assert [column.name for column in found or ()] == ["id", "name", "length"]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON boats (length)",
        "VACUUM boats",
        "SELECT setval('boats_id_seq', 900)",
        "COPY boats TO PROGRAM 'cat'",
    ],
)
def test_in_place_nothing_runs_that_stays(pg_server: Server, template: str, sql: str) -> None:
    """What a rollback would not take back is refused before anything ran."""
    statements = read_sql(sql, "m.sql").statements
    with pg_server.scratch_database(template) as name:
        with pytest.raises(InputError, match=r"m\.sql:1"):
            trace_in_place(pg_server.dsn(name), statements)
        with pg_server.connect(name) as connection:
            assert connection.execute("SELECT count(*) FROM trips").fetchone() == (30,)


def test_in_place_no_commit_of_the_migration_is_run(pg_server: Server, template: str) -> None:
    """The transaction is the tracer's own."""
    statements = read_sql("BEGIN; DROP TABLE trips; COMMIT;", "m.sql").statements
    with pg_server.scratch_database(template) as name:
        _, traced = trace_in_place(pg_server.dsn(name), statements)
        assert traced[1].effects.locks[TRIPS] is _M.ACCESS_EXCLUSIVE
        with pg_server.connect(name) as connection:
            assert connection.execute("SELECT count(*) FROM trips").fetchone() == (30,)


# -- the commands ----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A schema and a migration."""
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "m.sql").write_text(
        "ALTER TABLE boats ADD COLUMN c uuid DEFAULT gen_random_uuid();"
    )
    return tmp_path


def call(pg_server: Server, files: Path, *arguments: str) -> tuple[int, str]:
    """Run a verb on the files."""
    options = ("--schema", str(files / "schema.sql"), "--postgres", pg_server.dsn())
    result = CliRunner().invoke(cli, [*arguments, str(files / "m.sql"), *options])
    return result.exit_code, result.output


def test_trace_has_the_shape_of_explain(pg_server: Server, files: Path) -> None:
    """The same keys, measured."""
    code, out = call(pg_server, files, "trace", "--format", "json")
    traced = json.loads(out)
    assert code == 0
    assert traced["pg_version"] == pg_server.major
    explained = CliRunner().invoke(
        cli,
        [
            "explain",
            str(files / "m.sql"),
            "--schema",
            str(files / "schema.sql"),
            "--format",
            "json",
        ],
    )
    (ours,), (theirs,) = json.loads(explained.output)["statements"], traced["statements"]
    assert set(ours) <= set(theirs)
    for key in ("locks", "blocks", "rewrites", "scans", "index_rebuilds", "error", "transactional"):
        assert ours[key] == theirs[key] or sorted(ours[key]) == sorted(theirs[key])


def test_compare_agrees(pg_server: Server, files: Path) -> None:
    """Side by side, in at most 100 columns, and status 0."""
    code, out = call(pg_server, files, "explain", "--compare")
    assert code == 0, out
    assert "1 of 1 statements as predicted" in out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_compare_tells_a_difference(pg_server: Server, files: Path) -> None:
    """A row that forbids what is asked is not in the schema: measured to fail, status 1."""
    (files / "m.sql").write_text("ALTER TABLE boats ADD CONSTRAINT c CHECK (length > 20);")
    code, out = call(pg_server, files, "explain", "--compare", "--format", "json")
    compared = json.loads(out)
    assert code == 1
    assert not compared["same"]
    assert compared["statements"][0]["fields"]["error"]["measured"] == "23514"
