"""Every statement that a plan holds is read again: by libpg_query, and by our own reader alike.

Plans come from the stories and, where they lie beside the checkout, from the statements whose locks
were measured: every kind of change there is, on a schema with everything in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import postgast
import pytest

from tests.grammar.oracle.compare import differences
from tests.grammar.oracle.trees import UnparsedError
from tests.stories import Story, stories
from tests.story import schema_of
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.model.plan import Backfill, Gate, Plan, Sql, Validate
from zdd_migrate.operations import read_statement
from zdd_migrate.operations.walk import replay
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.split import split
from zdd_migrate.reading.statements import read_sql

MAJORS = (14, 18)
#: what a plan's own functions are: their bodies are plpgsql
_FUNCTION = ("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", "DO ")


def generated(plan: Plan) -> Iterator[str]:
    """Every statement that the plan would send to a server."""
    for steps in plan.steps.values():
        for step in steps:
            yield from step.undo or ()
            if isinstance(step, Sql):
                yield from step.statements
            elif isinstance(step, Backfill):
                sets = ", ".join(
                    f"{quote_ident(column)} = {value}" for column, value in step.assignments
                )
                yield f"UPDATE {step.table} SET {sets} WHERE {step.where}"
            elif isinstance(step, Validate):
                yield f"ALTER TABLE {step.table} VALIDATE CONSTRAINT {step.constraint}"
            elif isinstance(step, Gate):
                yield step.query
    yield from (law.query for law in plan.laws)


def faults(sql: str) -> list[str]:
    """What is wrong with one generated statement."""
    try:
        found = differences(sql)
    except UnparsedError as error:
        return [f"{sql}: Postgres does not accept it: {error}"]
    if found is None:
        return [f"{sql}: our own reader does not understand it: {read_statement(sql)}"]
    if sql.upper().startswith(_FUNCTION) and "plpgsql" in sql.lower():
        found += _in_body(sql)
    return [f"{sql}: {each}" for each in found]


def _in_body(sql: str) -> list[str]:
    try:
        postgast.parse_plpgsql(sql)
    except json.JSONDecodeError:
        return []  # the body was accepted; the tree of some does not come through as JSON
    except postgast.PgQueryError as error:
        return [f"its body: {error}"]
    return []


@pytest.mark.parametrize("story", stories(), ids=lambda s: s.name)
def test_what_a_story_generates(story: Story) -> None:
    """On its first and last major."""
    wrong = {
        fault
        for major in story.majors
        for sql in generated(story.plan(major))
        for fault in faults(sql)
    }
    assert wrong == set()


def test_what_every_measured_change_generates(shared_data: Path) -> None:
    """Planned one at a time, for one major or the other; what is refused generates nothing."""
    before = (shared_data / "postgres_locks_schema.sql").read_text(encoding="utf-8")
    base = schema_of(before)
    changes: dict[str, str] = {}
    with (shared_data / "postgres_locks.jsonl").open(encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            if row["error"] is None:
                changes.setdefault(row["sql"], row["setup"] or "")
    checked: set[str] = set()
    wrong: list[str] = []
    planned = 0
    for number, (sql, setup) in enumerate(changes.items()):
        migration = read_sql(sql, "change.sql", in_transaction=False)
        if not all(s.understood for s in migration.statements):
            continue  # never planned
        schema = base.copy()
        replay(read_sql(setup, "setup.sql").statements, schema)
        major = MAJORS[number % len(MAJORS)]
        plan = make_plan([migration], schema, name="change", before=before + setup, pg=major)
        planned += not plan.refusals and not plan.questions
        for each in generated(plan):
            if each not in checked:
                checked.add(each)
                wrong += [f"planned from {sql}: {fault}" for fault in faults(each)]

    assert wrong == []
    assert planned > 100
    assert len(checked) > 300


def test_a_fault_would_be_noticed() -> None:
    """What nobody accepts, what we do not understand, and a body that is no plpgsql."""
    function = "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF a RETURN 1; END $$"
    assert faults("ALTER TABLE a ADD COLUMN")
    assert faults("IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c")
    assert faults(function)
    assert not faults(function.replace("IF a ", ""))


def test_statements_of_a_file_are_cut_where_they_end() -> None:
    """A plan's files hold its statements one after another: the splitter gives them back."""
    for story in stories():
        texts = [sql for sql in generated(story.plan(story.majors[-1])) if "\n" not in sql][:40]
        pieces = [p.text for p in split(";\n".join(texts)) if p.kind == "statement"]
        assert [p.rstrip().removesuffix(";") for p in pieces] == [
            t.rstrip().removesuffix(";") for t in texts
        ]
