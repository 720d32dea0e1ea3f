"""A plan's conversions tried on real rows: read only, on a bounded sample, for a bounded time.

Nothing is written and no lock is waited for. What a sample shows is no proof for the rest of the
table, so what is said names how many rows were looked at. Whatever keeps a conversion from being
tried (privileges, a function that is not there yet, time) is said too: silence would be a claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.model.plan import Conversion, Plan, Question

#: rows looked at, at the most, and pages that they are drawn from
ROWS, PAGES = 10_000, 2_000
_TIMEOUT = "10s"
_EXAMPLES = 3
#: statements spent on finding the rows that fail
_SEARCHES = 150
#: what a value can be guilty of: data exceptions, broken checks of a domain, RAISE
_DATA = ("22", "23", "P0")

_Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Tried:
    """What one conversion did to the rows looked at.

    `total` is about how many rows the table has, 0 where nobody counted; `failed` are rows on which `up`
    or `down` fails, with what the server said; `empty` those that have a value and get none; `lost`
    those that do not come back the same. The lists hold keys of a few, the numbers count all
    (`at_least`: some more may fail that were not searched for).
    """

    conversion: Conversion
    looked_at: int = 0
    total: int = 0
    failed: int = 0
    failing: tuple[str, ...] = ()
    said: str = ""
    at_least: bool = False
    empty: int = 0
    emptied: tuple[str, ...] = ()
    lost: int = 0
    losing: tuple[str, ...] = ()
    #: why it could not be tried
    hindered: str = ""


def try_conversions(dsn: str, plan: Plan, *, rows: int = ROWS, pages: int = PAGES) -> Plan:
    """The plan with what its conversions do to a database's rows among its notes; a question where
    one fails, for then the backfill and old code's writes would. EnvironmentFailedError."""
    if not plan.conversions:
        return plan
    try:
        with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
            tried = [_try(connection, one, rows, pages) for one in plan.conversions]
    except psycopg.Error as error:
        raise EnvironmentFailedError(
            f"the rows cannot be read from the database: {_one_line(error)}"
        ) from None
    return replace(
        plan,
        notes=(*plan.notes, *(note for one in tried for note in _notes(one))),
        questions=(*plan.questions, *(_question(one) for one in tried if one.failed)),
    )


def _try(connection: psycopg.Connection, conversion: Conversion, rows: int, pages: int) -> Tried:
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute("SET LOCAL lock_timeout = '2s'")
            connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT}'".encode())
            # the path that the trigger will have
            schema = quote_ident(conversion.table.schema or "public")
            connection.execute(f"SET LOCAL search_path = {schema}, public".encode())
            total, places = _sample(connection, conversion, rows, pages)
            return _Trial(connection, conversion).run(places, total)
    except psycopg.Error as error:
        if connection.closed or connection.broken:
            raise
        return Tried(conversion, hindered=_one_line(error))


def _sample(
    connection: psycopg.Connection, conversion: Conversion, rows: int, pages: int
) -> tuple[int, list[_Place]]:
    """How many rows there are, as far as that is known, and where some of them stand."""
    table = quote_qname(conversion.table)
    found = connection.execute(
        """SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::int8,
             coalesce(sum(pg_relation_size(c.oid)), 0)::int8 / current_setting('block_size')::int
           FROM pg_class c WHERE c.oid = to_regclass(%s)
             OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%s)))""",
        (table, table),
    ).fetchone()
    assert found is not None
    total, size = int(found[0]), int(found[1])
    # all over the table, not its first rows: pages where it is large, else rows
    share = 100.0 * rows / total if total > rows else 100.0 * pages / size if size > pages else None
    drawn = (
        ""
        if share is None
        else f" TABLESAMPLE {'SYSTEM' if size > pages else 'BERNOULLI'} ({share:.8f})"
    )
    places: list[_Place] = []
    for source in dict.fromkeys((f"{table}{drawn}", table)):  # what is drawn may hold no row at all
        query = f"SELECT tableoid::int8, ctid::text FROM {source} LIMIT {int(rows)}"
        places = [(int(oid), str(at)) for oid, at in connection.execute(query.encode())]
        if places:
            break
    return (len(places) if share is None and len(places) < rows else total), places


class _Trial:
    """One conversion, its SQL, and the search for the rows that it fails on."""

    def __init__(self, connection: psycopg.Connection, conversion: Conversion) -> None:
        self.connection = connection
        self.conversion = conversion
        self.searches = 0
        self.failing: list[tuple[_Place, str]] = []
        self.results: list[tuple[Any, ...]] = []

    def run(self, places: Sequence[_Place], total: int) -> Tried:
        """Try all of them."""
        self._search(places)
        empty = [row for row in self.results if row[1]]
        lost = [row for row in self.results if row[2] and not row[1]]
        told = [self._key(place) for place, _ in self.failing[:_EXAMPLES]]
        return Tried(
            self.conversion,
            looked_at=len(places),
            total=total,
            failed=len(self.failing),
            failing=tuple(told),
            said=self.failing[0][1] if self.failing else "",
            at_least=self.searches >= _SEARCHES,
            empty=len(empty),
            emptied=tuple(row[0] for row in empty[:_EXAMPLES]),
            lost=len(lost),
            losing=tuple(row[0] for row in lost[:_EXAMPLES]),
        )

    def _search(self, places: Sequence[_Place]) -> None:
        """Halve what fails until the rows that do are found, or enough has been tried."""
        waiting = [list(places)] if places else []
        while waiting and self.searches < _SEARCHES:
            some = waiting.pop()
            self.searches += 1
            error = self._convert(some)
            if error is None:
                continue
            if len(some) == 1:
                self.failing.append((some[0], error))
            else:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]

    def _convert(self, places: Sequence[_Place]) -> str | None:
        """Try rows together; what the server said when one of them fails."""
        found = [at for _, at in places]
        try:
            with self.connection.transaction():
                self.results += self.connection.execute(
                    self._sql().encode(),
                    (found, [oid for oid, _ in places], found),
                ).fetchall()
        except psycopg.Error as error:
            if error.sqlstate is None or not error.sqlstate.startswith(_DATA):
                raise
            return _one_line(error)
        return None

    def _sql(self) -> str:
        """Rows by place: their key, whether a value gets none, whether it does not come back."""
        one = self.conversion
        name = quote_ident(one.table.name)
        made = ", ".join(f"({text})::{type_} AS {quote_ident(c)}" for c, type_, text in one.up)
        back = " OR ".join(
            f"({text})::{type_}::text IS DISTINCT FROM {quote_ident(c)}::{type_}::text"
            for c, type_, text in one.down
        )
        had = " AND ".join(f"{quote_ident(c)} IS NOT NULL" for c, _, _ in one.down) or "false"
        none = " AND ".join(f"{quote_ident(c)} IS NULL" for c, _, _ in one.up)
        # asked for, so that all of them are computed
        made_all = f"num_nulls({', '.join(quote_ident(c) for c, _, _ in one.up)})"
        what = f"SELECT {self._keys()}, ({had}) AND ({none}), {back or 'false'}, {made_all}"
        row = f"SELECT {name}.*, {name}.ctid AS zdd_at, {made} FROM {quote_qname(one.table)} AS {name}"
        return (
            f"{_percent(what)} FROM ({_percent(row)} WHERE {_percent(name)}.ctid = ANY (%s::tid[]) "
            f"AND ({_percent(name)}.tableoid::int8, {_percent(name)}.ctid::text) IN "
            f"(SELECT * FROM unnest(%s::int8[], %s::text[]))) AS {_percent(name)}"
        )

    def _keys(self) -> str:
        key = self.conversion.key
        if not key:
            return "'ctid = ' || zdd_at::text"
        return " || ', ' || ".join(
            f"{quote_literal(f'{c} = ')} || {quote_ident(c)}::text" for c in key
        )

    def _key(self, place: _Place) -> str:
        """The key of a row that fails, which needs none of what fails."""
        one = self.conversion
        found = self.connection.execute(
            f"SELECT {_percent(self._keys())} FROM (SELECT *, ctid AS zdd_at "
            f"FROM {_percent(quote_qname(one.table))} "
            "WHERE tableoid::int8 = %s AND ctid = %s::tid) AS x".encode(),
            place,
        ).fetchone()
        return str(found[0]) if found is not None else ""


# -- in words -------------------------------------------------------------------------------------


def _notes(tried: Tried) -> Iterator[str]:
    about = tried.conversion.about
    if tried.hindered:
        yield (
            f"{about} was not tried on real rows ({tried.hindered}): that every value can be "
            "converted is an assumption"
        )
        return
    if not tried.looked_at:
        yield f"{tried.conversion.table} has no rows: the conversion of {about} was tried on none"
        return
    rows = _rows(tried)
    if tried.empty:
        yield (
            f"{tried.empty:,} of {rows} have a value that {about} cannot hold "
            f"({'; '.join(tried.emptied)}): contract waits until they are corrected"
        )
    if tried.lost:
        yield (
            f"{tried.lost:,} of {rows} do not come back the same through up and down of {about} "
            f"({'; '.join(tried.losing)}): their old value stays until new code writes {about}, "
            "then old code reads what down makes of that"
        )
    if not (tried.empty or tried.lost or tried.failed):
        what = "come back the same through up and down" if tried.conversion.down else "get a value"
        yield f"{about}: all of {rows} {what}"


def _rows(tried: Tried) -> str:
    if tried.total == tried.looked_at:
        return f"the {tried.looked_at:,} rows of {tried.conversion.table}"
    size = f", which has about {tried.total:,}" if tried.total > tried.looked_at else ""
    return f"{tried.looked_at:,} rows looked at in {tried.conversion.table}{size}"


def _question(tried: Tried) -> Question:
    about = tried.conversion.about
    least = "at least " if tried.at_least else ""
    return Question(
        about,
        f"the conversion of {about} fails on {least}{tried.failed:,} of {_rows(tried)} "
        f"({'; '.join(tried.failing)}: {tried.said}): what do they get? Until that is said the backfill "
        "would stop there, and so would old code that writes such a value",
        f"--up {about}=… (or -- zdd: up {about} = … in the migration), or correct the rows first",
    )


def _percent(sql: str) -> str:
    """SQL in which no per cent sign is a placeholder."""
    return sql.replace("%", "%%")


def _one_line(error: psycopg.Error) -> str:
    state = f"{error.sqlstate} " if error.sqlstate else ""
    return f"{state}{' '.join(str(error).split())}"[:200]
