"""Several clients of one database, stepped one after the other, and what each was told is committed.

A client works in a thread of its own, so that it can wait for another one's lock. After every step
all are waited for until each is done or the server says that it is blocked: what happens depends on
the order of steps alone. `Told` is the other half: what the acknowledged writes make of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

import psycopg

Verb = Literal["insert", "update", "upsert", "merge", "copy", "delete", "touch"]
Side = Literal["old", "new", "both"]
ISOLATION = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
#: what a client must live with: serialization failure, deadlock, a key that is taken
_GIVES_UP = ("40001", "40P01", "23505")

#: what each shape calls a thing
COLUMNS = {
    "name": ("user_name", "username"),
    "price": ("cents", "price"),
    "alias": ("nick", "alias"),
    "code": ("code", "code"),
}
#: where both shapes of each thing are, before the change of names at contract and after it
PLACES = {
    False: "user_name, username, cents, trim_scale(price), nick, alias, code, zdd_new_code",
    True: (
        "zdd_old_username, username, zdd_old_cents, trim_scale(price), zdd_old_nick, alias, "
        "zdd_old_code, code"
    ),
}


@dataclass(frozen=True, slots=True)
class Write:
    """One statement of a client: the key, and for each thing it names the side and the value."""

    verb: Verb
    key: int
    values: tuple[tuple[str, Side, Any], ...] = ()

    @property
    def columns(self) -> list[tuple[str, Any]]:
        """The columns it names with their values."""
        out: list[tuple[str, Any]] = []
        for thing, side, value in self.values:
            old, new = COLUMNS[thing]
            out += [(old, value)] if side != "new" else []
            out += [(new, value)] if side != "old" else []
        return out


@dataclass(frozen=True, slots=True)
class Effect:
    """What a client was told: a row was written, at `tick` of a sequence, drawn while it held the
    row's lock: so effects on one row stand in the order of their ticks."""

    tick: int
    write: Any
    replica: bool


def ticked(
    connection: psycopg.Connection, write: Any, count: int, *, replica: bool
) -> list[Effect]:
    """What was told, where rows were written, while their locks are held."""
    row = connection.execute("SELECT nextval('ticks')").fetchone()
    assert row is not None
    return [Effect(int(row[0]), write, replica)] if count else []


#: runs a client's statement in the open transaction
Perform = Callable[[psycopg.Connection, Any, bool], list[Effect]]


def perform(connection: psycopg.Connection, write: Write, replica: bool) -> list[Effect]:
    """Run one statement in the open transaction; what was told about it."""
    columns = write.columns
    names = ", ".join(["id", *(c for c, _ in columns)])
    values = [write.key, *(v for _, v in columns)]
    marks = ", ".join(["%s"] * len(values))
    sets = ", ".join(f"{c} = %s" for c, _ in columns)
    has_merge = connection.info.server_version >= 150000
    if write.verb == "copy":
        connection.execute("DELETE FROM users WHERE id = %s", (write.key,))
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY users ({names}) FROM STDIN".encode()) as copy,
        ):
            copy.write_row(values)
        count = 1
    elif write.verb == "insert":
        sql = f"INSERT INTO users ({names}) VALUES ({marks})"
        count = connection.execute(sql.encode(), values).rowcount
    elif write.verb == "upsert" or (write.verb == "merge" and not has_merge):
        taken = ", ".join(f"{c} = excluded.{c}" for c, _ in columns)
        sql = f"INSERT INTO users ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {taken}"
        count = connection.execute(sql.encode(), values).rowcount
    elif write.verb == "merge":
        sql = (
            f"MERGE INTO users u USING (SELECT %s::int AS key) s ON u.id = s.key "
            f"WHEN MATCHED THEN UPDATE SET {sets} "
            f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({marks})"
        )
        count = connection.execute(
            sql.encode(), [write.key, *(v for _, v in columns), *values]
        ).rowcount
    elif write.verb == "delete":
        count = connection.execute("DELETE FROM users WHERE id = %s", (write.key,)).rowcount
    else:
        sets = sets or "age = age + 1"
        sql = f"UPDATE users SET {sets} WHERE id = %s"
        count = connection.execute(sql.encode(), [*(v for _, v in columns), write.key]).rowcount
    return ticked(connection, write, count, replica=replica)


@dataclass(slots=True)
class Client:
    """One session; `held` is what its open transaction was told, not yet committed."""

    connection: psycopg.Connection
    perform: Perform
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    pending: Future[list[Effect]] | None = None
    open: bool = False
    replica: bool = False
    isolation: str = ISOLATION[0]
    held: list[Effect] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.connection.info.backend_pid

    def begin(self, isolation: str, *, replica: bool) -> None:
        """Open a transaction."""
        self.isolation, self.replica, self.open, self.held = isolation, replica, True, []
        self.connection.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode())
        if replica:
            self.connection.execute("SET LOCAL session_replication_role = replica")

    def write(self, write: Any) -> None:
        """Start a statement, in the open transaction or in one of its own.

        Under the replica role users' triggers do not fire; the next write of the row, be it the
        backfill's, would have them trim what was left untrimmed: so nothing is.
        """
        if self.open and self.replica and isinstance(write, Write):
            trimmed = ((t, s, v.strip() if t == "name" else v) for t, s, v in write.values)
            write = replace(write, values=tuple(trimmed))
        self.pending = self.thread.submit(self._inside if self.open else self._alone, write)

    def _inside(self, write: Any) -> list[Effect]:
        return self.perform(self.connection, write, self.replica)

    def _alone(self, write: Any) -> list[Effect]:
        with self.connection.transaction():
            self.connection.execute(f"SET TRANSACTION ISOLATION LEVEL {self.isolation}".encode())
            return self.perform(self.connection, write, False)

    def end(self, how: Literal["COMMIT", "ROLLBACK"]) -> list[Effect]:
        """Commit or roll back; what has been committed by it."""
        told, self.held, self.open = self.held, [], False
        try:
            self.connection.execute(how.encode())
        except psycopg.Error as error:
            if error.sqlstate not in _GIVES_UP:
                raise
            self.connection.rollback()
            return []
        return told if how == "COMMIT" else []

    def finished(self) -> list[Effect]:
        """What its statement, now done, has committed by itself."""
        assert self.pending is not None
        error, pending, self.pending = self.pending.exception(), self.pending, None
        if error is None:
            if self.open:
                self.held += pending.result()
                return []
            return pending.result()
        if not isinstance(error, psycopg.Error) or error.sqlstate not in _GIVES_UP:
            raise error
        if self.open:
            self.end("ROLLBACK")
        return []


class Clients:
    """All sessions, and one that watches them."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection], count: int, perform: Perform = perform
    ) -> None:
        self.watcher = connect()
        self.all = [Client(connect(), perform) for _ in range(count)]
        for client in self.all:
            client.connection.execute("SET deadlock_timeout = '10ms'")
        self.told: list[Effect] = []

    def settle(self) -> None:
        """Until every client is idle, or waits for a lock of one that is."""
        while running := [c for c in self.all if c.pending is not None]:
            wait([c.pending for c in running if c.pending], timeout=0.002)
            done = [c for c in running if c.pending is not None and c.pending.done()]
            for client in done:
                self.told += client.finished()
            if not done and all(self._blocked(c) for c in running):
                return

    def _blocked(self, client: Client) -> bool:
        row = self.watcher.execute(
            "SELECT cardinality(pg_blocking_pids(%s)) > 0", (client.pid,)
        ).fetchone()
        return row is not None and bool(row[0])

    def end(self, client: Client, how: Literal["COMMIT", "ROLLBACK"]) -> None:
        """End its transaction, if it has one and is not waiting."""
        if client.open and client.pending is None:
            self.told += client.end(how)
            self.settle()

    def end_all(self) -> None:
        """Commit whatever is open; whoever waited goes on and commits too."""
        while any(c.open or c.pending is not None for c in self.all):
            for client in self.all:
                self.end(client, "COMMIT")
            self.settle()

    def close(self) -> None:
        """Close all sessions."""
        for client in self.all:
            client.connection.cancel()
            client.thread.shutdown()
            client.connection.close()
        self.watcher.close()


# -- what must be there -----------------------------------------------------------------------


def fresh(*, swapped: bool) -> Row:
    """A row that names nothing but its key; `swapped`: when new columns alone say what it is."""
    return Row(price=None, nick=None) if swapped else Row()


@dataclass(slots=True)
class Row:
    """A row as the clients were told: both shapes. `unfilled` are the things whose new column waits
    for the backfill."""

    name: str = "nobody"
    cents: int = 0
    price: Decimal | None = Decimal("0.00")
    nick: str | None = "none"
    code: str = "non"
    unfilled: frozenset[str] = frozenset()

    def columns(self) -> tuple[Any, ...]:
        """In the order of `COLUMNS`, the old one and the new one of each."""
        price = None if self.price is None else self.price.normalize()
        return (
            *(self.name, self.name, self.cents, price, self.nick, self.nick),
            *(self.code, self.code[:3]),
        )


def _set(row: Row, thing: str, side: Side, value: Any, *, insert: bool, trims: bool) -> None:
    if trims and thing == "name" and side == "old":
        value = value.strip()
    was = {"name": row.name, "price": row.cents, "alias": row.nick, "code": row.code}[thing]
    if side != "old" or was != value:
        row.unfilled -= {thing}
    if thing == "name":
        row.name = value
    elif thing == "alias":
        row.nick = value
    elif thing == "code":
        if side == "old" or insert or value != row.code[:3]:  # what follows already asks nothing
            row.code = value
    elif side == "old":
        if insert or value != row.cents:  # a conversion runs when its source changes
            row.cents, row.price = value, Decimal(value) / 100
    else:
        row.price = value
        if row.price is None or Decimal(row.cents) / 100 != row.price:
            row.cents = int(((value or Decimal(0)) * 100).quantize(Decimal(1), ROUND_HALF_UP))


def replay(
    start: dict[int, Row], told: Iterable[Effect], *, trims: bool, swapped: bool = False
) -> dict[int, Row]:
    """The rows that the acknowledged writes leave; `trims` says that a trigger of the user's takes
    blanks away from names, where triggers fire."""
    rows = {key: replace(row) for key, row in start.items()}
    for effect in sorted(told, key=lambda e: e.tick):
        key = effect.write.key
        if effect.write.verb == "delete":
            rows.pop(key, None)
            continue
        made = key not in rows or effect.write.verb == "copy"
        row = fresh(swapped=swapped) if made else rows[key]
        fires = trims and not effect.replica
        for thing, side, value in effect.write.values:
            _set(row, thing, side, value, insert=made, trims=fires)
        if fires:
            row.name = row.name.strip()
        rows[key] = row
    return rows


def there(connection: psycopg.Connection, *, swapped: bool = False) -> dict[int, tuple[Any, ...]]:
    """The rows as they are, both shapes."""
    found = connection.execute(
        f"SELECT id, {PLACES[swapped]} FROM users ORDER BY id".encode()
    ).fetchall()
    return {
        row[0]: tuple(v.normalize() if isinstance(v, Decimal) else v for v in row[1:])
        for row in found
    }


def unlike(expected: dict[int, Row], found: dict[int, tuple[Any, ...]]) -> list[str]:
    """Where the rows are not what was told, in words."""
    out = [f"row {key} is gone" for key in expected.keys() - found.keys()]
    out += [f"row {key} came from nowhere" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        want, got = expected[key].columns(), found[key]
        for at, (a, b) in enumerate(zip(want, got, strict=True)):
            thing = list(COLUMNS)[at // 2]
            late = at % 2 == 1 and b is None and thing in expected[key].unfilled
            if a != b and not late:
                out.append(
                    f"row {key}: the {('old', 'new')[at % 2]} {thing} is {b!r}, told was {a!r}"
                )
    return out
