"""The sync trigger on a real server. `test_interleaved` has what several clients do to it."""

from __future__ import annotations

import pytest

from tests.story import plan_of
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
