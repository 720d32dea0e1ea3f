"""What bodies of code do: DO blocks, functions that are called, and what is only put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Finding, Report
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations import NotUnderstood, Operation, read_statement
from zdd_migrate.operations.bodies import hidden_operations
from zdd_migrate.operations.walk import replay, walk
from zdd_migrate.reading.statements import read_sql

BEFORE = """
CREATE TABLE users (id bigint PRIMARY KEY, email text, name text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint);
"""


def known(more: str = "") -> Schema:
    """The schema that BEFORE and `more` build."""
    schema = Schema()
    replay(read_sql(BEFORE + more, "before.sql").statements, schema)
    schema.complete = True
    return schema


def check(sql: str, before: str = "") -> Report:
    """What check says of a migration."""
    return Checker(Config(root=Path())).run(
        [read_sql(sql, "m.sql", in_transaction=False)], known(before)
    )


def rules(report: Report) -> list[tuple[str, int]]:
    """Rule and line of each finding; the wish for a lock_timeout and cached plans left out."""
    return [(f.rule, f.span.line) for f in report.findings if f.rule not in ("ZDD110", "ZDD208")]


def body(text: str, language: str = "plpgsql") -> list[tuple[str, bool | None, str]]:
    """(kind, certain, own text) of each operation of a body."""
    found = hidden_operations(language, text, read_statement, "f()")
    return [(o.kind, *_place(o)) for o in found]


def _place(operation: Operation) -> tuple[bool | None, str]:
    hidden = operation.hidden
    return (None, "") if hidden is None else (hidden.certain, hidden.sql)


DROP = "ALTER TABLE users DROP COLUMN name"
YES, MAYBE = ("drop_column", True, DROP), ("drop_column", False, DROP)

BODIES: dict[str, list[tuple[str, bool | None, str]]] = {
    f"BEGIN {DROP}; END": [YES],
    f"BEGIN {DROP}; END;": [YES],
    f"DECLARE x int := 1; y text DEFAULT 'BEGIN'; BEGIN {DROP}; END": [YES],
    f"<<top>> DECLARE x int; BEGIN {DROP}; END top;": [YES],
    f"BEGIN BEGIN {DROP}; END; END": [YES],
    f"BEGIN IF a THEN {DROP}; END IF; {DROP}; END": [MAYBE, YES],
    f"BEGIN IF a THEN NULL; ELSIF b THEN {DROP}; ELSE {DROP}; END IF; END": [MAYBE, MAYBE],
    f"BEGIN IF CASE WHEN a THEN true ELSE false END THEN {DROP}; END IF; END": [MAYBE],
    f"BEGIN CASE x WHEN 1 THEN {DROP}; ELSE NULL; END CASE; END": [MAYBE],
    f"BEGIN CASE WHEN x = 1 THEN NULL; WHEN y THEN {DROP}; END CASE; END": [MAYBE],
    f"BEGIN LOOP {DROP}; EXIT; END LOOP; END": [MAYBE],
    f"BEGIN WHILE a LOOP {DROP}; END LOOP; END": [MAYBE],
    f"BEGIN FOR i IN 1..10 LOOP {DROP}; END LOOP; END": [MAYBE],
    f"BEGIN FOR r IN SELECT 1 LOOP {DROP}; END LOOP; {DROP}; END": [MAYBE, YES],
    f"BEGIN FOREACH x IN ARRAY a LOOP {DROP}; END LOOP l; END": [MAYBE],
    f"BEGIN {DROP}; EXCEPTION WHEN undefined_column THEN NULL; END": [MAYBE],
    f"BEGIN NULL; EXCEPTION WHEN a OR b THEN {DROP}; WHEN others THEN RAISE; END": [MAYBE],
    f"BEGIN IF a THEN RETURN; END IF; {DROP}; END": [MAYBE],
    f"BEGIN IF a THEN RAISE EXCEPTION 'x'; END IF; {DROP}; END": [MAYBE],
    f"BEGIN IF a THEN RAISE NOTICE 'x'; END IF; {DROP}; END": [YES],
    f"BEGIN IF a THEN RETURN QUERY SELECT 1; END IF; {DROP}; END": [
        ("data_statement", False, "SELECT 1"),
        YES,
    ],
    f"BEGIN EXECUTE '{DROP}'; END": [("drop_column", True, f"EXECUTE '{DROP}'")],
    f"BEGIN EXECUTE $q${DROP}$q$; END": [("drop_column", True, f"EXECUTE $q${DROP}$q$")],
    f"BEGIN EXECUTE format('{DROP}'); END": [("drop_column", True, f"EXECUTE format('{DROP}')")],
    "BEGIN EXECUTE format('ALTER TABLE %I DROP COLUMN %I', 'users', 'name'); END": [
        ("drop_column", True, "EXECUTE format('ALTER TABLE %I DROP COLUMN %I', 'users', 'name')")
    ],
    "BEGIN EXECUTE 'ALTER TABLE users ' || 'DROP COLUMN name'; END": [
        ("drop_column", True, "EXECUTE 'ALTER TABLE users ' || 'DROP COLUMN name'")
    ],
    "BEGIN EXECUTE 'ALTER TABLE ' || t; END": [
        ("not_understood", True, "EXECUTE 'ALTER TABLE ' || t")
    ],
    "BEGIN EXECUTE format('DROP TABLE %I', t); END": [
        ("not_understood", True, "EXECUTE format('DROP TABLE %I', t)")
    ],
    "BEGIN FOR r IN EXECUTE q LOOP NULL; END LOOP; END": [("not_understood", True, "EXECUTE q")],
    "BEGIN OPEN c FOR EXECUTE q; RETURN QUERY EXECUTE q; END": [
        ("not_understood", True, "EXECUTE q"),
        ("not_understood", True, "EXECUTE q"),
    ],
    "BEGIN x := 1; y.z = 2; a[1] := 3; GET DIAGNOSTICS n = ROW_COUNT; NULL; COMMIT; RETURN x; END": [],
    "BEGIN SELECT max(id) INTO STRICT x FROM users; SELECT 1, 2 INTO r.a, b[1]; END": [
        ("data_statement", True, "SELECT max(id) INTO STRICT x FROM users"),
        ("data_statement", True, "SELECT 1, 2 INTO r.a, b[1]"),
    ],
    "BEGIN INSERT INTO users (id) VALUES (1) RETURNING id INTO x; END": [
        ("data_statement", True, "INSERT INTO users (id) VALUES (1) RETURNING id INTO x")
    ],
    "BEGIN PERFORM f(1) FROM users; END": [("data_statement", True, "PERFORM f(1) FROM users")],
    "BEGIN FROBNICATE x y; END": [("not_understood", True, "FROBNICATE x y")],
    f"BEGIN -- a remark; with 'quotes\n {DROP} /* ; */; END": [YES],
}  # fmt: skip


@pytest.mark.parametrize("text", BODIES)
def test_bodies(text: str) -> None:
    """Each statement with its own text; certain where nothing stands in its way."""
    assert body(text) == BODIES[text]


@pytest.mark.parametrize(
    "text", ["BEGIN IF a THEN", "BEGIN", "END", "", "BEGIN 'x", "nonsense ; END", "BEGIN LOOP END"]
)
def test_bodies_that_cannot_be_read(text: str) -> None:
    """Say so, and claim nothing."""
    found = hidden_operations("plpgsql", text, read_statement, "f()")
    assert all(isinstance(o, NotUnderstood) for o in found)
    assert found or not text


def test_bodies_in_sql() -> None:
    """A text, and BEGIN ATOMIC."""
    two = [("drop_column", True, DROP), ("data_statement", True, "SELECT 1")]
    assert body(f"{DROP}; SELECT 1;", "sql") == two
    assert body(f"BEGIN ATOMIC {DROP}; SELECT 1; END", "sql") == two
    assert body("RETURN a + 1", "sql") == []
    assert [kind for kind, *_ in body("import os", "plpython3u")] == ["not_understood"]


def test_blocks_in_blocks() -> None:
    """Stand where they stand in the outermost, and are no surer than what holds them."""
    text = f"BEGIN IF a THEN DO $i$ BEGIN {DROP}; END $i$; END IF; END"
    (_, found) = hidden_operations("plpgsql", text, read_statement, "f()")
    assert found.hidden is not None
    assert (found.hidden.offset, found.hidden.certain) == (text.index(DROP), False)


def test_very_deep_bodies() -> None:
    """Are not understood; nothing falls over."""
    text = "BEGIN " + "IF a THEN " * 5000 + "NULL; " + "END IF; " * 5000 + "END"
    assert [kind for kind, *_ in body(text)] == ["not_understood"]


DO = """DO $$
BEGIN
  ALTER TABLE users
    DROP COLUMN name;
  IF true THEN
    DROP TABLE orders;
  END IF;
END $$;
"""


def findings(report: Report, rule: str) -> list[Finding]:
    return [f for f in report.findings if f.rule == rule]


def test_findings_stand_at_their_own_line() -> None:
    """With their own text, and whether they are sure to happen."""
    report = check(DO)
    (dropped,) = findings(report, "ZDD202")
    (gone,) = findings(report, "ZDD204")

    assert (dropped.span.line, dropped.span.column, dropped.span.end_line) == (3, 3, 4)
    assert dropped.statement == "ALTER TABLE users\n    DROP COLUMN name"
    assert dropped.message.endswith("(in the DO block)")
    assert (gone.span.line, gone.span.column, gone.span.end_column) == (6, 5, 21)
    assert gone.message.endswith("(in the DO block, where it may not run)")


def test_quoted_blocks_keep_their_lines() -> None:
    """A tag, a plain string."""
    assert rules(check(DO.replace("$$", "$body$"))) == rules(check(DO))
    assert rules(check(DO.replace("$$", "'"))) == rules(check(DO))
    assert rules(check("\n-- a remark\n" + DO))[0][1] == rules(check(DO))[0][1] + 2


def test_suppressions_reach_into_a_block() -> None:
    """Above the block, or beside the statement in it."""
    reason = "-- zdd: ignore ZDD202, ZDD204 because nobody uses it\n"
    for text in (reason + DO, DO.replace("  ALTER", f"  {reason}  ALTER")):
        found = [f for f in check(text).findings if f.rule in ("ZDD202", "ZDD204", "ZDD902")]
        assert [f.suppressed for f in found if f.rule == "ZDD202"] == [True]
    assert not findings(check(reason + DO), "ZDD902")


QUIET = [
    "DO $$ BEGIN CREATE TYPE mood AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
    "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'mood') THEN CREATE TYPE mood AS ENUM ('a'); END IF; END $$;",
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') THEN CREATE ROLE app; END IF; END $$;",
    "DO $$ BEGIN ALTER TABLE users ADD COLUMN name text; EXCEPTION WHEN duplicate_column THEN RAISE NOTICE 'there'; END $$;",
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM information_schema.columns) THEN ALTER TABLE users ADD COLUMN name text; END IF; END $$;",
    "DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_class) THEN ALTER TABLE nowhere RENAME TO elsewhere; END IF; END $$;",
    "DO $$ BEGIN CREATE TABLE notes (id int); CREATE INDEX ON notes (id); END $$;",
    "DO $$ BEGIN PERFORM setval('s', 1); PERFORM pg_sleep(1); PERFORM 1 FROM users; END $$;",
]  # fmt: skip


@pytest.mark.parametrize("text", QUIET)
def test_blocks_that_create_what_is_missing_are_no_noise(text: str) -> None:
    """What is there already, and what is new, is nobody's trouble."""
    assert rules(check("SET lock_timeout = '1s';" + text)) == []


def test_a_block_runs_in_a_transaction() -> None:
    """CONCURRENTLY fails there, also where the file is run outside of one."""
    assert ("ZDD401", 1) in rules(
        check("DO $$ BEGIN CREATE INDEX CONCURRENTLY i ON users (email); END $$;")
    )


def test_locks_are_held_to_the_end_of_a_block() -> None:
    """Work on rows after a lock that stops everybody."""
    text = "DO $$ BEGIN\n  ALTER TABLE users ADD COLUMN a int;\n  UPDATE orders SET user_id = 1;\nEND $$;"
    assert ("ZDD403", 3) in rules(check(text))


FUNCTION = """CREATE FUNCTION tidy() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  ALTER TABLE users DROP COLUMN name;
END $$;
"""


def test_defining_a_function_runs_nothing() -> None:
    """Only calling it does."""
    assert rules(check(FUNCTION)) == []
    assert rules(check(FUNCTION.replace(f"{DROP};", "EXECUTE x;"))) == []


@pytest.mark.parametrize(
    "call",
    ["SELECT tidy();", "SELECT * FROM tidy();", "CALL tidy();", "DO $$ BEGIN PERFORM tidy(); END $$;",
     "SELECT 1, coalesce(tidy()::text, '');", "SELECT public.tidy();"],
)  # fmt: skip
def test_calls_are_followed(call: str) -> None:
    """From the history, and from the same migration; findings stand at the call."""
    report = check(call, FUNCTION)
    assert rules(report) == [("ZDD202", 1)]
    (found,) = findings(report, "ZDD202")
    assert found.statement == DROP
    assert "in tidy()" in found.message
    same = check(FUNCTION + call)
    assert rules(same) == [("ZDD202", 5)]


def test_calls_of_calls() -> None:
    """Are followed too, and a function that calls itself ends."""
    more = FUNCTION + (
        "CREATE FUNCTION outer_one() RETURNS void LANGUAGE sql AS 'SELECT tidy(); SELECT outer_one()';"
    )
    assert rules(check("SELECT outer_one();", more)) == [("ZDD202", 1)]


def test_what_a_call_does_is_in_the_schema() -> None:
    """The column is gone afterwards, also when the call was in the history."""
    assert rules(check("SELECT tidy(); UPDATE users SET email = '' WHERE id = 1;", FUNCTION))[
        :1
    ] == [("ZDD202", 1)]
    schema = known(FUNCTION + "SELECT tidy();")
    table = next(t for n, t in schema.tables.items() if n.name == "users")
    assert "name" not in {getattr(c, "name", c) for c in table.columns}


def test_unknown_functions() -> None:
    """A statement that is there for what a function does is not understood without it."""
    assert rules(check("SELECT partman.create_parent('public.users');")) == [("ZDD901", 1)]
    assert rules(check("CALL frobnicate();")) == [("ZDD901", 1)]
    assert rules(check("INSERT INTO users (id) VALUES (my_id());")) == []
    assert rules(check("SELECT pg_catalog.set_config('search_path', '', false);")) == []
    (found,) = check("SELECT frobnicate();").findings
    assert "frobnicate() does is not known" in found.message


def test_dynamic_sql_is_not_understood() -> None:
    """At its own line, with its reason."""
    (found,) = check("DO $$ BEGIN\n\n  EXECUTE 'DROP TABLE ' || x;\nEND $$;").findings
    assert (found.rule, found.span.line) == ("ZDD901", 3)
    assert "put together while it runs in the DO block" in found.message


def test_what_a_call_hides_is_said_once() -> None:
    """However many statements of the function are put together while it runs."""
    dynamic = FUNCTION.replace(f"{DROP};", "EXECUTE a; EXECUTE b; EXECUTE c;")
    assert rules(check("SELECT tidy();", dynamic)) == [("ZDD901", 1)]


def test_functions_that_only_read_are_not_followed() -> None:
    """Postgres lets a stable function change nothing."""
    stable = FUNCTION.replace("LANGUAGE plpgsql", "LANGUAGE plpgsql STABLE")
    assert rules(check("SELECT tidy();", stable)) == []


def test_explain_merges_a_block() -> None:
    """One statement, as Postgres runs it, with the operations in it and where they stand."""
    explained: list[Any] = []
    for one in walk(read_sql(DO, "m.sql"), known()):
        explained.append((len(one.parts), {str(r) for r in one.effects.locks}))
    assert explained == [(3, {"public.users", "public.orders"})]
