"""No trigger ever loses a write: clients of both versions, interleaved in every way that locks and
isolation levels allow.

`ZDD_EXAMPLES=2000` tries that many interleavings of each kind instead of the few that a suite has time for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.blocks.interleaving import (
    COLUMNS,
    ISOLATION,
    Clients,
    Row,
    Side,
    Verb,
    Write,
    replay,
    there,
    unlike,
)
from tests.story import plan_of
from zdd_migrate.apply.backfill import run_backfill
from zdd_migrate.apply.steps import run_step
from zdd_migrate.model.plan import Backfill, Phase, Plan
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
EXAMPLES = int(os.environ.get("ZDD_EXAMPLES", "30"))

TABLE = """
CREATE TABLE users (
  id int PRIMARY KEY,
  user_name text NOT NULL DEFAULT 'nobody',
  cents int NOT NULL DEFAULT 0,
  nick text,
  code text NOT NULL DEFAULT 'none',
  age int NOT NULL DEFAULT 0);
CREATE TABLE audit (user_name text, username text, nick text, alias text);
CREATE FUNCTION trim_name() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.user_name := btrim(NEW.user_name); RETURN NEW; END $$;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit VALUES (NEW.user_name, to_jsonb(NEW)->>'username', NEW.nick, to_jsonb(NEW)->>'alias');
  RETURN NULL; END $$;
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE users SET age = age + 1 WHERE id = NEW.id; END IF;
  RETURN NULL; END $$;
"""
#: a rename, a lossy type under the same name, a lossy conversion under another one, a nullable one
MIGRATION = """
ALTER TABLE users RENAME COLUMN user_name TO username;
ALTER TABLE users ALTER COLUMN code TYPE varchar(3) USING left(code, 3);
ALTER TABLE users ADD COLUMN price numeric;
UPDATE users SET price = cents / 100.0;
ALTER TABLE users DROP COLUMN cents;
ALTER TABLE users ADD COLUMN alias text;
UPDATE users SET alias = nick;
ALTER TABLE users DROP COLUMN nick;
"""
ANSWERS = {
    "down__users__code": "code",
    "down__users__cents": "coalesce((price * 100)::int, 0)",
}
#: users' own triggers: none; before ours; after whatever is called `zzz_zdd_…`; and AFTER triggers
TRIGGERS = {
    "none": "",
    "before": """
      CREATE TRIGGER aaa_trim BEFORE INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION trim_name();
      CREATE TRIGGER aaa_count AFTER INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION count_up();
      CREATE TRIGGER aaa_tell AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION tell();
    """,
    "after": """
      CREATE TRIGGER zzzz_trim BEFORE INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION trim_name();
      CREATE TRIGGER zzzz_tell AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION tell();
      CREATE TRIGGER zzzzz_count AFTER INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION count_up();
    """,
}
#: rows from before expand, whose new columns nobody has filled yet
OLD_ROWS = {
    1: Row("Ann", 5, Decimal("0.05"), "a", "first", unfilled=frozenset(COLUMNS)),
    2: Row("Bo", 250, Decimal("2.5"), None, "second", unfilled=frozenset(COLUMNS)),
}

Change = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Move:
    """What the client `who` does next: begins, writes, commits or rolls back. A backfill is nobody's."""

    what: Literal["begin", "write", "COMMIT", "ROLLBACK", "backfill"]
    who: int = 0
    write: Write | None = None
    isolation: str = ISOLATION[0]
    replica: bool = False


class Scene:
    """A database in which the plan has been expanded; `change` may spoil a statement of it."""

    def __init__(self, server: Server, database: str, triggers: str, change: Change) -> None:
        self.server, self.database, self.trims = server, database, bool(triggers)
        self.plan: Plan = plan_of(MIGRATION, TABLE + triggers, **ANSWERS)
        with self._connect() as connection:
            connection.execute((TABLE + triggers + "CREATE SEQUENCE ticks CACHE 1;").encode())
            for step in self.plan.steps[Phase.EXPAND]:
                for statement in getattr(step, "statements", ()):
                    connection.execute(change(statement).encode())
            self.enabled = connection.execute(
                "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'users'::regclass "
                "AND NOT tgisinternal AND tgenabled = 'A'"
            ).fetchall()

    def _connect(self) -> psycopg.Connection:
        return self.server.connect(self.database)

    def play(self, migrate: Sequence[Move], switch: Sequence[Move]) -> list[str]:
        """Play the moves, and between the two phases fill all rows; where what is there is not what
        was told, in words."""
        clients = Clients(self._connect, 3)
        try:
            self._reset(clients.watcher)
            if said := self._play_phase(clients, migrate, OLD_ROWS):
                return ["in migrate", *said]
            for step in self.plan.steps[Phase.MIGRATE]:
                if isinstance(step, Backfill):
                    run_step(clients.watcher, step)
            filled = replay(OLD_ROWS, clients.told, trims=self.trims).items()
            start = {key: replace(row, unfilled=frozenset()) for key, row in filled}
            clients.told.clear()
            if said := self._play_phase(clients, switch, start):
                return ["in switch", *said]
            seen = clients.watcher.execute(
                "SELECT * FROM audit WHERE user_name <> username OR nick <> alias"
            ).fetchall()
            return [f"an AFTER trigger saw {row}" for row in seen]
        finally:
            clients.close()

    def _play_phase(
        self, clients: Clients, moves: Sequence[Move], start: dict[int, Row]
    ) -> list[str]:
        for move in (*moves, None):
            if move is not None:
                self._move(clients, move)
                clients.settle()
            else:
                clients.end_all()
            expected = replay(start, clients.told, trims=self.trims)
            if said := unlike(expected, there(clients.watcher)):
                return [f"after {move or 'all have committed'}:", *said]
        return []

    def _reset(self, connection: psycopg.Connection) -> None:
        connection.execute("TRUNCATE users, audit")
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
        for key, row in OLD_ROWS.items():
            connection.execute(
                "INSERT INTO users (id, user_name, cents, nick, code) VALUES (%s, %s, %s, %s, %s)",
                (key, row.name, row.cents, row.nick, row.code),
            )
        connection.execute("ALTER TABLE users ENABLE TRIGGER USER")
        for name, _ in self.enabled:
            connection.execute(f'ALTER TABLE users ENABLE ALWAYS TRIGGER "{name}"'.encode())

    def _move(self, clients: Clients, move: Move) -> None:
        if move.what == "backfill":
            self._one_batch(clients.watcher)
            return
        client = clients.all[move.who]
        if client.pending is not None:  # it waits for a lock: it can do nothing else
            return
        if move.what == "begin":
            clients.end(client, "COMMIT")
            client.begin(move.isolation, replica=move.replica)
        elif move.write is not None:
            client.write(move.write)
        elif move.what in ("COMMIT", "ROLLBACK"):
            clients.end(client, move.what)

    def _one_batch(self, connection: psycopg.Connection) -> None:
        """One batch of each backfill, past the rows that somebody holds."""

        def stop(_: psycopg.Connection) -> float:
            raise _EnoughError

        for step in self.plan.steps[Phase.MIGRATE]:
            if isinstance(step, Backfill):
                with suppress(_EnoughError):
                    run_backfill(connection, step, pause=stop)


class _EnoughError(Exception):
    pass


# -- what clients do ---------------------------------------------------------------------------

OLD_NAMES = st.sampled_from(["Ann", "Bo ", " Çelik", "x" * 90])
NEW_NAMES = st.sampled_from(["Ann", "Bo", "Dee", "y" * 90])
CENTS = st.sampled_from([0, 5, 250])
PRICES = st.sampled_from([Decimal("0.05"), Decimal("1.005"), Decimal(3)])
NICKS = st.sampled_from([None, "a", "b"])
CODES = st.sampled_from(["none", "abcdef", "abcxyz", "q"])


def _value(draw: st.DrawFn, thing: str, side: Side, verb: Verb, *, filled: bool) -> Any:
    if thing == "name":
        return draw(OLD_NAMES if side == "old" else NEW_NAMES)
    if thing == "code":
        return draw(CODES)
    if thing == "alias":
        # new code is not out before every row is filled: no NULL of its own into an unfilled one
        return draw(NICKS if side == "old" or filled else st.just("c"))
    if side == "old":
        return draw(CENTS)
    empties = verb == "update" and filled  # a NULL that an INSERT gives says nothing
    return draw(st.one_of(PRICES, st.none()) if empties else PRICES)


@st.composite
def writes(draw: st.DrawFn, *, filled: bool) -> Write:
    """One statement of an old client, a new one, or one that knows both names."""
    verb: Verb = draw(
        st.sampled_from(
            ["insert", "update", "update", "update", "upsert", "merge", "copy", "delete", "touch"]
        )
    )
    key = draw(st.integers(1, 4))
    if verb in ("delete", "touch"):
        return Write(verb, key)
    things = draw(
        st.lists(st.sampled_from(["name", "price", "alias", "code"]), min_size=1, unique=True)
    )
    values: list[tuple[str, Side, Any]] = []
    for thing in things:
        sides: tuple[Side, ...] = ("old", "new", "both") if thing == "name" else ("old", "new")
        side: Side = "old" if thing == "code" else draw(st.sampled_from(sides))
        values.append((thing, side, _value(draw, thing, side, verb, filled=filled)))
    return Write(verb, key, tuple(values))


def moves(*, filled: bool) -> st.SearchStrategy[list[Move]]:
    """What three clients do, in migrate while rows are filled, and afterwards."""
    who = st.integers(0, 2)
    write = st.builds(Move, what=st.just("write"), who=who, write=writes(filled=filled))
    begin = st.builds(
        Move,
        what=st.just("begin"),
        who=who,
        isolation=st.sampled_from(ISOLATION),
        replica=st.booleans(),
    )
    end = st.builds(Move, what=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]), who=who)
    batch = st.just(Move("backfill"))
    return st.lists(
        st.one_of(begin, write, write, write, end, *([] if filled else [batch])), max_size=15
    )


@pytest.fixture(scope="module", params=sorted(TRIGGERS))
def scene(request: pytest.FixtureRequest, pg_server: Server) -> Iterator[Scene]:
    """One database for all examples with the same triggers."""
    with pg_server.scratch_database() as name:
        yield Scene(pg_server, name, TRIGGERS[request.param], lambda sql: sql)


@given(migrate=moves(filled=False), switch=moves(filled=True))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_write_is_lost(migrate: list[Move], switch: list[Move], scene: Scene) -> None:
    """What each client was told is committed is there, in both shapes, after every step."""
    said = scene.play(migrate, switch)

    assert not said, "\n".join(said)


# -- it can fail ---------------------------------------------------------------------------------


def _write(verb: Verb, key: int, *values: tuple[str, Side, Any]) -> Move:
    return Move("write", write=Write(verb, key, values))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in what expand runs, and moves that show it. `triggers` are the user's own."""

    change: Change
    migrate: tuple[Move, ...] = ()
    switch: tuple[Move, ...] = ()
    triggers: str = "none"


FAULTS = {
    "it does not fire for a replica": Fault(
        lambda sql: sql.replace("ENABLE ALWAYS", "ENABLE"),
        migrate=(
            Move("begin", replica=True),
            _write("update", 1, ("name", "old", "Dee")),
            Move("COMMIT"),
        ),
    ),
    "it fires before a user's own": Fault(
        lambda sql: sql.replace("~zzz", "zzz"),
        migrate=(_write("update", 1, ("name", "old", "Bo ")),),
        triggers="after",
    ),
    "the way back runs over an original": Fault(
        lambda sql: re.sub(
            r"ELSIF \((NEW.zdd_new_code [^\n]*?)\) AND \(.*\) THEN", r"ELSIF \1 THEN", sql
        ),
        migrate=(Move("backfill"),),
    ),
    "any write converts anew": Fault(
        lambda sql: re.sub(r"ELSIF NEW.cents IS DISTINCT FROM OLD.cents THEN", "ELSE", sql),
        switch=(_write("update", 1, ("price", "new", Decimal("1.005"))), _write("touch", 1)),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name: str, pg_server: Server) -> None:
    """Without the fault the same moves lose nothing."""
    fault = FAULTS[name]
    said = []
    for change in (fault.change, lambda sql: sql):
        with pg_server.scratch_database() as database:
            scene = Scene(pg_server, database, TRIGGERS[fault.triggers], change)
            said.append(scene.play(fault.migrate, fault.switch))

    assert said[0]
    assert said[1] == []
