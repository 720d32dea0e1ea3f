"""The page of a verdict, looked at in a real browser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser
from tests.formats.verdicts import BROKEN, GOOD, PLAN, UNCLEAR
from zdd_migrate.formats import render_verdict
from zdd_migrate.model.verdict import Verdict

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium is installed"),
]
#: the contrast of every text with what is behind it, the worst first: [ratio, text]
_CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = parse(c).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if ((parse(c)[3] ?? 1) > 0) return c; } return 'rgb(255,255,255)'; };
  const out = [];
  for (const e of document.querySelectorAll('h1,h2,h3,p,dt,dd,th,td b,td small,li,summary,code,strong')) {
    if (!e.textContent.trim() || getComputedStyle(e).fontSize === '0px') continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    out.push([(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)]);
  }
  return out.sort((x, y) => x[0] - y[0]).slice(0, 3);
})()"""


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Page]:
    """One browser for all."""
    with browser.page() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
@pytest.mark.parametrize("verdict", [GOOD, BROKEN, UNCLEAR], ids=lambda v: v.judgement.value)
def test_the_page_is_readable(
    tab: browser.Page, tmp_path: Path, verdict: Verdict, width: int, dark: bool
) -> None:
    """Nothing sticks out, nothing is loaded, the console is silent, every text has contrast."""
    file = tmp_path / "verdict.html"
    file.write_text(render_verdict(verdict, "html", "plan", PLAN), encoding="utf-8")
    tab.errors.clear()
    tab.addresses.clear()

    tab.open(file, width=width, dark=dark)
    tab.picture(tmp_path / "page.png")

    assert tab.errors == []
    assert tab.addresses == [file.as_uri()]
    assert tab.value("document.documentElement.scrollWidth") <= width
    worst, text = tab.value(_CONTRAST)[0]
    assert worst >= 4.5, text
    ground = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 384) is dark


def test_the_page_can_be_heard_and_walked_by_keyboard(tab: browser.Page, tmp_path: Path) -> None:
    """Headings in order, rows and columns with their heads, a picture with a sentence."""
    file = tmp_path / "verdict.html"
    file.write_text(render_verdict(BROKEN, "html", "plan", PLAN), encoding="utf-8")

    tab.open(file, width=1280)

    levels = tab.value("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert tab.value("document.querySelectorAll('tbody tr > *:first-child:not(th)').length") <= len(
        BROKEN.timeline.waits
    )
    said = tab.value("document.querySelector('svg').getAttribute('aria-label')")
    assert "1 moments" in said or "moments" in said
    assert tab.value("[...document.querySelectorAll('.wide')].every(e => e.tabIndex === 0)")
    assert tab.value("document.documentElement.lang") == "en"
    opened = tab.value("document.querySelector('details[open] summary').textContent")
    assert "expand-1" in opened


def test_the_picture_shows_where_traffic_stood(tab: browser.Page, tmp_path: Path) -> None:
    """A statement of 900 ms is a red block above its lane; quick ones are not."""
    file = tmp_path / "verdict.html"
    file.write_text(render_verdict(GOOD, "html", "plan"), encoding="utf-8")

    tab.open(file, width=1280)

    assert tab.value("document.querySelectorAll('svg .still').length") == 1
    assert tab.value("document.querySelectorAll('svg rect.wait').length") == 2
    assert tab.value("document.querySelectorAll('svg g title').length") == 3
