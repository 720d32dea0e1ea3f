"""Every rule's document is its test: findings fall exactly where its comments say."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.checks import CHECKS
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Finding, Severity
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations import ROOMS
from zdd_migrate.operations.base import NotUnderstood, Operation
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.statements import read_sql
from zdd_migrate.rulebook import Example, Rule, own_rules

ROOT = Path(__file__).parents[1]
MARK = "-- the migration:\n"
EXAMPLES = [(rule, example) for rule in own_rules() for example in rule.examples()]
#: rules without an unsafe example of their own, and why
NO_EXAMPLE = {
    "ZDD109": "the net below all others: it speaks where no rule knows better",
    "ZDD240": "found in the queries that come with --queries",
    "ZDD241": "found in the queries that come with --queries",
    "ZDD242": "found in the queries that come with --queries",
    "ZDD903": "found by what a file is, not by a statement",
}


def name_of(value: object) -> str:
    """A case's name: the rule's id, and which of its examples."""
    if isinstance(value, Rule):
        return value.id
    return "safe" if isinstance(value, Example) and value.safe else "unsafe"


def parts(example: Example) -> tuple[str, str]:
    """The schema above the mark, the migration below."""
    before, _, migration = example.sql.rpartition(MARK)
    return before, migration


def major(example: Example) -> int:
    """The major that the example is for (`pg17` behind safe or unsafe)."""
    named = [word[2:] for word in example.options if re.fullmatch(r"pg\d+", word)]
    return int(named[0]) if named else 16


def find(rule: Rule, example: Example) -> list[Finding]:
    """What is found in an example."""
    before, migration = parts(example)
    schema = Schema(complete=True)
    replay(read_sql(before, "before.sql").statements, schema)
    checker = Checker(Config(root=Path(), select=(rule.id,)), pg=major(example))
    wrapped = "in-transaction" in example.options
    return checker.run([read_sql(migration, "m.sql", in_transaction=wrapped)], schema).findings


def wanted(migration: str) -> set[tuple[int, str]]:
    """(line, rule) pairs that the comments ask for; a comment stands at its statement's end."""
    return {
        (number, rule)
        for number, line in enumerate(migration.split("\n"), start=1)
        for comment in re.findall(r"-- ((?:ZDD\d{3} ?)+)$", line)
        for rule in comment.split()
    }


@pytest.mark.parametrize(("rule", "example"), EXAMPLES, ids=name_of)
def test_findings_fall_where_the_comments_say(rule: Rule, example: Example) -> None:
    """Exactly there, and nowhere else; what other rules say for the curious is left aside."""
    found = {
        (f.span.end_line, f.rule)
        for f in find(rule, example)
        if f.rule == rule.id or f.severity is not Severity.INFO
    }

    assert found == wanted(parts(example)[1])


@pytest.mark.parametrize(("rule", "example"), EXAMPLES, ids=name_of)
def test_messages_are_whole(rule: Rule, example: Example) -> None:
    """No fact is missing in a message or fix: no empty place, no doubled blank, no brace."""
    for finding in find(rule, example):
        if finding.rule != rule.id:
            continue
        for text in (finding.message, finding.fix):
            assert not re.search(r"[{}]|  |\s\(\)|: ?[.;:]|None|\bon ,| \.", text), text
            assert text.endswith((".", "…", ")")), text


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_has_both_examples(rule: Rule) -> None:
    """An unsafe block holds the rule, a safe one does not."""
    if rule.id in NO_EXAMPLE:
        pytest.skip(NO_EXAMPLE[rule.id])
    unsafe = [e for e in rule.examples() if not e.safe]

    assert any(rule.id in example.sql for example in unsafe)
    assert rule.id == "ZDD902" or any(e.safe for e in rule.examples())


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_is_wired(rule: Rule) -> None:
    """Its check exists, its file is named after it, its name says the problem."""
    assert rule.check is None or rule.check in CHECKS
    assert rule.path == f"rules/{rule.id}-{rule.name}.md"
    assert not rule.name.startswith(("ban-", "require-", "prefer-", "no-"))
    assert rule.message
    assert rule.fix
    assert set(rule.over) <= {other.id for other in own_rules()}


def test_ids_and_names_are_used_once() -> None:
    """A suppression names one rule."""
    rules = own_rules()

    assert len({r.id for r in rules}) == len({r.name for r in rules}) == len(rules)


def test_every_check_is_used() -> None:
    """A function that no document names is dead."""
    assert {rule.check for rule in own_rules() if rule.check} == set(CHECKS)


def test_a_rule_names_only_rooms_that_exist() -> None:
    """A rule over an operation nobody reads would be silent for ever."""
    kinds = {NotUnderstood.kind, "nothing"}
    for room in ROOMS:
        module = import_module(f"zdd_migrate.operations.{room}")
        kinds |= {
            value.kind
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Operation)
        }

    unknown = {kind for rule in own_rules() for kind in rule.operations} - kinds

    assert not unknown


def test_work_under_a_lock_is_always_found() -> None:
    """With no special rule at all, the net catches whatever works while others wait."""
    net = [r for r in own_rules() if r.id in ("ZDD109", "ZDD901", "ZDD902", "ZDD903")]
    special = [r for r in own_rules() if r.grade == "work" and r.id not in ("ZDD109", "ZDD405")]
    for rule in special:
        assert "ZDD109" in rule.over, rule.id
        for example in (e for e in rule.examples() if not e.safe):
            before, migration = parts(example)
            schema = Schema(complete=True)
            replay(read_sql(before, "before.sql").statements, schema)
            checker = Checker(Config(root=Path()), pg=major(example), rules=net)
            read = read_sql(migration, "m.sql", in_transaction=False)

            assert checker.run([read], schema).findings, rule.id


def test_every_check_of_the_peers_has_its_answer() -> None:
    """All 120 rows, each with rules that exist by that name, or with a reason."""
    text = (ROOT / "docs" / "checks-of-peers.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    rules = {rule.id: rule for rule in own_rules()}

    assert [int(number) for number, _, _ in rows] == list(range(1, 121))
    for number, _, answer in rows:
        named = re.findall(r"(ZDD\d{3}) ([a-z-]+)(°?)", answer)
        assert named or re.match(r"(declined|none needed): \w.{20,}", answer), number
        for id_, name, off in named:
            assert (rules[id_].name, "" if rules[id_].default else "°") == (name, off)
