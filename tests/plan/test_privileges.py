"""Granted in expand, revoked at contract: tried by clients whom privileges bind.

`verify` connects as the owner of the tables, whom no GRANT gives anything and no REVOKE takes
anything from. Here both versions are clients of a role that has what PUBLIC has.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.stories import STORIES, Story
from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.model.plan import Phase, Step
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
STORY = Story(STORIES / "grant-and-revoke")
OLD = ("DELETE FROM notes",)
NEW = ("INSERT INTO notes VALUES (1, 'x') ON CONFLICT DO NOTHING", "SELECT * FROM notes")
_ROUNDS = 20


def errors_of(client: psycopg.Connection, code: tuple[str, ...]) -> list[str]:
    """What a round of a version fails with."""
    found = []
    for statement in code:
        try:
            client.execute(statement.encode())
        except psycopg.Error as error:
            found.append(f"{error.sqlstate} {statement}")
    return found


@contextmanager
def working(client: psycopg.Connection, code: tuple[str, ...]) -> Iterator[Callable[[], None]]:
    """A version at work all the while; what is given waits until it has done rounds enough."""
    over, rounds, failed = threading.Event(), threading.Semaphore(0), []

    def work() -> None:
        while not over.is_set():
            failed.extend(errors_of(client, code))
            rounds.release()

    def settle() -> None:
        for _ in range(_ROUNDS):
            assert rounds.acquire(timeout=60)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        settle()
        yield settle
        settle()
    finally:
        over.set()
        worker.join()
    assert failed == []


@contextmanager
def people(server: Server, before: str) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """A fresh database with the story's schema: its owner, and somebody."""
    role = f"zdd_anybody_{secrets.token_hex(4)}"
    with server.scratch_database() as database, server.connect(database) as owner:
        owner.execute(before.encode())
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        somebody = make_conninfo(server.dsn(database), user=role, password="x")
        try:
            with psycopg.connect(somebody, autocommit=True) as client:
                client.prepare_threshold = 0
                yield owner, client
        finally:
            owner.execute(f"DROP ROLE {role}".encode())


def walk(
    owner: psycopg.Connection, steps: list[Step], do: Callable[[psycopg.Connection, Step], None]
) -> None:
    """Steps one after the other."""
    for step in steps:
        do(owner, step)


def test_the_version_that_lives_is_never_denied_anything(
    server_of: Callable[[int], Server],
) -> None:
    """Forward through every phase and back from each, under load; what the plain migration takes
    away at once is taken when nobody needs it any more."""
    for major in STORY.majors:
        plan = STORY.plan(major)
        phases = [phase for phase in Phase if plan.steps.get(phase)]
        for last in phases:
            with people(server_of(major), STORY.before) as (owner, client):
                assert errors_of(client, OLD) == []
                assert len(errors_of(client, NEW)) == len(NEW)
                upto = [phase for phase in phases if phase.number <= last.number]
                for phase in upto:
                    with working(client, NEW if phase is Phase.CONTRACT else OLD):
                        walk(owner, list(plan.steps[phase]), run_step)
                    if phase is Phase.SWITCH:
                        assert errors_of(client, OLD + NEW) == []
                assert bool(errors_of(client, OLD)) == (last is Phase.CONTRACT)
                for phase in reversed(upto):
                    with working(client, NEW if phase is Phase.CONTRACT else OLD):
                        walk(owner, list(reversed(plan.steps[phase])), undo_step)
                assert errors_of(client, OLD) == []
                assert len(errors_of(client, NEW)) == len(NEW)


def test_the_plain_migration_is_seen_to_deny_it(server_of: Callable[[int], Server]) -> None:
    """The control: old code is denied at once."""
    with people(server_of(STORY.majors[0]), STORY.before) as (owner, client):
        owner.execute(STORY.migration.encode())

        assert errors_of(client, OLD) == ["42501 DELETE FROM notes"]
