"""A worker process that runs given queries: prepared before the change, and anew in every round.

Everything runs in a transaction that is rolled back, so that any query may be run, however often.
Through a pooler nothing stays prepared between two transactions, so that each is sent whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from zdd_migrate.blocks.quoting import quote_literal
from zdd_migrate.verify.children.loop import Report
from zdd_migrate.verify.synthetic import STATEMENT_TIMEOUT_MS, is_stale_plan

#: retried by any careful application: deadlock, serialization failure
_RETRIED = ("40P01", "40001")
_LOST_AFTER = 20


def make(order: Any, report: Report) -> Asker:
    """The work that `Queries` describes."""
    return Asker(order["dsn"], order["queries"], report, pooled=order["pooled"])


class Asker:
    """One connection that asks all queries in turn."""

    def __init__(
        self, dsn: str, queries: list[dict[str, Any]], report: Report, *, pooled: bool
    ) -> None:
        self.dsn = dsn
        self.pooled = pooled
        self.queries = queries
        self.report = report
        self.rounds = 0
        self.prepared: set[int] = set()
        self.connection = self._connect()
        for number, query in enumerate(queries):
            if query["prepare"] and not pooled:
                self._prepare(number, query, quietly=True)

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=10)
        connection.prepare_threshold = None
        if not self.pooled:
            connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
        self.prepared = set()
        return connection

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def round(self, *, steady: bool = False) -> bool:
        """Every query once; False when there is no server to talk to any more."""
        self.rounds += 1
        for number, query in enumerate(self.queries):
            self._ask(number, query)
            if self.connection.closed and not self._reconnect():
                return False
        self.report.round_done()
        return True

    def _reconnect(self) -> bool:
        for _ in range(_LOST_AFTER):
            try:
                self.connection = self._connect()
            except psycopg.Error:
                time.sleep(0.25)
            else:
                return True
        self.report.failed("08006", "the server is gone", "")
        return False

    def _ask(self, number: int, query: dict[str, Any]) -> None:
        if not query["prepare"]:
            self._run(query["text"], query["text"])
            return
        if self.pooled:
            self._ask_whole(query)
            return
        fresh = f"zdd_fresh_{number}"
        if self._timed(f"PREPARE {fresh} AS {query['text']}", query["text"]):
            self._timed(f"DEALLOCATE {fresh}", query["text"])
        if number not in self.prepared and not self._prepare(number, query):
            return
        sets = query["sets"]
        if not sets:
            return  # its values are not known: it can be prepared, and no more
        values = sets[self.rounds % len(sets)]
        given = ", ".join("NULL" if v is None else quote_literal(v) for v in values)
        call = f"EXECUTE zdd_q_{number}{f' ({given})' if values else ''}"
        for _ in range(3):
            error = self._run(call, query["text"])
            if error is None:
                return
            if is_stale_plan(error):
                self.report.replanned()
                self.connection.execute(f"DEALLOCATE zdd_q_{number}".encode())
                self.prepared.discard(number)
                if not self._prepare(number, query):
                    return
            elif error.sqlstate not in _RETRIED:
                return

    def _ask_whole(self, query: dict[str, Any]) -> None:
        """Its text with its values, leaving nothing behind on the connection that it ran on."""
        sets, text = query["sets"], query["text"]
        if sets:
            values = sets[self.rounds % len(sets)]
            self._run(text, text, values)
            return
        # not in one message with DEALLOCATE: where it cannot be prepared there is nothing to drop
        self._run(f"PREPARE zdd_once AS {text}", text, after="DEALLOCATE zdd_once")

    def _prepare(self, number: int, query: dict[str, Any], *, quietly: bool = False) -> bool:
        statement = f"PREPARE zdd_q_{number} AS {query['text']}"
        if quietly:
            try:
                self.connection.execute(statement.encode())
            except psycopg.Error:
                return False  # it is tried again, and told of, in the first round
        elif not self._timed(statement, query["text"]):
            return False
        self.prepared.add(number)
        return True

    def _timed(self, statement: str, shown: str) -> bool:
        started = time.monotonic()
        try:
            self.connection.execute(statement.encode())
        except psycopg.Error as error:
            self._note(error, shown)
            return False
        finally:
            self.report.ran(time.monotonic() - started, shown)
        return True

    def _run(
        self,
        statement: str,
        shown: str,
        values: Sequence[str | None] | None = None,
        *,
        after: str = "",
    ) -> psycopg.Error | None:
        """In a transaction that is rolled back, with values for its parameters where they are given."""
        started = time.monotonic()
        try:
            with self.connection.transaction(force_rollback=True):
                if values is None:
                    run_one(self.connection, statement)
                else:
                    cursor = psycopg.RawCursor(self.connection).execute(statement.encode(), values)
                    if cursor.description:
                        cursor.fetchmany(200)
                if after:
                    self.connection.execute(after.encode())
        except psycopg.Error as error:
            if not is_stale_plan(error) and error.sqlstate not in _RETRIED:
                self._note(error, shown)
            return error
        finally:
            self.report.ran(time.monotonic() - started, shown)
        return None

    def _note(self, error: psycopg.Error, shown: str) -> None:
        said = error.diag.message_primary or str(error)
        self.report.failed(error.sqlstate or "08006", said, shown)


def run_one(connection: psycopg.Connection, statement: str) -> None:
    """Run a statement to its end; COPY FROM STDIN gets no rows."""
    if statement.lstrip()[:4].upper() == "COPY":
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            if " TO " in statement.upper():
                for _ in copy:
                    pass
        return
    cursor = connection.execute(statement.encode())
    if cursor.description:
        cursor.fetchmany(200)
