"""What a plan says its ways cost: measured where somebody measured, else said to be unknown."""

from __future__ import annotations

from dataclasses import replace

from tests.story import BEFORE, RENAME, schema_of
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Plan
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

GIGABYTE = 1_000_000_000


def _plan(migration: str, size: int | None, via: str | None = None) -> Plan:
    schema = schema_of(BEFORE)
    users = schema.tables[QName("public", "users")]
    rows = None if size is None else size // 100
    schema.put_table(replace(users, bytes=size, rows=rows))
    return make_plan([read_sql(migration, "m.sql")], schema, name="test", before=BEFORE, via=via)


def test_a_copy_costs_what_its_table_weighs_and_a_view_nothing() -> None:
    """Both are named, with the option that takes the one not planned."""
    copy, dual, view = _plan(RENAME, 10 * GIGABYTE).alternatives

    assert (copy.via, copy.chosen, copy.rows, copy.bytes) == (
        "copy",
        True,
        GIGABYTE // 10,
        10 * GIGABYTE,
    )
    assert copy.wal_bytes is not None
    assert copy.wal_bytes > 10 * GIGABYTE
    # 10 GB at 50 MB a second, and the one index on the column at 40
    assert copy.seconds == 200 + 250
    assert "1 more index entries" in copy.each_write
    assert (view.via, view.chosen, view.option, view.copies) == ("view", False, "--via view", False)
    assert (dual.via, dual.option, dual.releases) == ("dual write", "--sync application", 3)
    assert dual.seconds == copy.seconds
    assert "about 8 minutes" in copy.text
    assert "no row is written anew" in view.text


def test_a_table_that_nobody_measured_is_said_to_be_that() -> None:
    """No figure is made up."""
    copy, *_ = _plan(RENAME, None).alternatives

    assert copy.seconds is None
    assert "nobody measured" in copy.text


def test_a_way_that_is_not_open_is_not_offered() -> None:
    """With more changes to the table a view is no way; one that shows another type copies as well."""
    only = _plan(f"{RENAME}; ALTER TABLE users ADD COLUMN more int", GIGABYTE).alternatives
    retyped = _plan("ALTER TABLE users ALTER COLUMN age TYPE bigint", GIGABYTE).alternatives

    assert [one.via for one in only] == ["copy"]
    assert [(one.via, one.option) for one in retyped] == [("copy", ""), ("view", "--via view")]
    assert all(one.copies for one in retyped)


def test_a_table_has_a_view_and_a_copy() -> None:
    """The view is the usual way here; the copy holds the table and every index twice."""
    rename = "ALTER TABLE users RENAME TO people"
    view, copy = _plan(rename, GIGABYTE).alternatives
    chosen = [one.via for one in _plan(rename, GIGABYTE, via="copy").alternatives if one.chosen]

    assert (view.via, view.chosen, copy.via, copy.chosen) == ("view", True, "copy", False)
    # 1 GB at 50 MB a second, and three indexes at 40
    assert copy.seconds == 20 + 3 * 25
    assert chosen == ["copy"]


def test_the_way_that_was_chosen_is_the_one_planned() -> None:
    """--via view copies nothing, and no point of no return is left."""
    plan = _plan(RENAME, GIGABYTE, via="view")

    assert [one.via for one in plan.alternatives if one.chosen] == ["view"]
    assert plan.point_of_no_return is None
    assert plan.search_path == ("zdd_next",)
