"""A table under two names by way of a copy: for code that does what it cannot do through a view.

The copy has the new name, and triggers carry every write from either table to the other, writing
only what differs, so they end by themselves. At contract the first table takes the name, with all
that hangs on it, and the copy goes.
"""

from __future__ import annotations

from zdd_migrate.blocks.carrying import drop_triggers, make_triggers, row_for_row
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, own
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.blocks.shim import copy_grants
from zdd_migrate.blocks.twin_table import (
    TwinTable,
    apart,
    carry_sql,
    functions,
    say_what_a_touch_does,
    touch_every_row,
)
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase


def why_no_copy(draft: Draft, table: QName) -> tuple[str, str] | None:
    """Why a copy cannot be kept in step, and what to do instead."""
    known = draft.start.tables.get(table)
    instead = "leave --via copy out: a view under the new name is the usual way"
    if known is None or draft.only_moved.get(table, 0) != 1:
        return f"the migration does more to {table} than give it another name", instead
    if known.kind != "table" or known.parent is not None or draft.start.children_of(table):
        return f"{table} has partitions, parents or children, which a copy would not have", instead
    if known.primary_key is None:
        return f"{table} has no primary key to tell its rows by in both tables", instead
    if known.row_security or known.policies:
        return f"{table} has row security, which the copy would not have", instead
    if any(t.row and t.timing == "BEFORE" for t in known.triggers):
        return (
            (
                f"a BEFORE trigger of {table} changes rows: new code would be given back its row as it was "
                "before that"
            ),
            instead,
        )
    if any(c.generated is not None or c.identity == "always" for c in known.columns):
        return f"a column of {table} cannot be written, and so not copied", instead
    return None


def plan_table_copy(draft: Draft, table: QName, new: QName) -> None:
    """The copy with the new name in expand, in step both ways; gone at the end of contract."""
    known = draft.start.tables[table]
    key = known.primary_key
    assert key is not None
    twin = TwinTable(table, new, new.sibling(own("old", new.name)), known.columns, key.columns)
    draft.touches.setdefault(table)
    draft.breaks_old = draft.needs_release = True
    _make(draft, twin)
    say_what_a_touch_does(draft, table)
    touch_every_row(draft, twin, why=f"touch every row of {table}, for the trigger to write {new}")
    row_for_row(
        draft,
        f"{new.name} = {table.name}, row for row",
        apart(twin),
        Phase.SWITCH,
        message=f"{new} is not what {table} is, row for row",
        why=f"new code works with {new}, so every row must be there",
    )
    _take_the_name(draft, twin)


def _carry(twin: TwinTable) -> tuple[str, str]:
    """The functions of both ways."""
    there, back = functions(twin)
    return (
        carry_sql(twin, there, twin.source, twin.twin),
        carry_sql(twin, back, twin.twin, twin.source),
    )


def _make(draft: Draft, twin: TwinTable) -> None:
    table, new, (there, back) = twin.source, twin.twin, functions(twin)
    source, copy = quote_qname(table), quote_qname(new)
    numbered = [
        (column.name, sequence.name)
        for column in twin.columns
        if column.identity is not None
        for sequence in draft.start.sequences_of(table, column.name)
    ]
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            f"CREATE TABLE {copy} (LIKE {source} INCLUDING ALL EXCLUDING IDENTITY)",
            *(
                f"ALTER TABLE {copy} ALTER COLUMN {quote_ident(c)} "
                f"SET DEFAULT nextval({quote_literal(quote_qname(s))}::regclass)"
                for c, s in numbered
            ),
            *copy_grants(table, new),
            *_carry(twin),
            *make_triggers(table, there),
            *make_triggers(new, back),
        ),
        undo=(
            *drop_triggers(table),
            f"DROP TABLE IF EXISTS {copy}",
            f"DROP FUNCTION IF EXISTS {there}()",
            f"DROP FUNCTION IF EXISTS {back}()",
        ),
        why=f"make {new}, a copy of {table}, and carry every write from either to the other",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=table,
    )
    if numbered:
        draft.note(
            f"roles that insert into {new} need USAGE on the sequence {numbered[0][1]} until contract, "
            f"which an identity of {table} does not ask of them"
        )


def _take_the_name(draft: Draft, twin: TwinTable) -> None:
    """The first table takes the copy's name; then the copy goes."""
    table, new, (there, back) = twin.source, twin.twin, functions(twin)
    source, copy, tomb = (quote_qname(n) for n in (table, new, twin.tomb))
    names = (
        (copy, quote_ident(new.name), quote_ident(twin.tomb.name), tomb),
        (source, quote_ident(table.name), quote_ident(new.name), copy),
    )
    draft.sql(
        Phase.CONTRACT,
        (
            f"LOCK TABLE {source}, {copy} IN ACCESS EXCLUSIVE MODE",
            *drop_triggers(new),
            *(f"ALTER TABLE {was} RENAME TO {name}" for was, _, name, _ in names),
            carry_sql(twin, there, new, twin.tomb),
        ),
        undo=(
            f"LOCK TABLE {copy}, {tomb} IN ACCESS EXCLUSIVE MODE",
            *(f"ALTER TABLE {now} RENAME TO {name}" for _, name, _, now in reversed(names)),
            *_carry(twin),
            *make_triggers(new, back),
        ),
        why=f"{table} becomes {new.name}; every write is still carried to the copy, so this can be undone "
        "at once",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
    draft.sql(
        Phase.CONTRACT,
        (
            *drop_triggers(table, on=new),
            f"DROP TABLE {tomb}",
            f"DROP FUNCTION {there}()",
            f"DROP FUNCTION {back}()",
        ),
        undo=None,
        why=f"drop the copy of {new}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=new,
    )
