"""A second column beside the first: the heart of a rename or retype while both code versions run.

Expand adds the twin and the trigger; migrate fills it in batches and builds what it needs without
blocking; contract swaps the names, reversibly, and at last drops one of the two. After a rename
it is the old column that stays, under its new name: all that hangs on it (constraints, views,
policies, references, privileges) follows it by itself, and the end is the plain migration's. After
a change of type the twin stays, and `blocks.copies` gives it what hung on the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdd_migrate.blocks.carry import (
    carry_grants,
    carry_statistics,
    has_column_grants,
    has_statistics,
)
from zdd_migrate.blocks.copies import Copies, make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.left_out import Mark
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.next_view import at_swap
from zdd_migrate.blocks.quoting import quote_ident, quote_literal
from zdd_migrate.blocks.sync import (
    Side,
    Sync,
    differs,
    null_says_the_same,
    out_of_step,
    reserve,
    unfilled,
)
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column


@dataclass(frozen=True, slots=True)
class Twin:
    """What to copy: `old` of `table` becomes `final`, of type `type`, by way of column `new`.

    `old` is the column as it is before the migration. `up` and `down` are SQL over the row (the
    quoted other column for identity). `keeps_old` says that the old column stays, under the new
    name, and the twin goes. `lossless` says that `down(up(x)) = x`, which becomes a law. `fits` is
    SQL that tells whether a row's old value has a new one at all: where it has not, the twin stays
    NULL, so that old code never fails, and contract waits until no such row is left. `returns` says
    whether the swap can be undone under new code that has statements prepared. `renamed_types` are
    types that get other names in the moment the columns do.
    """

    table: QName
    old: Column
    new: str
    final: str
    type: str
    up: str
    down: str
    why: str
    keeps_old: bool = False
    lossless: bool = True
    collation: str | None = None
    fits: str | None = None
    #: where somebody else sees to NOT NULL: False
    not_null: bool | None = None
    renamed_types: tuple[tuple[QName, QName], ...] = ()
    #: statements of the moment they have them, and of its undo, once they have the old ones again
    at_swap: tuple[str, ...] = ()
    at_swap_back: tuple[str, ...] = ()
    returns: bool = True
    #: whether new code sees it under its final name from the beginning, by a view: see `next_view`
    by_view: bool = False

    @property
    def upward(self) -> str:
        """SQL for the new value of any row: NULL where the old one has none."""
        return f"CASE WHEN {self.fits} THEN {self.up} END" if self.fits else self.up

    def mark(self, present: QName, end: Column | None) -> Mark | None:
        """The twin's mark, where a NULL that new code gives must be told from what is left out.
        `end` is the column as it is in the end, `present` the table's name until then."""
        if (
            self.final == self.old.name and not self.by_view
        ):  # until contract new code writes the old column itself
            return None
        if end is None or end.not_null or end.identity is not None:
            return None
        old, _ = _sides(self)
        up = Side(self.new, self.type, self.up)  # whether it fits or not, a NULL becomes one
        if null_says_the_same(old, (up,), default=self.old.default is not None):
            return None
        return Mark(present, self.new, self.type)


def plan_twin(draft: Draft, twin: Twin) -> None:
    """Plan a column's copy, or put what is now known about it in the place of what was.

    An earlier operation of the same migration may have planned one for the same column: then the
    caller took that one out of `draft.twins` and made this one of it.
    """
    first = all(t.old.name != twin.old.name for t in draft.planned_twins if t.table == twin.table)
    draft.twins[(twin.table, twin.final)] = twin
    if not first:
        return
    draft.planned_twins.append(twin)
    draft.before_swap(twin.table, lambda: _all_fit(draft, twin.table, twin.old.name))
    reserve(draft, twin.table)
    draft.later(Phase.MIGRATE, lambda: _fill(draft, twin.table, twin.old.name))
    if all(t.table != twin.table for t in draft.planned_twins[:-1]):
        draft.last(lambda: Copies(draft, twin.table, _twins(draft, twin.table)).emit())


def _twins(draft: Draft, table: QName) -> list[Twin]:
    return [twin for (owner, _), twin in draft.twins.items() if owner == table]


def all_syncs(draft: Draft, table: QName) -> list[Sync]:
    """All that one table's trigger keeps in step, and what its last step hands over."""
    twins = _twins(draft, table)
    out = [*draft.syncs[table], *(_sync(draft, twin) for twin in twins)]
    if twins:
        copies = Copies(draft, table, twins)
        first, after_back = at_swap(draft, table) or ((), ())
        last = Sync(
            table,
            (),
            (),
            before_swap=first,
            at_swap=tuple(copies.at_swap),
            at_swap_back=tuple(copies.at_swap_back),
            after_swap_back=after_back,
            before_drop=tuple(copies.before_drop),
            finally_=tuple(copies.finally_),
        )
        out.append(last)
    return out


def _sync(draft: Draft, twin: Twin) -> Sync:
    collate = f" COLLATE {twin.collation}" if twin.collation else ""
    gone = twin.new if twin.keeps_old else twin.old.name
    stays = twin.old.name if twin.keeps_old else twin.new
    old, new = _sides(twin)
    final = [(gone, own("old", gone))]
    if stays != twin.final:
        final.append((stays, twin.final))
    present, aside = draft.present(twin.table), own("old", gone)
    table = draft.schema.tables.get(draft.final(present))
    end = table.column(twin.final) if table is not None else None
    marked = not draft.dual_write and twin.mark(present, end) is not None
    return Sync(
        table=twin.table,
        old=old,
        new=new,
        add=(f"ADD COLUMN {quote_ident(twin.new)} {twin.type}{collate}",),
        after_add=tuple(_settings(draft, twin)),
        final=tuple(final),
        drops=(gone,),
        hands_over=not twin.keeps_old and not _numbered(draft, twin),
        before_drop=carry_statistics(present, aside, twin.final)
        if not twin.keeps_old and has_statistics(draft, present)
        else (),
        returns=twin.returns,
        marked=(twin.new,) if marked else (),
        defaults=(twin.new,) if end is not None and end.default is not None else (),
        renamed_types=twin.renamed_types,
        at_swap=twin.at_swap,
        at_swap_back=twin.at_swap_back,
        why=twin.why,
    )


def _numbered(draft: Draft, twin: Twin) -> bool:
    """Whether the column is an identity before or after: it becomes one in the last step only."""
    table = draft.schema.tables.get(twin.table)
    end = table.column(twin.final) if table is not None else None
    return twin.old.identity is not None or (end is not None and end.identity is not None)


def _sides(twin: Twin) -> tuple[tuple[Side, ...], tuple[Side, ...]]:
    """The old shape and the new one."""
    return (
        (Side(twin.old.name, twin.old.type, twin.down, twin.old.not_null),),
        (Side(twin.new, twin.type, twin.upward),),
    )


def _fill(draft: Draft, table: QName, old: str) -> None:
    """The backfill and the laws of a twin, if the migration did not drop the column after all."""
    for twin in _twins(draft, table):
        if twin.old.name != old:
            continue
        sides = _sides(twin)
        todo = unfilled(*sides, lossless=twin.lossless)
        shown = f"{table.name}.{twin.final}"
        draft.backfill(
            table,
            [(twin.new, twin.upward)],
            todo,
            why=f"fill {table.name}.{twin.new} from {old}, in batches",
        )
        name = draft.sql_name(table)
        apart = out_of_step(*sides, lossless=twin.lossless)
        draft.law(f"{shown} = up({old})", f"SELECT * FROM {name} WHERE {apart}")
        if twin.lossless:
            back = differs(quote_ident(old), f"({twin.down})", twin.old.type)
            draft.law(f"{old} = down({shown})", f"SELECT * FROM {name} WHERE {back}")


def _all_fit(draft: Draft, table: QName, old: str) -> None:
    """No row whose old value has no new one, and NOT NULL, which old code could not have borne."""
    for twin in _twins(draft, table):
        if twin.old.name != old or twin.fits is None:
            continue
        name, column, new = draft.sql_name(table), quote_ident(old), quote_ident(twin.new)
        draft.gate(
            Phase.CONTRACT,
            f"SELECT {column} FROM {name} WHERE {column} IS NOT NULL AND {new} IS NULL LIMIT 1",
            message=f"values of {table}.{old} cannot be {twin.type}: correct them first (SELECT * "
            f"FROM {name} WHERE {column} IS NOT NULL AND {new} IS NULL)",
            why=f"every value of {old} must fit {twin.type}",
        )
        if Copies(draft, table, [twin]).stays_not_null(twin):
            make_not_null(draft, table, twin.new, phase=Phase.CONTRACT)


def _settings(draft: Draft, twin: Twin) -> list[str]:
    """What ADD COLUMN does not carry over. Storage and compression are not among it: a change of
    type sets them back to the new type's own."""
    name, column = draft.sql_name(twin.table), quote_ident(twin.new)
    present = draft.present(twin.table)
    alter = f"ALTER TABLE {name} ALTER COLUMN {column}"
    out: list[str] = []
    if has_column_grants(draft, present):
        out += carry_grants(present, twin.old.name, twin.new)
    if twin.keeps_old:  # what it has besides comes back with its name
        return out
    if twin.old.comment is not None:
        out.append(f"COMMENT ON COLUMN {name}.{column} IS {quote_literal(twin.old.comment)}")
    if twin.old.statistics is not None:
        out.append(f"{alter} SET STATISTICS {twin.old.statistics}")
    if twin.old.options:
        told = ", ".join(f"{name} = {value}" for name, value in twin.old.options)
        out.append(f"{alter} SET ({told})")
    return out
