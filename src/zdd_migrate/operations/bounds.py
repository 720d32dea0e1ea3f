"""Whether a table's validated checks prove that its rows fit a partition's bound, or miss it.

Then ATTACH PARTITION reads no row of the table that joins, and none of the default partition. Only
bounds over one column are followed; whatever is not followed counts as not proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.tokens import NUMBER, QUOTED, WORD, Token, tokenise
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.facts import partition_columns

Key = Decimal | str
_END = "end of text"
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d)?")


class _UnorderedError(Exception):
    """Two values whose order is not known here (text of some collation)."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Values from `low` to `high`; None is without end. The ends belong to it where they say so."""

    low: Key | None = None
    low_in: bool = True
    high: Key | None = None
    high_in: bool = True


@dataclass(frozen=True, slots=True)
class _Region:
    """The values of one column that an expression does not refuse; `null` is what NULL makes it."""

    spans: tuple[_Span, ...]
    null: bool | None = None  # True, False, or None for unknown, which a check lets pass


_ALL = _Region((_Span(),))


def fits(schema: Schema, table: Table, parent: Table, bound: str) -> bool:
    """Whether no row of `table` can lie outside the bound of `parent`'s new partition."""
    key = _key(parent)
    if key is None:
        return False
    try:
        rows = _rows(table, key)
        if bound == "DEFAULT":
            others = [
                p.bound
                for p in schema.partitions_of(parent.name)
                if p.bound not in (None, "DEFAULT")
            ]
            return all(_apart(rows, _bound(other, key)) for other in others if other is not None)
        inside = _bound(bound, key)
        if rows.null is not False and inside.null is not True:
            return False
        return all(any(_within(span, wide) for wide in inside.spans) for span in rows.spans)
    except (_UnorderedError, UnreadError, IndexError):
        return False


def misses(table: Table, parent: Table, bound: str) -> bool:
    """Whether no row of `table` (the default partition) can lie inside the bound."""
    key = _key(parent)
    if key is None:
        return False
    try:
        return _apart(_rows(table, key), _bound(bound, key))
    except (_UnorderedError, UnreadError, IndexError):
        return False


_RANGE = re.compile(r"FOR\s+VALUES\s+FROM\s*\((.+)\)\s*TO\s*\((.+)\)", re.IGNORECASE | re.DOTALL)
_LIST = re.compile(r"FOR\s+VALUES\s+IN\s*\((.+)\)", re.IGNORECASE | re.DOTALL)


def as_check(parent: Table, bound: str) -> str | None:
    """SQL that holds for exactly the rows of a bound over one column; None where it is no such."""
    key = _key(parent)
    if key is None:
        return None
    column = quote_ident(key.column)
    if (span := _RANGE.fullmatch(bound.strip())) is not None:
        ends = zip((">=", "<"), (span[1].strip(), span[2].strip()), strict=True)
        parts = [
            f"{column} {op} {v}" for op, v in ends if v.upper() not in ("MINVALUE", "MAXVALUE")
        ]
        return " AND ".join([f"{column} IS NOT NULL", *parts])
    if (values := _LIST.fullmatch(bound.strip())) is not None:
        if re.search(r"\bNULL\b", values[1], re.IGNORECASE):
            return None
        return f"{column} IS NOT NULL AND {column} IN ({values[1].strip()})"
    return None


def overlap(parent: Table, bound: str, other: str) -> bool:
    """Whether two bounds of the same table are seen to meet."""
    key = _key(parent)
    if key is None:
        return False
    if "DEFAULT" in (bound, other):
        return bound == other
    try:
        return not _apart(_bound(bound, key), _bound(other, key))
    except (_UnorderedError, UnreadError, IndexError):
        return False


@dataclass(frozen=True, slots=True)
class _Key:
    """The column a table is partitioned by; `kind` says how its literals are ordered."""

    column: str
    kind: Literal["number", "date", "text"]


def _key(parent: Table) -> _Key | None:
    columns = partition_columns(parent)
    if len(columns) != 1 or "," in (parent.partition_key or ""):
        return None
    column = parent.column(columns[0])
    base = parse_type(column.type).base if column is not None else ""
    if base in ("smallint", "integer", "bigint", "numeric"):
        return _Key(columns[0], "number")
    dated = base == "date" or base.startswith("timestamp ")
    return _Key(columns[0], "date" if dated else "text")


def _rows(table: Table, key: _Key) -> _Region:
    """What the table's checks and NOT NULL leave possible."""
    region = _ALL
    known = table.column(key.column)
    if known is not None and known.not_null:
        region = _Region(region.spans, null=False)
    for constraint in table.constraints:
        if constraint.kind == "check" and constraint.valid and constraint.enforced:
            text = constraint.expression or ""
            region = _both(region, _Reader(tokenise(text), key).whole())
    return region


def _bound(text: str, key: _Key) -> _Region:
    """`FOR VALUES FROM (a) TO (b)` or `FOR VALUES IN (…)` as a region."""
    tokens = tokenise(text)
    words = [t.up for t in tokens]
    if "IN" in words:
        reader = _Reader(tokens, key)
        reader.i = words.index("IN") + 1
        keys, null = reader.values()
        spans = tuple(_Span(k, True, k, True) for k in keys)
        return _Region(spans, null=null)
    if "FROM" in words and "TO" in words:
        reader = _Reader(tokens, key)
        reader.i = words.index("FROM") + 1
        low, _ = reader.values()
        reader.i = words.index("TO") + 1
        high, _ = reader.values()
        ends = (low[0] if low else None, high[0] if high else None)
        return _Region((_Span(ends[0], True, ends[1], False),), null=False)
    raise UnreadError("a bound that is not followed")


class _Reader:
    """Reads a check's expression into a region of one column; what it cannot follow allows all."""

    def __init__(self, tokens: list[Token], key: _Key) -> None:
        self.tokens, self.key, self.i = tokens, key, 0

    def up(self, ahead: int = 0) -> str:
        at = self.i + ahead
        return self.tokens[at].up if at < len(self.tokens) else _END

    def whole(self) -> _Region:
        region = self.alternatives()
        return region if self.i == len(self.tokens) else _ALL

    def alternatives(self) -> _Region:
        region = self.conjunction()
        while self.up() == "OR":
            self.i += 1
            region = _either(region, self.conjunction())
        return region

    def conjunction(self) -> _Region:
        region = self.term()
        while self.up() == "AND":
            self.i += 1
            region = _both(region, self.term())
        return region

    def term(self) -> _Region:
        start = self.i
        if self.up() == "(":
            self.i += 1
            region = self.alternatives()
            if self.up() == ")":
                self.i += 1
                if self.up() in (_END, "AND", "OR", ")"):
                    return region
            self.i = start
        region_ = self.comparison()
        if region_ is not None and self.up() in (_END, "AND", "OR", ")"):
            return region_
        self.i = start
        self.skip()
        return _ALL

    def comparison(self) -> _Region | None:
        if not self.at_column():
            return None
        if [self.up(k) for k in range(3)] == ["IS", "NOT", "NULL"]:
            self.i += 3
            return _Region((_Span(),), null=False)
        operator = self.up()
        self.i += 1
        if operator == "BETWEEN":
            low = self.value()
            self.i += self.up() == "AND"
            high = self.value()
            return (
                _Region((_Span(low, True, high, True),))
                if low is not None and high is not None
                else None
            )
        if operator == "IN":
            keys, _ = self.values()
            return _Region(tuple(_Span(k, True, k, True) for k in keys))
        if operator == "=" and self.up() == "ANY":
            self.i += 1
            brackets = 0
            while self.up() in ("(", "ARRAY"):
                brackets += self.up() == "("
                self.i += 1
            keys, _ = self.values("[", "]")
            while self.up() in (")", "::") or (self.i and self.tokens[self.i - 1].up == "::"):
                self.i += 1
            return _Region(tuple(_Span(k, True, k, True) for k in keys))
        value = self.value()
        if value is None:
            return None
        match operator:
            case "<>" | "!=":
                return _Region((_Span(None, True, value, False), _Span(value, False)))
            case "=":
                return _Region((_Span(value, True, value, True),))
            case ">=" | ">":
                return _Region((_Span(value, operator == ">="),))
            case "<=" | "<":
                return _Region((_Span(None, True, value, operator == "<="),))
        return None

    def at_column(self) -> bool:
        """Step over the column, in as many parentheses as it stands."""
        mark, depth = self.i, 0
        while self.up() == "(":
            depth += 1
            self.i += 1
        if self.i < len(self.tokens):
            token = self.tokens[self.i]
            if token.kind in (WORD, QUOTED) and token.name == self.key.column:
                self.i += 1
                self.cast()
                while depth and self.up() == ")":
                    depth -= 1
                    self.i += 1
                    self.cast()
                if not depth:
                    return True
        self.i = mark
        return False

    def cast(self) -> None:
        while self.up() == "::":
            self.i += 2
            while self.i < len(self.tokens) and self.up() in (
                "VARYING", "PRECISION", "WITHOUT", "WITH", "TIME", "ZONE", "[", "]",
            ):  # fmt: skip
                self.i += 1

    def values(self, opening: str = "(", closing: str = ")") -> tuple[list[Key], bool]:
        """A bracketed list: its values without MINVALUE, MAXVALUE and NULL; whether NULL is in it."""
        if self.up() == opening:
            self.i += 1
        keys: list[Key] = []
        null = False
        while self.up() not in (closing, _END):
            if self.up() == "NULL":
                null = True
                self.i += 1
            elif self.up() in ("MINVALUE", "MAXVALUE", ","):
                self.i += 1
            else:
                value = self.value()
                if value is None:
                    raise UnreadError("a value that is not followed")
                keys.append(value)
        self.i += 1
        return keys, null

    def value(self) -> Key | None:
        depth = 0
        while self.up() == "(":
            depth += 1
            self.i += 1
        sign = ""
        if self.up() in ("-", "+"):
            sign = self.up()
            self.i += 1
        token = self.tokens[self.i] if self.i < len(self.tokens) else None
        if token is not None and token.kind == WORD and self.up() in ("DATE", "TIMESTAMP"):
            self.i += 1
            token = self.tokens[self.i]
        if token is None or (token.kind != NUMBER and not token.text.startswith("'")):
            return None
        self.i += 1
        key = _literal(sign + token.text, self.key.kind)
        self.cast()
        while depth and self.up() == ")":
            depth -= 1
            self.i += 1
            self.cast()
        return key

    def skip(self) -> None:
        """Over one term that is not followed."""
        depth = 0
        while self.i < len(self.tokens):
            word = self.up()
            if depth == 0 and word in ("AND", "OR", ")"):
                return
            depth += (word == "(") - (word == ")")
            self.i += 1


def _literal(text: str, kind: str) -> Key:
    quoted = text.startswith("'")
    inner = text[1:-1].replace("''", "'") if quoted else text
    if kind == "number":
        return _number(inner)
    if kind == "date" and _DATE.fullmatch(inner):
        day, _, time = inner.replace("T", " ").partition(" ")
        return f"{day} {time or '00:00:00'}"
    return f"text {inner}"


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise UnreadError("a number was expected") from None


def _compare(a: Key, b: Key) -> int:
    if a == b:
        return 0
    if isinstance(a, Decimal) and isinstance(b, Decimal):
        return -1 if a < b else 1
    if isinstance(a, str) and isinstance(b, str) and _DATE.match(a) and _DATE.match(b):
        return -1 if a < b else 1
    raise _UnorderedError


def _within(a: _Span, b: _Span) -> bool:
    """Whether all of `a` lies in `b`."""
    if b.low is not None:
        if a.low is None:
            return False
        order = _compare(a.low, b.low)
        if order < 0 or (order == 0 and a.low_in and not b.low_in):
            return False
    if b.high is not None:
        if a.high is None:
            return False
        order = _compare(a.high, b.high)
        if order > 0 or (order == 0 and a.high_in and not b.high_in):
            return False
    return True


def _point(span: _Span) -> bool:
    return span.low is not None and span.low == span.high


def _cut(a: _Span, b: _Span) -> _Span | None:
    """What both have; None when nothing."""
    if _point(a) and _point(b):  # equal or not, whatever their order
        return a if a.low == b.low else None
    low, low_in = a.low, a.low_in
    if b.low is not None:
        order = 1 if low is None else _compare(b.low, low)
        if order > 0 or (order == 0 and not b.low_in):
            low, low_in = b.low, b.low_in
    high, high_in = a.high, a.high_in
    if b.high is not None:
        order = -1 if high is None else _compare(b.high, high)
        if order < 0 or (order == 0 and not b.high_in):
            high, high_in = b.high, b.high_in
    if low is not None and high is not None:
        order = _compare(low, high)
        if order > 0 or (order == 0 and not (low_in and high_in)):
            return None
    return _Span(low, low_in, high, high_in)


def _both(a: _Region, b: _Region) -> _Region:
    spans = tuple(_cuts(a.spans, b.spans))
    null = False if a.null is False or b.null is False else None
    return _Region(spans, null)


def _cuts(a: Iterable[_Span], b: tuple[_Span, ...]) -> Iterable[_Span]:
    for one in a:
        for other in b:
            cut = _cut(one, other)
            if cut is not None:
                yield cut


def _either(a: _Region, b: _Region) -> _Region:
    null = False if a.null is False and b.null is False else None
    return _Region((*a.spans, *b.spans), null)


def _apart(rows: _Region, bound: _Region) -> bool:
    """Whether nothing lies in both."""
    if bound.null is True and rows.null is not False:
        return False
    return not any(True for _ in _cuts(rows.spans, bound.spans))
