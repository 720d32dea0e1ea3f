"""No write is lost between tables that carry to each other, however clients of both interleave.

`ZDD_EXAMPLES=2000` tries that many interleavings instead of the few that a suite has time for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.blocks.interleaving import ISOLATION, Clients, Effect, ticked
from tests.story import plan_of
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.model.plan import Phase, Plan, Sql, Step
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
EXAMPLES = int(os.environ.get("ZDD_EXAMPLES", "12"))

#: a user's own AFTER trigger writes the row once more
TABLES = """
CREATE TABLE guests (id int PRIMARY KEY, name text, seen int NOT NULL DEFAULT 0);
CREATE TABLE members (id int PRIMARY KEY, name text, seen int NOT NULL DEFAULT 0);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE guests SET name = lower(name) WHERE id = NEW.id; END IF;
  RETURN NULL; END $$;
CREATE TRIGGER aaa_see AFTER INSERT OR UPDATE ON guests FOR EACH ROW EXECUTE FUNCTION see();
"""
MIGRATION = """
CREATE TABLE people (kind text NOT NULL, id int, name text, badge text, PRIMARY KEY (kind, id));
INSERT INTO people (kind, id, name) SELECT 'guests', id, name FROM guests;
INSERT INTO people (kind, id, name) SELECT 'members', id, name FROM members;
DROP TABLE guests; DROP TABLE members;
"""
STAGES = ("in migrate", "in switch", "after the swap", "after its undo")

Kind = Literal["guests", "members"]
Verb = Literal["insert", "update", "upsert", "delete", "rekey", "convert", "badge"]
#: name and badge
Row = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Write:
    """One statement about the row of a kind and key: of new code, or of old code, which knows the kind's
    own table and neither badges nor that a row may become one of another kind."""

    new: bool
    verb: Verb
    kind: Kind
    key: int
    text: str

    @property
    def moved(self) -> tuple[Kind, int]:
        """Where the row is afterwards."""
        if self.verb == "convert":
            return ("members" if self.kind == "guests" else "guests"), self.key
        return self.kind, self.key % 3 + 1 if self.verb == "rekey" else self.key


@dataclass(frozen=True, slots=True)
class Move:
    """What the client `who` does next."""

    what: Literal["begin", "write", "COMMIT", "ROLLBACK"]
    who: int = 0
    write: Write | None = None
    isolation: str = ISOLATION[0]


def perform(connection: psycopg.Connection, write: Write, replica: bool) -> list[Effect]:
    """Run one statement in the open transaction; what was told about it."""
    table = "people" if write.new else write.kind
    columns = ["kind", "id"] if write.new else ["id"]
    which: tuple[str | int, ...] = (write.kind, write.key) if write.new else (write.key,)
    names, values = ", ".join([*columns, "name"]), (*which, write.text)
    where, target = " AND ".join(f"{c} = %s" for c in columns), ", ".join(columns)
    marks = ", ".join(["%s"] * len(values))
    kind, key = write.moved
    statements: dict[Verb, tuple[str, tuple[str | int, ...]]] = {
        "insert": (f"INSERT INTO {table} ({names}) VALUES ({marks})", values),
        "upsert": (
            (
                f"INSERT INTO {table} ({names}) VALUES ({marks}) "
                f"ON CONFLICT ({target}) DO UPDATE SET name = excluded.name"
            ),
            values,
        ),
        "update": (f"UPDATE {table} SET name = %s WHERE {where}", (write.text, *which)),
        "delete": (f"DELETE FROM {table} WHERE {where}", which),
        "rekey": (
            f"UPDATE {table} SET id = %s, name = %s WHERE {where}",
            (key, write.text, *which),
        ),
        "convert": (f"UPDATE {table} SET kind = %s WHERE {where}", (kind, *which)),
        "badge": (f"UPDATE {table} SET badge = %s WHERE {where}", (write.text, *which)),
    }
    sql, given_values = statements[write.verb]
    count = connection.execute(sql.encode(), given_values).rowcount
    return ticked(connection, write, count, replica=replica)


def replay(
    start: dict[tuple[Kind, int], Row], told: Sequence[Effect]
) -> dict[tuple[Kind, int], Row]:
    """The rows that the acknowledged writes leave."""
    rows = dict(start)
    for effect in sorted(told, key=lambda e: e.tick):
        write: Write = effect.write
        name, badge = rows.pop((write.kind, write.key), ("", None))
        if write.verb == "delete":
            continue
        if write.verb == "badge":
            badge = write.text
        elif write.verb != "convert":
            lowered = write.kind == "guests" and not write.new  # by the user's own trigger
            name = write.text.lower() if lowered else write.text
        rows[write.moved] = (name, badge)
    return rows


@dataclass(slots=True)
class Scene:
    """A database in which the plan has been expanded."""

    server: Server
    database: str
    change: Callable[[str], str] = lambda sql: sql
    #: the user's trigger: ours fires before it, or after it where it is called so
    trigger: str = "aaa_see"
    #: how many writes were told to be committed
    told: int = 0
    plan: Plan = field(default_factory=lambda: plan_of(MIGRATION, TABLES))

    def __post_init__(self) -> None:
        """Expand."""
        tables = TABLES.replace("aaa_see", self.trigger)
        with self._connect() as connection:
            connection.execute((tables + "CREATE SEQUENCE ticks CACHE 1;").encode())
            for step in self.plan.steps[Phase.EXPAND]:
                if isinstance(step, Sql):
                    run_step(
                        connection,
                        replace(step, statements=tuple(map(self.change, step.statements))),
                    )

    def _connect(self) -> psycopg.Connection:
        return self.server.connect(self.database)

    def play(self, *moves: Sequence[Move]) -> list[str]:
        """Play the moves of each stage, with the plan's steps in between, and go back to the start;
        where what is there is not what was told, in words."""
        clients = Clients(self._connect, 3, perform)
        done: list[Step] = []
        rows: dict[tuple[Kind, int], Row] = {
            ("guests", 1): ("ann", None),
            ("members", 1): ("Bo", None),
        }
        try:
            self._reset(clients.watcher)
            for stage, played in zip(STAGES, moves, strict=True):
                self._enter(clients.watcher, stage, done)
                clients.told.clear()
                for move in played:
                    self._move(clients, move)
                    clients.settle()
                clients.end_all()
                rows = replay(rows, clients.told)
                self.told += len(clients.told)
                if said := self._unlike(clients.watcher, stage, rows):
                    return [stage, *said]
            return []
        finally:
            while done:
                undo_step(clients.watcher, done.pop())
            clients.close()

    def _reset(self, connection: psycopg.Connection) -> None:
        connection.execute("TRUNCATE guests, members, people")
        connection.execute("ALTER TABLE guests DISABLE TRIGGER USER")
        connection.execute("ALTER TABLE members DISABLE TRIGGER USER")
        connection.execute("INSERT INTO guests VALUES (1, 'ann')")
        connection.execute("INSERT INTO members VALUES (1, 'Bo')")
        connection.execute("ALTER TABLE guests ENABLE TRIGGER USER")
        connection.execute("ALTER TABLE members ENABLE TRIGGER USER")

    def _enter(self, connection: psycopg.Connection, stage: str, done: list[Step]) -> None:
        steps: list[Step] = []
        swap = [s for s in self.plan.steps[Phase.CONTRACT] if s.undo is not None]
        if stage == "in switch":
            steps = [*self.plan.steps[Phase.MIGRATE], *self.plan.steps[Phase.SWITCH]]
        elif stage == "after the swap":
            steps = swap
        elif stage == "after its undo":
            for _ in swap:
                undo_step(connection, done.pop())
        for step in steps:
            run_step(connection, step)
            done.append(step)

    def _move(self, clients: Clients, move: Move) -> None:
        client = clients.all[move.who]
        if client.pending is not None:  # it waits for a lock: it can do nothing else
            return
        if move.what == "begin":
            clients.end(client, "COMMIT")
            client.begin(move.isolation, replica=False)
        elif move.write is not None:
            client.write(move.write)
        elif move.what in ("COMMIT", "ROLLBACK"):
            clients.end(client, move.what)

    def _unlike(
        self, connection: psycopg.Connection, stage: str, rows: dict[tuple[Kind, int], Row]
    ) -> list[str]:
        out = []
        seen = {
            (kind, id_): (name, badge)
            for kind, id_, name, badge in connection.execute(
                "SELECT kind, id, name, badge FROM people"
            )
        }
        place = "zdd_trash.public_" if stage == "after the swap" else ""
        for kind in ("guests", "members"):
            sql = f"SELECT id, name FROM {place}{kind}"
            old: dict[int, str] = dict(connection.execute(sql.encode()).fetchall())
            told = {k: name for (which, k), (name, _) in rows.items() if which == kind}
            if told != old:
                out.append(f"{kind} are {old}, told was {told}")
            new = {k: name for (which, k), (name, _) in seen.items() if which == kind}
            if stage != "in migrate" and new != old:
                out.append(f"people of {kind} are {new}, {kind} {old}")
        if stage != "in migrate":
            badges = {k: badge for k, (_, badge) in seen.items()}
            if badges != {k: badge for k, (_, badge) in rows.items()}:
                out.append(f"badges are {badges}, told was {rows}")
        return out


@st.composite
def moves(draw: st.DrawFn, stage: str) -> list[Move]:
    """What three clients do in a stage."""
    who = st.integers(0, 2)
    kinds: list[Kind] = ["guests", "members"]
    sides = {"in migrate": [False], "after the swap": [True]}.get(stage, [False, True])

    @st.composite
    def write(draw: st.DrawFn) -> Move:
        new = draw(st.sampled_from(sides))
        both: list[Verb] = ["insert", "update", "update", "upsert", "delete", "rekey"]
        verbs: list[Verb] = [*both, "convert", "badge"] if new else both
        return Move(
            "write",
            draw(who),
            Write(
                new,
                draw(st.sampled_from(verbs)),
                draw(st.sampled_from(kinds)),
                draw(st.integers(1, 3)),
                draw(st.sampled_from(["Ann", "bo", "cy"])),
            ),
        )

    begin = st.builds(Move, what=st.just("begin"), who=who, isolation=st.sampled_from(ISOLATION))
    end = st.builds(Move, what=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]), who=who)
    found: list[Move] = draw(
        st.lists(st.one_of(begin, write(), write(), write(), end), max_size=12)
    )
    return found


@pytest.fixture(scope="module")
def scene(pg_server: Server) -> Iterator[Scene]:
    """One database for all examples."""
    with pg_server.scratch_database() as name:
        yield Scene(pg_server, name)


@given(
    migrate=moves(STAGES[0]),
    switch=moves(STAGES[1]),
    swapped=moves(STAGES[2]),
    back=moves(STAGES[3]),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_write_is_lost(
    migrate: list[Move], switch: list[Move], swapped: list[Move], back: list[Move], scene: Scene
) -> None:
    """What each client was told is committed is there, in both tables, after every stage."""
    said = scene.play(migrate, switch, swapped, back)

    assert not said, "\n".join(said)


# -- it can fail ---------------------------------------------------------------------------------

FAULTS = {
    "what the statement wrote is carried, not the row as it is": (
        r"SELECT 'guests', s.id, s.name FROM public.guests s WHERE s.id = NEW.id",
        "SELECT 'guests', NEW.id, NEW.name",
        '"0_see"',
        Write(False, "update", "guests", 1, "Ann"),
    ),
    "a new key is carried before the rest": (
        r"SET id = s.id, name = s.name FROM public.guests",
        "SET id = s.id FROM public.guests",
        "aaa_see",
        Write(False, "rekey", "guests", 1, "cy"),
    ),
    "what new code deletes is not": (
        r"DELETE FROM public.members x WHERE x.id = OLD.id",
        "NULL",
        "aaa_see",
        Write(True, "delete", "members", 1, ""),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name: str, pg_server: Server) -> None:
    """Without the fault the same move loses nothing."""
    fault, instead, trigger, write = FAULTS[name]
    said = []
    for change in (lambda sql: re.sub(fault, instead, sql), lambda sql: sql):
        with pg_server.scratch_database() as database:
            scene = Scene(pg_server, database, change, trigger)
            said.append(scene.play([], [Move("write", write=write)], [], []))
            assert scene.told == 1

    assert said[0]
    assert said[1] == []
