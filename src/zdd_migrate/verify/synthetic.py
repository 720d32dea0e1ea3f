"""A code version made up from a schema: what an application written for it would do all day.

For each table: reads by explicit columns and by `SELECT *` (prepared), inserts, `RETURNING *`,
updates of each column, upserts on each unique key, COPY both ways, deletes; alone, several in a
transaction, and in a transaction that stays open for a while; and what `objects` asks of views,
functions, sequences and types. Values are taken from rows that are
there, so foreign keys, checks and enums hold. Every write that the server acknowledged is written
down at once, to be looked for later. It works in a process of its own (`children.loop`).
"""

from __future__ import annotations

import base64
import pickle
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from zdd_migrate.model.schema import Column
from zdd_migrate.verify import statements
from zdd_migrate.verify.acknowledged import same_value
from zdd_migrate.verify.children.loop import Report
from zdd_migrate.verify.shapes import Conflict, Shape, length_of, vary

Row = dict[str, str | None]
#: retried by any careful application: deadlock, serialization failure
_RETRIED = ("40P01", "40001")
STATEMENT_TIMEOUT_MS = 20_000
#: how long a long transaction stays open after its first write, while steps run
_HOLD_S = 0.15
_LONG_EVERY = 4
#: how often a statement is planned at most until it runs
_PLANNINGS = 5
#: how often a text of a pattern is drawn until one is free
_DRAWS = 10


class LostConnectionError(Exception):
    """The writer's connection is gone."""


def job(
    dsn: str,
    shapes: Sequence[Shape],
    marker: str,
    seed: int,
    transactions: bool,
    pooled: bool = False,
    asks: Sequence[str] = (),
) -> Any:
    """What a worker process is told; `make` is the other end."""
    return {
        "dsn": dsn,
        "shapes": base64.b64encode(pickle.dumps(list(shapes))).decode(),
        "marker": marker,
        "seed": seed,
        "transactions": transactions,
        "pooled": pooled,
        "asks": list(asks),
    }


def make(order: Any, report: Report) -> Writer:
    """The work that `job` describes."""
    shapes = pickle.loads(base64.b64decode(order["shapes"]))  # noqa: S301 - from our own parent
    return Writer(
        order["dsn"],
        shapes,
        report,
        marker=order["marker"],
        seed=order["seed"],
        transactions=order["transactions"],
        pooled=order["pooled"],
        asks=order["asks"],
    )


class Writer:
    """One connection of a made-up code version, working in rounds."""

    def __init__(
        self,
        dsn: str,
        shapes: Sequence[Shape],
        report: Report,
        *,
        marker: str,
        seed: int,
        transactions: bool,
        pooled: bool,
        asks: Sequence[str],
    ) -> None:
        self.dsn = dsn
        self.asks = asks
        self.pooled = pooled
        self.shapes = shapes
        self.report = report
        self.marker = marker
        self.random = random.Random(seed)  # noqa: S311 - a workload, not a secret
        self.transactions = transactions
        self.number = seed * 1_000_000
        self.rounds = 0
        #: rows being written: should the connection go now, nobody knows what became of them
        self.under_way: list[tuple[Shape, Row]] = []
        self.connection = self._connect()

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=10)
        if self.pooled:  # neither what is prepared nor what is set would be there the next time
            connection.prepare_threshold = None
            return connection
        connection.prepare_threshold = 0
        connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
        return connection

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def round(self, *, steady: bool = False) -> bool:
        """One round over all tables; False when there is no server to talk to any more.

        Where nothing changes meanwhile (`steady`), no transaction stays open for longer than it
        takes: nobody is there whom it could meet.
        """
        try:
            self._round(0.0 if steady else _HOLD_S)
        except LostConnectionError:
            for shape, row in self.under_way:
                self._record("doubt", shape, row)
            self.under_way = []
            return self._reconnect()
        self.report.round_done()
        return True

    def _reconnect(self) -> bool:
        """As any application does: again, a little later."""
        for _ in range(20):
            try:
                self.connection = self._connect()
            except psycopg.Error:
                time.sleep(0.25)
            else:
                return True
        self.report.failed("08006", "the server is gone", "")
        return False

    def _round(self, hold_s: float) -> None:
        self.rounds += 1
        long = self.rounds % _LONG_EVERY == 2
        held = self.rounds // _LONG_EVERY % len(self.shapes) if long and self.shapes else -1
        for statement in self.asks:
            self._query(statement, [])
        for number, shape in enumerate(self.shapes):
            sample = self._sample(shape)
            if sample is None:
                if not shape.insertable or not self._any(shape):
                    self.report.unclear(f"{shape.name} holds no row to work from")
                continue
            if not self.transactions:
                self._autocommit(shape, sample)
            else:
                # one table's at a time, in turn: a round is soon over, and all come to be held
                self._in_transaction(shape, sample, hold_s if number == held else 0.0)

    # -- kinds of work -----------------------------------------------------------------------

    def _autocommit(self, shape: Shape, sample: Row) -> None:
        self._query(statements.select_star(shape), [])
        self._query(statements.explicit(shape), [])
        self._copy_out(shape)
        row = self._insert(shape, sample)
        if row is None:
            self._touch(shape, sample)
            return
        # another row's values: writing back its own would change nothing, and prove nothing
        self._update_each(shape, row, self._sample(shape) or sample)
        for conflict in shape.conflicts:
            self._upsert(shape, row, conflict)
        self._read_back(shape, row)
        if self.random.random() < 0.3:
            self._delete(shape, row)
        self._copy_in(shape, sample)

    def _in_transaction(self, shape: Shape, sample: Row, hold: float) -> None:
        """Several writes that commit together, and are acknowledged by the commit."""
        first, second = self._new_row(shape, sample), self._new_row(shape, sample)
        if first is None or second is None or not shape.key:
            self._touch(shape, sample)
            return
        for _ in range(3):
            try:
                with self.connection.transaction():
                    done = [self._insert_one(shape, first)]
                    time.sleep(hold)
                    done.append(self._insert_one(shape, second))
                    column = self._plain_column(shape)
                    if column is not None:
                        keys = [done[0][k] for k in shape.key]
                        value = sample.get(column)
                        self._execute(statements.read(shape, shape.key, locking=True), keys)
                        given = [value] * statements.times(shape, column)
                        self._execute(statements.update(shape, [column]), [*given, *keys])
                        done[0][column] = value
            except psycopg.Error as error:
                if self.connection.closed:
                    raise LostConnectionError from None
                if self._again(error):
                    continue
                return
            for row in done:
                self._record("put", shape, row)
            return

    def _insert(self, shape: Shape, sample: Row) -> Row | None:
        row = self._new_row(shape, sample)
        if row is None:
            return None
        made: list[Row] = []
        if not self._retrying(lambda: made.append(self._insert_one(shape, row))):
            return None
        if shape.key:
            self._record("put", shape, made[-1])
        return made[-1]

    def _insert_one(self, shape: Shape, row: Row) -> Row:
        columns = list(row)
        found = self._execute(statements.insert(shape, columns), [row[c] for c in columns])
        return dict(zip(statements.returned(shape, columns), found[0], strict=True))

    def _update_each(self, shape: Shape, row: Row, sample: Row) -> None:
        if not shape.key and not shape.copyable:
            return  # a view without a key has nothing to tell one row from another
        for column in shape.columns:
            name = column.name
            if name in shape.key or column.identity is not None:
                continue
            if name in shape.nulls and self.random.random() < 0.2:
                value = None
            elif name in shape.vary:
                value = self._varied(shape, column, sample.get(name))
                if value is None:
                    continue
            else:
                value = sample.get(name)
            self._update_one(shape, row, name, value)

    def _update_one(self, shape: Shape, row: Row, name: str, value: str | None) -> None:
        """One column, and in the record what the server made of it."""
        statement = statements.update(shape, [name], star=self.random.random() < 0.5)
        values = [value] * statements.times(shape, name) + self._key(shape, row)
        self.under_way = [(shape, row)] if shape.key else []
        if self._retrying(lambda: self._execute(statement, values)) and shape.key:
            # as the server prints it; not what was written is found by `_read_back`
            found = self._query(statements.read(shape, [name]), self._key(shape, row))
            if found is None:
                self._record("doubt", shape, row)
            else:
                row[name] = found[0][0] if found else None
                self._record("put", shape, row, [name])
        self.under_way = []

    def _upsert(self, shape: Shape, row: Row, conflict: Conflict) -> None:
        columns = [c.name for c in shape.columns if c.name in row]
        if any(c not in row for c in conflict.columns):
            return
        if conflict.condition:
            caught = statements.read(shape, (), also=conflict.condition)
            if not self._query(caught, self._key(shape, row)):
                return  # the target would not catch this row, and another key would
        elif any(row[c] is None for c in conflict.columns):
            return
        statement = statements.upsert(shape, columns, conflict)
        self._writing(shape, row, statement, [row[c] for c in columns])

    def _touch(self, shape: Shape, sample: Row) -> None:
        """Where no new row can be made: read one, and write its own values back."""
        column = self._plain_column(shape)
        if column is None or not shape.key:
            self._query(statements.select_star(shape), [])
            return
        given = [sample.get(column)] * statements.times(shape, column)
        values = [*given, *self._key(shape, sample)]
        self._retrying(lambda: self._execute(statements.update(shape, [column]), values))

    def _read_back(self, shape: Shape, row: Row) -> None:
        """A client sees what it wrote: anything else is a lost write."""
        if not shape.key:
            return
        columns = [c for c in row if c not in shape.key]
        statement = statements.read(shape, columns)
        found = self._query(statement, self._key(shape, row))
        if found is None:
            return
        if not found:
            self.report.failed("LOST", f"a row of {shape.name} that was written is gone", statement)
            return
        for column, value in zip(columns, found[0], strict=False):
            if value != row[column] and not same_value(
                self.connection, shape.name, column, value, row[column]
            ):
                self.report.failed(
                    "LOST", f"{shape.name}.{column} is not what was written", statement
                )

    def _delete(self, shape: Shape, row: Row) -> None:
        if shape.key and self._writing(shape, row, statements.delete(shape), self._key(shape, row)):
            self._record("drop", shape, row)

    def _copy_in(self, shape: Shape, sample: Row) -> None:
        row = self._new_row(shape, sample) if shape.copyable else None
        if row is None:
            return

        def write(copy: psycopg.Copy) -> None:
            copy.write_row(list(row.values()))

        self._copy(statements.copy_in(shape, list(row)), write)

    def _copy_out(self, shape: Shape) -> None:
        self._copy(statements.copy_out(shape), lambda copy: [None for _ in copy.rows()])

    def _copy(self, statement: str, work: Callable[[psycopg.Copy], Any]) -> None:
        for _ in range(3):
            started = time.monotonic()
            try:
                with self.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                    work(copy)
                self.report.ran(time.monotonic() - started, statement)
                return
            except psycopg.Error as error:
                self.report.ran(time.monotonic() - started, statement)
                self._note(error, statement)
                if not self._again(error):
                    return

    # -- rows --------------------------------------------------------------------------------

    def _sample(self, shape: Shape) -> Row | None:
        for offset in (self.random.randint(0, 40), 0):
            found = self._query(statements.sample(shape), [offset])
            if found:
                return dict(zip((c.name for c in shape.columns), found[0], strict=False))
        return None

    def _any(self, shape: Shape) -> bool:
        return bool(self._query(statements.select_star(shape), []))

    def _new_row(self, shape: Shape, sample: Row) -> Row | None:
        if not shape.insertable:
            return None
        row: Row = {}
        for column in shape.columns:
            if column.name in shape.omit:
                continue
            may_omit = column.name not in {*shape.vary, *shape.checked, *shape.sources}
            if column.default is not None and may_omit and self.random.random() < 0.3:
                continue
            value = sample.get(column.name)
            if column.name in shape.vary:
                value = self._varied(shape, column, value)
                if value is None:
                    return None
            row[column.name] = value
        return row or None

    def _varied(self, shape: Shape, column: Column, sample: str | None) -> str | None:
        """A value that no other row has; None where a pattern leaves none that is free."""
        pattern = dict(shape.patterns).get(column.name)
        if pattern is None:
            return vary(column, sample, self._next(), self.marker)
        for _ in range(_DRAWS):
            drawn = pattern.example(self.random, length_of(column))
            if self._query(statements.taken(shape, column.name), [drawn]) == []:
                return drawn
        return None

    def _plain_column(self, shape: Shape) -> str | None:
        plain = [
            c.name
            for c in shape.columns
            if c.name not in shape.key and c.name not in shape.vary and c.identity is None
        ]
        return self.random.choice(plain) if plain else None

    def _key(self, shape: Shape, row: Row) -> list[str | None]:
        return [row[k] for k in shape.key]

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _record(self, act: str, shape: Shape, row: Row, columns: Sequence[str] = ()) -> None:
        values = {c: row[c] for c in (*shape.key, *columns)} if columns else row
        self.report.acknowledged(act, list(shape.name), self._key(shape, row), values)

    # -- running -----------------------------------------------------------------------------

    def _writing(self, shape: Shape, row: Row, statement: str, values: Sequence[Any]) -> bool:
        """Change a row that stands in the record."""
        self.under_way = [(shape, row)] if shape.key else []
        done = self._retrying(lambda: self._execute(statement, values))
        self.under_way = []
        return done

    def _execute(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement; errors are recorded and raised, a stale plan is planned anew: more than
        once where one step follows the other so closely that it is stale again before it runs."""
        for attempt in range(1, _PLANNINGS + 1):
            started = time.monotonic()
            try:
                cursor = self.connection.execute(statement.encode(), parameters)
                rows = cursor.fetchall() if cursor.description else []
                self.report.ran(time.monotonic() - started, statement)
                return rows
            except psycopg.Error as error:
                self.report.ran(time.monotonic() - started, statement)
                if attempt < _PLANNINGS and is_stale_plan(error) and not self._inside():
                    self.report.replanned()
                    self._forget_plans()
                    continue
                self._note(error, statement)
                raise
        raise AssertionError("unreachable")

    def _inside(self) -> bool:
        return self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def _forget_plans(self) -> None:
        self.connection.execute("DEALLOCATE ALL")
        self.connection._prepared.clear()  # noqa: SLF001 - drivers forget stale plans

    def _note(self, error: psycopg.Error, statement: str) -> None:
        if self.connection.closed:
            self.report.failed(error.sqlstate or "08006", "the connection was lost", statement)
            raise LostConnectionError from None
        if is_stale_plan(error) and self._inside():
            self.report.replanned()
        elif error.sqlstate not in _RETRIED:
            self.report.failed(
                error.sqlstate or "XX000", error.diag.message_primary or str(error), statement
            )

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        try:
            return self._execute(statement, parameters)
        except psycopg.Error:
            return None

    def _again(self, error: psycopg.Error) -> bool:
        """Whether an application would simply try again."""
        if is_stale_plan(error):
            self._forget_plans()
            return True
        return error.sqlstate in _RETRIED

    def _retrying(self, work: Callable[[], Any]) -> bool:
        for _ in range(3):
            try:
                work()
            except psycopg.Error as error:
                if self._again(error):
                    continue
                return False
            return True
        return False


def is_stale_plan(error: psycopg.Error) -> bool:
    """Cached plan must not change result type: other 0A000 are failures like any other."""
    return error.sqlstate == "0A000" and error.diag.source_function == "RevalidateCachedQuery"
