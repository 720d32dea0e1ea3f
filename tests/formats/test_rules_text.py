"""The rulebook reads well in a terminal."""

from __future__ import annotations

import pytest

from zdd_migrate.formats import rules_text
from zdd_migrate.rulebook import Rule, own_rules


def plain(text: str, _: str) -> str:
    """No colours."""
    return text


@pytest.mark.parametrize("width", [80, 100])
def test_the_list_fits(width: int) -> None:
    """A rule a line, by family, no line wider than the terminal, names in one column."""
    lines = rules_text.render_list(own_rules(), style=plain, width=width).split("\n")
    listed = [line for line in lines if line.startswith("ZDD")]

    assert len(listed) == len(own_rules())
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line in rules_text.FAMILIES.values()] == [
        *rules_text.FAMILIES.values()
    ]


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_is_shown_whole(rule: Rule) -> None:
    """Its prose wrapped, its examples as they are, without marks of Markdown."""
    text = rules_text.render_rule(rule, style=plain, width=100)
    prose = [line for line in text.split("\n") if not line.startswith("    ")]

    assert max(map(len, prose)) <= 100
    assert "```" not in text
    assert "\n# " not in text
    for example in rule.examples():
        for line in example.sql.strip().split("\n"):
            assert f"    {line}" in text


def test_a_team_s_own_rules_stand_apart() -> None:
    """Whatever their ids are called."""
    from zdd_migrate.model.finding import Severity

    ours = Rule(
        "SHOP001", "users-untouchable", Severity.ERROR, "m", "f", text="# Users\n\nHands off."
    )
    text = rules_text.render_list([*own_rules(), ours], style=plain, width=100)

    assert "Your own\nSHOP001" in text
