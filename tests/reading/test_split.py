"""Splitting survives whatever can hide a semicolon, and the pieces always rejoin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_migrate.reading.split import split

#: text → how many statements it holds
CASES = {
    "": 0,
    " \n\t;;; -- only a comment\n/* and another */": 0,
    "SELECT 1": 1,
    "SELECT 1;SELECT 2;": 2,
    "SELECT ';';SELECT 2": 2,
    "SELECT 'it''s; fine'; SELECT 2": 2,
    r"SELECT E'a\'; b'; SELECT 2": 2,
    r"SELECT 'a\'; SELECT 2": 2,
    "SELECT U&'\\0061;'; SELECT 2": 2,
    'SELECT "a;b"; SELECT 2': 2,
    'SELECT "a"";b"; SELECT 2': 2,
    "SELECT $$;$$; SELECT 2": 2,
    "SELECT $a$;$$;$a$; SELECT 2": 2,
    "SELECT $a$ $b$ ; $b$ ; $a$; SELECT 2": 2,
    "SELECT $1; SELECT foo$bar; SELECT a$b$c": 3,
    "SELECT 1 /* ; */; SELECT 2": 2,
    "SELECT 1 /* /* ; */ ; */; SELECT 2": 2,
    "SELECT 1 -- ;\n; SELECT 2": 2,
    "SELECT (1;2); SELECT 2": 2,
    "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SELECT 3": 2,
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3": 2,
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END; SELECT 3": 2,
    "BEGIN; SELECT 1; END; SELECT 2": 4,
    "DO $$ BEGIN PERFORM 1; END $$; SELECT 2": 2,
    "COPY t FROM stdin;\n1;2\n\\.\nSELECT 1;": 2,
    "COPY t FROM STDIN WITH (FORMAT csv);\na;b\n\\.\n": 1,
    "\\set x 1\nSELECT 1;\n\\connect foo\nSELECT 2;": 2,
    "\ufeffSELECT 1;": 1,
    "SELECT 1;\r\nSELECT 2;\r\n": 2,
    "SELECT '{{ a; }}'; SELECT ${b};": 2,
    "SELECT :'a;b'; SELECT :x;": 2,
    "SELECT 1\x00;SELECT 2": 2,
    'ALTER TABLE "weird;name" ADD COLUMN "c;" int; SELECT 1;': 2,
}


@pytest.mark.parametrize("text", CASES)
def test_statements_are_found(text: str) -> None:
    """As many as there are."""
    pieces = split(text)

    assert sum(p.kind == "statement" for p in pieces) == CASES[text]
    assert "".join(p.text for p in pieces) == text


@pytest.mark.parametrize("opened", ["'x", '"x', "$$ x", "$a$ x $$", "/* x /* */", "E'x\\'"])
def test_what_never_ends_costs_itself(opened: str) -> None:
    """The next line that starts a statement is read again."""
    pieces = split(f"SELECT 1;\nSELECT {opened};\n\nALTER TABLE t ADD COLUMN a int;\n")

    assert [p.kind for p in pieces if p.kind != "gap"] == ["statement", "broken", "statement"]


FRAGMENTS = st.sampled_from(
    ["'", '"', "$$", "$a$", "/*", "*/", "--", ";", "\n", "(", ")", "\\", "E'", "BEGIN ATOMIC", "END",
     "CASE", "SELECT 1", "COPY t FROM stdin;", "\\.", " ", "x", "\x00", "\ufeff", "é"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_the_pieces_rejoin(text: str) -> None:
    """Whatever the text; nothing is lost, nothing raises."""
    pieces = split(text)

    assert "".join(p.text for p in pieces) == text
    assert all(text[p.start : p.end] == p.text for p in pieces)
