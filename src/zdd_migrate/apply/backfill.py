"""Moving rows to their new shape in batches: small, resumable, gentle.

Rows are walked by primary key (or by their place on disk where there is none). Each batch is one
transaction of its own, sized to take 50 to 200 ms; the cursor is written in the same transaction,
so a killed run goes on exactly where its last batch committed. The proof of completion is not the
cursor but the data: no row is left for which the backfill's condition holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.model.plan import Backfill

#: told after each batch: rows done so far, rows in all (an estimate, 0 when unknown)
Progress = Callable[[int, int], None]

_SHORTEST_S, _LONGEST_S = 0.05, 0.2
_SMALLEST, _LARGEST = 100, 50_000
_PASSES = 50
_LONGEST_REST_S = 1.0
_RETRY = ("40P01", "40001", "55P03")


@dataclass(slots=True)
class Cursor:
    """Where a backfill stands: the last key done, and how many rows were changed."""

    key: tuple[Any, ...] | None = None
    rows: int = 0


#: keeps the cursor, inside the batch's transaction
Save = Callable[[psycopg.Connection, Cursor], None]


def run_backfill(
    connection: psycopg.Connection,
    step: Backfill,
    *,
    cursor: Cursor | None = None,
    save: Save | None = None,
    progress: Progress | None = None,
    pause: Callable[[psycopg.Connection], float] | None = None,
) -> int:
    """Run a backfill to its end; returns how many rows it changed.

    `pause` may say after each batch how many seconds to rest (a replica lags, somebody waits).
    Raises EnvironmentFailedError when rows remain that cannot be brought over.
    """
    walk = _ByKey(step) if step.key else _ByPlace(step)
    state = cursor or Cursor()
    total = _estimate(connection, step.table)
    size = step.batch
    for number in range(_PASSES):
        if number:  # rows that somebody holds: a moment later, perhaps no longer
            time.sleep(min(0.02 * 1.3**number, _LONGEST_REST_S))
        while True:
            started = time.monotonic()
            seen = _batch(connection, walk, state, size, save)
            took = time.monotonic() - started
            if progress is not None:
                progress(state.rows, total)
            if not seen:
                break
            size = _next_size(size, took)
            if pause is not None and (rest := pause(connection)) > 0:
                time.sleep(rest)
        if remaining(connection, step) == 0:
            return state.rows
        state.key = None  # rows skipped because somebody held them: once more from the start
    raise EnvironmentFailedError(
        f"{step.id}: {remaining(connection, step)} rows of {step.table} still satisfy "
        f"{' '.join(step.where.split())[:120]} after {_PASSES} passes; look at them, then run again"
    )


def remaining(connection: psycopg.Connection, step: Backfill) -> int:
    """How many rows are still to do: 0 is the proof of completion."""
    query = f"SELECT count(*) FROM {step.table} WHERE {step.where}"
    row = connection.execute(_trusted(query)).fetchone()
    assert row is not None
    return int(row[0])


def _next_size(size: int, took: float) -> int:
    if took < _SHORTEST_S:
        size *= 2
    elif took > _LONGEST_S:
        size //= 2
    return max(_SMALLEST, min(size, _LARGEST))


def _batch(
    connection: psycopg.Connection, walk: _Walk, state: Cursor, size: int, save: Save | None
) -> int:
    """One batch in one transaction; gives how many rows were looked at."""
    for attempt in range(20):
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '2s'")
                last, seen, changed = walk.batch(connection, state.key, size)
                after = Cursor(last if seen else state.key, state.rows + changed)
                if save is not None and seen:
                    save(connection, after)
            state.key, state.rows = after.key, after.rows
            return seen
        except psycopg.Error as error:
            if error.sqlstate not in _RETRY or attempt == 19 or connection.closed:
                raise EnvironmentFailedError(
                    f"backfill of {walk.step.table}: {error.sqlstate or ''} "
                    f"{' '.join(str(error).split())[:240]}"
                ) from None
            time.sleep(0.05 * (attempt + 1))
    raise AssertionError("unreachable")


class _Walk:
    def __init__(self, step: Backfill) -> None:
        self.step = step
        self.sets = ", ".join(f"{quote_ident(c)} = {e}" for c, e in step.assignments)

    def batch(
        self, connection: psycopg.Connection, after: tuple[Any, ...] | None, size: int
    ) -> tuple[tuple[Any, ...] | None, int, int]:
        raise NotImplementedError


class _ByKey(_Walk):
    """By primary key: a page of keys, locked as far as nobody else holds them, then the update."""

    def batch(
        self, connection: psycopg.Connection, after: tuple[Any, ...] | None, size: int
    ) -> tuple[tuple[Any, ...] | None, int, int]:
        columns = [quote_ident(c) for c in self.step.key]
        row = f"({', '.join(columns)})"
        order = ", ".join(columns)
        marks = ", ".join(["%s"] * len(columns))
        where = f"WHERE {row} > ({marks})" if after is not None else ""
        page = f"SELECT {order} FROM {self.step.table} {where} ORDER BY {order} LIMIT {size}"
        last_query = (
            f"SELECT count(*) OVER () AS seen, {order} FROM ({page}) p "
            f"ORDER BY {', '.join(f'{c} DESC' for c in columns)} LIMIT 1"
        )
        found = connection.execute(_trusted(last_query), after or ()).fetchone()
        if found is None:
            return after, 0, 0
        seen, last = int(found[0]), tuple(found[1:])
        bounds = f"{row} <= ({marks})"
        parameters: Sequence[Any] = last
        if after is not None:
            bounds = f"{row} > ({marks}) AND {bounds}"
            parameters = (*after, *last)
        update = (
            f"WITH page AS (SELECT {order} FROM {self.step.table} WHERE {bounds} "
            f"AND ({_percent(self.step.where)}) FOR NO KEY UPDATE SKIP LOCKED) "
            f"UPDATE {self.step.table} SET {_percent(self.sets)} "
            f"WHERE {row} IN (SELECT {order} FROM page)"
        )
        changed = connection.execute(_trusted(update), tuple(parameters)).rowcount
        return last, seen, changed


class _ByPlace(_Walk):
    """By place on disk, for tables without a primary key: ranges of pages."""

    def batch(
        self, connection: psycopg.Connection, after: tuple[Any, ...] | None, size: int
    ) -> tuple[tuple[Any, ...] | None, int, int]:
        start = int(after[0]) if after is not None else 0
        row = connection.execute(
            "SELECT pg_relation_size(to_regclass(%s)) / current_setting('block_size')::int",
            (self.step.table,),
        ).fetchone()
        assert row is not None
        pages = int(row[0] or 0)
        if (start >= pages and after is not None) or pages == 0:
            return after, 0, 0
        stop = min(start + max(1, size // 50), max(pages, 1))
        update = (
            f"UPDATE {self.step.table} SET {self.sets} WHERE ctid >= '({start},0)'::tid "
            f"AND ctid < '({stop},0)'::tid AND ({self.step.where})"
        )
        changed = connection.execute(_trusted(update)).rowcount
        return (stop,), 1, changed


def _estimate(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(
        "SELECT reltuples::int8 FROM pg_class WHERE oid = to_regclass(%s)", (table,)
    ).fetchone()
    return max(int(row[0]), 0) if row is not None else 0


def dump_key(key: tuple[Any, ...] | None) -> str | None:
    """A key as JSON text: every value as Postgres would print it."""
    return None if key is None else json.dumps([None if v is None else str(v) for v in key])


def load_key(text: str | None) -> tuple[Any, ...] | None:
    """A key from `dump_key`; texts, which the server casts by comparison."""
    return None if text is None else tuple(json.loads(text))


def _percent(sql: str) -> str:
    return sql.replace("%", "%%")


def _trusted(sql: str) -> bytes:
    return sql.encode()
