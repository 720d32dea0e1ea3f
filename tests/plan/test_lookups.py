"""Which UPDATEs say where a new column's values are looked up, and which say less than that."""

from __future__ import annotations

import pytest

from tests.story import schema_of
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

BEFORE = """
CREATE TABLE o (id int PRIMARY KEY, a int, b int, x text, active boolean, UNIQUE (a, b));
CREATE TABLE t (id int PRIMARY KEY, o_id int, a int, b2 int);
"""


def planned(update: str, more: str = "") -> bool:
    sql = f"ALTER TABLE t ADD COLUMN c text; {update}; {more}"
    plan = make_plan([read_sql(sql, "m.sql")], schema_of(BEFORE), name="x", before=BEFORE)
    return not plan.questions and not plan.refusals


@pytest.mark.parametrize(
    "update",
    [
        "UPDATE t SET c = o.x FROM o WHERE o.id = t.o_id",
        "UPDATE t SET c = x FROM o WHERE o.id = o_id",
        "UPDATE t n SET c = m.x FROM o AS m WHERE n.o_id = m.id AND m.active AND n.c IS NULL",
        "UPDATE t n SET c = lower(m.x) FROM o m WHERE m.b = n.b2 AND n.a = m.a",
        "UPDATE t n SET c = (SELECT x FROM o m WHERE m.id = n.o_id) WHERE n.c IS NULL",
    ],
)
def test_a_look_up_by_a_key_is_how_the_column_comes_to_be(update: str) -> None:
    assert planned(update)


@pytest.mark.parametrize(
    "update",
    [
        "UPDATE t n SET c = m.x FROM o m WHERE m.a = n.a",  # of several rows, any
        "UPDATE t n SET c = m.x FROM o m WHERE m.a = n.a AND m.b > n.b2",
        "UPDATE t n SET c = m.x FROM o m WHERE m.id = n.o_id OR m.a = n.a",
        "UPDATE t n SET c = m.x FROM o m WHERE m.id = m.a",  # not of this row
        "UPDATE t n SET c = m.x FROM o m WHERE m.id = n.o_id + m.a",
        "UPDATE t n SET c = m.x FROM o m WHERE m.id BETWEEN 1 AND n.o_id",
        "UPDATE t n SET c = m.x || n.c FROM o m WHERE m.id = n.o_id",
        "UPDATE t n SET c = m.x || random() FROM o m WHERE m.id = n.o_id",
        "UPDATE t n SET c = m.x FROM o m, o p WHERE m.id = n.o_id",
    ],
)
def test_anything_less_is_refused(update: str) -> None:
    assert not planned(update)


def test_what_moves_away_is_refused() -> None:
    update = "UPDATE t n SET c = m.x FROM o m WHERE m.id = n.o_id"
    assert not planned(update, "ALTER TABLE o DROP COLUMN x")
    assert not planned(update, "ALTER TABLE o RENAME COLUMN x TO y")


def test_not_null_is_asked_only_of_what_every_row_has() -> None:
    required = "ALTER TABLE t ALTER COLUMN c SET NOT NULL"
    assert not planned("UPDATE t n SET c = m.x FROM o m WHERE m.id = n.o_id", required)
    by_key = "UPDATE t n SET c = m.id FROM o m WHERE m.id = n.o_id"
    assert planned(by_key, required)
    assert not planned(f"{by_key} AND m.active", required)


def test_a_bare_name_in_a_query_is_the_other_tables_first() -> None:
    """`id` is `o.id` there: each row's own `a` is compared with it, not with anything of `t`."""
    assert not planned("UPDATE t n SET c = (SELECT x FROM o m WHERE m.a = id AND m.b = n.b2)")
    assert planned("UPDATE t n SET c = (SELECT x FROM o m WHERE m.a = n.id AND m.b = n.b2)")


def test_of_two_updates_neither_says_what_a_row_gets() -> None:
    second = "UPDATE t SET c = 'none' WHERE c IS NULL"
    assert not planned("UPDATE t n SET c = m.x FROM o m WHERE m.id = n.o_id", second)
