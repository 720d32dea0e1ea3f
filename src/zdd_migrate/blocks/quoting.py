"""Quoting for generated SQL: the one place where identifiers and literals become SQL text."""

from __future__ import annotations

import re

from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.names import QName

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
#: words that cannot stand bare as a column or table name (reserved, or reserved but for functions
#: and types), majors 14 to 18; source: pg_get_keywords() with catcode R, T and C
_RESERVED = frozenset(
    """all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user dec decimal default deferrable desc distinct do else end except
    exists extract false fetch float for foreign freeze from full grant greatest group grouping
    having ilike in initially inner inout int integer intersect interval into is isnull join
    json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
    json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp merge_action national natural nchar none normalize not notnull null nullif
    numeric offset on only or order out outer overlaps overlay placing position precision primary
    real references returning right row select session_user setof similar smallint some substring
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
    xmltable""".split()
)


def quote_ident(name: str) -> str:
    """An identifier as SQL: bare where Postgres would read it back the same, else quoted."""
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_qname(name: QName) -> str:
    """A possibly schema-qualified name as SQL."""
    if name.schema is None:
        return quote_ident(name.name)
    return f"{quote_ident(name.schema)}.{quote_ident(name.name)}"


def quote_literal(text: str) -> str:
    """A string literal that reads back as `text`, whatever standard_conforming_strings says."""
    body = text.replace("'", "''")
    if "\\" in body:
        return " E'" + body.replace("\\", "\\\\") + "'"
    return f"'{body}'"


def folded(condition: str) -> str:
    """A simple condition in one spelling: blanks squeezed, bare words in lower case, names in quotes
    only where they need them. For text without string literals."""
    parts = re.split(r'"((?:[^"]|"")+)"', squeeze(condition))
    return "".join(
        quote_ident(part.replace('""', '"')) if at % 2 else part.lower()
        for at, part in enumerate(parts)
    )
