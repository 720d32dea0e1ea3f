"""New code sees a table through a view in a schema of its own, old code the table itself.

New code's connections look into that schema first (`search_path`), where a view of the same name
reads and writes through. It shows a renamed column under its new name: nothing is copied, no
trigger runs, and a connection that lacks the setting fails at once instead of losing a write. And
it shows a column's twin of another type under the name that both have: new code never meets the old
type. At contract columns get their names and the view goes, in one transaction: the same search
path then finds the table itself, so nobody has to be released again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.shim import copy_grants
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase

if TYPE_CHECKING:
    from zdd_migrate.blocks.twin import Twin

#: where new code finds its views
NEXT = f"{ZDD_SCHEMA}_next"
_CLEAR = (
    f"DO $zdd$ BEGIN DROP SCHEMA IF EXISTS {NEXT}; "
    "EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $zdd$"
)


_RENAMES = frozenset({"rename_column"})
_RETYPES = frozenset({"alter_column_type", "set_default"})


def why_not(draft: Draft, table: QName, *, retypes: bool = False) -> tuple[str, str] | None:
    """Why a view cannot show a table's columns under new names, or as new types (`retypes`), and
    what to do instead."""
    known = draft.start.tables.get(table)
    if not draft.done_to.get(table, frozenset()) <= (_RETYPES if retypes else _RENAMES):
        does = "give columns another type" if retypes else "rename columns"
        return (
            f"the migration does more to {table} than {does}, which a view cannot stand in for",
            "leave --via view out, or do this in a migration of its own",
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
    _ask_of_new_code(draft, table, "fails at the new name")
    draft.last(lambda: _expand(draft, table), Phase.EXPAND)
    draft.later(Phase.CONTRACT, lambda: _contract(draft, table))


def plan_next_type(draft: Draft, table: QName) -> None:
    """Show the twins of `table` that are `by_view` under the names that their columns have."""
    if sum(twin.by_view for (owner, _), twin in draft.twins.items() if owner == table) > 1:
        return  # planned with the first of them
    _ask_of_new_code(draft, table, "meets the old type")
    draft.last(lambda: _expand(draft, table), Phase.EXPAND)


def at_swap(draft: Draft, table: QName) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """What the swap of twins that new code sees by a view begins and ends with; its undo ends with
    the view. None where there are none."""
    if not _twins(draft, table):
        return None
    # the view first: whoever works through it holds the view before the table
    return (f"DROP VIEW {quote_qname(QName(NEXT, table.name))}", _CLEAR), _make(draft, table)


def _ask_of_new_code(draft: Draft, table: QName, instead: str) -> None:
    draft.needs_release = True
    if not draft.search_path:
        draft.search_path.append(NEXT)
        draft.release_asks.append(
            f"its connections have {NEXT} first in their search_path (ALTER ROLE … SET, or options "
            "in the connection's URL) and name the table without its schema"
        )
        draft.note(
            f"a connection of new code without {NEXT} in its search_path {instead}, and "
            "loses nothing; after contract the setting finds nothing and can go at any time. A pooler in "
            "transaction mode passes no such setting on: there it belongs to the role (ALTER ROLE … SET)"
        )
    draft.note(
        f"through the view of {table}, COPY … FROM, TRUNCATE, ON CONFLICT ON CONSTRAINT and system "
        "columns do not work: new code that needs them waits for contract"
    )


def _twins(draft: Draft, table: QName) -> list[Twin]:
    return [t for (owner, _), t in draft.twins.items() if owner == table and t.by_view]


def _renamed(draft: Draft, table: QName) -> list[tuple[str, str]]:
    """(present name, name to come) of the columns that get another one."""
    shown = [(was, now) for (owner, now), was in draft.behind_view.items() if owner == table]
    return shown + [(twin.old.name, twin.final) for twin in _twins(draft, table)]


def _make(draft: Draft, table: QName) -> tuple[str, ...]:
    invoker = " WITH (security_invoker = true)" if draft.pg >= 15 else ""
    names = dict(_renamed(draft, table))
    behind = {twin.old.name: twin.new for twin in _twins(draft, table)}
    shown = ", ".join(
        quote_ident(behind.get(c.name, c.name))
        + (f" AS {quote_ident(names[c.name])}" if c.name in names else "")
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
    twins = _twins(draft, table)
    names = ", ".join(
        [f"{t.final} as {t.type}" for t in twins]
        or [f"{was} as {now}" for was, now in _renamed(draft, table)]
    )
    draft.sql(
        Phase.EXPAND,
        _make(draft, table),
        undo=(f"DROP VIEW IF EXISTS {quote_qname(QName(NEXT, table.name))}", _CLEAR),
        why=f"new code sees {names} of {table} through a view"
        + ("" if twins else "; nothing is copied"),
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
