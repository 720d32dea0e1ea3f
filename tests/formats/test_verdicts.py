"""Verdicts for other programs and for people: from one verdict, the same in every format."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from tests.formats.verdicts import BROKEN, GOOD, PLAN, UNCLEAR
from zdd_migrate.formats import VERDICTS, render_verdict
from zdd_migrate.formats.verdict import render
from zdd_migrate.model.verdict import Verdict


def test_the_terminal_shows_who_worked_when() -> None:
    """Versions down, phases and moments across, within a hundred columns."""
    text = render(GOOD)
    head, moments, old, new = text.splitlines()[:4]

    assert head.split() == ["start", "expand", "switch", "contract"]
    assert moments.split() == ["steady", "steady", "during", "undo", "steady", "steady", "during"]
    assert old.split() == ["old", *["works"] * 5, "breaks", "·"]
    assert new.split() == ["new", "·", "·", "·", "·", "works", "works", "works"]
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.splitlines()[-1].startswith("PASS  ")


def test_a_failure_is_named_with_all_that_is_known() -> None:
    """Phase, version, statement, SQLSTATE and step, in every format."""
    for form in ("text", *VERDICTS):
        text = render(BROKEN) if form == "text" else render_verdict(BROKEN, form, "p", PLAN)
        for known in ("42703", "user_name", "old code in expand", "expand-1", "SELECT user_name"):
            if form == "json" and known == "old code in expand":
                continue
            assert known in text, (form, known)


def test_each_statement_has_its_time_and_the_lock_it_waited_for() -> None:
    """Runs, the longest, how many were over the limit, which lock, and the step that held it."""
    for form in ("text", "markdown", "html"):
        text = render(BROKEN) if form == "text" else render_verdict(BROKEN, form, "p", PLAN)
        told = " ".join(text.split())
        for known in ("900 ms", "84 runs, 2 over", "RowExclusiveLock on users, behind expand-1"):
            assert known in told, (form, known)
    made = json.loads(render_verdict(GOOD, "json", "p"))["statement_times"]

    assert len(made) == 10
    assert made[0] == {
        "code": "old",
        "statement": "UPDATE public.users SET age = %s WHERE id = %s RETURNING *",
        "runs": 84,
        "longest_ms": 900.0,
        "over": 0,
        "phase": "expand",
        "when": "during",
        "step": "expand-1",
        "locks": [
            {
                "mode": "RowExclusiveLock",
                "relation": "users",
                "behind": "plan",
                "step": "expand-1",
                "waits": 2,
                "longest_ms": 897.0,
            }
        ],
    }


def test_the_json_keeps_its_contract() -> None:
    """And says besides what failed and when steps ran."""
    made = json.loads(render_verdict(BROKEN, "json", "p"))

    assert made["version"] == 1
    assert made["verdict"] == "fail"
    assert set(made["trials"][0]) >= {
        "phase", "when", "code", "expected", "outcome", "statements", "errors", "longest_wait_ms",
    }  # fmt: skip
    assert made["failures"][0]["sqlstate"] == "42703"
    assert made["failures"][0]["step"] == "expand-1"
    assert made["timeline"]["steps"][0]["label"] == "expand-1"


@pytest.mark.parametrize(
    ("verdict", "bad", "unclear"), [(GOOD, 0, 0), (BROKEN, 3, 0), (UNCLEAR, 0, 1)]
)
def test_junit_counts_what_failed_and_what_was_not_told(
    verdict: Verdict, bad: int, unclear: int
) -> None:
    """What could not be told is an error: no CI counts it as passed."""
    root = ET.fromstring(render_verdict(verdict, "junit", "p"))  # noqa: S314 - our own
    cases = root.findall("testsuite/testcase")

    assert int(root.attrib["tests"]) == len(cases) > 4
    assert len(root.findall("testsuite/testcase/failure")) == bad == int(root.attrib["failures"])
    assert len(root.findall("testsuite/testcase/error")) == unclear == int(root.attrib["errors"])


def test_markdown_and_html_stay_what_they_are_whatever_the_names() -> None:
    """A column called `<b>|` ends neither a cell nor the page."""
    markdown = render_verdict(BROKEN, "markdown", "<b>|")
    page = render_verdict(BROKEN, "html", "<script>", PLAN)

    assert "<b>" not in markdown
    assert "<script" not in page
    assert "&lt;script&gt;" in render_verdict(BROKEN, "html", "<script>")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
