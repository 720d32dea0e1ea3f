"""Statements that carry rows from one table to another, taken apart; None for any other shape."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.expressions import analyse, squeeze
from zdd_migrate.model.names import QName


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """`INSERT INTO target (columns) SELECT [DISTINCT] expressions FROM source [WHERE where]`."""

    target: QName
    columns: tuple[str, ...]
    expressions: tuple[str, ...]
    source: QName
    where: str | None
    distinct: bool


@dataclass(frozen=True, slots=True)
class JoinedUpdate:
    """`UPDATE target SET column = value FROM other WHERE a.b = c.d`; the pairs are (table, column)."""

    target: QName
    column: str
    value: str
    other: QName
    left: tuple[str, str]
    right: tuple[str, str]


def read_copied_rows(text: str) -> CopiedRows | None:
    """Take an INSERT … SELECT over one table apart."""
    try:
        cursor = Cursor(text)
        cursor.expect("INSERT", "INTO")
        target = cursor.qname()
        columns = cursor.names()
        cursor.expect("SELECT")
        distinct = cursor.accept("DISTINCT")
        expressions = cursor.list_of(lambda: squeeze(cursor.until(("FROM",))))
        cursor.expect("FROM")
        source = cursor.qname()
        where = None
        if cursor.accept("WHERE"):
            where = squeeze(cursor.until(("GROUP", "ORDER", "LIMIT", "ON", "UNION"), comma=False))
        cursor.expect_done()
    except UnreadError:
        return None
    if len(columns) != len(expressions):
        return None
    return CopiedRows(target, columns, expressions, source, where, distinct)


_EQUAL = re.compile(r'(\w+|"[^"]+")\.(\w+|"[^"]+") ?= ?(\w+|"[^"]+")\.(\w+|"[^"]+")')
_QUALIFIED = re.compile(r'(\w+|"[^"]+")\.(\w+|"[^"]+")')


def read_joined_update(text: str) -> JoinedUpdate | None:
    """Take an UPDATE … FROM of one column, over one equality, apart."""
    try:
        cursor = Cursor(text)
        cursor.expect("UPDATE")
        target = cursor.qname()
        cursor.expect("SET")
        column = cursor.name()
        cursor.expect("=")
        value = squeeze(cursor.until(("FROM",), comma=False))
        cursor.expect("FROM")
        other = cursor.qname()
        cursor.expect("WHERE")
        condition = squeeze(cursor.until(comma=False))
        cursor.expect_done()
    except UnreadError:
        return None
    joined = _EQUAL.fullmatch(condition)
    if joined is None:
        return None
    a, b, c, d = (plain_name(joined[n]) for n in (1, 2, 3, 4))
    return JoinedUpdate(target, column, value, other, (a, b), (c, d))


@dataclass(frozen=True, slots=True)
class LookedUp:
    """`UPDATE target [AS name] SET column = value FROM other [AS other_name] WHERE conditions`, or
    `… SET column = (SELECT value FROM other … WHERE conditions) [WHERE own]`: the conditions are
    joined by AND, the names what the statement calls the two tables. In the second form, `nested`,
    a bare name is a column of the other table first."""

    target: QName
    name: str
    column: str
    value: str
    other: QName
    other_name: str
    conditions: tuple[str, ...]
    nested: bool
    own: str | None = None


def read_looked_up(text: str) -> LookedUp | None:
    """Take an UPDATE of one column whose value stands in one other table apart."""
    try:
        cursor = Cursor(text)
        cursor.expect("UPDATE")
        target, name = _called(cursor, "SET")
        cursor.expect("SET")
        column = cursor.name()
        cursor.expect("=")
        nested = cursor.at("(", "SELECT")
        if nested:
            inner = Cursor(cursor.group_text())
            inner.expect("SELECT")
            value, other, other_name, conditions = _looked(inner)
            own = squeeze(cursor.until(comma=False)) if cursor.accept("WHERE") else None
            cursor.expect_done()
        else:
            own = None
            value, other, other_name, conditions = _looked(cursor)
    except UnreadError:
        return None
    return LookedUp(target, name, column, value, other, other_name, conditions, nested, own)


def _looked(cursor: Cursor) -> tuple[str, QName, str, tuple[str, ...]]:
    """`value FROM other [AS name] WHERE a AND b`, to the end."""
    value = squeeze(cursor.until(("FROM",)))
    cursor.expect("FROM")
    other, name = _called(cursor, "WHERE")
    cursor.expect("WHERE")
    conditions = [_condition(cursor)]
    while cursor.accept("AND"):
        conditions.append(_condition(cursor))
    cursor.expect_done()
    return value, other, name, tuple(conditions)


def _condition(cursor: Cursor) -> str:
    text = cursor.until(("AND", "OR", "GROUP", "ORDER", "LIMIT", "RETURNING"), comma=False)
    if re.search(r"\bBETWEEN\b|\bSELECT\b", text, re.IGNORECASE):
        raise cursor.unread("a plain condition was expected")
    return squeeze(text)


def _called(cursor: Cursor, stop: str) -> tuple[QName, str]:
    """A table, and what a statement calls it."""
    table = cursor.qname()
    if cursor.accept("AS") or not cursor.at(stop):
        return table, cursor.name()
    return table, table.name


def equal_sides(condition: str) -> tuple[str, str] | None:
    """The two sides of `a = b`; None for any other condition."""
    try:
        cursor = Cursor(condition)
        left = cursor.until(("=",), comma=False)
        cursor.expect("=")
        right = cursor.until(("=",), comma=False)
        cursor.expect_done()
    except UnreadError:
        return None
    return left, right


def bare_names(text: str) -> frozenset[str]:
    """The names in an expression that no table's name stands before."""
    return analyse(_QUALIFIED.sub("", text)).names


def qualified(text: str) -> tuple[str, str] | None:
    """`a.b` as its two names; None for anything else."""
    match = _QUALIFIED.fullmatch(text)
    return (plain_name(match[1]), plain_name(match[2])) if match is not None else None


def plain_name(text: str) -> str:
    """An identifier as it is stored: folded unless quoted."""
    return text[1:-1] if text.startswith('"') else text.lower()


@dataclass(frozen=True, slots=True)
class AllRows:
    """`INSERT INTO target [(columns)] SELECT expressions FROM source [WHERE …]`; no columns: by
    position, and the one expression `*`: all of the source's."""

    target: QName
    columns: tuple[str, ...]
    expressions: tuple[str, ...]
    source: QName
    whole: bool


def read_all_rows(text: str) -> AllRows | None:
    """Take an INSERT … SELECT that fills one table from one other apart."""
    try:
        cursor = Cursor(text)
        cursor.expect("INSERT", "INTO")
        target = cursor.qname()
        columns = cursor.names() if cursor.at("(") else ()
        if cursor.accept("OVERRIDING"):
            cursor.next()
            cursor.expect("VALUE")
        cursor.expect("SELECT")
        expressions = (
            ("*",)
            if cursor.accept("*")
            else cursor.list_of(lambda: squeeze(cursor.until(("FROM",))))
        )
        cursor.expect("FROM")
        source = cursor.qname()
        whole = cursor.done or cursor.at(";")
    except UnreadError:
        return None
    return AllRows(target, columns, expressions, source, whole)


@dataclass(frozen=True, slots=True)
class InsertedRows:
    """`INSERT INTO target (columns) VALUES (…), (…)`: the rows as they are written."""

    target: QName
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_inserted_rows(text: str) -> InsertedRows | None:
    """Take an INSERT of rows that are written out apart; None for any other."""
    try:
        cursor = Cursor(text)
        cursor.expect("INSERT", "INTO")
        target = cursor.qname()
        columns = cursor.names()
        cursor.expect("VALUES")
        rows = cursor.list_of(lambda: _row(cursor))
        cursor.expect_done()
    except UnreadError:
        return None
    if any(len(row) != len(columns) for row in rows):
        return None
    return InsertedRows(target, columns, rows)


def _row(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect("(")
    values = cursor.list_of(lambda: squeeze(cursor.until()))
    cursor.expect(")")
    return values
