"""What Postgres must do to change a column from one type to another.

Measured on majors 14 to 18: most changes rewrite the table and all its indexes, a few only rebuild
the column's indexes, and some touch nothing but the catalog.
"""

from __future__ import annotations

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
        return a.base in ("uuid", "date", "boolean", "inet", "cidr", "bytea")
    return conversion(old, new, utc=False) is Conversion.CATALOG
