"""A value for a column that a code version leaves out: by trigger for new rows, in batches for old."""

from __future__ import annotations

from zdd_migrate.blocks import triggers
from zdd_migrate.blocks.copies import make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit, own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import differs
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase


def plan_filled(
    draft: Draft,
    table: QName,
    column: str,
    expression: str,
    *,
    add: str | None,
    required: bool = True,
) -> None:
    """A column that old code writes NULL into or does not know, and that is to have a value.

    A trigger fills what is missing in new rows, and follows what old code changes; a backfill
    fills old rows; then NOT NULL, where it is `required`, costs nothing. The trigger goes at
    contract. `add` is the ADD COLUMN clause where it is new.
    """
    if (table, column) in draft.filled:  # its trigger is there: an UPDATE said with what
        if required:
            make_not_null(draft, table, column)
            draft.restricts_old = True
        return
    draft.filled.add((table, column))
    if draft.dual_write:
        draft.note(f"{column} of {table} is filled by a trigger all the same: old code lacks it")
    name, col = draft.sql_name(table), quote_ident(column)
    function = quote_qname(QName(ZDD_SCHEMA, fit(f"fill_{table.schema}_{table.name}_{column}")))
    present = draft.present(table)
    trigger = triggers.quoted(draft, present, f"zzz_zdd_fill_{column}")
    body = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = pg_catalog, {quote_ident(table.schema or 'public')}, public"
        f" AS $zdd$\nBEGIN\n  IF {_missing(draft, table, col, expression, required)} THEN\n"
        f"    NEW.{col} := (SELECT {expression} FROM (SELECT NEW.*) AS {quote_ident(table.name)});\n"
        "  END IF;\n  RETURN NEW;\nEND\n$zdd$"
    )
    make = triggers.create(present, trigger, function)
    unmake = (
        f"DROP TRIGGER IF EXISTS {trigger} ON {name}",
        f"DROP FUNCTION IF EXISTS {function}()",
    )
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            *((f"ALTER TABLE {name} {add}",) if add else ()),
            body,
            *make,
        ),
        undo=(*unmake, *((f"ALTER TABLE {name} DROP COLUMN IF EXISTS {col}",) if add else ())),
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
        make_not_null(draft, table, column)
        draft.breaks_old = draft.breaks_old or add is not None
        draft.restricts_old = True
    draft.needs_release = True
    draft.sql(
        Phase.CONTRACT,
        unmake,
        undo=(body, *make),
        why=f"stop filling {column}: new code writes it by itself",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _missing(draft: Draft, table: QName, col: str, expression: str, required: bool) -> str:
    """When the trigger computes the value: where there is none, and when its source changes."""
    known = draft.table(table)
    named = analyse(expression).names
    sources = [c for c in known.columns if c.name in named] if known is not None else []
    unset = f"NEW.{col} IS NULL"
    if not required:  # new code may take the value away, by an UPDATE
        unset += f" AND (TG_OP = 'INSERT' OR OLD.{col} IS NULL)"
    if not sources:
        return unset
    changed = " OR ".join(
        differs(f"NEW.{quote_ident(c.name)}", f"OLD.{quote_ident(c.name)}", c.type) for c in sources
    )
    followed = f"TG_OP = 'UPDATE' AND NEW.{col} IS NOT DISTINCT FROM OLD.{col} AND ({changed})"
    return f"({unset}) OR ({followed})"


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
    name = draft.sql_name(table)
    tombstone = own("old", column)
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
