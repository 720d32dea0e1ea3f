"""What Postgres must do to change a column from one type to another.

Measured on majors 14 to 18: most changes rewrite the table and all its indexes, a few only rebuild
the column's indexes, and some touch nothing but the catalog.
"""

from __future__ import annotations

import re
from enum import Enum

from zdd_migrate.grammar.types import Type, parse_type

_TEXTUAL = ("text", "character varying")
_WHOLE = ("smallint", "integer", "bigint")


class Conversion(Enum):
    """How much work a type change is, least first."""

    CATALOG = "catalog"
    REINDEX = "reindex"
    REWRITE = "rewrite"


def conversion(old: str, new: str, *, utc: bool) -> Conversion:
    """The work of changing `old` into `new` (type texts). `utc` is whether the session's zone is."""
    a, b = parse_type(old), parse_type(new)
    if a == b:
        return Conversion.CATALOG
    if a.dimensions != b.dimensions or a.dimensions:
        return Conversion.REWRITE
    if a.base in _TEXTUAL and b.base in _TEXTUAL:
        return Conversion.CATALOG if _room(b) >= _room(a) else Conversion.REWRITE
    if b.base == "bpchar" and not b.modifiers and a.base in (*_TEXTUAL, "character", "bpchar"):
        return Conversion.CATALOG
    pair = (a.base, b.base)
    if pair in (("cidr", "inet"), ("xml", "text"), ("xml", "character varying")):
        return Conversion.CATALOG if not b.modifiers else Conversion.REWRITE
    if pair in (("integer", "oid"), ("oid", "integer")):
        return Conversion.REINDEX
    if {a.base, b.base} == {"timestamp without time zone", "timestamp with time zone"}:
        kept = _precision(b) >= _precision(a)
        return Conversion.REINDEX if utc and kept else Conversion.REWRITE
    if "citext" in pair and (a.base in _TEXTUAL or b.base in _TEXTUAL):
        return Conversion.REINDEX if not b.modifiers else Conversion.REWRITE
    if a.base == b.base:
        return _same_base(a, b)
    return Conversion.REWRITE


def _same_base(a: Type, b: Type) -> Conversion:
    """Only the modifiers differ."""
    if a.base == "numeric":
        if not b.modifiers:
            return Conversion.CATALOG
        if not a.modifiers:
            return Conversion.REWRITE
        wider = int(b.modifiers[0]) >= int(a.modifiers[0]) and a.modifiers[1:] == b.modifiers[1:]
        return Conversion.CATALOG if wider else Conversion.REWRITE
    if a.base == "bit varying":
        return Conversion.CATALOG if _room(b) >= _room(a) else Conversion.REWRITE
    if a.base.startswith(("timestamp ", "time ")) or a.base == "interval":
        # an interval loses nothing that its fields do not cut off: those ending in seconds keep all
        keeps = not b.fields or a.fields == b.fields or b.fields.endswith("second")
        wider = _precision(b) >= _precision(a) and keeps
        return Conversion.CATALOG if wider else Conversion.REWRITE
    return Conversion.REWRITE


def _room(type_: Type) -> int:
    return int(type_.modifiers[0]) if type_.modifiers else 1 << 30


def _precision(type_: Type) -> int:
    return int(type_.modifiers[0]) if type_.modifiers else 6


#: types whose text depends on the session, or is read back as something else
_LOSSY_AS_TEXT = (
    "real", "double precision", "character", "money", "xml", "interval", "time with time zone",
    "timestamp with time zone", "timestamp without time zone", "date", "bytea",
)  # fmt: skip


def lossless(old: str, new: str) -> bool:
    """Whether every value of `old` survives the way to `new` and back."""
    a, b = parse_type(old), parse_type(new)
    if a.dimensions or b.dimensions:
        return a == b
    if a.base in _WHOLE:
        if b.base in _WHOLE:
            return _WHOLE.index(b.base) >= _WHOLE.index(a.base)
        return (b.base == "numeric" and not b.modifiers) or (b.base in _TEXTUAL and not b.modifiers)
    if a.base in _TEXTUAL and b.base in (*_TEXTUAL, "citext"):
        return _room(b) >= _room(a)
    if b.base == "text":
        return a.base not in _LOSSY_AS_TEXT
    return conversion(old, new, utc=False) is Conversion.CATALOG


_NUMBERS = (*_WHOLE, "numeric", "real", "double precision")
_TIMES = ("date", "timestamp without time zone", "timestamp with time zone")
_STRINGS = (*_TEXTUAL, "character", "citext", "name")
#: pairs of groups whose members Postgres assigns to one another without being told (pg_cast)
_GROUPS = (_NUMBERS, _TIMES, _STRINGS, ("json", "jsonb"), ("inet", "cidr"), ("bit", "bit varying"))


def assignable(old: str, new: str) -> bool:
    """Whether an `old` value may be written to a column of type `new` without an explicit cast.

    A statement that was prepared while the column was `old`, and infers its parameters from it,
    goes on working when the column is `new` only then.
    """
    a, b = parse_type(old), parse_type(new)
    if a.dimensions != b.dimensions:
        return False
    if a.base == b.base or b.base in _STRINGS:
        return True
    return any(a.base in group and b.base in group for group in _GROUPS)


def fits(value: str, old: str, new: str, pg: int) -> str | None:
    """SQL that tells whether `value` (SQL, of type `old`) can be stored as `new` unchanged.

    None where every value can, or where no such test is known for this major.
    """
    a, b = parse_type(old), parse_type(new)
    if lossless(old, new) or a.dimensions or (b.base in _TEXTUAL and not b.modifiers):
        return None
    if b.base in _TEXTUAL and b.modifiers and a.base in _STRINGS:
        return f"length({value}) <= {b.modifiers[0]}"
    if a.base in _WHOLE and b.base in _WHOLE:
        limit = {"smallint": 32767, "integer": 2147483647}[b.base]
        return f"{value} BETWEEN {-limit - 1} AND {limit}"
    if b.base == "numeric" and not b.modifiers and a.base in _NUMBERS:
        return None
    if pg >= 16:
        spelled = new.replace("'", "''")
        return f"pg_input_is_valid({value}::text, '{spelled}')"
    return None


_AT_ZONE = re.compile(r"(?P<column>[\w$\"]+)\s+AT\s+TIME\s+ZONE\s+(?P<zone>'[^']+')", re.IGNORECASE)


def inverse(using: str, column: str) -> str | None:
    """The way back of a USING expression over `column` (quoted), where its form tells it.

    A cast comes back by a cast (None: the caller knows the old type); a reading at a named zone is
    its own way back.
    """
    text = using.strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    match = _AT_ZONE.fullmatch(text)
    if match is None or match["column"].strip('"').lower() != column.strip('"').lower():
        return None
    return f"{column} AT TIME ZONE {match['zone']}"
