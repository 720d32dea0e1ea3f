"""No trigger ever loses a write: clients of both versions, interleaved in every way that locks and
isolation levels allow: while rows are filled, when both run, when the names have changed, and when
that has been taken back.

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
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.model.plan import Backfill, Phase, Plan, Sql, Step
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
EXAMPLES = int(os.environ.get("ZDD_EXAMPLES", "12"))

TABLE = """
CREATE TABLE users (
  id int PRIMARY KEY,
  user_name text NOT NULL DEFAULT 'nobody',
  cents int NOT NULL DEFAULT 0,
  nick text DEFAULT 'none',
  code text NOT NULL DEFAULT 'non',
  age int NOT NULL DEFAULT 0);
CREATE TABLE audit (user_name text, username text, nick text, alias text);
"""
FUNCTIONS = """
CREATE OR REPLACE FUNCTION trim_name() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.user_name := btrim(NEW.user_name); RETURN NEW; END $$;
CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit VALUES (NEW.user_name, to_jsonb(NEW)->>'username', NEW.nick, to_jsonb(NEW)->>'alias');
  RETURN NULL; END $$;
CREATE OR REPLACE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
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

#: what clients live through, one after the other
STAGES = ("in migrate", "in switch", "after the swap", "after its undo")

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
        self.change = change
        self.plan: Plan = plan_of(MIGRATION, TABLE + FUNCTIONS + triggers, **ANSWERS)
        with self._connect() as connection:
            connection.execute(
                (TABLE + FUNCTIONS + triggers + "CREATE SEQUENCE ticks CACHE 1;").encode()
            )
            for step in self.plan.steps[Phase.EXPAND]:
                for statement in getattr(step, "statements", ()):
                    connection.execute(change(statement).encode())
            self.enabled = connection.execute(
                "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'users'::regclass "
                "AND NOT tgisinternal AND tgenabled = 'A'"
            ).fetchall()

    def _connect(self) -> psycopg.Connection:
        return self.server.connect(self.database)

    def play(self, *moves: Sequence[Move]) -> list[str]:
        """Play the moves of each stage, with the plan's steps in between, and go back to the start;
        where what is there is not what was told, in words."""
        clients = Clients(self._connect, 3)
        done: list[Step] = []
        start = OLD_ROWS
        try:
            self._reset(clients.watcher)
            for stage, played in zip(STAGES, moves, strict=False):
                self._enter(clients.watcher, stage, done)
                if said := self._play_stage(clients, played, start, stage):
                    return [stage, *said]
                swapped = stage == "after the swap"
                rows = replay(start, clients.told, trims=self.trims, swapped=swapped)
                start = {k: replace(row, unfilled=frozenset()) for k, row in rows.items()}
                clients.told.clear()
            seen = clients.watcher.execute(
                "SELECT * FROM audit WHERE user_name <> username OR nick <> alias"
            ).fetchall()
            return [f"an AFTER trigger saw {row}" for row in seen]
        finally:
            self._undo(clients.watcher, done, len(done))
            clients.close()

    def _enter(self, connection: psycopg.Connection, stage: str, done: list[Step]) -> None:
        """What the plan does before a stage, or takes back; `done` are the steps since expand."""
        if stage == "in switch":
            for phase in (Phase.MIGRATE, Phase.SWITCH):
                self._run(connection, self.plan.steps[phase], done)
        elif stage == "after the swap":
            swap = [s for s in self.plan.steps[Phase.CONTRACT] if s.undo is not None]
            self._run(connection, swap, done)
        elif stage == "after its undo":
            swap = [s for s in self.plan.steps[Phase.CONTRACT] if s.undo is not None]
            self._undo(connection, done, len(swap))

    def _run(self, connection: psycopg.Connection, steps: Sequence[Step], done: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Sql):
                spoiled = tuple(map(self.change, step.statements))
                step = replace(step, statements=spoiled)
            run_step(connection, step)
            done.append(step)
        self._say_it_in_functions(connection)

    def _undo(self, connection: psycopg.Connection, done: list[Step], count: int) -> None:
        for _ in range(count):
            step = done.pop()
            if isinstance(step, Sql):
                undo = tuple(map(self.change, step.undo or ()))
                step = replace(step, undo=undo)
            undo_step(connection, step)
        self._say_it_in_functions(connection)

    def _say_it_in_functions(self, connection: psycopg.Connection) -> None:
        """Users' functions say the names that there are: the plan tells them to see to it."""
        row = connection.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'nick'"
        ).fetchone()
        functions = FUNCTIONS
        if row == (0,):
            functions = FUNCTIONS.replace("NEW.user_name", "NEW.username").replace(
                "NEW.nick", "NEW.zdd_old_nick"
            )
        connection.execute(functions.encode())

    def _play_stage(
        self, clients: Clients, moves: Sequence[Move], start: dict[int, Row], stage: str
    ) -> list[str]:
        swapped = stage == "after the swap"
        for move in (*moves, None):
            if move is not None:
                self._move(clients, move)
                clients.settle()
            else:
                clients.end_all()
            expected = replay(start, clients.told, trims=self.trims, swapped=swapped)
            if said := unlike(expected, there(clients.watcher, swapped=swapped)):
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
SHORT_CODES = st.sampled_from(["non", "abc", "q"])
Stage = Literal["unfilled", "filled", "swapped"]


def _value(draw: st.DrawFn, thing: str, side: Side, stage: Stage) -> Any:
    if thing == "name":
        return draw(OLD_NAMES if side == "old" else NEW_NAMES)
    if thing == "code":
        return draw(SHORT_CODES if stage == "swapped" else CODES)
    # new code is not out before every row is filled: no NULL of its own before that
    if thing == "alias":
        return draw(st.just("c") if side == "new" and stage == "unfilled" else NICKS)
    if side == "old":
        return draw(CENTS)
    return draw(PRICES if stage == "unfilled" else st.one_of(PRICES, st.none()))


@st.composite
def writes(draw: st.DrawFn, stage: Stage) -> Write:
    """One statement of an old client, a new one, or one that knows both names; a new one's alone
    where names have changed."""
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
        if thing == "code":  # it has one name, and only its type changes
            sides = ("old",)
        if stage == "swapped":
            sides = ("new",)
        side: Side = draw(st.sampled_from(sides))
        values.append((thing, side, _value(draw, thing, side, stage)))
    return Write(verb, key, tuple(values))


def moves(stage: Stage, *, most: int = 15) -> st.SearchStrategy[list[Move]]:
    """What three clients do, in migrate while rows are filled, and afterwards."""
    who = st.integers(0, 2)
    write = st.builds(Move, what=st.just("write"), who=who, write=writes(stage))
    begin = st.builds(
        Move,
        what=st.just("begin"),
        who=who,
        isolation=st.sampled_from(ISOLATION),
        replica=st.booleans(),
    )
    end = st.builds(Move, what=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]), who=who)
    batch = [st.just(Move("backfill"))] if stage == "unfilled" else []
    return st.lists(st.one_of(begin, write, write, write, end, *batch), max_size=most)


@pytest.fixture(scope="module", params=sorted(TRIGGERS))
def scene(request: pytest.FixtureRequest, pg_server: Server) -> Iterator[Scene]:
    """One database for all examples with the same triggers."""
    with pg_server.scratch_database() as name:
        yield Scene(pg_server, name, TRIGGERS[request.param], lambda sql: sql)


@given(
    migrate=moves("unfilled"),
    switch=moves("filled"),
    swapped=moves("swapped", most=8),
    back=moves("filled", most=8),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_write_is_lost(
    migrate: list[Move], switch: list[Move], swapped: list[Move], back: list[Move], scene: Scene
) -> None:
    """What each client was told is committed is there, in both shapes, after every step."""
    said = scene.play(migrate, switch, swapped, back)

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
    swapped: tuple[Move, ...] = ()
    back: tuple[Move, ...] = ()
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
    "a NULL that is given is not heard": Fault(
        lambda sql: re.sub(r" OR NOT \(zdd_left_out_\w+\)", "", sql),
        switch=(_write("insert", 3, ("alias", "new", None)),),
    ),
    "a column that is left out is a NULL that is given": Fault(
        lambda sql: re.sub(r"(boolean := ).*?;", r"\1false;", sql),
        switch=(_write("copy", 3, ("name", "old", "Ann")),),
    ),
    "after the swap the old shape keeps its default": Fault(
        lambda sql: re.sub(
            r"    NEW.zdd_old_nick := NEW.alias;\n  ELSIF",
            "    IF NEW.alias IS NOT NULL THEN NEW.zdd_old_nick := NEW.alias; END IF;\n  ELSIF",
            sql,
        ),
        swapped=(_write("insert", 3, ("name", "new", "Dee")),),
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
            said.append(scene.play(fault.migrate, fault.switch, fault.swapped, fault.back))

    assert said[0]
    assert said[1] == []
