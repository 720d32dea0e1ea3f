"""One trigger per table that keeps the old and the new shape of its rows in step.

No session state: which side a client wrote is told by which columns it changed
(`IS DISTINCT FROM OLD`), and on INSERT by the new columns, which have no default until the old
code is gone: a value there proves a new writer, and where a NULL says something, `left_out` tells
one that was given. The trigger is BEFORE ROW, so RETURNING, COPY, upserts and constraints see both
shapes; `blocks.triggers` says why it fires last, and always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zdd_migrate.blocks import triggers
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.left_out import Mark, opening
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase, Sql

#: types without an equality operator: compared by their text
_NO_EQUALITY = ("json", "xml", "point", "polygon", "box", "path", "lseg", "line", "circle")


@dataclass(frozen=True, slots=True)
class Side:
    """One column of one shape. `expression` computes it from the other shape (SQL over the row)."""

    column: str
    type: str
    expression: str
    #: whether it is NOT NULL
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Sync:
    """Old columns and new columns of one table that say the same thing.

    `old` and `new` are the two shapes (none where a sync has only statements to add): each side's expression reads columns of the other one
    (`up` computes the new, `down` the old). `add` are the ADD COLUMN clauses of new columns
    (`ADD COLUMN username varchar(255)`), empty where they exist already; `after_add` statements
    that follow. `final` maps physical column names to the name they get at contract: those that
    take over a name, and those that go to their tombstone. `drops` are the columns (their names
    before contract) that the last, irreversible step drops; `before_drop` and `finally_` are
    statements of that step, before and after they are dropped.
    """

    table: QName
    old: tuple[Side, ...]
    new: tuple[Side, ...]
    add: tuple[str, ...] = ()
    after_add: tuple[str, ...] = ()
    final: tuple[tuple[str, str], ...] = ()
    drops: tuple[str, ...] = ()
    #: statements of the swap after columns have changed names, and of its undo before they do
    at_swap: tuple[str, ...] = ()
    at_swap_back: tuple[str, ...] = ()
    #: what the swap begins with, and what its undo ends with
    before_swap: tuple[str, ...] = ()
    after_swap_back: tuple[str, ...] = ()
    #: whether from the swap on the new columns alone say what an INSERT gives, a NULL included
    hands_over: bool = False
    before_drop: tuple[str, ...] = ()
    finally_: tuple[str, ...] = ()
    why: str = ""
    #: types that get other names when the columns do: expressions of the table name them
    renamed_types: tuple[tuple[QName, QName], ...] = ()
    #: old columns that must not be NULL and have no default: a row that new code leaves empty gets
    #: what `down` makes of that
    required: tuple[str, ...] = ()
    #: whether the swap can be undone while new code runs
    returns: bool = True
    #: new columns that may be NULL where a NULL is not what the conversions make of one: from switch
    #: on, when every row is filled, a NULL that an INSERT gives stays
    marked: tuple[str, ...] = ()
    #: new columns that have a default in the end
    defaults: tuple[str, ...] = ()


def null_says_the_same(old: Sequence[Side], new: Sequence[Side], *, default: bool) -> bool:
    """Whether a NULL of either shape is sure to be a NULL of the other, and nobody asks for a value
    there. `default`: whether one of the old columns has a default."""
    names = [s.column for s in (*old, *new)]
    return not default and all(
        not s.not_null
        and any(s.expression == quote_ident(n) or is_cast(s.expression, n) for n in names)
        for s in (*old, *new)
    )


def is_cast(expression: str, column: str) -> bool:
    """Whether an expression is nothing but a column in another type."""
    text = re.sub(r"\s", "", expression).lower()
    name = re.escape(quote_ident(column).lower())
    return bool(
        re.fullmatch(rf"\(*{name}\)*(::[\w.\[\](),\"]+)+", text)
        or re.fullmatch(rf"cast\({name}as[\w.\[\](),\"]+\)", text)
    )


def hands_over(draft: Draft, present: QName) -> bool:
    """Whether nobody writes old columns after the swap: not where a table (its present name) gets
    another name, and new code writes them through the view that has it until then."""
    return all(
        physical != present or final == physical for final, physical in draft.present_tables.items()
    )


def reserve(draft: Draft, table: QName) -> None:
    """Keep the places of a table's combined steps, once: the one that adds columns and trigger
    (expand), the one that swaps names (contract), and the one that drops what is left (contract,
    no way back).
    """
    if table in draft.syncs:
        return
    if draft.refuse_children(table, "whose rows cannot be kept in step"):
        draft.syncs[table] = []
        return
    if draft.dual_write:
        from zdd_migrate.blocks.dual import reserve_dual

        reserve_dual(draft, table)
        return
    draft.syncs[table] = []
    draft.needs_release = True

    def add(part: Callable[[Draft, QName, Sequence[Sync]], Sql]) -> Callable[[], None]:
        def step() -> None:
            from zdd_migrate.blocks.twin import all_syncs

            found = all_syncs(draft, table)
            for guard in draft.guards.get(table, ()) if part is _swap else ():
                guard()
            if found and (part is not _swap or any(sync.final for sync in found)):
                draft.step(
                    Phase.EXPAND if part is _expand else Phase.CONTRACT, part(draft, table, found)
                )

        return step

    def heard() -> None:
        from zdd_migrate.blocks.twin import all_syncs

        found = all_syncs(draft, table)
        if any(sync.marked for sync in found):
            draft.step(Phase.SWITCH, _hear_nulls(draft, table, found))

    draft.later(Phase.EXPAND, add(_expand))
    draft.later(Phase.SWITCH, heard)
    draft.later(Phase.CONTRACT, add(_swap))
    draft.later(Phase.CONTRACT, add(_drop))


def function_name(table: QName) -> str:
    """The sync function of a table, quoted: `zdd.sync_public_users`."""
    return quote_qname(QName(ZDD_SCHEMA, fit(f"sync_{table.schema}_{table.name}")))


def trigger_name(draft: Draft, table: QName) -> str:
    """The sync trigger's name, quoted; it fires after users' own BEFORE triggers."""
    return triggers.quoted(draft, table, f"zzz_zdd_sync_{table.name}")


def differs(left: str, right: str, type_: str) -> str:
    """SQL that tells whether two values differ, NULLs included, also for types without `=`."""
    if type_.split("(")[0].strip() in _NO_EQUALITY:
        return f"{left}::text IS DISTINCT FROM {right}::text"
    return f"{left} IS DISTINCT FROM {right}"


def unfilled(old: Sequence[Side], new: Sequence[Side], *, lossless: bool = False) -> str:
    """SQL, over a row of the table, that tells whether a backfill has to compute the new shape.

    Not where new code wrote what does not come back the same through a lossy `down` and `up`: that
    row is in step the other way round.
    """
    up, back = _apart(new), _apart(_computed(old))
    if lossless or _copied(old, new):
        return up
    empty = " AND ".join(f"{quote_ident(s.column)} IS NULL" for s in new)
    return f"({up}) AND ({empty}{f' OR {back}' if back else ''})"


def out_of_step(old: Sequence[Side], new: Sequence[Side], *, lossless: bool = False) -> str:
    """SQL that tells whether a row's shapes follow from one another in neither direction."""
    up, back = _apart(new), _apart(_computed(old))
    return up if lossless or not back or _copied(old, new) else f"({up}) AND ({back})"


def _copied(old: Sequence[Side], new: Sequence[Side]) -> bool:
    """Whether every old column that is computed is a plain copy of a new one."""
    names = {quote_ident(s.column) for s in new}
    computed = _computed(old)
    return bool(computed) and all(s.expression in names for s in computed)


def _computed(sides: Sequence[Side]) -> list[Side]:
    """Without the columns that stay as they are, whoever writes."""
    return [s for s in sides if s.expression != quote_ident(s.column)]


def _apart(sides: Sequence[Side]) -> str:
    return " OR ".join(differs(quote_ident(s.column), f"({s.expression})", s.type) for s in sides)


def marks(table: QName, sync: Sync) -> list[Mark]:
    """The marks of a sync's columns; `table` is its present name."""
    return [Mark(table, s.column, s.type) for s in sync.new if s.column in sync.marked]


def function_sql(
    table: QName,
    syncs: Sequence[Sync],
    columns: frozenset[str],
    *,
    swapped: bool = False,
    nulls: bool = True,
) -> str:
    """CREATE OR REPLACE FUNCTION for all syncs of a table.

    `columns` are the table's columns as they are called before contract; `swapped` writes it for
    the names that they have after the contract's swap. `nulls`: a NULL that is given is heard; not
    before switch, for then an unfilled row that moves to another partition gives one too.
    """
    if swapped:
        renamed = {
            quote_qname(was): quote_qname(now) for sync in syncs for was, now in sync.renamed_types
        }
        syncs = [_retyped(sync, renamed) for sync in syncs] if renamed else syncs
    row = _Row(table, columns, dict(p for s in syncs for p in s.final) if swapped else {})
    if not nulls:
        syncs = [replace(sync, marked=()) for sync in syncs]
    body = "\n".join(_block(sync, row, swapped=swapped) for sync in syncs if sync.new)
    head = opening([mark for sync in syncs for mark in marks(table, sync)])
    path = ", ".join(dict.fromkeys(("pg_catalog", quote_ident(table.schema or "public"), "public")))
    return (
        f"CREATE OR REPLACE FUNCTION {function_name(table)}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = {path} AS $zdd$\n"
        f"{head}{body}\n  RETURN NEW;\nEND\n$zdd$"
    )


def _retyped(sync: Sync, renamed: dict[str, str]) -> Sync:
    """The sync with its expressions in terms of types' new names, all renamed at once."""
    names = "|".join(re.escape(name) for name in sorted(renamed, key=len, reverse=True))
    pattern = re.compile(rf'(?<![\w".])({names})(?![\w"])')

    def side(one: Side) -> Side:
        return replace(one, expression=pattern.sub(lambda m: renamed[m[1]], one.expression))

    return replace(sync, old=tuple(map(side, sync.old)), new=tuple(map(side, sync.new)))


@dataclass(frozen=True, slots=True)
class _Row:
    """The row that a trigger sees. `names` maps columns' names before contract to those now."""

    table: QName
    columns: frozenset[str]
    names: dict[str, str]

    def at(self, column: str) -> str:
        """A column's name now, quoted."""
        return quote_ident(self.names.get(column, column))

    def value(self, expression: str, others: frozenset[str]) -> str:
        """SQL for an expression over the row; a bare column is copied.

        After the swap it is renamed back column by column: the expression never changes.
        """
        bare = [c for c in others if quote_ident(c) == expression]
        if bare:
            return f"NEW.{self.at(bare[0])}"
        row = "NEW.*"
        if self.names:
            read = (analyse(expression).names & self.columns) | others
            row = ", ".join(f"NEW.{self.at(c)} AS {quote_ident(c)}" for c in sorted(read))
        return triggers.over_row(expression, row, self.table)


def _block(sync: Sync, row: _Row, *, swapped: bool) -> str:
    others = frozenset(s.column for s in (*sync.old, *sync.new))

    def value(side: Side) -> str:
        return row.value(side.expression, others)

    up = [f"NEW.{row.at(s.column)} := {value(s)};" for s in sync.new]
    down = [f"NEW.{row.at(s.column)} := {value(s)};" for s in sync.old]
    new_given = " OR ".join(f"NEW.{row.at(s.column)} IS NOT NULL" for s in sync.new)
    if sync.marked:
        left_out = " AND ".join(mark.variable for mark in marks(row.table, sync))
        new_given = f"{new_given} OR NOT ({left_out})"
    new_changed = " OR ".join(
        differs(f"NEW.{row.at(s.column)}", f"OLD.{row.at(s.column)}", s.type) for s in sync.new
    )
    # a new value that already follows from the old one asks nothing of it: so a backfill, or a
    # client that writes both, never runs a lossy `down` over the original
    disagrees = " OR ".join(differs(f"NEW.{row.at(s.column)}", value(s), s.type) for s in sync.new)
    # an unfilled row waits for the backfill, not for the next write of something else: a NULL may
    # be what new code wrote
    old_changed = " OR ".join(
        differs(f"NEW.{row.at(s.column)}", f"OLD.{row.at(s.column)}", s.type) for s in sync.old
    )
    empty: list[str] = []
    if sync.required:
        # old code always gives these: it is new code that left its own columns out
        later = [
            line
            for s, line in zip(sync.new, up, strict=True)
            if s.column in sync.defaults or s.column not in sync.marked
        ]
        lacking = " AND ".join(f"NEW.{row.at(c)} IS NULL" for c in sync.required)
        empty = [
            f"    IF NOT ({new_given}) AND {lacking} THEN",
            *(f"      {line}" for line in (*down, *later)),
        ]
    inserted = [
        *empty,
        f"    {'ELSIF' if empty else 'IF'} NOT ({new_given}) THEN",
        *(f"      {line}" for line in up),
        f"    ELSIF {disagrees} THEN",
        *(f"      {line}" for line in down),
        "    END IF;",
    ]
    if swapped and sync.hands_over:  # where nothing comes back, an old default may stay
        inserted = [
            f"    IF {value(s)} IS NOT NULL THEN {line} END IF;" if s.not_null else f"    {line}"
            for s, line in zip(sync.old, down, strict=True)
        ]
    return "\n".join(
        [
            "  IF TG_OP = 'INSERT' THEN",
            *inserted,
            f"  ELSIF ({new_changed}) AND ({disagrees}) THEN",
            *(f"    {line}" for line in down),
            f"  ELSIF {old_changed} THEN",
            *(f"    {line}" for line in up),
            "  END IF;",
        ]
    )


def _columns(draft: Draft, table: QName, syncs: Sequence[Sync]) -> frozenset[str]:
    known = draft.start.tables.get(draft.present(table))
    there = {c.name for c in known.columns} if known is not None else set()
    return frozenset(there | {s.column for sync in syncs for s in (*sync.old, *sync.new)})


def _expand(draft: Draft, table: QName, syncs: Sequence[Sync]) -> Sql:
    present = draft.present(table)
    name = quote_qname(present)
    adds = [clause for sync in syncs for clause in sync.add]
    columns = [s.column for sync in syncs if sync.add for s in sync.new]
    statements = [f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}"]
    if adds:
        statements.append(f"ALTER TABLE {name} {', '.join(adds)}")
    statements.extend(s for sync in syncs for s in sync.after_add)
    statements.extend(mark.put(name) for sync in syncs for mark in marks(present, sync))
    statements.append(function_sql(present, syncs, _columns(draft, table, syncs), nulls=False))
    trigger = trigger_name(draft, present)
    statements.extend(triggers.create(present, trigger, function_name(present)))
    undo = [f"DROP TRIGGER IF EXISTS {trigger} ON {name}"]
    undo.append(f"DROP FUNCTION IF EXISTS {function_name(present)}()")
    undo.extend(
        f"ALTER TABLE {name} ALTER COLUMN {quote_ident(c)} DROP DEFAULT"
        for sync in syncs
        for c in sync.marked
        if not sync.add
    )
    if columns:
        drops = ", ".join(f"DROP COLUMN IF EXISTS {quote_ident(c)}" for c in columns)
        undo.append(f"ALTER TABLE {name} {drops}")
    return Sql(
        id="",
        statements=tuple(statements),
        undo=tuple(undo),
        why="; ".join(dict.fromkeys(s.why for s in syncs if s.why))
        or f"add the new shape of {present} and keep both in step",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(present),
    )


def _hear_nulls(draft: Draft, table: QName, syncs: Sequence[Sync]) -> Sql:
    present, columns = draft.present(table), _columns(draft, table, syncs)
    marked = ", ".join(c for sync in syncs for c in sync.marked)
    return Sql(
        id="",
        statements=(function_sql(present, syncs, columns),),
        undo=(function_sql(present, syncs, columns, nulls=False),),
        why=f"every row is filled: from now on a NULL that an INSERT gives in {marked} of {present} is "
        "what new code wrote",
    )


def _swap(draft: Draft, table: QName, syncs: Sequence[Sync]) -> Sql:
    """Take the old names away, reversibly: the trigger keeps both sides in step all the while."""
    present = draft.present(table)
    name = quote_qname(present)
    if not hands_over(draft, present):
        syncs = [replace(sync, hands_over=False) for sync in syncs]
    renames = [pair for sync in syncs for pair in sync.final]
    # a column must leave its name before another takes it
    away = [p for p in renames if p[1].startswith("zdd_")]
    home = [p for p in renames if not p[1].startswith("zdd_")]
    forward = [_rename(name, was, now) for was, now in (*away, *home)]
    back = [_rename(name, now, was) for was, now in (*reversed(home), *reversed(away))]
    gone = ", ".join(s.column for sync in syncs for s in sync.old)
    columns = _columns(draft, table, syncs)
    returns = all(sync.returns for sync in syncs)
    types = [pair for sync in syncs for pair in sync.renamed_types]
    return Sql(
        id="",
        statements=(
            *(s for sync in syncs for s in sync.before_swap),
            *forward,
            *(_rename_type(was, now) for was, now in types),
            *(s for sync in syncs for s in sync.at_swap),
            function_sql(present, syncs, columns, swapped=True),
        ),
        undo=(
            *(_rename_type(now, was) for was, now in reversed(types)),
            *(s for sync in syncs for s in sync.at_swap_back),
            *back,
            function_sql(present, syncs, columns),
            *(s for sync in syncs for s in sync.after_swap_back),
        )
        if returns
        else None,
        why=f"take {gone} of {present} out of use; the trigger still keeps both shapes in step, "
        + (
            "so this can be undone at once without losing a row"
            if returns
            else "but statements that new code has prepared would fail on the way back"
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(present),
    )


def _rename_type(was: QName, now: QName) -> str:
    return f"ALTER TYPE {quote_qname(was)} RENAME TO {quote_ident(now.name)}"


def _rename(table_sql: str, was: str, now: str) -> str:
    return f"ALTER TABLE {table_sql} RENAME COLUMN {quote_ident(was)} TO {quote_ident(now)}"


def _drop(draft: Draft, table: QName, syncs: Sequence[Sync]) -> Sql:
    present = draft.present(table)
    name = quote_qname(present)
    gone = [dict(sync.final).get(c, c) for sync in syncs for c in sync.drops]
    drops = ", ".join(f"DROP COLUMN {quote_ident(c)}" for c in gone)
    trigger = trigger_name(draft, present)
    if not gone:  # nothing but the trigger goes: new code writes both shapes by itself
        return Sql(
            id="",
            statements=(
                f"DROP TRIGGER {trigger} ON {name}",
                f"DROP FUNCTION {function_name(present)}()",
            ),
            undo=(
                function_sql(present, syncs, _columns(draft, table, syncs)),
                *triggers.create(present, trigger, function_name(present)),
            ),
            why=f"new code writes every column of {present} by itself",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=str(present),
        )
    return Sql(
        id="",
        statements=(
            f"DROP TRIGGER {trigger} ON {name}",
            f"DROP FUNCTION {function_name(present)}()",
            *(s for sync in syncs for s in sync.before_drop),
            *(
                f"ALTER TABLE {name} ALTER COLUMN {quote_ident(dict(sync.final).get(c, c))} DROP DEFAULT"
                for sync in syncs
                for c in sync.marked
                if c not in (*sync.drops, *sync.defaults)
            ),
            *((f"ALTER TABLE {name} {drops}",) if drops else ()),
            *(s for sync in syncs for s in sync.finally_),
        ),
        undo=None,
        why=f"drop what only the old code needed on {present}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=str(present),
    )
