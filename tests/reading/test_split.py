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
    "SELECT {{ a; b }} FROM t; SELECT ${a;b}; SELECT 1": 3,
    "{% if x; %}SELECT 1;{% endif %}": 2,
    "SELECT {{ 'it }}; SELECT ' {{ ';": 2,
    "SELECT 'x' \\gexec\nSELECT 2;": 2,
    "SELECT 1 AS a \\gset\n\\echo it's :a\nSELECT 2;": 2,
    "SELECT 1; \\echo it's done\nSELECT 2;": 2,
    "SELECT 1\\; SELECT 2;": 2,
    "\\echo hi \\\\ DROP TABLE users;": 1,
    "SELECT 1 -- remark\r; SELECT 2": 2,
    "-- remark\rDROP TABLE users;": 1,
    "COPY t FROM stdin;\r\n1;2\r\n\\.\r\nSELECT 1;": 2,
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC\n SELECT 1;\nEND;\nSELECT 2;": 2,
    "CREATE RULE r AS ON UPDATE TO t DO INSTEAD (DELETE FROM a; INSERT INTO b VALUES (';)'));": 1,
    "SELECT $é$;$é$; SELECT 2": 2,
    "SELECT a.end, b.case; SELECT 2": 2,
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


def kinds(text: str) -> list[str]:
    """The pieces' kinds, gaps left out."""
    return [p.kind for p in split(text) if p.kind != "gap"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT (1;\nSELECT 2;\n", "a parenthesis that never ends"),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1;\nSELECT 2;\n", "a parenthesis"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;\nSELECT 2;\n", "a BEGIN ATOMIC"),
    ],
)
def test_what_never_closes_costs_itself(text: str, problem: str) -> None:
    """And says where it opened."""
    broken, *rest = [p for p in split(text) if p.kind != "gap"]

    assert broken.kind == "broken"
    assert broken.problem.startswith(problem)
    assert text[broken.opened] in "(B"
    assert [p.text for p in rest] == ["SELECT 2;"]


def test_a_quote_too_many_costs_its_own_statement() -> None:
    """Even where a later quote seems to close it: reading goes on after the next semicolon."""
    text = "SELECT 'x;\nALTER TABLE t ADD COLUMN a text DEFAULT 'y';\nDROP TABLE t;\n"

    assert kinds(text) == ["broken", "statement", "statement"]


def test_data_of_copy_without_an_end_is_said() -> None:
    """psql takes everything that follows as rows: those statements never run."""
    copied = split("COPY t FROM stdin;\n1\nDROP TABLE t;\n")[-1]

    assert copied.kind == "copy_data"
    assert copied.problem


@pytest.mark.parametrize(
    "unit",
    ["SELECT 'a;\n", "SELECT (1;\n", "/*\nSELECT 1;\n", "SELECT $a{n}$ x;\n", "E'\\\n", "\\echo\n", "{{",
     "$$;", "((((", "SELECT 1;", "COPY t FROM stdin;\n", "BEGIN ATOMIC;\n", "'' ", "--\r", '"', ";--\n"],
)  # fmt: skip
def test_work_grows_with_the_length_alone(unit: str) -> None:
    """Whatever never ends: a file of half a megabyte is cut in one go (a hang would be hours)."""
    text = "".join(unit.replace("{n}", str(n)) for n in range(500_000 // len(unit)))

    assert sum(len(p.text) for p in split(text)) == len(text)


FRAGMENTS = st.sampled_from(
    ["'", '"', "$$", "$a$", "/*", "*/", "--", ";", "\n", "(", ")", "\\", "E'", "BEGIN ATOMIC", "END",
     "CASE", "SELECT 1", "COPY t FROM stdin;", "\\.", " ", "x", "\x00", "\ufeff", "é", "{{", "}}", "${",
     "}", "\r", "\\g", "\\;", "[", "]"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_the_pieces_rejoin(text: str) -> None:
    """Whatever the text; nothing is lost, nothing raises."""
    pieces = split(text)

    assert "".join(p.text for p in pieces) == text
    assert all(text[p.start : p.end] == p.text for p in pieces)


def test_a_body_may_end_where_the_text_ends() -> None:
    """Without a semicolon behind its END."""
    text = "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END"

    assert [(p.kind, p.text) for p in split(text)] == [("statement", text)]
