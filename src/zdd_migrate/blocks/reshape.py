"""Columns that come from others: split, merged, computed, or given another type under another name.

The migration's own UPDATE says how the new columns come from the old ones (up). Where the old ones
are dropped, the way back (down) is taken from an answer, or from the form of the UPDATE where that
tells it: a copy, a cast, a split on a separator, a concatenation with one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zdd_migrate.blocks.copies import make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.left_out import Mark
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.blocks.sync import (
    Side,
    Sync,
    differs,
    is_cast,
    null_says_the_same,
    unfilled,
)
from zdd_migrate.grammar.conversions import fits, lossless
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that the migration adds: `clause` adds it without default and NOT NULL."""

    name: str
    type: str
    clause: str
    up: str
    not_null: bool = False
    default: str | None = None
    #: NOT NULL at the end, here or by a later statement
    required: bool = False


@dataclass(frozen=True, slots=True)
class Reshape:
    """`new` columns of `table`, the columns `dropped` that they come from, and those they read that
    stay."""

    table: QName
    new: tuple[NewColumn, ...]
    dropped: tuple[Column, ...]
    stay: tuple[Column, ...] = ()


def plan_reshape(draft: Draft, reshape: Reshape) -> None:
    """Both shapes in step from expand on; the old columns out of use at contract, then dropped."""
    down = _down(draft, reshape)
    if down is None:
        return
    table, name = reshape.table, draft.sql_name(reshape.table)
    old = (
        *(Side(c.name, c.type, down[c.name], c.not_null) for c in reshape.dropped),
        *(Side(c.name, c.type, quote_ident(c.name)) for c in reshape.stay),
    )
    new = [Side(n.name, n.type, _guarded(draft, reshape, n)) for n in reshape.new]
    marked = _marked(draft, reshape, old, new)
    for column, side in zip(reshape.new, new, strict=True):
        mark = Mark(draft.present(table), column.name, column.type)
        _required(
            draft,
            reshape,
            column,
            guarded=side.expression != column.up,
            mark=mark if column.name in marked else None,
        )
    sources = " and ".join(c.name for c in (*reshape.dropped, *reshape.stay))
    draft.sync(
        Sync(
            table=table,
            old=old,
            new=tuple(new),
            add=tuple(n.clause for n in reshape.new),
            final=tuple((c.name, own("old", c.name)) for c in reshape.dropped),
            drops=tuple(c.name for c in reshape.dropped),
            hands_over=True,
            marked=marked,
            defaults=tuple(n.name for n in reshape.new if n.default is not None),
            required=tuple(c.name for c in reshape.dropped if c.not_null and c.default is None),
            why=f"add {', '.join(n.name for n in reshape.new)} and keep in step with {sources}",
        )
    )
    draft.backfill(
        table,
        [(s.column, s.expression) for s in new],
        unfilled(old, new),
        why=f"fill {', '.join(s.column for s in new)} from {sources}, in batches",
    )
    for column, side in zip(reshape.new, new, strict=True):
        if column.up in {quote_ident(c.name) for c in (*reshape.dropped, *reshape.stay)}:
            todo = differs(quote_ident(side.column), f"({side.expression})", side.type)
            draft.law(
                f"{table.name}.{side.column} = up({column.up})",
                f"SELECT * FROM {name} WHERE {todo}",
            )
    draft.breaks_old = draft.breaks_old or bool(reshape.dropped)
    draft.restricts_old = True


def _marked(
    draft: Draft, reshape: Reshape, old: Sequence[Side], new: Sequence[Side]
) -> tuple[str, ...]:
    """New columns in which a NULL that new code gives must be told from what is left out."""
    default = any(c.default is not None for c in reshape.dropped)
    marked = tuple(n.name for n in reshape.new if not n.required)
    if draft.dual_write or null_says_the_same(old, new, default=default):
        return ()
    for name in marked:
        draft.lent_defaults.add((reshape.table, name))
        if any(not c.not_null or c.default is not None for c in reshape.dropped):
            draft.note(
                f"until contract a row that is inserted without {reshape.table.name}.{name} gets what its "
                f"value would be for a row without {', '.join(c.name for c in reshape.dropped)}, whoever "
                "inserts it; a NULL that is given stays"
            )
    return marked


def _required(
    draft: Draft, reshape: Reshape, column: NewColumn, *, guarded: bool, mark: Mark | None
) -> None:
    """What is asked of a new column, once no old code is left that might not give it."""
    table, name, col = reshape.table, draft.sql_name(reshape.table), quote_ident(column.name)
    if guarded:
        given = " AND ".join(f"{quote_ident(c.name)} IS NOT NULL" for c in reshape.dropped)

        def all_fit() -> None:
            draft.gate(
                # code that writes the new columns alone no longer touches the old ones
                Phase.SWITCH if draft.dual_write else Phase.CONTRACT,
                f"SELECT 1 FROM {name} WHERE {given} AND {col} IS NULL LIMIT 1",
                message=f"rows of {table} have values that {column.name} ({column.type}) cannot hold: "
                f"correct them first (SELECT * FROM {name} WHERE {given} AND {col} IS NULL)",
                why=f"every old value must have a new one in {column.name}",
            )

        if draft.dual_write:
            all_fit()
        else:
            draft.before_swap(table, all_fit)
    if column.not_null:
        draft.gate(
            Phase.CONTRACT,
            f"SELECT 1 FROM {name} WHERE {col} IS NULL LIMIT 1",
            message=f"rows of {table} have no {column.name}: fill them first",
            why=f"every row must have {column.name} before it is asked of them",
        )
        make_not_null(draft, table, column.name, phase=Phase.CONTRACT)
    if column.default is not None:
        # a default before contract would look like a value that new code gave
        draft.sql(
            Phase.SWITCH if draft.dual_write else Phase.CONTRACT,
            f"ALTER TABLE {name} ALTER COLUMN {col} SET DEFAULT {column.default}",
            undo=mark.put(name) if mark else f"ALTER TABLE {name} ALTER COLUMN {col} DROP DEFAULT",
            why=f"the default of {column.name}, which told old code from new without it",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=table,
        )


def _guarded(draft: Draft, reshape: Reshape, column: NewColumn) -> str:
    """up, but NULL where a cast of one column cannot hold the value: old code must never fail."""
    for source in (*reshape.dropped, *reshape.stay):
        if is_cast(column.up, source.name):
            test = fits(quote_ident(source.name), source.type, column.type, draft.pg)
            if test is not None:
                return f"CASE WHEN {test} THEN {column.up} END"
            if not lossless(source.type, column.type):
                draft.note(
                    f"a value of {reshape.table}.{source.name} that {column.type} cannot hold fails for "
                    "the old code that writes it, from expand on: no test tells beforehand (from Postgres "
                    "16 on there is one for most types)"
                )
    return column.up


# -- the way back --------------------------------------------------------------------------------


def _down(draft: Draft, reshape: Reshape) -> dict[str, str] | None:
    """An expression for each dropped column; None when one had to be asked for."""
    out: dict[str, str] = {}
    asked = False
    for column in reshape.dropped:
        found = draft.answer("down", reshape.table, column.name) or inferred_down(
            column, {n.name: n.up for n in reshape.new}, [c.name for c in reshape.dropped]
        )
        target = f"{reshape.table.name}.{column.name}"
        fresh = ", ".join(n.name for n in reshape.new)
        said = draft.answer("down", reshape.table, column.name) is not None
        if found is not None and not said and column.not_null and not found.startswith("concat_ws"):
            found = _never_null(reshape, found)
        if found is None:
            draft.ask(
                target,
                f"while old code runs, what does it read in {target} of rows that new code wrote? "
                f"Write it in terms of {fresh}"
                + (f"; {column.name} is NOT NULL" if column.not_null else ""),
                f"--down {target}=… (or -- zdd: down {target} = … in the migration)",
            )
            asked = True
        else:
            out[column.name] = found
    return None if asked else out


def _never_null(reshape: Reshape, down: str) -> str | None:
    """The way back to a NOT NULL column: from new ones that are NOT NULL too, or that have a
    default to stand for what new code leaves out; None where somebody must say it."""
    if all(n.required for n in reshape.new):
        return down
    (only, *more) = reshape.new
    if more or only.default is None or down != quote_ident(only.name):
        return None
    return f"coalesce({down}, {only.default})"


_SPLIT = re.compile(
    r"split_part\(\s*(?P<column>[\w$\"]+)\s*,\s*(?P<sep>'(?:[^']|'')+')\s*,\s*(?P<n>\d+)\s*\)",
    re.IGNORECASE,
)


def inferred_down(column: Column, ups: Mapping[str, str], dropped: Sequence[str]) -> str | None:
    """The way back where the form of the UPDATE tells it, else None."""
    name = quote_ident(column.name)
    parts: dict[int, tuple[str, str]] = {}
    for new, up in ups.items():
        text = squeeze(up)
        if text == name:
            return quote_ident(new)
        if is_cast(text, column.name):
            return f"{quote_ident(new)}::{column.type}"
        match = _SPLIT.fullmatch(text)
        if match is not None and match["column"] == name:
            parts[int(match["n"])] = (match["sep"], quote_ident(new))
        merged = _merged(text)
        if merged is not None and {merged[0], merged[2]} == {quote_ident(d) for d in dropped}:
            return _part(quote_ident(new), merged, first=merged[0] == name, column=column)
    if len(parts) > 1 and sorted(parts) == list(range(1, len(parts) + 1)):
        separators = {sep for sep, _ in parts.values()}
        if len(separators) == 1:
            pieces = ", ".join(f"nullif({parts[n][1]}, '')" for n in sorted(parts))
            return f"concat_ws({separators.pop()}, {pieces})"
    return None


_LITERAL = r"'(?:[^']|'')+'"
_MERGES = (
    re.compile(rf"([\w$\"]+) ?\|\| ?({_LITERAL}) ?\|\| ?([\w$\"]+)"),
    re.compile(rf"concat\( ?([\w$\"]+) ?, ?({_LITERAL}) ?, ?([\w$\"]+) ?\)", re.IGNORECASE),
)
_MERGE_WS = re.compile(
    rf"concat_ws\( ?({_LITERAL}) ?, ?([\w$\"]+) ?, ?([\w$\"]+) ?\)", re.IGNORECASE
)


def _merged(text: str) -> tuple[str, str, str] | None:
    """(first column, separator, second column) of a concatenation."""
    for pattern in _MERGES:
        if match := pattern.fullmatch(text):
            return match[1], match[2], match[3]
    if match := _MERGE_WS.fullmatch(text):
        return match[2], match[1], match[3]
    return None


def _part(new: str, merged: tuple[str, str, str], *, first: bool, column: Column) -> str:
    head = f"split_part({new}, {merged[1]}, 1)"
    if first:
        return head
    rest = f"substr({new}, length({head}) + length({merged[1]}) + 1)"
    return rest if column.not_null else f"nullif({rest}, '')"
