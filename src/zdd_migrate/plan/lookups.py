"""A new column whose values stand in another table: the UPDATE that looks them up says how.

`UPDATE t SET c = o.x FROM o WHERE o.id = t.o_id` is each row's value where no two rows of `o` can
match: the same look-up gives old code's rows theirs as they are written.
"""

from __future__ import annotations

import re

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import folded, quote_ident, quote_qname
from zdd_migrate.grammar.expressions import analyse, volatility
from zdd_migrate.grammar.rows import (
    LookedUp,
    bare_names,
    equal_sides,
    plain_name,
    qualified,
    read_looked_up,
)
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.data_statement import DataStatement


def fills_looked_up(
    draft: Draft, operation: DataStatement, added: set[tuple[QName, str]], final: Schema
) -> bool:
    """Take an UPDATE that looks a new column's values up as how they come to be, if it is one."""
    found = read_looked_up(operation.text) if operation.verb == "update" else None
    if found is None:
        return False
    table, other = draft.start.resolve(found.target), draft.start.resolve(found.other)
    mine, theirs = draft.start.tables.get(table), draft.start.tables.get(other)
    if mine is None or theirs is None or table == other or (table, found.column) not in added:
        return False
    conditions = [c for c in found.conditions if not _is_gap(c, found)]
    if found.own is not None and not _is_gap(found.own, found):
        return False
    text = " ".join((found.value, *conditions))
    if (
        not _one_row(draft.start, found, mine, theirs, conditions)
        or not _stays(final, other, theirs, text)
        or re.search(_own_column(found), text)
        or (found.column in bare_names(text) and theirs.column(found.column) is None)
        or volatility(f"({text})", draft.start)[0] == "volatile"
        or _left_empty(final, found, theirs, conditions)
    ):
        return False
    value = _value(table, other, found, conditions)
    draft.answers.setdefault(("up", f"{table.name}.{found.column}".lower()), value)
    draft.note(
        f"{table.name}.{found.column} is filled from {other} as rows of {table.name} are written: "
        f"what old code changes in {other} later does not reach it"
    )
    return True


def _is_gap(condition: str, found: LookedUp) -> bool:
    """`c IS NULL` of the new column itself: it is empty wherever it is to be filled."""
    column = quote_ident(found.column)
    return folded(condition) in {
        f"{column} is null",
        f"{quote_ident(found.name)}.{column} is null",
    }


def _own_column(found: LookedUp) -> str:
    """What the new column is called by its table's name, as a pattern."""
    name, column = (
        rf'(?:"{re.escape(n)}"|(?i:{re.escape(n)}))' for n in (found.name, found.column)
    )
    return rf"(?<![\w\"]){name}\s*\.\s*{column}(?![\w\"])"


def _one_row(
    schema: Schema, found: LookedUp, mine: Table, theirs: Table, conditions: list[str]
) -> bool:
    """Whether the conditions can hold for one row of the other table at most."""
    met = set(_keys(found, mine, theirs, conditions))
    unique = [c.columns for c in theirs.constraints if c.kind in ("primary_key", "unique")]
    unique += [
        i.keys
        for i in schema.indexes_of(theirs.name)
        if i.unique and i.predicate is None and i.valid and set(i.keys) <= _columns(theirs)
    ]
    return any(columns and set(columns) <= met for columns in unique)


def _keys(found: LookedUp, mine: Table, theirs: Table, conditions: list[str]) -> dict[str, str]:
    """Columns of the other table that are to equal something of this one, and what."""
    keys: dict[str, str] = {}
    for condition in conditions:
        for one, value in _both_ways(equal_sides(condition)):
            column = _column_of(one, found.other_name, theirs, mine)
            read = analyse(value)
            bare = bare_names(value) & _columns(theirs)
            foreign = {found.other_name} & read.qualifiers or (
                bare if found.nested else bare - _columns(mine)
            )
            if column is not None and read.understood and not read.has_subquery and not foreign:
                keys[column] = value
    return keys


def _both_ways(sides: tuple[str, str] | None) -> tuple[tuple[str, str], ...]:
    return () if sides is None else (sides, (sides[1], sides[0]))


def _column_of(text: str, called: str, table: Table, beside: Table) -> str | None:
    """The column of a table that a text names, alone; `beside` stands next to it in the query."""
    named = qualified(text)
    if named is not None:
        return named[1] if named[0] == called and table.column(named[1]) is not None else None
    plain = plain_name(text)
    there = table.column(plain) is not None and beside.column(plain) is None
    return plain if there and re.fullmatch(r'\w+|"[^"]+"', text) else None


def _columns(table: Table) -> set[str]:
    return {c.name for c in table.columns}


def _stays(final: Schema, other: QName, theirs: Table, text: str) -> bool:
    """Whether what is looked up stays where it is: a column that moves is another matter."""
    now = final.tables.get(other)
    return now is not None and not (analyse(text).names & _columns(theirs) - _columns(now))


def _left_empty(final: Schema, found: LookedUp, theirs: Table, conditions: list[str]) -> bool:
    """Whether the column is to be NOT NULL, and there are rows for which nothing is looked up."""
    target = final.tables.get(final.resolve(found.target))
    made = target.column(found.column) if target is not None else None
    if target is None or made is None or not made.not_null:
        return False
    value = theirs.column(_column_of(found.value, found.other_name, theirs, target) or "")
    return value is None or not value.not_null or len(conditions) != 1


def _value(table: QName, other: QName, found: LookedUp, conditions: list[str]) -> str:
    """The look-up as a value of one row, which stands beside it under its table's name."""
    theirs = f"{quote_qname(other)} AS {quote_ident(found.other_name)}"
    where = " AND ".join(conditions)
    if found.name == table.name:
        return f"(SELECT {found.value} FROM {theirs} WHERE {where})"
    row = f"(SELECT {quote_ident(table.name)}.*) AS {quote_ident(found.name)}"
    if found.nested:
        return f"(SELECT (SELECT {found.value} FROM {theirs} WHERE {where}) FROM {row})"
    return f"(SELECT {found.value} FROM {row}, {theirs} WHERE {where})"
