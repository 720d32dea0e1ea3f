"""Dual write: the code keeps both shapes in step itself, in two more releases, without a trigger.

First it writes both and reads the old shape (`writes-both`); then the rows that are there are
filled; then it writes both and reads the new one (`reads-new`); at last it knows the new one alone
(`new`). Before the new shape is read, and again before it is written alone, a gate asks that no row
says two things: an instance that was forgotten would otherwise lose writes without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.blocks.sync import Side, Sync, differs
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import DualWrite, Phase, Release

WRITES_BOTH = "writes-both"
READS_NEW = "reads-new"


def refuse_dual(draft: Draft, what: str) -> bool:
    """Whether the code was asked to keep something in step that only a trigger can."""
    if draft.dual_write:
        draft.refuse(
            f"{what} cannot be kept in step by the code alone",
            "leave --sync application out: a trigger does it. Dual write is planned for renamed, split "
            "and merged columns, and for another type under another name",
        )
    return draft.dual_write


def reserve_dual(draft: Draft, table: QName) -> None:
    """Keep the places of a table's steps, and once for the plan those of its releases."""
    first = not draft.syncs
    draft.syncs[table] = []
    draft.needs_release = True
    draft.later(Phase.EXPAND, lambda: _expand(draft, table))
    # what hangs on the old column is dropped while the column still has its name
    draft.last(lambda: _away(draft, table), Phase.CONTRACT, foremost=True)
    draft.later(Phase.CONTRACT, lambda: _drop(draft, table))
    if first:
        draft.later(Phase.MIGRATE, lambda: _first_release(draft))
        draft.last(lambda: _second_and_third(draft), Phase.SWITCH)
        draft.note(
            "the way back needs releases too, the last first: before switch is undone no instance may "
            f"be left that writes the new shape alone (release {READS_NEW} again), before migrate is "
            f"undone none that reads it (release {WRITES_BOTH}), before expand is undone none that "
            "writes it (release the old code)"
        )


def _syncs(draft: Draft, table: QName) -> list[Sync]:
    from zdd_migrate.blocks.twin import all_syncs

    return all_syncs(draft, table)


def _pairs(draft: Draft) -> list[tuple[QName, tuple[Side, ...], tuple[Side, ...]]]:
    """For each change: the table, the old columns that go, and the new ones."""
    return [
        (table, tuple(s for s in sync.old if s.column in sync.drops), sync.new)
        for table in draft.syncs
        for sync in _syncs(draft, table)
        if sync.new
    ]


def _named(sides: Sequence[Side]) -> str:
    return ", ".join(side.column for side in sides)


# -- the releases ------------------------------------------------------------------------------


def _first_release(draft: Draft) -> None:
    said = "; ".join(
        f"in {table} it writes {_named(new)} whenever it writes {_named(old)}, by one statement or in "
        f"one transaction ({', '.join(f'{s.column} = {s.expression}' for s in new)}), and reads "
        f"{_named(old)}"
        for table, old, new in _pairs(draft)
    )
    draft.step(
        Phase.MIGRATE,
        Release(
            id="",
            code=WRITES_BOTH,
            why=f"release code that writes both and reads the old: {said}; go on when no instance that "
            "writes the old alone is left: no worker, no cron job",
        ),
    )


def _second_and_third(draft: Draft) -> None:
    pairs = _pairs(draft)
    draft.dual_writes += [
        DualWrite(
            table,
            tuple((s.column, s.type, s.expression) for s in old),
            tuple((s.column, s.type, s.expression) for s in new),
        )
        for table, old, new in pairs
    ]
    for table, old, new in pairs:
        _agree(draft, table, old, new, again=False)
    said = "; ".join(
        f"in {table} it reads {_named(new)} and goes on writing {_named(old)} "
        f"({', '.join(f'{s.column} = {s.expression}' for s in old)})"
        for table, old, new in pairs
    )
    draft.step(
        Phase.SWITCH,
        Release(
            id="",
            code=READS_NEW,
            why=f"release code that writes both and reads the new: {said}; go on when no instance that "
            "reads the old is left",
        ),
    )
    for table, old, new in pairs:
        _agree(draft, table, old, new, again=True)
    for table, old, new in pairs:
        _make_optional(draft, table, old)
        _give_default(draft, table, old, new)
    names = "; ".join(f"{table} without {_named(old)}" for table, old, _ in pairs)
    draft.release_asks.append(f"it knows {names}")
    for table, old, new in pairs:
        apart = f"({_apart(old, new)}) AND ({_behind(old)})"
        sets = ", ".join(f"{quote_ident(s.column)} = {s.expression}" for s in old)
        draft.release_undo.append(f"UPDATE {draft.sql_name(table)} SET {sets} WHERE {apart}")


def _apart(old: Sequence[Side], new: Sequence[Side]) -> str:
    """SQL for rows whose new columns are not what the old ones say."""
    return " OR ".join(differs(quote_ident(s.column), f"({s.expression})", s.type) for s in new)


def _behind(old: Sequence[Side]) -> str:
    """SQL for rows whose old columns are not what the new ones say."""
    return " OR ".join(differs(quote_ident(s.column), f"({s.expression})", s.type) for s in old)


def _agree(
    draft: Draft, table: QName, old: Sequence[Side], new: Sequence[Side], *, again: bool
) -> None:
    name = draft.sql_name(table)
    apart = _apart(old, new)
    if again:  # new code may write what the old columns cannot say back: then they follow from it
        apart = f"({apart}) AND ({_behind(old)})"
    sets = ", ".join(f"{quote_ident(s.column)} = {s.expression}" for s in new)
    name_both = f"{_named(old)} and {_named(new)}"
    # later the new columns are the ones that are read: which of the two is right, only people can say
    mend = (
        "see in each such row which was written last, and write the other from it"
        if again
        else f"bring the rows in line (UPDATE {name} SET {sets} WHERE {apart})"
    )
    shown = ", ".join(quote_ident(s.column) for s in (*old, *new))
    what = "the new columns are written alone" if again else "the new columns are read"
    draft.gate(
        Phase.SWITCH,
        f"SELECT {shown} FROM {name} WHERE {apart} LIMIT 1",
        message=f"rows of {table} say two things in {name_both}: an instance still writes one of them "
        f"alone. Find it, {mend}, and go on",
        why=f"{name_both} must agree in every row before {what}",
    )


def _make_optional(draft: Draft, table: QName, old: Sequence[Side]) -> None:
    """Old columns that code without them cannot give: NOT NULL goes before it comes."""
    known = draft.start.tables[draft.present(table)]
    name = draft.sql_name(table)
    for side in old:
        column = known.column(side.column)
        if column is None or not column.not_null or column.default is not None:
            continue
        col, check = quote_ident(side.column), quote_ident(own(table.name, side.column, "back"))
        alter = f"ALTER TABLE {name} ALTER COLUMN {col}"
        draft.sql(
            Phase.SWITCH,
            f"{alter} DROP NOT NULL",
            undo=(
                f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({col} IS NOT NULL) NOT VALID",
                f"ALTER TABLE {name} VALIDATE CONSTRAINT {check}",
                f"{alter} SET NOT NULL",
                f"ALTER TABLE {name} DROP CONSTRAINT {check}",
            ),
            undo_transactional=False,
            why=f"rows of the code to come have no {side.column}",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=table,
        )


def _give_default(draft: Draft, table: QName, old: Sequence[Side], new: Sequence[Side]) -> None:
    """A column under another name keeps its default, which code without the old one relies on."""
    known = draft.start.tables[draft.present(table)]
    column = known.column(old[0].column) if len(old) == len(new) == 1 else None
    if column is None or column.default is None or new[0].expression != quote_ident(column.name):
        return
    alter = f"ALTER TABLE {draft.sql_name(table)} ALTER COLUMN {quote_ident(new[0].column)}"
    draft.sql(
        Phase.SWITCH,
        f"{alter} SET DEFAULT {column.default}",
        undo=f"{alter} DROP DEFAULT",
        why=f"the default of {column.name}, for code that leaves {new[0].column} out",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


# -- the table ---------------------------------------------------------------------------------


def _expand(draft: Draft, table: QName) -> None:
    syncs = [sync for sync in _syncs(draft, table) if sync.add]
    if not syncs:
        return
    name = draft.sql_name(table)
    adds = ", ".join(clause for sync in syncs for clause in sync.add)
    drops = ", ".join(
        f"DROP COLUMN IF EXISTS {quote_ident(s.column)}" for sync in syncs for s in sync.new
    )
    draft.sql(
        Phase.EXPAND,
        (f"ALTER TABLE {name} {adds}", *(s for sync in syncs for s in sync.after_add)),
        undo=f"ALTER TABLE {name} {drops}",
        why=f"add {', '.join(s.column for sync in syncs for s in sync.new)} of {table}, for the code to "
        "write beside what it writes now",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _away(draft: Draft, table: QName) -> None:
    name = draft.sql_name(table)
    pairs = [pair for sync in _syncs(draft, table) for pair in sync.final]
    if not pairs:
        return
    rename = f"ALTER TABLE {name} RENAME COLUMN {{}} TO {{}}"
    quoted = [(quote_ident(was), quote_ident(now)) for was, now in pairs]
    draft.sql(
        Phase.CONTRACT,
        [rename.format(was, now) for was, now in quoted],
        undo=[rename.format(now, was) for was, now in reversed(quoted)],
        why=f"take {', '.join(was for was, _ in pairs)} of {table} out of use; the values stay, so "
        "this can be undone at once",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _drop(draft: Draft, table: QName) -> None:
    syncs = _syncs(draft, table)
    name = draft.sql_name(table)
    gone = [dict(sync.final).get(c, c) for sync in syncs for c in sync.drops]
    if not gone:
        return
    drops = ", ".join(f"DROP COLUMN {quote_ident(c)}" for c in gone)
    draft.sql(
        Phase.CONTRACT,
        (
            *(s for sync in syncs for s in sync.before_drop),
            f"ALTER TABLE {name} {drops}",
            *(s for sync in syncs for s in sync.finally_),
        ),
        undo=None,
        why=f"drop what only the old code needed on {table}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
