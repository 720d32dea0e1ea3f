"""Queries from files, exports and logs; the logs are a real server's."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.postgres.servers import server
from zdd_migrate.reading.queries import read_queries
from zdd_migrate.reading.queries.parameters import numbered

PARAMETERS = {
    "SELECT $1, $2": ("SELECT $1, $2", ("$1", "$2")),
    "SELECT :id, :name, :id": ("SELECT $1, $2, $1", ("id", "name")),
    "SELECT %(id)s::int, '100%%'": ("SELECT $1::int, '100%'", ("id",)),
    "SELECT %s, %s": ("SELECT $1, $2", ("%s 1", "%s 2")),
    "SELECT x::text, y": ("SELECT x::text, y", ()),
    "SELECT ':no', \":no\", $$ :no $$, $a$ :no $a$ -- :no": (
        "SELECT ':no', \":no\", $$ :no $$, $a$ :no $a$ -- :no",
        (),
    ),
    "SELECT a[1:2], a[b:c]": ("SELECT a[1:2], a[b:c]", ()),
    "SELECT 5 % 2, '50%%'": ("SELECT 5 % 2, '50%%'", ()),
    "f(a := 1, b => :b)": ("f(a := 1, b => $1)", ("b",)),
    "SELECT x FROM t WHERE a=:a AND b>=:b": ("SELECT x FROM t WHERE a=$1 AND b>=$2", ("a", "b")),
    "SELECT E'it\\'s :no' /* :no */, :yes": ("SELECT E'it\\'s :no' /* :no */, $1", ("yes",)),
}


@pytest.mark.parametrize("sql", PARAMETERS)
def test_parameters_become_the_servers(sql: str) -> None:
    """Every driver's way; nothing inside strings, names and comments."""
    assert numbered(sql) == PARAMETERS[sql]


def test_a_script_gives_each_statement_its_line(tmp_path: Path) -> None:
    """What is no query is counted, not read."""
    file = tmp_path / "q.sql"
    file.write_text("BEGIN;\n-- name: get\nSELECT 1\n FROM t;\nSET x = 1;\nDELETE FROM t;\n")
    read = read_queries([file])

    assert [(q.sql, q.line) for q in read.queries] == [
        ("SELECT 1\n FROM t", 3),
        ("DELETE FROM t", 6),
    ]
    assert read.left_out == 2


def test_copy_from_stdin_has_data_behind_it_or_not(tmp_path: Path) -> None:
    """A dump's rows are no statements, and a list of queries has no rows."""
    file = tmp_path / "q.sql"
    file.write_text("COPY t (a) FROM STDIN;\nSELECT 1;\nSELECT a FROM t;\n")
    dump = tmp_path / "dump.sql"
    dump.write_text("COPY t (a) FROM STDIN;\nSELECT 1;\n\\.\nSELECT a FROM t;\n")

    assert [q.line for q in read_queries([file]).queries] == [1, 2, 3]
    assert [q.line for q in read_queries([dump]).queries] == [1, 4]


@pytest.mark.parametrize("form", ["csv", "json", "lines"])
def test_exports_of_pg_stat_statements(form: str, tmp_path: Path) -> None:
    """As CSV, as one array, as an object a line; other columns do not matter."""
    rows = [("SELECT a,\n b FROM t WHERE a = $1", 7), ("SELECT b FROM t", 2), ("COMMIT", 9)]
    if form == "csv":
        file = tmp_path / "x.csv"
        quoted = "\n".join(f'10,"{sql}",{calls}' for sql, calls in rows)
        file.write_text(f"userid,query,calls\n{quoted}\n")
    else:
        file = tmp_path / "x.json"
        objects = [{"query": sql, "calls": calls} for sql, calls in rows]
        file.write_text(
            json.dumps(objects) if form == "json" else "\n".join(map(json.dumps, objects))
        )
    read = read_queries([file])

    assert [(q.sql, q.calls) for q in read.queries] == rows[:2]
    assert read.queries[0].parameters == ("$1",)
    assert read.left_out == 1


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    """Not taken for a file without trouble."""
    empty = tmp_path / "x.log"
    empty.write_text("nothing of the kind\n")

    with pytest.raises(InputError, match=r"x\.log: no statement found"):
        read_queries([empty])
    with pytest.raises(InputError, match="no such file with queries"):
        read_queries([tmp_path / "gone.sql"])


def test_the_same_statement_with_other_values_is_one(tmp_path: Path) -> None:
    """A log of a thousand calls is one query with a thousand calls."""
    file = tmp_path / "postgresql.log"
    file.write_text(
        "".join(
            f"2026-01-01 00:00:00 UTC [7] app LOG:  statement: SELECT a FROM t WHERE b = {n}\n"
            for n in range(1000)
        )
    )
    (query,) = read_queries([file]).queries

    assert query.calls == 1000
    assert query.sql == "SELECT a FROM t WHERE b = 0"


@pytest.mark.pg
def test_logs_of_a_real_server(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """stderr, csvlog and jsonlog, by statement and by duration, with parameters, over lines; and
    auto_explain's plans where the server has that module."""
    request.getfixturevalue("pg_server")  # skipped, or failed, where there is no server at all
    logs = tmp_path / "log"
    logs.mkdir(mode=0o777)
    logs.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o001 == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    settings = {
        "logging_collector": "on",
        "log_directory": str(logs),
        "log_filename": "server.log",
        "log_file_mode": "0644",
        "log_destination": "stderr,csvlog,jsonlog",
        "log_min_duration_statement": "0",
    }
    try:
        with server(str(request.config.getoption("--postgres")), settings=settings) as own:
            with own.connect() as connection:
                connection.execute("CREATE TABLE t (id int, name text)")
                connection.execute("SELECT name\n\tFROM t\n\n WHERE name = 'it''s'")
                connection.execute(
                    "UPDATE t SET name = %s WHERE id = %s OR name IS NOT DISTINCT FROM %s",
                    ("it's, $1 = 'x'", 3, None),
                )
                try:
                    connection.execute("LOAD 'auto_explain'")
                    explaining = True
                except psycopg.errors.UndefinedFile:
                    explaining = False
                if explaining:
                    connection.execute("SET log_min_duration_statement = -1")
                    connection.execute("SET auto_explain.log_min_duration = 0")
                    connection.execute("SELECT id\n FROM t WHERE id = 4")
                    connection.execute("SET auto_explain.log_format = 'json'")
                    connection.execute("SELECT id, 2 FROM t WHERE id = %s", (5,))
            major = own.major
    except EnvironmentFailedError as error:
        pytest.fail(f"the server of the session started, and this one did not: {error}")
    names = ["server.log", "server.csv", *(["server.json"] if major >= 15 else [])]
    for name in names:
        found = {q.sql: q for q in read_queries([logs / name]).queries}
        assert any(sql.startswith("SELECT name\n") and "it''s" in sql for sql in found), name
        update = next(q for sql, q in found.items() if sql.startswith("UPDATE t SET name = $1"))
        assert update.values == (("it's, $1 = 'x'", "3", None),), name
        if explaining:
            assert "SELECT id\n FROM t WHERE id = 4" in found, name
            assert "SELECT id, 2 FROM t WHERE id = $1" in found, name
