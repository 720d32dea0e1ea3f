"""A value for a column that a code version leaves out: by trigger for new rows, in batches for old."""

from __future__ import annotations

import re

from zdd_migrate.blocks import triggers
from zdd_migrate.blocks.copies import make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.left_out import Mark, opening
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit, own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import differs
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Conversion, Phase


def plan_filled(
    draft: Draft,
    table: QName,
    column: str,
    expression: str,
    *,
    add: str | None,
    type_: str | None = None,
    required: bool = True,
) -> None:
    """A column that old code writes NULL into or does not know, and that is to have a value.

    A trigger fills what is missing in new rows, and follows what old code changes; a backfill
    fills old rows; then NOT NULL costs nothing. The trigger goes at contract. `add` is the ADD
    COLUMN clause where it is new, `type_` its type then. Where it is not `required`, a NULL that new
    code gives stays: see `left_out`.
    """
    if (table, column) in draft.filled:  # its trigger is there: an UPDATE said with what
        if required:
            _require(draft, table, column, expression)
        return
    draft.filled.add((table, column))
    if draft.refuse_children(table, f"whose {column} nothing would fill"):
        return
    _remember(draft, table, column, expression, type_)
    if draft.dual_write:
        draft.note(f"{column} of {table} is filled by a trigger all the same: old code lacks it")
    name, col = draft.sql_name(table), quote_ident(column)
    function = quote_qname(QName(ZDD_SCHEMA, fit(f"fill_{table.schema}_{table.name}_{column}")))
    present = draft.present(table)
    trigger = triggers.quoted(draft, present, f"zzz_zdd_fill_{column}")
    mark = None if required or type_ is None else Mark(present, column, type_)
    body = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = pg_catalog, {quote_ident(table.schema or 'public')}, public"
        f" AS $zdd$\n{opening([mark] if mark else [])}"
        f"  IF {_missing(draft, table, col, expression, mark)} THEN\n"
        f"    NEW.{col} := {triggers.over_row(expression, 'NEW.*', table)};\n"
        "  END IF;\n  RETURN NEW;\nEND\n$zdd$"
    )
    make: tuple[str, ...] = triggers.create(present, trigger, function)
    if mark is not None:
        make = (mark.put(name), *make)
    undo = (
        f"DROP TRIGGER IF EXISTS {trigger} ON {name}",
        f"DROP FUNCTION IF EXISTS {function}()",
    )
    unmake: tuple[str, ...] = undo
    if mark is not None:
        draft.lent_defaults.add((table, column))
        unmake = (
            f"ALTER TABLE {name} ALTER COLUMN {col} {draft.final_default(table, column)}",
            *undo,
        )
        draft.note(
            f"until contract {table.name}.{column} follows {expression} wherever a write changes what that "
            f"reads and leaves {table.name}.{column} as it is"
        )
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            *((f"ALTER TABLE {name} {add}",) if add else ()),
            body,
            *make,
        ),
        undo=(*undo, *((f"ALTER TABLE {name} DROP COLUMN IF EXISTS {col}",) if add else ())),
        why=f"fill {column} of {table} wherever old code leaves it out",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
    draft.backfill(
        table,
        [(column, expression)],
        f"{col} IS NULL" if required else f"{col} IS NULL AND ({expression}) IS NOT NULL",
        why=f"fill {table.name}.{column} of the rows that are there, in batches",
    )
    if required:
        _require(draft, table, column, expression)
        draft.breaks_old = draft.breaks_old or add is not None
    draft.needs_release = True
    draft.sql(
        Phase.CONTRACT,
        unmake,
        undo=(body, *make),
        why=f"stop filling {column}: new code writes it by itself",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _require(draft: Draft, table: QName, column: str, expression: str) -> None:
    """NOT NULL as soon as every row has a value; only at contract where old code's may have none."""
    draft.restricts_old = True
    if may_be_null(draft, table, expression):
        plan_required(draft, table, column)
    else:
        make_not_null(draft, table, column)


#: what makes NULL of values that are none
_MAKES_NULL = re.compile(
    r"->|#>|\bnullif\b|\bselect\b|\bcase\b(?!.*\belse\b)", re.IGNORECASE | re.DOTALL
)
_NEVER_NULL = re.compile(
    r"\s*coalesce\s*\(.*,\s*('[^']*'|[0-9.]+|true|false|now\(\))(::\w+)?\s*\)\s*"
)


def may_be_null(draft: Draft, table: QName, expression: str) -> bool:
    """Whether an expression over a row's columns gives NULL for some row that old code may write."""
    if _NEVER_NULL.fullmatch(expression.lower()):
        return False
    known = draft.start.tables.get(draft.present(table))
    named = analyse(expression).names
    read = [c for c in known.columns if c.name in named] if known is not None else []
    return any(not c.not_null for c in read) or _MAKES_NULL.search(expression) is not None


def _missing(draft: Draft, table: QName, col: str, expression: str, mark: Mark | None) -> str:
    """When the trigger computes the value: where there is none, and when its source changes."""
    known = draft.table(table)
    named = analyse(expression).names
    sources = [c for c in known.columns if c.name in named] if known is not None else []
    unset = f"NEW.{col} IS NULL"
    if mark is not None:
        # an unfilled row waits for the backfill: a later NULL is what new code wrote
        unset = f"{mark.variable} AND {unset}"
    if not sources:
        return unset
    changed = " OR ".join(
        differs(f"NEW.{quote_ident(c.name)}", f"OLD.{quote_ident(c.name)}", c.type) for c in sources
    )
    type_ = mark.type if mark is not None else ""
    same = f"NOT ({differs(f'NEW.{col}', f'OLD.{col}', type_)})"
    return f"({unset}) OR (TG_OP = 'UPDATE' AND {same} AND ({changed}))"


def _remember(draft: Draft, table: QName, column: str, expression: str, type_: str | None) -> None:
    """What can be tried on real rows."""
    known = draft.table(table)
    there = known.column(column) if known is not None else None
    type_ = type_ or (there.type if there is not None else None)
    if type_ is not None and analyse(expression).names:
        draft.filled_from.append(
            Conversion(
                about=f"{table.name}.{column}",
                table=draft.present(table),
                key=draft.key_of(table),
                up=((column, type_, expression),),
            )
        )


def plan_required(draft: Draft, table: QName, column: str) -> None:
    """NOT NULL once no old code is left, without a scan under a strong lock."""
    name, col = draft.sql_name(table), quote_ident(column)
    draft.gate(
        Phase.CONTRACT,
        f"SELECT 1 FROM {name} WHERE {col} IS NULL LIMIT 1",
        message=f"rows of {table} have no {column}: fill them first",
        why=f"every row must have {column} before it is asked of them",
    )
    make_not_null(draft, table, column, phase=Phase.CONTRACT)


def plan_dropped_column(draft: Draft, table: QName, column: str, *, cascade: bool) -> None:
    """Out of use first, reversibly; gone at the very end."""
    if draft.refuse_children(table, f"and with it {column}"):
        return
    name = draft.sql_name(table)
    tombstone = own("old", column)
    draft.aside[table, column] = tombstone
    draft.breaks_old = True
    draft.sql(
        Phase.CONTRACT,
        f"ALTER TABLE {name} RENAME COLUMN {quote_ident(column)} TO {quote_ident(tombstone)}",
        undo=f"ALTER TABLE {name} RENAME COLUMN {quote_ident(tombstone)} TO {quote_ident(column)}",
        why=f"take {column} of {table} out of use; its values stay, so this can be undone at once",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
    draft.sql(
        Phase.CONTRACT,
        f"ALTER TABLE {name} DROP COLUMN {quote_ident(tombstone)}{' CASCADE' if cascade else ''}",
        undo=None,
        why=f"drop {column} of {table} with its values; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
