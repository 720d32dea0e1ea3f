"""How long a statement works through its tables, roughly, and how much that matters.

A guess from sizes, meant to tell a second from an hour: bytes over a throughput that ordinary cloud
disks reach. It is only made for tables whose size somebody measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zdd_migrate.model.effects import Effects
from zdd_migrate.model.finding import Severity
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Throughputs in MB a second, and the bars between short, noticeable and long.

    Work below `brief_seconds` is hardly noticed, from `long_seconds` on it is an outage. A table is
    busy from `busy_writes_per_second` on: then every bar counts one step more.
    """

    scan_mb_per_second: float = 200.0
    rewrite_mb_per_second: float = 50.0
    index_mb_per_second: float = 40.0
    brief_seconds: float = 1.0
    long_seconds: float = 10.0
    busy_writes_per_second: float = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is worked through: `bytes` in all, `seconds` it takes, `unknown` tables left out."""

    seconds: float
    bytes: int
    unknown: tuple[QName, ...]


def measured(schema: Schema, sizes: Schema) -> None:
    """Give the tables of `schema` the sizes that those of `sizes` have, where they have none."""
    for name, known in sizes.tables.items():
        table = schema.tables.get(name)
        if table is not None and table.bytes is None and known.bytes is not None:
            schema.put_table(
                replace(
                    table,
                    rows=known.rows,
                    bytes=known.bytes,
                    writes_per_second=known.writes_per_second,
                )
            )


def work(effects: Effects, schema: Schema, prices: Prices, created: frozenset[QName]) -> Work:
    """The work of one operation on tables that were there before (`created` ones are empty)."""
    slowest: dict[QName, float] = {}

    def add(relation: QName, speed: float) -> None:
        index = schema.indexes.get(relation)
        table = index.table if index is not None else relation
        if table not in created:
            slowest[table] = min(speed, slowest.get(table, speed))

    for relation in effects.scans:
        add(relation, prices.scan_mb_per_second)
    for relation in effects.rewrites:
        add(relation, prices.rewrite_mb_per_second)
    for relation in (*effects.index_builds, *effects.index_rebuilds):
        if relation in schema.indexes or relation in schema.tables:
            add(relation, prices.index_mb_per_second)
    if effects.index_builds:  # a new index: its table is among those that are read
        for relation in effects.scans:
            add(relation, prices.index_mb_per_second)
    seconds, size, unknown = 0.0, 0, []
    for name, speed in slowest.items():
        table = schema.tables.get(name)
        if table is None or table.bytes is None:
            unknown.append(name)
            continue
        size += table.bytes
        seconds += table.bytes / _MEGABYTE / speed
    return Work(seconds, size, tuple(unknown))


def grade_work(found: Work, busy: bool, prices: Prices) -> Severity:
    """How bad it is to keep others out for that long."""
    step = 0 if found.seconds < prices.brief_seconds else 1
    step = 2 if found.seconds >= prices.long_seconds else step
    return (Severity.INFO, Severity.WARNING, Severity.ERROR)[min(2, step + busy)]


def in_words(seconds: float) -> str:
    """`less than a second`, `about 40 seconds`, `about 3 hours`."""
    if seconds < 1:
        return "less than a second"
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size * (1 if unit == "second" else 1.5):
            count = round(seconds / size)
            return f"about {count} {unit}{'' if count == 1 else 's'}"
    return f"about {round(seconds)} seconds"


def in_bytes(size: int) -> str:
    """`12 GB`: three digits at most, in powers of a thousand."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return (
                f"{amount:.0f} {unit}"
                if amount >= 10 or unit == "bytes"
                else f"{amount:.1f} {unit}"
            )
        amount /= 1000
    return f"{amount:.1f} TB"
