"""Any bytes in: no crash, no hang, no unbounded memory; whatever was not read is said."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_migrate.errors import InputError
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations import NotUnderstood, read_statement
from zdd_migrate.operations.bodies import hidden_operations
from zdd_migrate.operations.walk import replay, unfold, walk
from zdd_migrate.reading.sources import SOURCES, read_text
from zdd_migrate.reading.statements import decode, read_sql
from zdd_migrate.reading.templates import expand

WORDS = """ALTER TABLE ONLY IF EXISTS users ADD DROP COLUMN a b c int text [] numeric(1,2) NOT NULL DEFAULT 1 'x'
CHECK ( ) , ; PRIMARY KEY UNIQUE REFERENCES t ( a ) ON DELETE CASCADE CONSTRAINT k CREATE INDEX CONCURRENTLY i USING
btree WHERE a > 0 VIEW AS SELECT * FROM DO $$ $$ BEGIN END ; IF THEN LOOP EXECUTE format EXCEPTION WHEN FUNCTION f()
RETURNS trigger LANGUAGE plpgsql RENAME TO TYPE USING a :: int VALIDATE SET SCHEMA OWNER lock_timeout = '1s' COMMIT
PARTITION OF FOR VALUES IN ( 1 ) ATTACH DETACH GENERATED ALWAYS IDENTITY STORED ENUM COMMENT IS INSERT INTO VALUES
UPDATE RETURNING INTO CALL "q u" E'\\'' $1 -- /* */ \\ {{ x }} ${y} :z CASE ELSE INHERITS LIKE INCLUDING ALL POLICY TRIGGER
RULE ALSO SEQUENCE DOMAIN EXTENSION GRANT . .. := << >> % && - + TABLESPACE WITH ( fillfactor = 70 ) COLLATE "C" """.split()

SOUP = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
#: statements that are read, to be damaged
WHOLE = st.sampled_from(
    [
        "ALTER TABLE ONLY public.users ADD COLUMN a int DEFAULT 1 NOT NULL, DROP CONSTRAINT k CASCADE",
        "CREATE TABLE t (a int PRIMARY KEY, b text REFERENCES u (c) ON DELETE SET NULL, CHECK (a > 0))",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t USING btree (lower(a) DESC) WHERE b IS NULL",
        "DO $$ DECLARE x int := 1; BEGIN IF x THEN ALTER TABLE t ADD COLUMN a int; END IF; END $$",
        "CREATE FUNCTION f(a int = 1) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END",
        "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'x' BEFORE 'y'",
        "UPDATE t SET a = CASE WHEN b THEN 1 ELSE 2 END FROM u WHERE t.id = u.id RETURNING *",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A statement with a stretch taken out, doubled, or replaced by something else."""
    text = draw(WHOLE)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 12)))
    middle = draw(st.one_of(st.just(""), st.just(text[start:end] * 2), st.sampled_from(WORDS)))
    return text[:start] + middle + text[end:]


TEXT = st.one_of(
    SOUP, damaged(), st.text(max_size=80), st.lists(damaged(), max_size=4).map(";\n".join)
)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Are text, or one line that says why not."""
    text = decoded(data)
    if text is not None:
        read_sql(text, "m.sql")


def decoded(data: bytes) -> str | None:
    """The text; None where an error says in one line that there is none."""
    said = ""
    try:
        return decode(data, "m.sql")
    except InputError as error:
        said = str(error)
    assert said.startswith("m.sql")
    assert "\n" not in said
    return None


@given(TEXT)
@settings(max_examples=400, deadline=None)
def test_any_text(text: str) -> None:
    """Every statement has operations or is not understood; spans are the file's."""
    migration = read_sql(text, "m.sql")
    for statement in migration.statements:
        assert statement.operations
        assert statement.understood == (
            not any(isinstance(o, NotUnderstood) for o in statement.operations)
        )
        assert text[statement.span.start : statement.span.end].startswith(statement.sql[:1])
    schema = Schema()
    for explained in walk(migration, schema):
        for one in unfold(explained):
            assert one.statement.span.line >= 1
    replay(migration.statements, Schema())


@given(TEXT, st.sampled_from(sorted(SOURCES)))
@settings(max_examples=200, deadline=None)
def test_any_text_for_any_tool(text: str, kind: str) -> None:
    """With annotations that do not fit, or none."""
    for marks in ("", "-- +goose Up\n", "-- migrate:up transaction:false\n"):
        read_text(marks + text, Path("V1__m.up.sql"), kind)


@given(TEXT, st.sampled_from(["plpgsql", "sql"]))
@settings(max_examples=300, deadline=None)
def test_any_body(text: str, language: str) -> None:
    """Bodies of code."""
    for body in (text, f"BEGIN {text} END"):
        for operation in hidden_operations(language, body, read_statement, "f()"):
            if operation.hidden is not None and operation.hidden.offset is not None:
                assert body[operation.hidden.offset :].startswith(operation.hidden.sql)


@given(SOUP, st.dictionaries(st.sampled_from(["x", "y", "z"]), st.text(max_size=5)))
@settings(max_examples=200, deadline=None)
def test_templates_lead_back(text: str, known: dict[str, str]) -> None:
    """Every offset of what was filled in is one of the source."""
    filled = expand(text, known)
    if filled is not None:
        backs = [filled.back(n) for n in range(len(filled.text))]
        assert all(0 <= back <= len(text) for back in backs)
        assert backs == sorted(backs)


N = 3_000
DEEP = {
    "parentheses": "SELECT " + "(" * N + "1" + ")" * N,
    "unclosed": "SELECT " + "(" * N,
    "brackets": "SELECT " + "[" * N,
    "comments": "/*" * N + "*/" * N + " SELECT 1",
    "case": "SELECT " + "CASE WHEN a THEN " * N + "1" + " END" * N,
    "casts": "ALTER TABLE t ADD COLUMN a int DEFAULT 1" + "::int" * N,
    "checks": "ALTER TABLE t ADD CHECK (" + "NOT " * N + "a)",
    "blocks": "DO $$ " + "BEGIN " * N + "END; " * N + "$$",
    "quotes": "SELECT " + "'" * (2 * N + 1),
    "dollars": "$a" * N,
    "subqueries": "CREATE VIEW v AS " + "SELECT * FROM (" * N + "SELECT 1" + ") x" * N,
    "concatenated": "UPDATE t SET a = '" + "' || '" * N + "'",
    "types": "ALTER TABLE t ADD COLUMN a int" + "[]" * N,
    "names": "DROP TABLE " + ", ".join(f"t{n}" for n in range(N // 3)),
    "long": "ALTER TABLE t ADD COLUMN a text DEFAULT '" + "x" * 1_000_000 + "'",
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_and_long(kind: str) -> None:
    """Is read or is not understood, in bounded memory."""
    tracemalloc.start()
    try:
        migration = read_sql(DEEP[kind], "m.sql")
        for _ in walk(migration, Schema()):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert migration.statements
    assert peak < 20_000_000 + 3_000 * len(DEEP[kind]), "memory grows with the text's length alone"


@pytest.mark.parametrize(
    "text", ["INSERT (a, b) VALUES ('x')", "MERGE USING t ON a WHEN MATCHED THEN DO NOTHING"]
)
def test_what_fuzzing_found(text: str) -> None:
    """Statements that once ended reading instead of being not understood."""
    assert [type(o) for o in read_statement(text)] == [NotUnderstood]
