"""Every story: the plan is the one expected, and a real server agrees with it.

`make test-pg ARGS="--every-major -k stories"` tries each story on every major it names; without
the option the stories take turns, each on the major that its name falls on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.proving import run_script, there_and_back
from tests.stories import ENDS, Story, mismatches, stories
from zdd_migrate.formats.verdict import render
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.walk import Effort, verify_plan

ALL = stories()
LOW = Effort(rounds=1, settle=1, rows=120)


def test_a_story_has_all_its_files() -> None:
    """What is told, the plain migration, and what must come of it."""
    assert len(ALL) > 10
    for story in ALL:
        assert {"before.sql", "migration.sql", "expected.yaml"} <= {
            file.name for file in story.path.iterdir()
        }, story.name
        assert set(ENDS) & story.expected.keys(), (
            f"{story.name}: neither phases, questions nor refusals are expected"
        )
        assert story.expected.get("about"), story.name


@pytest.mark.parametrize("story", ALL, ids=lambda s: s.name)
def test_a_story_is_planned_as_expected(story: Story) -> None:
    """Step by step, or asked and refused as it says."""
    for major in story.majors:
        plan = story.plan(major)

        assert not mismatches(story.expected, plan), f"on Postgres {major}"


@pytest.mark.pg
@pytest.mark.broad(12)
@pytest.mark.parametrize("story", [s for s in ALL if s.is_tried_under_load], ids=lambda s: s.name)
def test_a_story_is_proven(
    story: Story, server_of: Callable[[int], Server], request: pytest.FixtureRequest
) -> None:
    """Both code versions work in every phase, under every step and after every undo; contract after
    expand is the plain migration; undo gives the start back."""
    for major in story.chosen_majors(every=bool(request.config.getoption("--every-major"))):
        verdict = verify_plan(
            story.plan(major),
            schema_sql=story.before,
            server=server_of(major),
            seed_sql=story.seed,
            effort=LOW,
        )

        assert verdict.judgement is Judgement.PASS, f"on Postgres {major}\n{render(verdict)}"


@pytest.mark.pg
@pytest.mark.broad(2)
@pytest.mark.parametrize(
    "story",
    [s for s in ALL if s.is_planned and not s.is_tried_under_load],
    ids=lambda s: s.name,
)
def test_a_story_gets_there_and_back(
    story: Story, server_of: Callable[[int], Server], request: pytest.FixtureRequest
) -> None:
    """Undone it is the starting catalog, done it is the plain migration's."""
    for major in story.chosen_majors(every=bool(request.config.getoption("--every-major"))):
        server = server_of(major)
        start = server.create_database()
        run_script(server, start, story.before)
        run_script(server, start, story.seed or "")
        undone, done = there_and_back(story.plan(major), story.migration, server, start)
        server.drop_database(start)

        assert not undone, f"on Postgres {major}"
        assert not done, f"on Postgres {major}"
