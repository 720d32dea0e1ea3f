"""Code that writes both shapes: its statements really do, and a plan without a way back is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stories import STORIES, Story
from zdd_migrate.formats.verdict import render
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase, Release
from zdd_migrate.model.schema import Column
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify import statements
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.walk import Effort, verify_plan

BOTH = Shape(
    name=QName("public", "people"),
    columns=(Column("id", "integer"), Column("full_name", "text"), Column("age", "integer")),
    key=("id",),
    vary=(),
    omit=(),
    conflicts=(),
    insertable=True,
    readable=(),
    mirror=(("first", "split_part(full_name, ' ', 1)"), ("twice", "full_name || full_name")),
    sources=frozenset({"full_name"}),
)


def test_what_is_written_twice_is_written_in_the_same_statement() -> None:
    """Each place that the expression needs the value has a parameter of its own."""
    assert statements.insert(BOTH, ["id", "full_name"]) == (
        "INSERT INTO public.people (id, full_name, first, twice) "
        "SELECT id, full_name, split_part(full_name, ' ', 1), full_name || full_name "
        "FROM (SELECT %s::integer AS id, %s::text AS full_name) AS people "
        "RETURNING id::text, full_name::text"
    )
    assert statements.update(BOTH, ["full_name"]) == (
        "UPDATE public.people SET full_name = %s, first = split_part(%s::text, ' ', 1), "
        "twice = %s::text || %s::text WHERE id = %s"
    )
    assert statements.times(BOTH, "full_name") == 4
    assert statements.times(BOTH, "age") == 1


@pytest.mark.pg
def test_a_dual_write_without_its_way_back_loses_rows(pg_server: Server) -> None:
    """The last release's undo taken out: old code would find what it never wrote."""
    story = Story(STORIES / "dual-write-rename-with-default")
    plan = story.plan(pg_server.major)
    switch = tuple(
        replace(step, undo=()) if isinstance(step, Release) else step
        for step in plan.steps[Phase.SWITCH]
    )
    broken = replace(plan, steps={**plan.steps, Phase.SWITCH: switch})

    verdict = verify_plan(
        broken,
        schema_sql=story.before,
        server=pg_server,
        effort=Effort(rounds=1, settle=1, rows=120),
    )

    assert verdict.judgement is Judgement.FAIL, render(verdict)
    assert any(law.name == "city = down(users.town)" and not law.holds for law in verdict.laws)
