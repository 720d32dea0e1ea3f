"""Which rows of a migration's INSERT undo takes back, and which it had better leave."""

from __future__ import annotations

import pytest

from tests.story import schema_of
from zdd_migrate.model.plan import Sql
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

FLAGS = "CREATE TABLE flags (id text PRIMARY KEY, n int, more jsonb, tags text[]);"


def undo(insert: str, more: str = "") -> list[str]:
    plan = make_plan([read_sql(insert, "m.sql")], schema_of(FLAGS + more), name="x", before=FLAGS)
    (step,) = [s for _, s in plan.all_steps() if isinstance(s, Sql)]
    return list(step.undo or ())


def test_the_very_rows_go_again_unless_somebody_changed_them() -> None:
    assert undo(
        "INSERT INTO flags (n, id, more, tags) VALUES (1, 'a', '{}', '{}'), (NULL, 'b', NULL, NULL)"
    ) == [
        "DELETE FROM public.flags WHERE id = 'a' AND n IS NOT DISTINCT FROM 1",
        "DELETE FROM public.flags WHERE id = 'b' AND n IS NOT DISTINCT FROM NULL",
    ]


@pytest.mark.parametrize(
    ("insert", "more"),
    [
        ("INSERT INTO flags (n) VALUES (1)", ""),
        ("INSERT INTO flags (id) VALUES (gen_random_uuid()::text)", ""),
        ("INSERT INTO flags (id) VALUES (NULL)", ""),
        ("INSERT INTO flags VALUES ('a', 1)", ""),
        ("INSERT INTO flags (id) VALUES ('a') ON CONFLICT DO NOTHING", ""),
        ("INSERT INTO flags (id) SELECT 'a'", ""),
        (
            "INSERT INTO flags (id) VALUES ('a')",
            "CREATE TABLE uses (flag text REFERENCES flags ON DELETE CASCADE);",
        ),
        (
            "INSERT INTO flags (id) VALUES ('a')",
            "CREATE TRIGGER t AFTER DELETE ON flags FOR EACH ROW EXECUTE FUNCTION f();",
        ),
    ],
)
def test_rows_that_others_may_count_on_stay(insert: str, more: str) -> None:
    assert undo(insert, more) == []
