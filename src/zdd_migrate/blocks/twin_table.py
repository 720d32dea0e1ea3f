"""A second table beside the first, row for row, until it takes the first one's name.

Until then both code versions work with the first table, and a trigger carries every write over to
the second; from then on they work with the second, and a trigger carries every write back, so that
the change of names can be undone without losing a row. The names change in one instant, under a
lock on both: code does not notice, for the name and the columns stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_migrate.blocks.carrying import (
    Carried,
    Flow,
    drop_triggers,
    function_sql,
    make_triggers,
    row_for_row,
    touch,
    with_owners_rights,
)
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.blocks.shim import view_over
from zdd_migrate.blocks.sync import differs
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column


@dataclass(frozen=True, slots=True)
class TwinTable:
    """`source` is the table that code works with, `twin` the one that takes its name.

    `columns` are those that both have and that can be written, `key` the twin's own key, `tomb` the
    name under which the first one waits. `keeps` says that it stays under that name, `shows` that new
    code finds it there before contract, `total` that
    the twin takes whatever the first one takes. `renames` are constraints of the twin that get
    another name with the table, `sequences` likewise; `numbered` are pairs of sequences (the first
    one's, the twin's before it is renamed) that number the same column.
    """

    source: QName
    twin: QName
    tomb: QName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    keeps: bool = False
    shows: bool = False
    total: bool = False
    renames: tuple[tuple[str, str], ...] = ()
    sequences: tuple[tuple[QName, QName], ...] = ()
    numbered: tuple[tuple[QName, QName], ...] = ()


def plan_twin_table(draft: Draft, table: TwinTable) -> None:
    """Triggers and a backfill; at contract the names change, and the first table is dropped."""
    forth, back = functions(table)
    carry = carry_sql(table, forth, table.source, table.twin, forgiving=not table.total)
    undo = unmake_triggers(table.source, forth)
    draft.touches.setdefault(table.source)
    draft.needs_release = True
    draft.restricts_old = True
    draft.sql(
        Phase.EXPAND,
        (f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}", carry, *make_triggers(table.source, forth)),
        undo=undo,
        why=f"carry every write of {table.source} over to {table.twin}",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=table.source,
    )
    say_what_a_touch_does(draft, table.source)
    touch_every_row(
        draft,
        table,
        why=f"touch every row of {table.source}, for the trigger to write {table.twin}; a row that it does "
        "not take (no partition for it, or a constraint) is left to be looked at",
    )
    if not table.total:
        draft.sql(
            Phase.CONTRACT,
            carry_sql(table, forth, table.source, table.twin),
            undo=carry,
            why=f"from now on a row that {table.twin} does not take is refused, as it will be",
        )
    row_for_row(
        draft,
        f"{table.twin.name} = {table.source.name}, row for row",
        apart(table),
        Phase.CONTRACT,
        message=f"{table.twin} is not yet what {table.source} is, row for row: rows that it does not "
        "take (no partition for them, or a constraint)",
        why=f"{table.twin} takes the name only when it holds every row",
    )
    if table.shows:
        _show_kept(draft, table)
    _swap(draft, table, forth, back)
    gone: tuple[str, ...] = () if table.keeps else (f"DROP TABLE {quote_qname(table.tomb)}",)
    if table.shows:
        apart_again = _numbers_itself(draft, table, table.tomb)
        gone = (*drop_triggers(table.tomb), *apart_again)
    draft.sql(
        Phase.CONTRACT,
        (
            *drop_triggers(table.source),
            *gone,
            f"DROP FUNCTION IF EXISTS {back}()",
            f"DROP FUNCTION {forth}()",
        ),
        undo=None,
        why=f"no longer carry writes back to the first {table.source}"
        + ("" if table.keeps else ", and drop it")
        + "; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table.source,
    )


def _show_kept(draft: Draft, table: TwinTable) -> None:
    """The first table under the name it keeps, for new code to find: a view, until it has the name.

    It goes on being one with the table that code works with, until the last step.
    """
    draft.sql(
        Phase.EXPAND,
        _view_of_kept(draft, table),
        undo=f"DROP VIEW IF EXISTS {quote_qname(table.tomb)}",
        why=f"new code finds {table.tomb.name}, a view of {table.source.name} until contract",
        lock=LockMode.ACCESS_SHARE,
        relation=table.source,
    )
    draft.note(
        f"until the last step of contract {table.tomb} and {table.source} hold the same rows: what is "
        "written into either is in both"
    )
    draft.note(
        f"until contract {table.tomb} is a view: COPY … FROM, TRUNCATE and system columns do not work there"
    )


def numbers_alike(draft: Draft, source: QName, numbered: Sequence[tuple[QName, QName]]) -> bool:
    """Whether both tables can draw from one sequence: a default can be set to another's, an identity
    cannot."""
    known = draft.start.tables[source]
    return all(
        c.identity is None
        for c in known.columns
        if any(
            s.name == mine for s in draft.start.sequences_of(source, c.name) for mine, _ in numbered
        )
    )


def _numbered_columns(draft: Draft, table: TwinTable) -> list[tuple[Column, QName, QName]]:
    return [
        (column, mine, theirs)
        for column in draft.start.tables[table.source].columns
        for mine, theirs in table.numbered
        if any(s.name == mine for s in draft.start.sequences_of(table.source, column.name))
    ]


def _numbers_from(draft: Draft, table: TwinTable) -> list[str]:
    """While both tables are one, the first draws its numbers from the other's sequence."""
    return [
        f"ALTER TABLE {quote_qname(table.source)} ALTER COLUMN {quote_ident(column.name)} "
        f"SET DEFAULT nextval({_regclass(theirs)})"
        for column, _, theirs in _numbered_columns(draft, table)
    ]


def _numbers_itself(draft: Draft, table: TwinTable, name: QName) -> list[str]:
    """And then from its own again, called `name`, which goes on where the other has come to."""
    later = dict(table.sequences)
    out = []
    for column, mine, theirs in _numbered_columns(draft, table):
        out.append(
            f"ALTER TABLE {quote_qname(name)} ALTER COLUMN {quote_ident(column.name)} "
            f"SET DEFAULT nextval({_regclass(mine)})"
        )
        if name == table.tomb:
            now = _regclass(later.get(theirs, theirs))
            out.append(f"SELECT setval({_regclass(mine)}, nextval({now}), false)")
    return out


def _view_of_kept(draft: Draft, table: TwinTable) -> list[str]:
    columns = [c.name for c in draft.start.tables[table.source].columns]
    return view_over(draft, table.source, table.tomb, columns)


def _swap(draft: Draft, table: TwinTable, forth: str, back: str) -> None:
    """The names change hands, and the triggers their direction."""
    source, twin, tomb = (quote_qname(n) for n in (table.source, table.twin, table.tomb))
    name, working, waiting = (
        quote_ident(n) for n in (table.source.name, table.twin.name, table.tomb.name)
    )
    was = draft.start.tables[table.source].primary_key
    key = was.columns if was is not None else table.key
    bring: tuple[str, ...] = (_bring(table, back, key),)
    before: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    alike: list[str] = []
    if table.shows:  # in step both ways, for code that writes into either
        before = (f"DROP VIEW {tomb}",)
        bring = (
            _bring(table, back, key, both=True),
            carry_sql(table, forth, table.tomb, table.source),
            *make_triggers(table.tomb, forth),
        )
        alike = _numbers_from(draft, table)
        home = (
            *_numbers_itself(draft, table, table.source),
            carry_sql(table, forth, table.source, table.twin),
            *_view_of_kept(draft, table),
        )
    draft.sql(
        Phase.CONTRACT,
        (
            *before,
            f"LOCK TABLE {source}, {twin} IN ACCESS EXCLUSIVE MODE",
            *drop_triggers(table.source),
            *(
                f"SELECT setval({_regclass(theirs)}, nextval({_regclass(mine)}), false)"
                for mine, theirs in table.numbered
            ),
            *alike,
            f"ALTER TABLE {source} RENAME TO {waiting}",
            f"ALTER TABLE {twin} RENAME TO {name}",
            *(f"ALTER TABLE {source} RENAME CONSTRAINT {quote_ident(a)} TO {quote_ident(b)}"
              for a, b in table.renames),
            *(f"ALTER SEQUENCE {quote_qname(a)} RENAME TO {quote_ident(b.name)}"
              for a, b in table.sequences),
            *bring,
            *make_triggers(table.source, back),
        ),
        undo=(
            f"LOCK TABLE {source}, {tomb} IN ACCESS EXCLUSIVE MODE",
            *drop_triggers(table.source),
            *(drop_triggers(table.tomb) if table.shows else ()),
            f"DROP FUNCTION {back}()",
            *(f"ALTER SEQUENCE {quote_qname(b)} RENAME TO {quote_ident(a.name)}"
              for a, b in table.sequences),
            *(f"ALTER TABLE {source} RENAME CONSTRAINT {quote_ident(b)} TO {quote_ident(a)}"
              for a, b in table.renames),
            f"ALTER TABLE {source} RENAME TO {working}",
            f"ALTER TABLE {tomb} RENAME TO {name}",
            *(
                f"SELECT setval({_regclass(mine)}, nextval({_regclass(theirs)}), false)"
                for mine, theirs in table.numbered
            ),
            *make_triggers(table.source, forth),
            *home,
        ),
        why=f"{table.twin} becomes {table.source} for everybody at once; every write is carried back to "
        f"the first one, {table.tomb}, so this can be undone without losing a row",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table.source,
    )  # fmt: skip


def _regclass(name: QName) -> str:
    return f"{quote_literal(quote_qname(name))}::regclass"


def say_what_a_touch_does(draft: Draft, table: QName) -> None:
    """The users' own triggers fire for the backfill as for anybody's UPDATE."""
    known = draft.start.tables[table]
    names = [t.name for t in known.triggers if "UPDATE" in t.events and not t.columns]
    if names:
        draft.note(
            f"the backfill updates every row of {table} without changing it: {', '.join(names)} fire for "
            "each, and what they change is changed (a time of the last change, say)"
        )


def touch_every_row(draft: Draft, table: TwinTable, *, why: str) -> None:
    """A backfill that changes nothing: the trigger writes each row that the twin lacks."""
    here, keys = quote_ident(table.source.name), [quote_ident(k) for k in table.key]
    same = " AND ".join(f"x.{k} = {here}.{k}" for k in keys)
    touch(draft, table.source, f"SELECT 1 FROM {quote_qname(table.twin)} x WHERE {same}", why=why)


def functions(table: TwinTable) -> tuple[str, str]:
    name = f"{table.source.schema}_{table.source.name}"
    forth, back = (quote_qname(QName(ZDD_SCHEMA, fit(f"{w}_{name}"))) for w in ("carry", "return"))
    return forth, back


def unmake_triggers(table: QName, function: str) -> tuple[str, ...]:
    return (*drop_triggers(table), f"DROP FUNCTION IF EXISTS {function}()")


def carry_sql(
    table: TwinTable, function: str, here: QName, to: QName, *, forgiving: bool = False
) -> str:
    """The function that writes into `to` what was written `here`. The backfill does not end before
    there is no row that `to` does not take."""
    columns = tuple(
        Carried(c.name, c.type, f"{{row}}.{quote_ident(c.name)}", fixed=c.identity == "always")
        for c in table.columns
    )
    flow = Flow(here, table.key, to, columns, table.key)
    return function_sql(function, [flow], schemas=[table.source.schema], forgiving=forgiving)


def _bring(table: TwinTable, function: str, key: tuple[str, ...], *, both: bool = False) -> str:
    """The function that writes back into the first table, which holds the same rows. Its key, which
    may say more than the new one, goes on holding: a write that breaks it fails.

    `both`: the first table is written to as well, and carried here, so what is there already ends it.
    """
    target, here = quote_qname(table.tomb), quote_qname(table.source)
    names = [quote_ident(c.name) for c in table.columns]
    there = " AND ".join(f"x.{quote_ident(k)} = OLD.{quote_ident(k)}" for k in key)
    # the row as it is by now: a user's AFTER trigger may have changed it once more
    now = " AND ".join(f"s.{quote_ident(k)} = NEW.{quote_ident(k)}" for k in table.key)
    sets = ", ".join(
        f"{quote_ident(c.name)} = s.{quote_ident(c.name)}"
        for c in table.columns
        if c.identity != "always"
    )
    # not the row that got another key there, for which this one makes room
    exactly = dict.fromkeys((*key, *table.key)) if both else key
    gone = " AND ".join(f"x.{quote_ident(k)} = OLD.{quote_ident(k)}" for k in exactly)
    same = " AND ".join(f"x.{quote_ident(k)} = s.{quote_ident(k)}" for k in key)
    unlike = " OR ".join(_differs(c, "x", "s") for c in table.columns if c.name not in key)
    known = f"SELECT 1 FROM {target} x, {here} s WHERE {now} AND {same}"
    known += f" AND NOT ({unlike})" if unlike else ""
    there_already = (
        f"  IF TG_OP IN ('INSERT', 'UPDATE') THEN\n    IF EXISTS ({known}) THEN RETURN NULL; END IF;\n  END IF;\n"
        if both
        else ""
    )
    filled = f"IF EXISTS (SELECT 1 FROM {target}) THEN TRUNCATE {target}; END IF"
    empty = filled if both else f"TRUNCATE {target}"
    return (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"{with_owners_rights([table.source.schema])} AS $zdd$\n"
        f"BEGIN\n{there_already}"
        f"  IF TG_OP = 'TRUNCATE' THEN\n    {empty};\n"
        "  ELSIF TG_OP = 'INSERT' THEN\n"
        f"    INSERT INTO {target} ({', '.join(names)}) OVERRIDING SYSTEM VALUE\n"
        f"    SELECT {', '.join(f's.{n}' for n in names)} FROM {here} s WHERE {now} FOR KEY SHARE;\n"
        "  ELSIF TG_OP = 'UPDATE' THEN\n"
        f"    UPDATE {target} x SET {sets} FROM (SELECT * FROM {here} s WHERE {now} FOR KEY SHARE) s "
        f"WHERE {there};\n"
        "  ELSE\n"
        f"    DELETE FROM {target} x WHERE {gone};\n"
        "  END IF;\n"
        "  RETURN NULL;\nEND\n$zdd$"
    )


def _differs(column: Column, left: str, right: str) -> str:
    name = quote_ident(column.name)
    return differs(f"{left}.{name}", f"{right}.{name}", column.type)


def apart(table: TwinTable) -> str:
    """A query for rows of either table that the other lacks or has otherwise."""
    source, twin = quote_qname(table.source), quote_qname(table.twin)
    keys = [quote_ident(k) for k in table.key]
    on = " AND ".join(f"s.{k} = x.{k}" for k in keys)
    rest: Sequence[Column] = [c for c in table.columns if c.name not in table.key]
    differing = "".join(f" OR {_differs(c, 's', 'x')}" for c in rest)
    shown = ", ".join(f"coalesce(s.{k}, x.{k}) AS {k}" for k in keys)
    return (
        f"SELECT {shown} FROM {source} s FULL JOIN {twin} x ON {on} "
        f"WHERE s.{keys[0]} IS NULL OR x.{keys[0]} IS NULL{differing}"
    )
