"""Tokens, types, expressions and constraints are read as Postgres reads them."""

from __future__ import annotations

import pytest

from zdd_migrate.grammar.conversions import Conversion, conversion, lossless
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, rename_names, squeeze, volatility
from zdd_migrate.grammar.queries import has_stars, write_out_star
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations import read_statement


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("int", "integer"),
        ("VARCHAR ( 20 )", "character varying(20)"),
        ("character varying", "character varying"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("timestamp", "timestamp without time zone"),
        ("char", "character(1)"),
        ("numeric(10)", "numeric(10,0)"),
        ("decimal(10, 2)", "numeric(10,2)"),
        ("int[][3]", "integer[]"),
        ("text ARRAY", "text[]"),
        ("bigserial", "bigint"),
        ("float(20)", "real"),
        ("float", "double precision"),
        ('"Status"', '"Status"'),
        ("interval day to second", "interval day to second"),
        ("pg_catalog.int4", "integer"),
    ],
)
def test_types_have_one_spelling(text: str, name: str) -> None:
    """The one format_type prints."""
    assert normalise_type(text) == name


@pytest.mark.parametrize(
    ("old", "new", "work"),
    [
        ("varchar(50)", "varchar(100)", Conversion.CATALOG),
        ("varchar(50)", "text", Conversion.CATALOG),
        ("text", "varchar", Conversion.CATALOG),
        ("text", "varchar(10)", Conversion.REWRITE),
        ("varchar(50)", "varchar(20)", Conversion.REWRITE),
        ("numeric(10,2)", "numeric(12,2)", Conversion.CATALOG),
        ("numeric(10,2)", "numeric", Conversion.CATALOG),
        ("numeric(10,2)", "numeric(12,4)", Conversion.REWRITE),
        ("int", "bigint", Conversion.REWRITE),
        ("char(10)", "char(20)", Conversion.REWRITE),
        ("timestamp(3)", "timestamp(6)", Conversion.CATALOG),
        ("timestamp(6)", "timestamp(3)", Conversion.REWRITE),
        ("timestamp", "timestamptz", Conversion.REWRITE),
        ("cidr", "inet", Conversion.CATALOG),
        ("varchar(20)[]", "text[]", Conversion.REWRITE),
        ("json", "jsonb", Conversion.REWRITE),
    ],
)
def test_what_a_type_change_costs(old: str, new: str, work: Conversion) -> None:
    """As measured."""
    assert conversion(old, new, utc=False) is work


def test_time_zones_decide() -> None:
    """timestamp to timestamptz only rebuilds indexes where the session's zone is UTC."""
    assert conversion("timestamp", "timestamptz", utc=True) is Conversion.REINDEX
    assert lossless("int", "bigint")
    assert not lossless("bigint", "int")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("lower(user_name) || 'x'::text", {"user_name"}),
        ("CAST(a AS varchar(20)) > b", {"a", "b"}),
        ('"A b" IS NOT NULL AND users.c > 1', {"A b", "c"}),
        ("date '2020-01-01' + interval '1 day' > d", {"d"}),
        ("CASE WHEN a THEN b ELSE c END", {"a", "b", "c"}),
        ("x = ANY (ARRAY['a'::text, 'b'])", {"x"}),
    ],
)
def test_columns_of_an_expression(text: str, names: set[str]) -> None:
    """Names, not functions, types or keywords."""
    assert analyse(text).names == names


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("'x'", "immutable"),
        ("now() + interval '1 day'", "stable"),
        ("CURRENT_TIMESTAMP", "stable"),
        ("gen_random_uuid()", "volatile"),
        ("clock_timestamp()", "volatile"),
        ("nobody_knows(1)", "volatile"),
    ],
)
def test_how_volatile(text: str, kind: str) -> None:
    """Unknown functions count as volatile: the safe mistake."""
    assert volatility(text)[0] == kind


def test_names_are_replaced_where_columns_stand() -> None:
    """And nowhere else."""
    text = "lower(a) || a::text || t.a || 'a' || a(3) || b COLLATE a"

    assert rename_names(text, {"a": '"A b"'}) == (
        'lower("A b") || "A b"::text || t."A b" || \'a\' || a(3) || b COLLATE a'
    )


def test_a_default_ends_where_its_constraint_begins() -> None:
    """IS NOT DISTINCT FROM is no NOT NULL, nor is NOT inside CASE."""
    cursor = Cursor("b IS NOT DISTINCT FROM 3 NOT NULL")
    assert cursor.expression() == "b IS NOT DISTINCT FROM 3"
    cursor = Cursor("CASE WHEN a IS NOT NULL THEN 1 END NOT NULL")
    assert cursor.expression() == "CASE WHEN a IS NOT NULL THEN 1 END"


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("ALTER TABLE t RENAME a TO b", ["rename_column"]),
        ("ALTER TABLE t RENAME TO b", ["rename_table"]),
        ('ALTER TABLE ONLY "T"."x" RENAME COLUMN "to" TO "from"', ["rename_column"]),
        ("ALTER /* x */ TABLE t -- y\n ADD c int, DROP d, ALTER e SET NOT NULL",
         ["add_column", "drop_column", "set_not_null"]),
        ("ALTER TABLE t ADD CONSTRAINT a CHECK (x > 1) NOT VALID, ADD b int",
         ["add_constraint", "add_column"]),
        ("ALTER TABLE t ADD check_it boolean", ["add_column"]),
        ("CREATE INDEX ON t (a)", ["create_index"]),
        ("CREATE TABLE t (LIKE u INCLUDING ALL)", ["create_table"]),
        ("DROP INDEX a, b", ["drop_index", "drop_index"]),
        ("ALTER TABLE t FROBNICATE", ["not_understood"]),
        ("ALTER TABLE t ADD COLUMN a int nonsense here", ["not_understood"]),
        ("SELECT 1 FROM", ["not_understood"]),
        ("LOCK TABLE users IN ACCESS SHARE MODE", ["lock_table"]),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", ["maintain"]),
        ("", []),
        (";", []),
        ("-- nothing", []),
        ("DO $$ BEGIN CREATE TYPE e AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
         ["do_block", "create_type"]),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$", ["do_block", "drop_table"]),
        ("DO $$ BEGIN EXECUTE format('DROP TABLE %I', x); END $$", ["do_block", "not_understood"]),
    ],
)  # fmt: skip
def test_statements_are_read_as_what_they_are(sql: str, kinds: list[str]) -> None:
    """What Alembic emits for a column is no rename of the table."""
    assert [o.kind for o in read_statement(sql)] == kinds


def test_no_token_is_left_out() -> None:
    """sqlglot swallows the rest of some statements whole: what is read names what is written."""
    (locked,) = read_statement("LOCK TABLE ONLY a.users IN SHARE MODE")

    assert locked.describe(Schema())["relation"] == "a.users"
    assert locked.describe(Schema())["mode"] == "SHARE"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it''s'", "it's"),
        ("'a'\n  'b'", "ab"),
        ("'a' -- and on\n'b'", "ab"),
        ("'\\'", "\\"),
        (r"E'\'\\\n\x41\u00e4\U0001F600\101'", "'\\\nAä😀A"),
        (r"U&'d\0061t\+000061'", "data"),
        ("$$a'b$$", "a'b"),
        ("$x$ $$ $x$", " $$ "),
    ],
)
def test_what_a_literal_says(text: str, value: str) -> None:
    """In every spelling; one that goes on in the next line is one literal."""
    cursor = Cursor(text)

    assert cursor.string() == value
    assert cursor.done


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Users", "users"),
        ('"Users"', "Users"),
        ('"a""b"', 'a"b'),
        ("GRÖßE", "grÖße"),
        (r'U&"\00e4!"', "ä!"),
        ("U&\"!00e4\" UESCAPE '!'", "ä"),
        ("a" * 70, "a" * 63),
        ('"' + "ä" * 40 + '"', "ä" * 31),
    ],
)
def test_names_are_what_postgres_stores(text: str, name: str) -> None:
    """Folded in ASCII alone, and cut off at 63 bytes, no letter in two."""
    cursor = Cursor(text)

    assert cursor.name() == name
    assert cursor.done


def test_white_space_in_a_literal_is_kept() -> None:
    """Only what stands between tokens is folded."""
    assert squeeze("a  ||\n 'x  y' -- why\n || $$ z  $$") == "a || 'x  y' || $$ z  $$"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("SELECT * FROM t", "SELECT a, b FROM t"),
        ("select distinct *, a * 2 from s.t where b > 1", "select distinct a, b, a * 2 from s.t where b > 1"),
        ("SELECT count(*), * FROM t;", "SELECT count(*), a, b FROM t;"),
        ("SELECT * FROM t AS x", None),
        ("SELECT * FROM t, u", None),
        ("SELECT t.* FROM t", None),
        ("SELECT * FROM (SELECT * FROM t) x", None),
    ],
)  # fmt: skip
def test_all_columns_are_written_out_where_they_are_one_tables(
    text: str, written: str | None
) -> None:
    """And left alone where they might be more than those of the table."""
    assert has_stars(text)
    assert write_out_star(text, ["a", "b"]) == written


def test_a_star_may_multiply_or_count() -> None:
    """Then it stands for no column."""
    assert not has_stars("SELECT count(*), a * 2 FROM t")
