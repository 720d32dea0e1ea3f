"""The append-only journal of releases, in schema `zdd_runner` of a Postgres database.

One row of `env` for each environment: its epoch, which every runner raises when it takes over, and
the hash its chain of events ends with. Events are only ever added: each holds the hash of the one
before, so that a changed or missing one shows. A runner's writes carry its epoch and are refused
once a higher one is there; people's commands (pause, abort, …) carry none.

Two advisory locks keep runners apart: one for the environment, on the journal's server, one for
the database that the phases run on, so that two environments never change one schema at once.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import psycopg

from zdd_deploy.failures import BusyError, FencedError, JournalGoneError
from zdd_deploy.history import Event
from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.postgres.advisory import locked

T = TypeVar("T")

_TABLES = """
CREATE SCHEMA IF NOT EXISTS zdd_runner;
CREATE TABLE IF NOT EXISTS zdd_runner.env (
  name text PRIMARY KEY, epoch bigint NOT NULL DEFAULT 0, holder text NOT NULL DEFAULT '',
  last_id bigint NOT NULL DEFAULT 0, last_hash text NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS zdd_runner.event (
  env text NOT NULL REFERENCES zdd_runner.env (name), id bigint NOT NULL, run bigint NOT NULL,
  at_us bigint NOT NULL, epoch bigint NOT NULL, kind text NOT NULL, body json NOT NULL,
  prev_hash text NOT NULL, hash text NOT NULL, PRIMARY KEY (env, id));
CREATE OR REPLACE FUNCTION zdd_runner.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'zdd_runner.event is append-only';
END $$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON zdd_runner.event
  FOR EACH ROW EXECUTE FUNCTION zdd_runner.refuse();
CREATE OR REPLACE TRIGGER append_only_whole BEFORE TRUNCATE ON zdd_runner.event
  FOR EACH STATEMENT EXECUTE FUNCTION zdd_runner.refuse();
REVOKE UPDATE, DELETE, TRUNCATE ON zdd_runner.event FROM PUBLIC;
"""
_COLUMNS = "id, run, at_us, epoch, kind, body"


class Journal(Protocol):
    """Where a run is recorded. JournalGoneError when it cannot be reached."""

    def take_over(self) -> int:
        """Become the environment's one runner; the epoch to stamp everything with. BusyError."""
        ...

    def held(self) -> None:
        """Nothing, while this runner is still the one; else FencedError or JournalGoneError."""
        ...

    def append(self, run: int, kind: str, body: Mapping[str, Any]) -> Event:
        """Record an event of this runner. FencedError once another one has taken over."""
        ...

    def events(self, since: int = 0) -> list[Event]:
        """Events after `since`, oldest first."""
        ...

    def close(self) -> None:
        """Let go of the environment."""
        ...


def digest(previous: str, values: Sequence[Any]) -> str:
    """The hash of an event: of the one before it and of every field of its own."""
    text = json.dumps([previous, *values], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class PostgresJournal:
    """The journal of one environment. Opens its connections when first used.

    `journal` is where events are kept, `database` the one whose phases are run.
    """

    def __init__(self, env: str, journal: str, database: str) -> None:
        self.env = env
        self.epoch = 0
        self._journal_url = journal
        self._database_url = database
        self._connection: psycopg.Connection | None = None
        self._database: psycopg.Connection | None = None
        self._made = False

    def take_over(self) -> int:
        """Take both locks, then a new epoch."""
        self._lock()

        def raise_epoch(connection: psycopg.Connection) -> int:
            with connection.transaction():
                connection.execute(
                    "INSERT INTO zdd_runner.env (name) VALUES (%s) ON CONFLICT DO NOTHING",
                    (self.env,),
                )
                row = connection.execute(
                    "UPDATE zdd_runner.env SET epoch = epoch + 1, holder = %s WHERE name = %s "
                    "RETURNING epoch",
                    (who(), self.env),
                ).fetchone()
            assert row is not None
            return int(row[0])

        self.epoch = self._ask(raise_epoch)
        return self.epoch

    def _lock(self) -> None:
        def lock_env(connection: psycopg.Connection) -> None:
            _refuse_pooler(connection)
            if not _locked(connection, f"environment {self.env}"):
                row = connection.execute(
                    "SELECT holder FROM zdd_runner.env WHERE name = %s", (self.env,)
                ).fetchone()
                holder = f" ({row[0]})" if row and row[0] else ""
                raise BusyError(
                    f"another zdd-deploy is at work on {self.env}{holder}: wait for it, or tell it "
                    "what to do with pause, promote or abort"
                )

        self._ask(lock_env)
        self._lock_database()

    def _lock_database(self) -> None:
        database = connect(self._database_url, "zdd-deploy lock", EnvironmentFailedError)
        name = database.info.dbname
        ours = False
        try:
            ours = _locked(database, f"database {name}")
        finally:
            if not ours:
                database.close()
                self.close()
        if not ours:
            raise BusyError(
                f"another zdd-deploy is at work on the database {name}, for another environment: "
                "wait for it to end"
            )
        self._database = database

    def held(self) -> None:
        """Both sessions answer, so both locks are held, and the epoch is ours."""

        def epoch(connection: psycopg.Connection) -> int:
            row = connection.execute(
                "SELECT epoch FROM zdd_runner.env WHERE name = %s", (self.env,)
            ).fetchone()
            return int(row[0]) if row else 0

        self._fenced(self._ask(epoch))
        if self._database is None or not _answers(self._database):
            self._database = None
            self._lock_database()

    def _fenced(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise FencedError(
                f"another zdd-deploy has taken over {self.env} (epoch {epoch}, this one has "
                f"{self.epoch}): this one stops and touches nothing more"
            )

    def append(self, run: int, kind: str, body: Mapping[str, Any]) -> Event:
        """Record an event, under the epoch's fence."""
        return self._append(run, kind, body, fenced=True)

    def command(self, run: int, body: Mapping[str, Any]) -> Event:
        """Record what a person wants of the runner that is at work."""
        return self._append(run, "command", {**body, "by": who()}, fenced=False)

    def _append(self, run: int, kind: str, body: Mapping[str, Any], *, fenced: bool) -> Event:
        text = json.dumps(body, ensure_ascii=False, sort_keys=True, default=str)

        def add(connection: psycopg.Connection) -> Event:
            with connection.transaction():
                row = connection.execute(
                    "SELECT epoch, last_id, last_hash, "
                    "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint "
                    "FROM zdd_runner.env WHERE name = %s FOR UPDATE",
                    (self.env,),
                ).fetchone()
                if row is None:
                    raise InputError(f"no release was ever begun on {self.env}")
                epoch, last, previous, now = int(row[0]), int(row[1]), str(row[2]), int(row[3])
                if fenced:
                    self._fenced(epoch)
                values = (self.env, last + 1, run, now, epoch if fenced else 0, kind, text)
                mark = digest(previous, values)
                connection.execute(
                    f"INSERT INTO zdd_runner.event (env, {_COLUMNS}, prev_hash, hash) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    (*values, previous, mark),
                )
                connection.execute(
                    "UPDATE zdd_runner.env SET last_id = %s, last_hash = %s WHERE name = %s",
                    (last + 1, mark, self.env),
                )
            return Event(last + 1, run, now / 1e6, values[4], kind, json.loads(text))

        return self._ask(add)

    def events(self, since: int = 0) -> list[Event]:
        """Events after `since`, oldest first."""

        def read(connection: psycopg.Connection) -> list[Event]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM zdd_runner.event WHERE env = %s AND id > %s ORDER BY id",
                (self.env, since),
            ).fetchall()
            return [Event(i, run, us / 1e6, e, kind, body) for i, run, us, e, kind, body in rows]

        return self._ask(read)

    def tampered(self) -> int | None:
        """The id of the first event that the chain does not vouch for; None when all are whole."""

        def read(connection: psycopg.Connection) -> int | None:
            rows = connection.execute(
                "SELECT env, id, run, at_us, epoch, kind, body::text, prev_hash, hash "
                "FROM zdd_runner.event WHERE env = %s ORDER BY id",
                (self.env,),
            ).fetchall()
            previous, last = "", 0
            for *values, prev_hash, mark in rows:
                if (
                    values[1] != last + 1
                    or prev_hash != previous
                    or digest(previous, values) != mark
                ):
                    return int(values[1])
                previous, last = mark, last + 1
            end = connection.execute(
                "SELECT last_id, last_hash FROM zdd_runner.env WHERE name = %s", (self.env,)
            ).fetchone()
            return None if end is None or tuple(end) == (last, previous) else last + 1

        return self._ask(read)

    def busy(self) -> bool:
        """Whether a runner holds the environment now."""

        def ask(connection: psycopg.Connection) -> bool:
            row = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND (classid::bigint << 32) | objid::bigint = %s AND objsubid = 1)",
                (_key(f"environment {self.env}"),),
            ).fetchone()
            return bool(row and row[0])

        return self._ask(ask)

    def close(self) -> None:
        """Close both sessions, and with them let go of both locks."""
        for connection in (self._connection, self._database):
            if connection is not None:
                connection.close()
        self._connection = self._database = None

    def _ask(self, question: Callable[[psycopg.Connection], T]) -> T:
        """Ask the journal's session; once more on a new one when the old one is found dead."""
        for attempt in (1, 2):
            try:
                return question(self._session())
            except psycopg.errors.InsufficientPrivilege as error:
                raise EnvironmentFailedError(
                    "this role may not write the journal: GRANT it the schema zdd_runner "
                    f"({_one_line(error)})"
                ) from None
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._drop()
                if attempt == 2:
                    raise JournalGoneError(
                        f"the journal cannot be reached: {_one_line(error)}"
                    ) from None
            except psycopg.Error as error:
                raise EnvironmentFailedError(f"the journal refused: {_one_line(error)}") from None
        raise AssertionError("unreachable")

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def _session(self) -> psycopg.Connection:
        """The open session, or a new one: with the lock again when this runner had it."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = connect(self._journal_url, "zdd-deploy journal", JournalGoneError)
        ours = False
        try:
            if not self._made:
                _make_tables(connection)
                self._made = True
            ours = not self.epoch or _locked(connection, f"environment {self.env}")
        finally:
            if not ours:
                connection.close()
        if not ours:
            raise FencedError(
                f"the lock on {self.env} was lost with the connection to the journal, and another "
                "zdd-deploy has it now: this one stops and touches nothing more"
            )
        self._connection = connection
        return connection


def who() -> str:
    """The person and machine that events name: `user@host pid 123`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


def connect(
    url: str, application: str, failure: type[EnvironmentFailedError]
) -> psycopg.Connection:
    """An autocommit session that notices a dead peer within seconds. Raises `failure`."""
    try:
        return psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=5,
            application_name=application,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
    except psycopg.ProgrammingError as error:
        raise InputError(f"a database URL cannot be read: {_one_line(error)}") from None
    except psycopg.Error as error:
        where = "the journal" if failure is JournalGoneError else "the database"
        raise failure(f"{where} cannot be reached: {_one_line(error)}") from None


def _make_tables(connection: psycopg.Connection) -> None:
    """Make what is missing; a role that may only use the journal finds it made."""
    row = connection.execute("SELECT to_regclass('zdd_runner.event') IS NOT NULL").fetchone()
    if row and row[0]:
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_key("make the journal"),))
        connection.execute(_TABLES)


def _refuse_pooler(connection: psycopg.Connection) -> None:
    """A transaction pooler gives each statement another session: its advisory locks hold nothing."""
    seen = set()
    for _ in range(3):
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        seen.add(row[0] if row else None)
    if len(seen) > 1:
        raise InputError(
            "the journal's URL leads through a pooler that changes sessions between statements: "
            "give the server's own address, locks do not hold through it"
        )


def _locked(connection: psycopg.Connection, what: str) -> bool:
    return locked(connection, _key(what))


def _key(what: str) -> int:
    """A positive 63-bit key for an advisory lock."""
    mark = hashlib.sha256(f"zdd-deploy {what}".encode()).digest()
    return int.from_bytes(mark[:8], "big") >> 1


def _answers(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
