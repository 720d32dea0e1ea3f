"""What the ways to a new name or type cost on a table of this size, for the plan to say."""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.model.alternative import Alternative
from zdd_migrate.model.cost import Prices
from zdd_migrate.model.names import QName

#: WAL per byte written anew: the row itself, and its page's first image after a checkpoint
_WAL = 2
_MEGABYTE = 1_000_000


def copying(
    draft: Draft,
    table: QName,
    columns: tuple[str, ...],
    *,
    about: str,
    via: str,
    option: str,
    what: str,
    chosen: bool,
    each_write: str = "",
    releases: int = 1,
    whole: bool = False,
) -> Alternative:
    """A way that writes every row anew and builds the indexes on `columns` again (`whole`: all)."""
    known = draft.start.tables.get(draft.present(table))
    indexes = [
        i
        for i in draft.start.indexes_of(draft.present(table))
        if whole or {*i.columns, *i.keys, *i.include} & set(columns)
    ]
    size = known.bytes if known is not None else None
    prices = Prices()
    seconds = None
    if size is not None:
        built = len(indexes) / prices.index_mb_per_second
        seconds = size / _MEGABYTE * (1 / prices.rewrite_mb_per_second + built)
    many = f" and {len(indexes)} more index entries" if indexes else ""
    return Alternative(
        about=about,
        via=via,
        option=option,
        what=what,
        chosen=chosen,
        copies=True,
        rows=known.rows if known is not None else None,
        bytes=size,
        wal_bytes=None if size is None else size * _WAL,
        seconds=seconds,
        each_write=f"{each_write}{many} until contract",
        releases=releases,
    )
