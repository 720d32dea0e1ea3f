"""The sync trigger on a real server: whoever writes, in whatever order, both shapes agree."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.story import BEFORE, RENAME, plan_of
from zdd_migrate.apply.steps import run_step
from zdd_migrate.model.plan import Phase
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
NAMES = st.sampled_from(["Ann", "Bo", "Çelik", "x" * 90])
KEYS = st.integers(1, 4)
WRITES = st.one_of(
    st.tuples(st.just("old insert"), KEYS, NAMES),
    st.tuples(st.just("new insert"), KEYS, NAMES),
    st.tuples(st.just("old update"), KEYS, NAMES),
    st.tuples(st.just("new update"), KEYS, NAMES),
    st.tuples(st.just("other update"), KEYS, NAMES),
    st.tuples(st.just("old upsert"), KEYS, NAMES),
    st.tuples(st.just("new upsert"), KEYS, NAMES),
    st.tuples(st.just("old copy"), KEYS, NAMES),
    st.tuples(st.just("new copy"), KEYS, NAMES),
    st.tuples(st.just("both update"), KEYS, NAMES),
)
SQL = {
    "insert": "INSERT INTO users (id, email, {c}) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
    "update": "UPDATE users SET {c} = %s WHERE id = %s",
    "upsert": "INSERT INTO users (id, email, {c}) VALUES (%s, %s, %s) "
    "ON CONFLICT (id) DO UPDATE SET {c} = excluded.{c}",
}
COLUMN = {"old": "user_name", "new": "username"}


def write(connection: psycopg.Connection, kind: str, key: int, name: str) -> None:
    """One write of one version."""
    who, what = kind.split()
    column = COLUMN.get(who, "")
    email = f"u{key}@x"
    if kind == "other update":
        connection.execute("UPDATE users SET age = age + 1 WHERE id = %s", (key,))
    elif kind == "both update":
        connection.execute(
            "UPDATE users SET user_name = %s, username = %s WHERE id = %s", (name, name, key)
        )
    elif what == "copy":
        connection.execute("DELETE FROM users WHERE id = %s", (key,))
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY users (id, email, {column}) FROM STDIN".encode()) as copy,
        ):
            copy.write_row((key, email, name))
    elif what == "update":
        connection.execute(SQL["update"].format(c=column).encode(), (name, key))
    else:
        connection.execute(SQL[what].format(c=column).encode(), (key, email, name))


@given(writes=st.lists(WRITES, max_size=25))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_write_is_lost(
    writes: list[tuple[str, int, str]], connection: psycopg.Connection
) -> None:
    """The last name written under either column is the name under both."""
    if connection.execute("SELECT to_regclass('users')").fetchone() == (None,):
        connection.execute(BEFORE.encode())
        for step in plan_of(RENAME).steps[Phase.EXPAND]:
            run_step(connection, step)
    connection.execute("TRUNCATE users CASCADE")
    told: dict[int, str] = {}
    for kind, key, name in writes:
        write(connection, kind, key, name)
        there = key in told
        if kind.endswith("insert"):
            told.setdefault(key, name)
        elif kind.endswith(("upsert", "copy")) or (
            there and kind.endswith("update") and kind != "other update"
        ):
            told[key] = name

    rows = connection.execute("SELECT id, user_name, username FROM users").fetchall()

    assert {row[0]: row[1] for row in rows} == told
    assert {row[0]: row[2] for row in rows} == told


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
