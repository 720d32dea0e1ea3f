"""A code version made up from a schema: what an application written for it would do all day.

For each table: reads by explicit columns and by `SELECT *` (prepared), inserts, `RETURNING *`,
updates of each column, upserts on each unique key, COPY, deletes, alone and several in one
transaction. Values are taken from rows that are there, so foreign keys, checks and enums hold. It
keeps a ledger of every write it was told was committed, to be compared with the table later.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.verify.recording import Recorder
from zdd_migrate.verify.shapes import Shape, vary

Row = dict[str, str | None]
#: retried by any careful application: deadlock, serialization failure
_RETRIED = ("40P01", "40001")
_STALE_PLAN = "0A000"
_STATEMENT_TIMEOUT_MS = 20_000


class LostConnectionError(Exception):
    """The writer's connection is gone."""


class Ledger:
    """Rows that were acknowledged: (table, key) → their last acknowledged values."""

    def __init__(self) -> None:
        self.rows: dict[tuple[QName, tuple[str | None, ...]], Row] = {}
        self.lock = threading.Lock()

    def put(self, shape: Shape, row: Row) -> None:
        """A row was written."""
        key = tuple(row.get(c) for c in shape.key)
        with self.lock:
            self.rows.setdefault((shape.name, key), {}).update(row)

    def drop(self, shape: Shape, row: Row) -> None:
        """A row was deleted."""
        with self.lock:
            self.rows.pop((shape.name, tuple(row.get(c) for c in shape.key)), None)

    def snapshot(self) -> dict[tuple[QName, tuple[str | None, ...]], Row]:
        """A copy, for comparing while writers go on."""
        with self.lock:
            return {key: dict(row) for key, row in self.rows.items()}


class SyntheticWriter:
    """One connection of a made-up code version, working in rounds."""

    def __init__(
        self,
        connection: psycopg.Connection,
        shapes: Sequence[Shape],
        recorder: Recorder,
        ledger: Ledger,
        *,
        marker: str,
        seed: int,
        transactions: bool,
    ) -> None:
        self.connection = connection
        self.shapes = shapes
        self.recorder = recorder
        self.ledger = ledger
        self.marker = marker
        self.random = random.Random(seed)  # noqa: S311 - a workload, not a secret
        self.transactions = transactions
        self.number = seed * 1_000_000
        connection.prepare_threshold = 0
        connection.execute(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}")

    def round(self) -> None:
        """One round over all tables."""
        for shape in self.shapes:
            sample = self._sample(shape)
            if sample is None:
                if not shape.insertable or not self._any(shape):
                    self.recorder.unclear(f"{shape.name} holds no row to work from")
                continue
            if self.transactions:
                self._in_transaction(shape, sample)
            else:
                self._autocommit(shape, sample)
        self.recorder.round_done()

    # -- kinds of work -----------------------------------------------------------------------

    def _autocommit(self, shape: Shape, sample: Row) -> None:
        self._do(f"SELECT * FROM {quote_qname(shape.name)} LIMIT 5")
        row = self._insert(shape, sample)
        if row is not None:
            # another row's values: writing back its own would change nothing, and prove nothing
            self._update_each(shape, row, self._sample(shape) or sample)
            for unique in shape.uniques:
                self._upsert(shape, row, unique)
            self._read_back(shape, row)
            if self.random.random() < 0.3:
                self._delete(shape, row)
            self._copy(shape, sample)
        else:
            self._touch(shape, sample)

    def _in_transaction(self, shape: Shape, sample: Row) -> None:
        """Several writes that commit together; the ledger hears of them after the commit."""
        first, second = self._new_row(shape, sample), self._new_row(shape, sample)
        if first is None or second is None:
            self._touch(shape, sample)
            return
        for _ in range(3):
            try:
                with self.connection.transaction():
                    done = [
                        self._insert_statement(shape, r, returning=True) for r in (first, second)
                    ]
                    column = self._plain_column(shape)
                    if column is not None and done[0] is not None and shape.key:
                        value = sample.get(column)
                        self._update_statement(shape, done[0], {column: value})
                        done[0][column] = value
            except psycopg.Error as error:
                if self._again(error):
                    continue
                return
            for row in done:
                if row is not None and shape.key:
                    self.ledger.put(shape, row)
            return

    def _insert(self, shape: Shape, sample: Row) -> Row | None:
        row = self._new_row(shape, sample)
        if row is None:
            return None
        for _ in range(3):
            try:
                full = self._insert_statement(shape, row, returning=True)
            except psycopg.Error as error:
                if self._again(error):
                    continue
                return None
            if full is not None and shape.key:
                self.ledger.put(shape, full)
            return full
        return None

    def _insert_statement(self, shape: Shape, row: Row, *, returning: bool) -> Row | None:
        columns = list(row)
        names = ", ".join(quote_ident(c) for c in columns)
        marks = ", ".join(["%s"] * len(columns))
        out = ", ".join(
            f"{quote_ident(c)}::text"
            for c in (*shape.key, *(k for k in columns if k not in shape.key))
        )
        ending = f" RETURNING {out}" if returning else ""
        found = self._execute(
            f"INSERT INTO {quote_qname(shape.name)} ({names}) VALUES ({marks}){ending}",
            [row[c] for c in columns],
        )
        if not found:
            return None
        keys = (*shape.key, *(k for k in columns if k not in shape.key))
        return dict(zip(keys, found[0], strict=True))

    def _update_each(self, shape: Shape, row: Row, sample: Row) -> None:
        if not shape.key and not shape.copyable:
            return  # a view without a key has nothing to tell one row from another
        for column in shape.columns:
            if column.name in shape.key or column.identity is not None:
                continue
            value = (
                vary(column, sample.get(column.name), self._next(), self.marker)
                if column.name in shape.vary
                else sample.get(column.name)
            )
            if self._retrying(
                lambda c=column.name, v=value: self._update_statement(shape, row, {c: v})
            ):
                row[column.name] = self._canonical(shape, row, column.name)
                self.ledger.put(
                    shape, {**{k: row[k] for k in shape.key}, column.name: row[column.name]}
                )

    def _update_statement(self, shape: Shape, row: Row, values: Row) -> None:
        sets = ", ".join(f"{quote_ident(c)} = %s" for c in values)
        where, key = _one_row(shape, row)
        self._execute(
            f"UPDATE {quote_qname(shape.name)} SET {sets} WHERE {where}", [*values.values(), *key]
        )

    def _canonical(self, shape: Shape, row: Row, column: str) -> str | None:
        if not shape.key:
            return row.get(column)
        where = " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
        found = self._execute(
            f"SELECT {quote_ident(column)}::text FROM {quote_qname(shape.name)} WHERE {where}",
            [row[k] for k in shape.key],
        )
        return found[0][0] if found else None

    def _upsert(self, shape: Shape, row: Row, unique: tuple[str, ...]) -> None:
        columns = [c.name for c in shape.columns if c.name in row]
        if any(u not in row for u in unique):
            return
        names = ", ".join(quote_ident(c) for c in columns)
        marks = ", ".join(["%s"] * len(columns))
        target = ", ".join(quote_ident(u) for u in unique)
        rest = [c for c in columns if c not in unique and c not in shape.key]
        sets = ", ".join(f"{quote_ident(c)} = excluded.{quote_ident(c)}" for c in rest)
        action = f"UPDATE SET {sets}" if sets else "NOTHING"
        self._retrying(
            lambda: self._execute(
                f"INSERT INTO {quote_qname(shape.name)} ({names}) VALUES ({marks}) "
                f"ON CONFLICT ({target}) DO {action}",
                [row[c] for c in columns],
            )
        )

    def _copy(self, shape: Shape, sample: Row) -> None:
        row = self._new_row(shape, sample) if shape.copyable else None
        if row is None:
            return
        names = ", ".join(quote_ident(c) for c in row)
        statement = f"COPY {quote_qname(shape.name)} ({names}) FROM STDIN"
        started = time.monotonic()
        for _ in range(3):
            try:
                with self.connection.cursor() as cursor, cursor.copy(_trusted(statement)) as copy:
                    copy.write_row(list(row.values()))
                self.recorder.ran(time.monotonic() - started)
                return
            except psycopg.Error as error:
                self.recorder.ran(time.monotonic() - started)
                if error.sqlstate not in _RETRIED:
                    self._note(error, statement)
                    return

    def _touch(self, shape: Shape, sample: Row) -> None:
        """Where no new row can be made: read one, and write its own values back."""
        column = self._plain_column(shape)
        if column is None or not shape.key:
            self._do(f"SELECT count(*) FROM {quote_qname(shape.name)}")
            return
        self._retrying(lambda: self._update_statement(shape, sample, {column: sample.get(column)}))

    def _read_back(self, shape: Shape, row: Row) -> None:
        """A client sees what it wrote: anything else is a lost write."""
        if not shape.key:
            return
        columns = [c for c in row if c not in shape.key]
        names = ", ".join(f"{quote_ident(c)}::text" for c in columns) or "1"
        where = " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
        statement = f"SELECT {names} FROM {quote_qname(shape.name)} WHERE {where}"
        found = self._query(statement, [row[k] for k in shape.key])
        if found is None:
            return
        if not found:
            self.recorder.failed(
                "LOST", f"a row of {shape.name} that was written is gone", statement
            )
            return
        for column, value in zip(columns, found[0], strict=False):
            if value != row[column]:
                self.recorder.failed(
                    "LOST", f"{shape.name}.{column} is not what was written", statement
                )

    def _delete(self, shape: Shape, row: Row) -> None:
        if not shape.key:
            return
        where = " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
        if self._retrying(
            lambda: self._execute(
                f"DELETE FROM {quote_qname(shape.name)} WHERE {where}",
                [row[k] for k in shape.key],
            )
        ):
            self.ledger.drop(shape, row)

    # -- rows --------------------------------------------------------------------------------

    def _sample(self, shape: Shape) -> Row | None:
        names = ", ".join(f"{quote_ident(c.name)}::text" for c in shape.columns) or "1"
        found = self._query(
            f"SELECT {names} FROM {quote_qname(shape.name)} "
            f"OFFSET {self.random.randint(0, 40)} LIMIT 1",
            [],
        )
        if not found:
            found = self._query(f"SELECT {names} FROM {quote_qname(shape.name)} LIMIT 1", [])
        if not found:
            return None
        return dict(zip((c.name for c in shape.columns), found[0], strict=False))

    def _any(self, shape: Shape) -> bool:
        return bool(self._query(f"SELECT 1 FROM {quote_qname(shape.name)} LIMIT 1", []))

    def _new_row(self, shape: Shape, sample: Row) -> Row | None:
        if not shape.insertable:
            return None
        row: Row = {}
        for column in shape.columns:
            if column.name in shape.omit:
                continue
            may_omit = column.name not in shape.vary and column.name not in shape.checked
            if column.default is not None and may_omit and self.random.random() < 0.3:
                continue
            value = sample.get(column.name)
            if column.name in shape.vary:
                value = vary(column, value, self._next(), self.marker)
            row[column.name] = value
        return row or None

    def _plain_column(self, shape: Shape) -> str | None:
        plain = [
            c.name
            for c in shape.columns
            if c.name not in shape.key and c.name not in shape.vary and c.identity is None
        ]
        return self.random.choice(plain) if plain else None

    def _next(self) -> int:
        self.number += 1
        return self.number

    # -- running -----------------------------------------------------------------------------

    def _execute(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement; errors are recorded and raised, a stale plan is planned anew once."""
        for attempt in (1, 2):
            started = time.monotonic()
            try:
                cursor = self.connection.execute(_trusted(statement), parameters)
                rows = cursor.fetchall() if cursor.description else []
                self.recorder.ran(time.monotonic() - started)
                return rows
            except psycopg.Error as error:
                self.recorder.ran(time.monotonic() - started)
                if error.sqlstate == _STALE_PLAN and attempt == 1 and not self._inside():
                    self.recorder.replanned()
                    self.connection.execute("DEALLOCATE ALL")
                    self.connection._prepared.clear()  # noqa: SLF001 - drivers forget stale plans
                    continue
                self._note(error, statement)
                raise
        raise AssertionError("unreachable")

    def _inside(self) -> bool:
        return self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def _note(self, error: psycopg.Error, statement: str) -> None:
        if self.connection.closed:
            self.recorder.failed(error.sqlstate or "08006", "the connection was lost", statement)
            raise LostConnectionError from None
        if error.sqlstate == _STALE_PLAN:
            self.recorder.replanned()
        elif error.sqlstate not in _RETRIED:
            self.recorder.failed(
                error.sqlstate or "XX000", error.diag.message_primary or str(error), statement
            )

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        try:
            return self._execute(statement, parameters)
        except psycopg.Error:
            return None

    def _do(self, statement: str) -> None:
        self._query(statement, [])

    def _again(self, error: psycopg.Error) -> bool:
        """Whether an application would simply try again."""
        if error.sqlstate == _STALE_PLAN:
            self.connection.execute("DEALLOCATE ALL")
            self.connection._prepared.clear()  # noqa: SLF001 - drivers forget stale plans
            return True
        return error.sqlstate in _RETRIED

    def _retrying(self, work: Any) -> bool:
        for _ in range(3):
            try:
                work()
            except psycopg.Error as error:
                if self._again(error):
                    continue
                return False
            return True
        return False


def as_it_is(connection: psycopg.Connection, shape: Shape) -> Shape:
    """A shape with what this database offers: a version can name a unique key in ON CONFLICT only
    where there is one yet, and COPY only into a table, not through a view."""
    name = quote_qname(shape.name)
    kind = connection.execute(
        "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(%s)", (name,)
    ).fetchone()
    is_view = bool(kind and kind[0])
    if kind is None:
        return shape
    rows = connection.execute(
        """SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n
             WHERE u.o <= i.indnkeyatts ORDER BY u.o)
           FROM pg_index i WHERE i.indisunique AND i.indisvalid AND i.indrelid = to_regclass(%s)""",
        (name,),
    ).fetchall()
    there = {tuple(row[0]) for row in rows}
    uniques = tuple(u for u in shape.uniques if is_view or u in there)
    return replace(shape, uniques=uniques, copyable=shape.copyable and not is_view)


def _one_row(shape: Shape, row: Row) -> tuple[str, list[Any]]:
    """The condition that finds a row again, with its parameters; any row where there is no key."""
    if not shape.key:
        return f"ctid = (SELECT ctid FROM {quote_qname(shape.name)} LIMIT 1)", []
    return (
        " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key),
        [row[k] for k in shape.key],
    )


def compare_ledger(
    connection: psycopg.Connection, ledger: Ledger, shapes: Sequence[Shape]
) -> tuple[int, int, str]:
    """Acknowledged rows against the tables, as `shapes` see them: (missing, differing, an example).

    Columns and keys that these shapes do not have are left out of the comparison.
    """
    by_name = {shape.name: shape for shape in shapes}
    missing = differing = 0
    example = ""
    for (table, key), row in ledger.snapshot().items():
        shape = by_name.get(table)
        if shape is None or not shape.key or len(shape.key) != len(key):
            continue
        known = {c.name for c in shape.readable}
        columns = [c for c in row if c in known and c not in shape.key]
        names = ", ".join(f"{quote_ident(c)}::text" for c in columns) or "1"
        where = " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
        found = connection.execute(
            _trusted(f"SELECT {names} FROM {quote_qname(table)} WHERE {where}"), key
        ).fetchone()
        if found is None:
            missing += 1
            example = example or f"{table} {dict(zip(shape.key, key, strict=True))} is gone"
            continue
        for column, value in zip(columns, found, strict=False):
            if value != row[column]:
                differing += 1
                example = example or f"{table}.{column} is {value!r}, {row[column]!r} was written"
                break
    return missing, differing, example


def _trusted(sql: str) -> bytes:
    return sql.encode()
