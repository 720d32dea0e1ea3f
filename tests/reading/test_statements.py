"""A file's text as statements: where each stands, what psql and templates do to it."""

from __future__ import annotations

import pytest

from zdd_migrate.errors import InputError
from zdd_migrate.operations import NotUnderstood
from zdd_migrate.reading.statements import decode, read_sql, section


def reasons(text: str) -> list[str]:
    """What was not understood, in order."""
    return [
        operation.reason
        for statement in read_sql(text, "m.sql").statements
        for operation in statement.operations
        if isinstance(operation, NotUnderstood)
    ]


def test_spans_are_the_files() -> None:
    """Lines and columns from 1, in spite of carriage returns, comments and broken neighbours."""
    text = "-- one\r\nSELECT 1;  SELECT\r\n 2;\r\nSELECT 'x;\r\nDROP TABLE t;\r\n"
    found = read_sql(text, "m.sql").statements

    assert [(s.span.line, s.span.column, s.span.end_line, s.span.end_column) for s in found] == [
        (2, 1, 2, 9),
        (2, 12, 3, 3),
        (4, 1, 4, 10),
        (5, 1, 5, 13),
    ]
    assert [text[s.span.start : s.span.end] for s in found][-1] == "DROP TABLE t;"
    assert [s.understood for s in found] == [True, True, False, True]
    assert reasons(text) == [
        "a string that never ends, from line 4, column 8 on: the rest of the statement cannot be read"
    ]


def test_a_section_keeps_its_place() -> None:
    """The rest of the file is blanked, not cut off."""
    text = "-- up\nSELECT 1;\n-- down\nDROP TABLE t;\n"
    kept = section(text, 6, 16)

    assert len(kept) == len(text)
    assert kept.strip() == "SELECT 1;"
    assert read_sql(kept, "m.sql").statements[0].span.line == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\\i other.sql\n", "psql runs other.sql here"),
        ("\\ir 'sub dir/x.sql'\n", "psql runs sub dir/x.sql here"),
        ("\\connect other\n", "another database"),
        ("\\c other\n", "another database"),
        ("SELECT format('DROP TABLE %I', x) FROM t \\gexec\n", "as statements"),
        ("\\if :yes\nSELECT 1;\n\\endif\n", "psql decides here"),
        ("\\! rm -rf x\n", "a program is run"),
        ("\\copy t from x.csv\n", "a file of the client"),
        ("\\frobnicate\n", "the psql command \\frobnicate is not followed"),
        ("SELECT 1\x00;", "NUL"),
    ],
)
def test_what_psql_does_besides(text: str, says: str) -> None:
    """A command that can change something is not understood; none is passed over in silence."""
    assert [says in reason for reason in reasons(text)] == [True]


def test_what_psql_says_is_no_matter() -> None:
    """Commands that print or set, and rows that follow COPY."""
    text = (
        "\\set ON_ERROR_STOP on\n\\echo it's fine\n\\timing\n\\restrict abc\nCOPY t FROM stdin;\n"
        "1\tDROP TABLE u;\n\\.\n\\d t\nSELECT 1;\n\\unrestrict abc\n"
    )

    assert reasons(text) == []
    assert len(read_sql(text, "m.sql").statements) == 2


def test_statements_behind_a_carriage_return_are_seen() -> None:
    """A lone one ends a comment for Postgres."""
    found = read_sql("SELECT 1 -- x\r, 2;\r-- y\rDROP TABLE t;", "m.sql").statements

    assert [s.operations[0].kind for s in found] == ["data_statement", "drop_table"]
    dropped = read_sql("ALTER TABLE t -- x\r DROP COLUMN a", "m.sql").statements[0].operations
    assert [o.kind for o in dropped] == ["drop_column"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfSELECT 1", "SELECT 1"),
        ("SELECT 'é'".encode("utf-16"), "SELECT 'é'"),
        ("SELECT 1;\n".encode("utf-16-le"), "SELECT 1;\n"),
        ("SELECT 1;\n".encode("utf-16-be"), "SELECT 1;\n"),
        (b"SELECT 'a long enough text' \x00;", "SELECT 'a long enough text' \x00;"),
        (b"", ""),
    ],
)
def test_text_is_decoded(data: bytes, text: str) -> None:
    """UTF-8 and UTF-16, with a mark or without."""
    assert decode(data, "m.sql") == text


@pytest.mark.parametrize(
    "data", [b"\xff\xfea", b"\x7fELF\x00\x00\x00\x00\x01", b"a\nb\xe9", b"\x00\x00\x00\x01"]
)
def test_what_is_no_text_is_said(data: bytes) -> None:
    """One line, naming the file."""
    with pytest.raises(InputError, match=r"^m\.sql"):
        decode(data, "m.sql")


def names(text: str) -> list[str]:
    """Relations of the statements, as read."""
    return [
        str(operation.relation)
        for statement in read_sql(text, "m.sql").statements
        for operation in statement.operations
    ]


def test_variables_of_psql() -> None:
    """Known from \\set; else a name stands in for itself, and anything more is not understood."""
    known = "\\set s app\n\\set t 'big table'\nALTER TABLE :s.:\"t\" DROP COLUMN a;"
    assert names(known) == ["app.big table"]
    assert names("ALTER TABLE :schema.users DROP COLUMN a;") == [":schema.users"]
    assert reasons("ALTER TABLE users ADD COLUMN a int DEFAULT :x;") == [
        "what stands for :x is not known here"
    ]
    assert reasons("ALTER TABLE users ADD COLUMN a text DEFAULT :'x';") == []
    assert reasons('SELECT a::int, b[1:2], \':x\', ":y", 1 AS "a:b" FROM t -- :z') == []


def test_templates() -> None:
    """A name may be one; whatever could be more than a name is not understood."""
    template = '{{ index .Options "Namespace" }}'
    assert names(f"ALTER TABLE {template}.users DROP COLUMN a;") == [f"{template}.users"]
    assert names("ALTER TABLE ${schema}.users_${env} DROP COLUMN a;") == ["${schema}.users_${env}"]
    assert names("{# a remark; #}ALTER TABLE t DROP COLUMN a;") == ["t"]
    filled = "ALTER TABLE ${s}.t DROP COLUMN ${ a };"
    (operation,) = read_sql(filled, "m.sql", known={"s": "app", "a": "b"}).statements[0].operations
    assert (str(operation.relation), getattr(operation, "column", None)) == ("app.t", "b")
    for text in (
        "ALTER TABLE t ADD COLUMN a int DEFAULT {{ x }};",
        "ALTER TABLE t ${ actions };",
        "{{ everything }};",
        "{% if x %}DROP TABLE t;",
    ):
        assert len(reasons(text)) == 1, text


def test_the_place_of_what_was_not_understood_is_the_sources() -> None:
    """Offsets are mapped back through what was filled in."""
    text = "ALTER TABLE ${s}.users FROBNICATE;"
    for known in ({}, {"s": "a_much_longer_schema_name"}):
        (operation,) = read_sql(text, "m.sql", known=known).statements[0].operations
        assert isinstance(operation, NotUnderstood)
        assert operation.offset == text.index("FROBNICATE")


def test_transactions_of_a_message() -> None:
    """Several statements in one message share a transaction; a single one has none."""

    def inside(text: str, *, at_once: bool) -> list[bool]:
        read = read_sql(text, "m.sql", in_transaction=False, at_once=at_once)
        return [s.in_transaction for s in read.statements]

    assert inside("SELECT 1;", at_once=True) == [False]
    assert inside("SELECT 1; SELECT 2;", at_once=True) == [True, True]
    assert inside("SELECT 1; COMMIT; SELECT 2;", at_once=True) == [True, True, True]
    assert inside("SELECT 1; SELECT 2;", at_once=False) == [False, False]
    assert inside("BEGIN; SELECT 1; COMMIT; SELECT 2;", at_once=False) == [True, True, True, False]
