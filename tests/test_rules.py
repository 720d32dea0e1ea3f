"""Every rule's document is its test: findings fall exactly where its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from zdd_migrate.check import Checker
from zdd_migrate.checks import CHECKS
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Finding
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations import ROOMS
from zdd_migrate.operations.walk import replay
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.split import split
from zdd_migrate.reading.statements import read_sql
from zdd_migrate.rulebook import Example, Rule, own_rules

MARK = "-- the migration:\n"
EXAMPLES = [(rule, example) for rule in own_rules() for example in rule.examples()]
SAFE = [(rule, example) for rule, example in EXAMPLES if example.safe]


def name_of(value: object) -> str:
    """A case's name: the rule's id, and which of its examples."""
    if isinstance(value, Rule):
        return value.id
    return "safe" if isinstance(value, Example) and value.safe else "unsafe"


def parts(example: Example) -> tuple[str, str]:
    """The schema above the mark, the migration below."""
    before, _, migration = example.sql.rpartition(MARK)
    return before, migration


def find(rule: Rule, example: Example) -> list[Finding]:
    """What is found in an example."""
    before, migration = parts(example)
    schema = Schema(complete=True)
    replay(read_sql(before, "before.sql").statements, schema)
    checker = Checker(Config(root=Path(), select=(rule.id,)), pg=16)
    read = read_sql(migration, "m.sql", in_transaction=False)
    return checker.run([read], schema).findings


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
    """Exactly there, and nowhere else; rules that are off by default but for the one at hand."""
    found = {(f.span.end_line, f.rule) for f in find(rule, example)}

    assert found == wanted(parts(example)[1])


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_has_an_example_of_itself(rule: Rule) -> None:
    """An unsafe block holds the rule; whoever needs no SQL to go wrong says so by having none."""
    unsafe = [e for e in rule.examples() if not e.safe]
    if rule.id in ("ZDD208", "ZDD903"):
        pytest.skip("found by what a file or driver does, not by a statement")

    assert any(rule.id in example.sql for example in unsafe)


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_is_wired(rule: Rule) -> None:
    """Its check exists, its file is named after it, its name says the problem."""
    assert rule.check is None or rule.check in CHECKS
    assert rule.path == f"rules/{rule.id}-{rule.name}.md"
    assert not rule.name.startswith(("ban-", "require-", "prefer-", "no-"))
    assert rule.message
    assert rule.fix


@pytest.mark.pg
@pytest.mark.parametrize(("rule", "example"), SAFE, ids=name_of)
def test_a_safe_example_runs_on_a_real_server(
    rule: Rule, example: Example, pg_server: Server
) -> None:
    """Advice is never something Postgres rejects."""
    before, migration = parts(example)
    with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
        for text in (before, migration):
            for piece in split(text):
                if piece.kind == "statement":
                    run(connection, piece.text)


def run(connection: psycopg.Connection, sql: str) -> None:
    """One statement; a COMMIT outside a transaction is only a warning."""
    connection.execute(sql.encode())


def test_a_rule_names_only_rooms_that_exist() -> None:
    """A rule over an operation nobody reads would be silent for ever."""
    from importlib import import_module

    from zdd_migrate.operations.base import NotUnderstood, Operation

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
