"""Several tables whose rows become those of a new one, kept in step until the old ones go.

Triggers on the old tables carry their rows to the new one, and its triggers carry what new code
writes there back to the table that it belongs to: a column with another constant for each of them
tells which. All write only what differs (`carrying`). At contract the old tables wait in the trash,
still written, so that this can be undone without losing a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zdd_migrate.blocks.carrying import (
    Carried,
    Flow,
    drop_triggers,
    function_sql,
    make_triggers,
    row_for_row,
    touch,
)
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.dual import refuse_dual
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import differs
from zdd_migrate.blocks.trash import CLEAR_TRASH, move_aside, trashed
from zdd_migrate.blocks.triggers import over_row
from zdd_migrate.blocks.twin_table import say_what_a_touch_does
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column


@dataclass(frozen=True, slots=True)
class Part:
    """One of the old tables: `pairs` are its columns with those of the new table that hold them,
    `constants` columns of the new table with what its rows have there (SQL), `mark` those of them
    that tell its rows from the others', `asked` its other columns with what rows of new code have there
    (SQL over the new table's row)."""

    source: QName
    key: tuple[str, ...]
    pairs: tuple[tuple[Column, str], ...]
    constants: tuple[tuple[Column, str], ...]
    mark: tuple[str, ...]
    asked: tuple[tuple[Column, str], ...] = ()

    @property
    def said(self) -> str:
        """The mark for people: `kind = 'guest'`."""
        return " and ".join(
            f"{c.name} = {value}" for c, value in self.constants if c.name in self.mark
        )

    def marked(self, row: str, equals: str = "=") -> str:
        """SQL: whether a row of the new table is this one's."""
        return " AND ".join(
            f"{row}.{quote_ident(c.name)} {equals} {value}"
            for c, value in self.constants
            if c.name in self.mark
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """The parts and the new table; `key` are the columns that tell its rows apart."""

    target: QName
    key: tuple[str, ...]
    parts: tuple[Part, ...]

    def forth(self, part: Part) -> Flow:
        """From an old table to the new one."""
        constants = [Carried(c.name, c.type, value) for c, value in part.constants]
        columns = [c for c in constants if c.column in part.mark]
        columns += [Carried(t, c.type, f"{{row}}.{quote_ident(c.name)}") for c, t in part.pairs]
        return Flow(
            part.source,
            part.key,
            self.target,
            tuple(columns),
            self.key,
            own=part.marked("{row}"),
            # what new code makes of them later is its own
            only_new=tuple(c for c in constants if c.column not in part.mark),
        )

    def back(self, part: Part, to: QName) -> Flow:
        """From the new table to an old one, `to`: what new code writes of its kind."""
        columns = tuple(
            Carried(c.name, c.type, f"{{row}}.{quote_ident(t)}", fixed=c.identity == "always")
            for c, t in part.pairs
        )
        asked = tuple(
            Carried(
                c.name,
                c.type,
                over_row(value, "{row}.*", self.target),
            )
            for c, value in part.asked
        )
        goes = part.marked("{row}", "IS NOT DISTINCT FROM")
        return Flow(self.target, self.key, to, columns, part.key, goes=goes, only_new=asked)

    def apart(self, part: Part) -> str:
        """A query for rows of a part that the new table lacks or has otherwise, and the reverse."""
        to = {c.name: t for c, t in part.pairs}
        source, target = quote_qname(part.source), quote_qname(self.target)
        on = " AND ".join(f"s.{quote_ident(k)} = x.{quote_ident(to[k])}" for k in part.key)
        rest = [(c, t) for c, t in part.pairs if c.name not in part.key]
        differing = "".join(
            f" OR {differs(f's.{quote_ident(c.name)}', f'x.{quote_ident(t)}', c.type)}"
            for c, t in rest
        )
        shown = ", ".join(
            f"coalesce(s.{quote_ident(k)}, x.{quote_ident(to[k])}) AS {quote_ident(k)}"
            for k in part.key
        )
        first = part.key[0]
        return (
            f"SELECT {shown} FROM {source} s FULL JOIN (SELECT * FROM {target} o WHERE "
            f"{part.marked('o')}) x ON {on} WHERE s.{quote_ident(first)} IS NULL "
            f"OR x.{quote_ident(to[first])} IS NULL{differing}"
        )


def plan_merged(draft: Draft, merged: Merged) -> None:
    """Triggers on all of the tables, a backfill for each old one, and at contract these out of use,
    then dropped."""
    target, sources = merged.target, [part.source for part in merged.parts]
    if refuse_dual(draft, f"{', '.join(map(str, sources))} and {target}"):
        return
    draft.breaks_old = draft.needs_release = True
    for part in merged.parts:
        draft.touches.setdefault(part.source)
    _begin(draft, merged)
    for part in merged.parts:
        flow = merged.forth(part)
        say_what_a_touch_does(draft, part.source)
        touch(
            draft,
            part.source,
            f"SELECT 1 FROM {quote_qname(target)} x WHERE "
            f"{flow.there(quote_ident(part.source.name))}",
            why=f"touch every row of {part.source}, for the trigger to write {target}",
        )
        row_for_row(
            draft,
            f"{target.name} where {part.said} = {part.source.name}, row for row",
            merged.apart(part),
            Phase.SWITCH,
            message=f"{target} does not hold what {part.source} does, row for row",
            why=f"new code works with {target}, so every row of {part.source} must be there",
        )
    _end(draft, merged)
    _say(draft, merged)


def _say(draft: Draft, merged: Merged) -> None:
    target = merged.target
    kinds = ", nor ".join(part.said for part in merged.parts)
    draft.note(
        f"old code does not see a row of {target} that is neither {kinds}; undo of expand drops it"
    )
    for part in merged.parts:
        to = {*(t for _, t in part.pairs), *(c.name for c, _ in part.constants)}
        lone = [c.name for c in draft.schema.tables[target].columns if c.name not in to]
        if lone:
            draft.note(
                f"{', '.join(lone)} of a row of {target} with {part.said} {'are' if lone[1:] else 'is'} "
                f"nowhere in {part.source}: undo of expand drops what new code wrote there"
            )
    draft.note(
        f"until contract a row of {target} is written in two tables: of two writers of the same row that "
        "come by different tables at the same time, one may be told of a deadlock (40P01) and tries again"
    )


def _functions(merged: Merged) -> tuple[list[str], str]:
    """The old tables' functions, in order, and the new one's."""
    name = merged.target.name
    forth = [
        quote_qname(QName(ZDD_SCHEMA, fit(f"merge_{part.source.name}_{name}")))
        for part in merged.parts
    ]
    return forth, quote_qname(QName(ZDD_SCHEMA, fit(f"part_{merged.target.schema}_{name}")))


def _schemas(merged: Merged) -> list[str | None]:
    return [merged.target.schema, *(part.source.schema for part in merged.parts)]


def _carry(merged: Merged, tables: Sequence[QName]) -> tuple[str, ...]:
    """All functions, for the names that the old tables have."""
    forth, back = _functions(merged)
    pairs = list(zip(merged.parts, tables, strict=True))
    flows = [[replace(merged.forth(part), here=table)] for part, table in pairs]
    flows.append([merged.back(part, table) for part, table in pairs])
    return tuple(
        function_sql(function, carried, schemas=_schemas(merged))
        for function, carried in zip((*forth, back), flows, strict=True)
    )


def _begin(draft: Draft, merged: Merged) -> None:
    forth, back = _functions(merged)
    sources = [part.source for part in merged.parts]
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            *_carry(merged, sources),
            *(s for t, f in zip(sources, forth, strict=True) for s in make_triggers(t, f)),
            *make_triggers(merged.target, back),
        ),
        undo=(
            *(s for table in (merged.target, *sources) for s in drop_triggers(table)),
            *(f"DROP FUNCTION IF EXISTS {f}()" for f in (*forth, back)),
        ),
        why=f"carry every write of {', '.join(map(str, sources))} over to {merged.target}, and what is "
        "written there back",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=sources[0],
    )


def _end(draft: Draft, merged: Merged) -> None:
    """The old tables go into the trash, where they are still written, and then for good."""
    forth, back = _functions(merged)
    sources = [part.source for part in merged.parts]
    waiting = [trashed(source) for source in sources]
    away: list[str] = []
    home: list[str] = []
    for source in sources:
        there, again = move_aside("TABLE", source)
        away += there
        home = [*(s for s in again if s != CLEAR_TRASH), *home]
    said = ", ".join(map(str, sources))

    def alone(tables: Sequence[QName]) -> str:
        # nobody may be inside a trigger while the tables change names
        names = ", ".join(map(quote_qname, (merged.target, *tables)))
        return f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"

    draft.sql(
        Phase.CONTRACT,
        (alone(sources), *dict.fromkeys(away), *_carry(merged, waiting)),
        undo=(alone(waiting), *home, *_carry(merged, sources), CLEAR_TRASH),
        why=f"take {said} out of use: what is written to {merged.target} is still carried there, so this "
        "can be undone at once without losing a row",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=merged.target,
    )
    draft.sql(
        Phase.CONTRACT,
        (
            *drop_triggers(merged.target),
            *(f"DROP TABLE {quote_qname(table)}" for table in waiting),
            *(f"DROP FUNCTION {f}()" for f in (*forth, back)),
            CLEAR_TRASH,
        ),
        undo=None,
        why=f"drop {said} with their rows, which are those of {merged.target}; after this there is no "
        "way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=merged.target,
    )
