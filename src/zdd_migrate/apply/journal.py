"""The journal in schema `zdd` of the database itself: which steps of which plan are done.

A transactional step and its row commit together, so a crash leaves no doubt. A step that cannot
run in a transaction is marked `running` first; found so on resume, it is run again (index builds
look for what they left behind). Sessions are kept apart by advisory locks: one for each plan and
one for each database's DDL.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import psycopg

from zdd_migrate.apply.backfill import Cursor, dump_key, load_key
from zdd_migrate.errors import EnvironmentFailedError, LockNotObtainedError
from zdd_migrate.model.plan import Phase, Step
from zdd_migrate.postgres.advisory import locked

_TABLES = """
CREATE SCHEMA IF NOT EXISTS zdd;
CREATE TABLE IF NOT EXISTS zdd.plan (
  name text PRIMARY KEY, plan_hash text NOT NULL, schema_hash text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS zdd.step (
  plan text NOT NULL REFERENCES zdd.plan (name) ON DELETE CASCADE, step text NOT NULL,
  phase text NOT NULL, state text NOT NULL CHECK (state IN ('running', 'done')),
  changed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (plan, step));
CREATE TABLE IF NOT EXISTS zdd.backfill (
  plan text NOT NULL REFERENCES zdd.plan (name) ON DELETE CASCADE, step text NOT NULL,
  key text, rows bigint NOT NULL DEFAULT 0, changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (plan, step));
CREATE TABLE IF NOT EXISTS zdd.event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  plan text NOT NULL, step text, what text NOT NULL, by text NOT NULL DEFAULT current_user);
"""
_DATABASE_LOCK = zlib.crc32(b"zdd-migrate: one DDL session a database")


@dataclass(frozen=True, slots=True)
class Entry:
    """One step as the journal has it: `state` is running or done."""

    step: str
    phase: str
    state: str
    changed_at: Any


class Journal:
    """The journal of one plan on one database, over an autocommit connection."""

    def __init__(self, connection: psycopg.Connection, plan: str) -> None:
        self.connection = connection
        self.plan = plan

    def create(self) -> None:
        """Make the journal's tables where they are not there yet."""
        try:
            with self.connection.transaction():
                self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (_DATABASE_LOCK + 1,))
                self.connection.execute(_TABLES)
        except psycopg.errors.InsufficientPrivilege:
            raise EnvironmentFailedError(
                "this role may not create the schema zdd, where the journal lives: GRANT CREATE ON "
                "DATABASE … TO it, or let an owner run CREATE SCHEMA zdd AUTHORIZATION it"
            ) from None

    def exists(self) -> bool:
        """Whether the journal's tables are there."""
        row = self.connection.execute("SELECT to_regclass('zdd.step') IS NOT NULL").fetchone()
        return bool(row and row[0])

    def lock(self) -> None:
        """Keep every other run away from this database's phases until the session ends."""
        if not locked(self.connection, _DATABASE_LOCK):
            raise LockNotObtainedError(
                "another zdd-migrate run is at work on this database; wait for it to end"
            )

    def entries(self) -> dict[str, Entry]:
        """What is recorded, by step id."""
        if not self.exists():
            return {}
        rows = self.connection.execute(
            "SELECT step, phase, state, changed_at FROM zdd.step WHERE plan = %s", (self.plan,)
        ).fetchall()
        return {row[0]: Entry(*row) for row in rows}

    def recorded_hash(self) -> str | None:
        """The hash of the plan that was begun under this name, None when none was."""
        if not self.exists():
            return None
        row = self.connection.execute(
            "SELECT plan_hash FROM zdd.plan WHERE name = %s", (self.plan,)
        ).fetchone()
        return str(row[0]) if row is not None else None

    def begin(self, plan_hash: str, schema_hash: str) -> None:
        """Record that the plan has begun."""
        self.connection.execute(
            "INSERT INTO zdd.plan (name, plan_hash, schema_hash) VALUES (%s, %s, %s) "
            "ON CONFLICT (name) DO NOTHING",
            (self.plan, plan_hash, schema_hash),
        )

    def mark(self, connection: psycopg.Connection, step: Step, phase: Phase, state: str) -> None:
        """Record a step's state; inside the step's own transaction where it has one."""
        connection.execute(
            "INSERT INTO zdd.step (plan, step, phase, state) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (plan, step) DO UPDATE SET state = excluded.state, changed_at = now()",
            (self.plan, step.id, phase.value, state),
        )
        self.event(connection, step.id, state)

    def forget(self, connection: psycopg.Connection, step: Step) -> None:
        """Record that a step was undone."""
        connection.execute(
            "DELETE FROM zdd.step WHERE plan = %s AND step = %s", (self.plan, step.id)
        )
        connection.execute(
            "DELETE FROM zdd.backfill WHERE plan = %s AND step = %s", (self.plan, step.id)
        )
        self.event(connection, step.id, "undone")

    def end(self) -> None:
        """Record that nothing of the plan is left; its events stay."""
        self.connection.execute("DELETE FROM zdd.plan WHERE name = %s", (self.plan,))

    def event(self, connection: psycopg.Connection, step: str | None, what: str) -> None:
        """Append to the record of what happened."""
        connection.execute(
            "INSERT INTO zdd.event (plan, step, what) VALUES (%s, %s, %s)", (self.plan, step, what)
        )

    def cursor(self, step: Step) -> Cursor:
        """Where a backfill stands."""
        row = self.connection.execute(
            "SELECT key, rows FROM zdd.backfill WHERE plan = %s AND step = %s", (self.plan, step.id)
        ).fetchone()
        return Cursor(load_key(row[0]), int(row[1])) if row is not None else Cursor()

    def save_cursor(self, connection: psycopg.Connection, step: Step, cursor: Cursor) -> None:
        """Record where a backfill stands, in its batch's transaction."""
        connection.execute(
            "INSERT INTO zdd.backfill (plan, step, key, rows) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (plan, step) DO UPDATE SET key = excluded.key, rows = excluded.rows, "
            "changed_at = now()",
            (self.plan, step.id, dump_key(cursor.key), cursor.rows),
        )
