"""One trigger per table that keeps the old and the new shape of its rows in step.

No session state: which side a client wrote is told by which columns it changed
(`IS DISTINCT FROM OLD`), and on INSERT by the new columns, which have no default until the old
code is gone: a value there proves a new writer. The trigger is BEFORE ROW, so RETURNING, COPY,
upserts and constraints see both shapes, and it is named to fire last, after users' own triggers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Sql, Step

#: types without an equality operator: compared by their text
_NO_EQUALITY = ("json", "xml", "point", "polygon", "box", "path", "lseg", "line", "circle")


@dataclass(frozen=True, slots=True)
class Side:
    """One column of one shape. `expression` computes it from the other shape (SQL over the row)."""

    column: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True)
class Sync:
    """Old columns and new columns of one table that say the same thing.

    `old` and `new` are the two shapes: each side's expression reads columns of the other one
    (`up` computes the new, `down` the old). `add` are the ADD COLUMN clauses of new columns
    (`ADD COLUMN username varchar(255)`), empty where they exist already. `final` maps physical
    column names to the name they get at contract: new columns that take over an old name, old
    columns that go to their tombstone. `finally_` are statements of the last, irreversible step
    after the old columns are dropped (renaming indexes, setting the default). `swap` and
    `unswap` are more statements of the reversible contract step, and their undo.
    """

    table: QName
    old: tuple[Side, ...]
    new: tuple[Side, ...]
    add: tuple[str, ...] = ()
    after_add: tuple[str, ...] = ()
    final: tuple[tuple[str, str], ...] = ()
    swap: tuple[str, ...] = ()
    unswap: tuple[str, ...] = ()
    finally_: tuple[str, ...] = ()
    why: str = ""
    drop_old: bool = True
    #: types that get other names when the columns do: expressions of the table name them
    renamed_types: tuple[tuple[QName, QName], ...] = ()
    #: columns of `new` whose value alone may be NULL in a complete row: see `_insert_branch`
    nullable_new: frozenset[str] = field(default_factory=frozenset)


def function_name(table: QName) -> str:
    """The sync function of a table, quoted: `zdd.sync_public_users`."""
    return quote_qname(QName(ZDD_SCHEMA, fit(f"sync_{table.schema}_{table.name}")))


def trigger_name(table: QName) -> str:
    """The sync trigger's name, quoted; `zzz_` makes it fire after users' own BEFORE triggers."""
    return quote_ident(fit(f"zzz_zdd_sync_{table.name}"))


def differs(left: str, right: str, type_: str) -> str:
    """SQL that tells whether two values differ, NULLs included, also for types without `=`."""
    if type_.split("(")[0].strip() in _NO_EQUALITY:
        return f"{left}::text IS DISTINCT FROM {right}::text"
    return f"{left} IS DISTINCT FROM {right}"


def function_sql(table: QName, syncs: Sequence[Sync], *, swapped: bool = False) -> str:
    """CREATE OR REPLACE FUNCTION for all syncs of a table.

    `swapped` writes it for the names that columns have after the contract's swap.
    """
    if swapped:
        renamed = {
            quote_qname(was): quote_qname(now) for sync in syncs for was, now in sync.renamed_types
        }
        syncs = [_retyped(sync, renamed) for sync in syncs] if renamed else syncs
    body = "\n".join(_block(table, sync, swapped=swapped) for sync in syncs)
    path = ", ".join(dict.fromkeys(("pg_catalog", quote_ident(table.schema or "public"), "public")))
    return (
        f"CREATE OR REPLACE FUNCTION {function_name(table)}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = {path} AS $zdd$\n"
        f"BEGIN\n{body}\n  RETURN NEW;\nEND\n$zdd$"
    )


def _retyped(sync: Sync, renamed: dict[str, str]) -> Sync:
    """The sync with its expressions in terms of types' new names, all renamed at once."""
    names = "|".join(re.escape(name) for name in sorted(renamed, key=len, reverse=True))
    pattern = re.compile(rf'(?<![\w".])({names})(?![\w"])')

    def side(one: Side) -> Side:
        return replace(one, expression=pattern.sub(lambda m: renamed[m[1]], one.expression))

    return replace(sync, old=tuple(map(side, sync.old)), new=tuple(map(side, sync.new)))


def _block(table: QName, sync: Sync, *, swapped: bool) -> str:
    names = dict(sync.final) if swapped else {}

    def at(column: str) -> str:
        return quote_ident(names.get(column, column))

    up = [_assign(table, sync, side, names) for side in sync.new]
    down = [_assign(table, sync, side, names) for side in sync.old]
    new_given = " OR ".join(f"NEW.{at(s.column)} IS NOT NULL" for s in sync.new)
    new_changed = " OR ".join(
        differs(f"NEW.{at(s.column)}", f"OLD.{at(s.column)}", s.type) for s in sync.new
    )
    # a new value that already follows from the old one asks nothing of it: so a backfill, or a
    # client that writes both, never runs a lossy `down` over the original
    disagrees = " OR ".join(
        differs(f"NEW.{at(s.column)}", _value(table, sync, s, names), s.type) for s in sync.new
    )
    old_changed = " OR ".join(
        differs(f"NEW.{at(s.column)}", f"OLD.{at(s.column)}", s.type) for s in sync.old
    )
    new_missing = " AND ".join(f"NEW.{at(s.column)} IS NULL" for s in sync.new)
    return "\n".join(
        [
            "  IF TG_OP = 'INSERT' THEN",
            f"    IF NOT ({new_given}) THEN",
            *(f"      {line}" for line in up),
            f"    ELSIF {disagrees} THEN",
            *(f"      {line}" for line in down),
            "    END IF;",
            f"  ELSIF ({new_changed}) AND ({disagrees}) THEN",
            *(f"    {line}" for line in down),
            f"  ELSIF ({old_changed}) OR ({new_missing}) THEN",
            *(f"    {line}" for line in up),
            "  END IF;",
        ]
    )


def _assign(table: QName, sync: Sync, side: Side, names: dict[str, str]) -> str:
    target = f"NEW.{quote_ident(names.get(side.column, side.column))}"
    return f"{target} := {_value(table, sync, side, names)};"


def _value(table: QName, sync: Sync, side: Side, names: dict[str, str]) -> str:
    """SQL for a side's value; a bare column is copied, anything else computed over the row.

    The row is given the table's own name, so `lower(users.name)` reads as the user wrote it. After
    the swap the row is renamed back column by column, so the expression never changes.
    """
    others = {s.column for s in (*sync.old, *sync.new)}
    if side.expression in {quote_ident(c) for c in others}:
        source = next(c for c in others if quote_ident(c) == side.expression)
        return f"NEW.{quote_ident(names.get(source, source))}"
    row = "NEW.*"
    if names:
        row = ", ".join(
            [
                "NEW.*",
                *(f"NEW.{quote_ident(now)} AS {quote_ident(was)}" for was, now in names.items()),
            ]
        )
        inverse = set(names.values())
        if inverse & set(names):  # a new column took an old name: NEW.* would be ambiguous
            row = ", ".join(
                f"NEW.{quote_ident(names.get(c, c))} AS {quote_ident(c)}" for c in sorted(others)
            )
    alias = quote_ident(table.name)
    return f"(SELECT {side.expression} FROM (SELECT {row}) AS {alias})"


def render(draft: object, table: QName, part: str) -> list[Step]:
    """The combined step of a table's syncs: `part` is expand, swap or drop."""
    from zdd_migrate.blocks.draft import Draft

    assert isinstance(draft, Draft)
    syncs = draft.syncs[table]
    present = draft.present(table)
    if part == "expand":
        return [_expand(present, syncs)]
    if not any(sync.drop_old for sync in syncs):
        return []
    return [_swap(present, syncs)] if part == "swap" else [_drop(present, syncs)]


def _expand(table: QName, syncs: Sequence[Sync]) -> Sql:
    name = quote_qname(table)
    adds = [clause for sync in syncs for clause in sync.add]
    columns = [s.column for sync in syncs if sync.add for s in sync.new]
    statements = [f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}"]
    if adds:
        statements.append(f"ALTER TABLE {name} {', '.join(adds)}")
    statements.extend(s for sync in syncs for s in sync.after_add)
    statements.append(function_sql(table, syncs))
    statements.append(_create_trigger(table))
    undo = [f"DROP TRIGGER IF EXISTS {trigger_name(table)} ON {name}"]
    undo.append(f"DROP FUNCTION IF EXISTS {function_name(table)}()")
    if columns:
        drops = ", ".join(f"DROP COLUMN IF EXISTS {quote_ident(c)}" for c in columns)
        undo.append(f"ALTER TABLE {name} {drops}")
    return Sql(
        id="",
        statements=tuple(statements),
        undo=tuple(undo),
        why="; ".join(dict.fromkeys(s.why for s in syncs if s.why))
        or f"add the new shape of {table} and keep both in step",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(table),
    )


def _create_trigger(table: QName) -> str:
    return (
        f"CREATE TRIGGER {trigger_name(table)} BEFORE INSERT OR UPDATE ON {quote_qname(table)} "
        f"FOR EACH ROW EXECUTE FUNCTION {function_name(table)}()"
    )


def _swap(table: QName, syncs: Sequence[Sync]) -> Sql:
    """Take the old names away, reversibly: the trigger keeps both sides in step all the while."""
    name = quote_qname(table)
    renames = [pair for sync in syncs for pair in sync.final]
    # an old column must leave its name before a new one takes it
    away = [p for p in renames if p[1].startswith("zdd_")]
    home = [p for p in renames if not p[1].startswith("zdd_")]
    forward = [_rename(name, was, now) for was, now in (*away, *home)]
    back = [_rename(name, now, was) for was, now in (*reversed(home), *reversed(away))]
    gone = ", ".join(was for was, _ in away)
    return Sql(
        id="",
        statements=(
            *forward,
            *(s for sync in syncs for s in sync.swap),
            *(_rename_type(was, now) for sync in syncs for was, now in sync.renamed_types),
            function_sql(table, syncs, swapped=True),
        ),
        undo=(
            *(
                _rename_type(now, was)
                for sync in reversed(syncs)
                for was, now in reversed(sync.renamed_types)
            ),
            *(s for sync in syncs for s in sync.unswap),
            *back,
            function_sql(table, syncs),
        ),
        why=f"take {gone} of {table} out of use; the trigger still keeps it in step, "
        "so this can be undone at once without losing a row",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(table),
    )


def _rename_type(was: QName, now: QName) -> str:
    return f"ALTER TYPE {quote_qname(was)} RENAME TO {quote_ident(now.name)}"


def _rename(table_sql: str, was: str, now: str) -> str:
    return f"ALTER TABLE {table_sql} RENAME COLUMN {quote_ident(was)} TO {quote_ident(now)}"


def _drop(table: QName, syncs: Sequence[Sync]) -> Sql:
    name = quote_qname(table)
    gone = [dict(sync.final).get(s.column, s.column) for sync in syncs for s in sync.old]
    drops = ", ".join(f"DROP COLUMN {quote_ident(c)}" for c in gone)
    return Sql(
        id="",
        statements=(
            f"DROP TRIGGER {trigger_name(table)} ON {name}",
            f"DROP FUNCTION {function_name(table)}()",
            f"ALTER TABLE {name} {drops}",
            *(s for sync in syncs for s in sync.finally_),
        ),
        undo=None,
        why=f"drop what only the old code needed on {table}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(table),
    )
