"""Whatever is broken on purpose is caught and named; beside an intact plan nothing is reported.

`python benchmarks/faults.py 10` tries the whole table ten times over and prints what named what.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.planted import FAULTS, STORIES, Fault, shown, try_plan
from zdd_migrate.formats.verdict import render
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg


@pytest.mark.broad(3)
@pytest.mark.parametrize("name", STORIES)
def test_an_intact_plan_passes_and_nothing_is_reported(name: str, pg_server: Server) -> None:
    """The twin of every broken plan: noise is what would make the faults meaningless."""
    verdict = try_plan(STORIES[name], STORIES[name].plan(), pg_server)

    assert verdict.judgement is Judgement.PASS, render(verdict)
    assert verdict.failures == ()


@pytest.mark.broad(5)
@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.in_suite], ids=lambda f: f"{f.story}: {f.name}"
)
def test_a_planted_fault_is_caught_and_named(
    fault: Fault, tmp_path: Path, pg_server: Server
) -> None:
    """It fails, and the failure says what, where, and with which step it came."""
    story = STORIES[fault.story]

    verdict = try_plan(story, story.broken(tmp_path / "plan", fault), pg_server)
    found = shown(fault, verdict)

    assert verdict.judgement is Judgement.FAIL, render(verdict)
    assert found is not None, verdict.failures
    assert found.phase
    assert found.step or not fault.step
    if found.what == "statement":
        assert found.code
        assert found.sqlstate
        assert found.statement


def test_the_table_is_large_enough_and_every_story_has_a_fault() -> None:
    """Each fault has an intact twin, each twin a fault."""
    assert len(FAULTS) >= 25
    assert sum(f.in_suite for f in FAULTS) >= 25
    assert {f.story for f in FAULTS} == set(STORIES)
    assert len({(f.story, f.name) for f in FAULTS}) == len(FAULTS)
