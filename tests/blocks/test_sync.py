"""The sync trigger on a real server. `test_interleaved` has what several clients do to it."""

from __future__ import annotations

import pytest

from tests.story import plan_of, plan_on
from zdd_migrate.apply.steps import run_step
from zdd_migrate.model.plan import Phase
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg


def test_an_unrelated_update_keeps_a_lossy_value(pg_server: Server) -> None:
    """A conversion runs only when its source changes, and never back over the original."""
    before = "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, n int);"
    plan = plan_of(
        "ALTER TABLE t ALTER COLUMN code TYPE varchar(3) USING left(code, 3)",
        before,
        down__t__code="code",
    )
    with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
        connection.execute(before.encode())
        connection.execute("INSERT INTO t VALUES (1, 'abcdef', 1), (2, 'xyz', 1)")
        for phase in (Phase.EXPAND, Phase.MIGRATE):
            for step in plan.steps[phase]:
                run_step(connection, step)
        connection.execute("UPDATE t SET n = 2")
        kept = connection.execute("SELECT code, zdd_new_code FROM t ORDER BY id").fetchall()

    assert kept == [("abcdef", "abc"), ("xyz", "xyz")]


#: from one type to another: a value that fits, one that does not
FITS = {
    ("text", "int"): ("'8'", "'x'"),
    ("text", "numeric"): ("'8.5'", "'x'"),
    ("text", "numeric(5,2)"): ("'8.25'", "'1e9'"),
    ("text", "date"): ("'2024-02-29'", "'2023-02-29'"),
    ("text", "uuid"): ("'00000000-0000-0000-0000-000000000001'", "''"),
    ("text", "boolean"): ("'yes'", "'maybe'"),
    ("text", "jsonb"): ("'[1]'", "'['"),
    ("text", "mood"): ("'sad'", "'glad'"),
    ("text", "positive"): ("'7'", "'-7'"),
    ("text", "varchar(3)"): ("'abc'", "'abcd'"),
    ("bigint", "int"): ("8", "80000000000"),
    ("timestamptz", "date"): ("'2024-02-29 00:00+00'", "NULL"),
    ("double precision", "smallint"): ("7", "70000"),
}


def test_old_code_may_go_on_writing_what_the_new_type_cannot_hold(pg_server: Server) -> None:
    """The cast behind the test of the value is not tried: not even while the statement is planned."""
    columns = [(f"c{n}", *pair, *values) for n, (pair, values) in enumerate(FITS.items())]
    before = (
        "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); "
        f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{c} {old}' for c, old, *_ in columns)});"
    )
    migration = "".join(
        f"ALTER TABLE t ADD COLUMN new_{c} {new}; UPDATE t SET new_{c} = {c}::{new}; "
        f"ALTER TABLE t DROP COLUMN {c};"
        for c, _, new, *_ in columns
    )
    plan = plan_on(16, migration, before)
    assert not plan.questions
    assert not plan.refusals
    good = ", ".join(fit for *_, fit, _ in columns)
    bad = ", ".join(unfit for *_, unfit in columns)
    with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
        connection.execute(before.encode())
        for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
            for step in plan.steps[phase]:
                run_step(connection, step)
            connection.execute("TRUNCATE t")
            for row in (f"1, {good}", f"2, {bad}", f"3, {good}"):
                connection.execute(f"INSERT INTO t VALUES ({row})".encode())
            names = ", ".join(c for c, *_ in columns)
            connection.execute(f"UPDATE t SET ({names}) = ROW ({bad}) WHERE id = 3".encode())
            found = connection.execute(
                f"SELECT id, num_nonnulls({', '.join(f'new_{c}' for c, *_ in columns)}) "
                "FROM t ORDER BY id"
            ).fetchall()

            assert found == [(1, len(columns)), (2, 0), (3, 0)], phase


PARTS = """
CREATE TABLE t (id int, cents int NOT NULL DEFAULT 7, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (100) TO (200);
INSERT INTO t VALUES (1, 5, 1), (2, 5, 1), (3, 5, 1), (4, 5, 1);
"""


def test_a_row_that_moves_to_another_partition_keeps_both_shapes(pg_server: Server) -> None:
    """To the trigger there it is an INSERT: of an unfilled row, or of one whose NULL new code gave."""
    plan = plan_of(
        "ALTER TABLE t ADD COLUMN price numeric; UPDATE t SET price = cents / 100.0; "
        "ALTER TABLE t DROP COLUMN cents;",
        PARTS,
        down__t__cents="coalesce((price * 100)::int, -1)",
    )
    with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
        connection.execute(PARTS.encode())
        for step in plan.steps[Phase.EXPAND]:
            run_step(connection, step)
        connection.execute("UPDATE t SET id = 101 WHERE id = 1")
        connection.execute("UPDATE t SET id = 102, cents = 6 WHERE id = 2")
        for phase in (Phase.MIGRATE, Phase.SWITCH):
            for step in plan.steps[phase]:
                run_step(connection, step)
        connection.execute("UPDATE t SET price = NULL WHERE id = 3")
        connection.execute("UPDATE t SET id = 103 WHERE id = 3")
        connection.execute("UPDATE t SET id = 104, price = 1.005 WHERE id = 4")
        connection.execute("UPDATE t SET id = 4 WHERE id = 104")
        connection.execute("INSERT INTO t (id, price) VALUES (5, NULL)")
        connection.execute("INSERT INTO t (id) VALUES (6)")
        rows = connection.execute("SELECT id, cents, price::text FROM t ORDER BY id").fetchall()

    assert [(i, c, p and p.rstrip("0")) for i, c, p in rows] == [
        (4, 101, "1.005"),
        (5, -1, None),
        (6, 7, "0.07"),
        (101, 5, "0.05"),
        (102, 6, "0.06"),
        (103, -1, None),
    ]


#: types, most of which have no value that nobody writes, and a default of each
ODD_TYPES = {
    "boolean": "true",
    "mood": "'sad'",
    "smallint": "1",
    "char(1)": "'x'",
    "numeric(3,1)": "1",
    "int[]": "ARRAY[1]",
    "time": "'00:01'",
    "text": "''",
}


def test_a_null_that_new_code_gives_stays_in_every_type(pg_server: Server) -> None:
    """In columns that are filled and in renamed ones with a default; what is left out is filled."""
    columns = [(f"c{n}", type_, value) for n, (type_, value) in enumerate(ODD_TYPES.items())]
    declared = ", ".join(f"{c} {type_} DEFAULT {value}" for c, type_, value in columns)
    before = f"CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, {declared});"
    fills = "".join(
        f"ALTER TABLE t ADD COLUMN fill_{c} {type_}; UPDATE t SET fill_{c} = {c};"
        for c, type_, _ in columns
    )
    renames = "".join(f"ALTER TABLE t RENAME COLUMN {c} TO new_{c};" for c, _, _ in columns)
    for migration, new in ((fills, "fill_"), (renames, "new_")):
        plan = plan_of(migration, before)
        assert not plan.questions
        assert not plan.refusals
        names = ", ".join(f"{new}{c}" for c, _, _ in columns)
        nulls = ", NULL" * len(columns)
        with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
            connection.execute(before.encode())
            for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
                for step in plan.steps[phase]:
                    run_step(connection, step)
            connection.execute(f"INSERT INTO t (id, {names}) VALUES (1{nulls})".encode())
            connection.execute("INSERT INTO t (id) VALUES (2)")
            given, left_out = connection.execute(
                f"SELECT {names} FROM t ORDER BY id".encode()
            ).fetchall()

        assert all(value is None for value in given)
        assert None not in left_out
