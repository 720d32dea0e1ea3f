"""Type names: one spelling for each type, as `format_type` prints it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from zdd_migrate.model.names import QName

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int2": "smallint",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "decimal": "numeric",
    "dec": "numeric",
    "varchar": "character varying",
    "char varying": "character varying",
    "nchar varying": "character varying",
    "national character varying": "character varying",
    "national char varying": "character varying",
    "char": "character",
    "nchar": "character",
    "national character": "character",
    "national char": "character",
    "bpchar": "bpchar",  # without a length it is no character(1)
    "varbit": "bit varying",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
    "serial": "integer",
    "serial4": "integer",
    "smallserial": "smallint",
    "serial2": "smallint",
    "bigserial": "bigint",
    "serial8": "bigint",
}
SERIALS = {
    "serial": "integer",
    "serial4": "integer",
    "smallserial": "smallint",
    "serial2": "smallint",
    "bigserial": "bigint",
    "serial8": "bigint",
}
BUILTIN = frozenset(
    """integer smallint bigint real "double precision" boolean numeric text uuid json jsonb bytea
    date interval money inet cidr macaddr macaddr8 xml point line lseg box path polygon circle
    tsvector tsquery oid name "char" int4range int8range numrange tsrange tstzrange daterange
    int4multirange int8multirange nummultirange tsmultirange tstzmultirange datemultirange
    regclass regtype regproc regprocedure regoper regoperator regnamespace regrole pg_lsn
    txid_snapshot pg_snapshot xid xid8 cid tid void trigger record bpchar jsonpath""".split()
) | {
    "double precision",
    "character varying",
    "character",
    "bit",
    "bit varying",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
}
#: the names under which Postgres keeps its own types, where they are spelt otherwise
_STORED_AS = {
    "int4": "integer",
    "int2": "smallint",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "bpchar": "character",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
_NUMBER = re.compile(r"[-+]? ?\d+")
_DOT = re.compile(r"\s*\.\s*")
_ARRAY = re.compile(r"\sarray\s*$", re.IGNORECASE)
_QUOTED_OR_WORD = r'(?:"(?:[^"]|"")+"|[\w$]+)'


@dataclass(frozen=True, slots=True)
class Type:
    """A type taken apart: `base` in `format_type` spelling, modifiers, and how many array levels.

    `Type("character varying", (20,), 0)` is varchar(20). `fields` are an interval's
    (`year to month`). A user-defined type keeps its own (possibly qualified) name as `base`.
    """

    base: str
    modifiers: tuple[int | str, ...] = ()
    dimensions: int = 0
    fields: str = ""

    def __str__(self) -> str:
        text = self.base
        modifiers = f"({','.join(str(m) for m in self.modifiers)})" if self.modifiers else ""
        if self.base.startswith(("timestamp ", "time ")):
            head, _, tail = self.base.partition(" ")
            text = f"{head}{modifiers} {tail}"
        else:
            if self.fields:
                text += f" {self.fields}"
            text += modifiers
        return text + "[]" * min(self.dimensions, 1)

    @property
    def builtin(self) -> bool:
        """Whether it is one of Postgres' own types."""
        return self.base in BUILTIN


@lru_cache(maxsize=4096)
def parse_type(text: str) -> Type:
    """Take a type's text apart. Unknown names are kept as they are, folded."""
    rest = " ".join(text.split())
    dimensions = 0
    if (match := re.search(r"(?:\s*\[\s*\d*\s*\])+$", rest)) and not _ARRAY.search(
        rest[: match.start()]
    ):
        dimensions = match[0].count("[")
        rest = rest[: match.start()].strip()
    elif match := re.search(r"\s+array(?:\s*\[\s*\d*\s*\])?$", rest, re.IGNORECASE):
        dimensions = 1
        rest = rest[: match.start()].strip()
    modifiers: tuple[int | str, ...] = ()
    if match := re.search(r"\(([^()]*)\)", rest):
        modifiers = tuple(
            int(part.replace(" ", "")) if _NUMBER.fullmatch(part) else part
            for part in (_modifier(p.strip()) for p in match[1].split(","))
            if part
        )
        rest = f"{rest[: match.start()].strip()} {rest[match.end() :].strip()}".strip()
    if '"' in rest:
        return _quoted(_fold_quoted(rest), modifiers, dimensions)
    rest = _DOT.sub(".", rest.lower()).removeprefix("pg_catalog.")
    fields = ""
    if rest.startswith("interval "):
        rest, fields = "interval", rest.removeprefix("interval ").strip()
    if rest == "float":
        single = bool(modifiers) and isinstance(modifiers[0], int) and modifiers[0] <= 24
        return Type("real" if single else "double precision", (), dimensions)
    base = _ALIASES.get(rest, rest)
    if base == "bpchar" and modifiers:
        base = "character"
    if base == "character" and not modifiers:
        modifiers = (1,)
    if base == "bit" and not modifiers:
        modifiers = (1,)
    if base == "numeric" and len(modifiers) == 1:
        modifiers = (modifiers[0], 0)
    return Type(base, modifiers, dimensions, fields)


def _modifier(text: str) -> str:
    """A word is an identifier: `geometry(Point)` and `geometry(POINT)` are one type."""
    return text.lower() if text.isidentifier() else text


def _quoted(name: str, modifiers: tuple[int | str, ...], dimensions: int) -> Type:
    """A quoted name: one of Postgres' own under the name it is stored by, or a type of the user."""
    plain = name.removeprefix("pg_catalog.")
    if plain == "char":
        return Type('"char"', (), dimensions)
    if plain == name and plain not in _STORED_AS:
        return Type(name, modifiers, dimensions)
    plain = _STORED_AS.get(plain, plain)
    if plain == "character" and not modifiers:
        plain = "bpchar"
    if plain == "numeric" and len(modifiers) == 1:
        modifiers = (modifiers[0], 0)
    return Type(plain, modifiers, dimensions)


def _fold_quoted(text: str) -> str:
    parts = re.findall(_QUOTED_OR_WORD, text)
    return ".".join(
        part
        if part.startswith('"') and not re.fullmatch(r'"[a-z_][a-z0-9_$]*"', part)
        else part.strip('"')
        if part.startswith('"')
        else part.lower()
        for part in parts
    )


@lru_cache(maxsize=4096)
def type_name(text: str) -> QName:
    """The name of a type's base, as Postgres stores it: what the user's own types are kept under."""
    parts = re.findall(_QUOTED_OR_WORD, parse_type(text).base)
    bare = [p[1:-1].replace('""', '"') if p.startswith('"') else p for p in parts]
    return QName(bare[-2] if len(bare) > 1 else None, bare[-1])


@lru_cache(maxsize=1024)
def normalise_type(text: str) -> str:
    """One spelling per type: `int4` and `INTEGER` both give `integer`."""
    return str(parse_type(text))
