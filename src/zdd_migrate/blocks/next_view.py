"""A renamed column without a copy: new code sees the table through a view in a schema of its own.

Old code goes on with the table itself. New code's connections look into that schema first
(`search_path`), where a view of the same name shows the column under its new one and reads and
writes through. Nothing is copied, no trigger runs, and a connection that lacks the setting fails at
once instead of losing a write. At contract the column is renamed and the view goes, in one
transaction: the same search path then finds the table itself, so nobody has to be released again.
"""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.shim import copy_grants
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase

#: where new code finds its views
NEXT = f"{ZDD_SCHEMA}_next"
_CLEAR = (
    f"DO $zdd$ BEGIN DROP SCHEMA IF EXISTS {NEXT}; "
    "EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $zdd$"
)


def why_not(draft: Draft, table: QName) -> tuple[str, str] | None:
    """Why a view cannot show a table's columns under new names, and what to do instead."""
    known = draft.start.tables.get(table)
    if table not in draft.only_renamed:
        return (
            f"the migration does more to {table} than rename columns, which a view cannot stand in for",
            "leave --via view out, or rename the columns in a migration of their own",
        )
    if known is not None and known.row_security and draft.pg < 15:
        return (
            f"{table} has row security, which a view goes round before Postgres 15",
            "leave --via view out: the copying way keeps to it",
        )
    if any(view.name.schema == NEXT for view in draft.start.views.values()):
        return (
            f"a view in {NEXT} is left from another plan, whose contract is not done",
            "finish or undo that plan first, or leave --via view out",
        )
    return None


def plan_next_view(draft: Draft, table: QName, old: str, new: str) -> None:
    """Show column `old` (its name in the plain migration so far) of `table` as `new`."""
    first = all(owner != table for owner, _ in draft.behind_view)
    physical = draft.behind_view.pop((table, old), old)
    draft.behind_view[table, new] = physical
    draft.breaks_old = True
    if not first:
        return
    draft.needs_release = True
    if not draft.search_path:
        draft.search_path.append(NEXT)
        draft.release_asks.append(
            f"its connections have {NEXT} first in their search_path (ALTER ROLE … SET, or options "
            "in the connection's URL) and name the table without its schema"
        )
        draft.note(
            f"a connection of new code without {NEXT} in its search_path fails at the new name, and "
            "loses nothing; after contract the setting finds nothing and can go at any time. A pooler in "
            "transaction mode passes no such setting on: there it belongs to the role (ALTER ROLE … SET)"
        )
    draft.note(
        f"through the view of {table}, COPY … FROM, TRUNCATE, ON CONFLICT ON CONSTRAINT and system "
        "columns do not work: new code that needs them waits for contract"
    )
    draft.last(lambda: _expand(draft, table), Phase.EXPAND)
    draft.later(Phase.CONTRACT, lambda: _contract(draft, table))


def _renamed(draft: Draft, table: QName) -> list[tuple[str, str]]:
    """(present name, name to come) of the columns that get another one."""
    return [(was, now) for (owner, now), was in draft.behind_view.items() if owner == table]


def _make(draft: Draft, table: QName) -> tuple[str, ...]:
    invoker = " WITH (security_invoker = true)" if draft.pg >= 15 else ""
    names = dict(_renamed(draft, table))
    shown = ", ".join(
        quote_ident(c.name) + (f" AS {quote_ident(names[c.name])}" if c.name in names else "")
        for c in draft.start.tables[table].columns
    )
    view = QName(NEXT, table.name)
    return (
        f"CREATE SCHEMA IF NOT EXISTS {NEXT}",
        f"GRANT USAGE ON SCHEMA {NEXT} TO PUBLIC",
        f"CREATE VIEW {quote_qname(view)}{invoker} AS SELECT {shown} FROM {quote_qname(table)}",
        *copy_grants(table, view),
    )


def _expand(draft: Draft, table: QName) -> None:
    names = ", ".join(f"{was} as {now}" for was, now in _renamed(draft, table))
    draft.sql(
        Phase.EXPAND,
        _make(draft, table),
        undo=(f"DROP VIEW IF EXISTS {quote_qname(QName(NEXT, table.name))}", _CLEAR),
        why=f"new code sees {names} of {table} through a view; nothing is copied",
        lock=LockMode.ACCESS_SHARE,
        relation=table,
    )


def _contract(draft: Draft, table: QName) -> None:
    name = quote_qname(table)
    renamed = _renamed(draft, table)
    pairs = [(quote_ident(was), quote_ident(now)) for was, now in renamed if was != now]
    draft.sql(
        Phase.CONTRACT,
        (
            # the view first: whoever works through it holds the view before the table
            f"DROP VIEW {quote_qname(QName(NEXT, table.name))}",
            *(f"ALTER TABLE {name} RENAME COLUMN {was} TO {now}" for was, now in pairs),
            _CLEAR,
        ),
        undo=(
            *(f"ALTER TABLE {name} RENAME COLUMN {now} TO {was}" for was, now in reversed(pairs)),
            *_make(draft, table),
        ),
        why=f"{', '.join(was for was, _ in renamed)} of {table} get their new names, for an instant; "
        "new code goes on, now with the table itself",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
