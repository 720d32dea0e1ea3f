"""What a plan computes from real values: tried on real rows where a database is given."""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.blocks.sync import Side, Sync
from zdd_migrate.blocks.twin import all_syncs
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Conversion


def conversions(draft: Draft) -> tuple[Conversion, ...]:
    """Each pair of shapes that are not copies of one another, and each value computed one way."""
    found = [
        made
        for table in draft.syncs
        for sync in all_syncs(draft, table)
        if (made := _of(draft, table, sync)) is not None
    ]
    return (*found, *draft.filled_from)


def _of(draft: Draft, table: QName, sync: Sync) -> Conversion | None:
    """None where each new column is a copy of an old one."""
    olds = {quote_ident(side.column) for side in sync.old}
    if all(side.expression in olds for side in sync.new):
        return None
    final = dict(sync.final)
    return Conversion(
        about=f"{table.name}.{final.get(sync.new[0].column, sync.new[0].column)}",
        table=draft.present(table),
        key=draft.key_of(table),
        up=_sides(sync.new),
        # a column that stays as it is comes from nothing
        down=_sides([s for s in sync.old if s.expression != quote_ident(s.column)]),
    )


def _sides(sides: list[Side] | tuple[Side, ...]) -> tuple[tuple[str, str, str], ...]:
    return tuple((side.column, side.type, side.expression) for side in sides)
