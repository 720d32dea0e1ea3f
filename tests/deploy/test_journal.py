"""The journal on a real Postgres: append-only, fenced, and honest about tampering."""

from __future__ import annotations

import psycopg
import pytest

from zdd_deploy.failures import BusyError, FencedError
from zdd_deploy.journal import PostgresJournal
from zdd_migrate.errors import InputError

pytestmark = pytest.mark.pg


def journal(database: str, env: str = "shop") -> PostgresJournal:
    return PostgresJournal(env, database, database)


def test_one_runner_at_a_time(database: str) -> None:
    """The second is refused while the first lives, and gets a higher epoch afterwards."""
    first, second = journal(database), journal(database)
    assert first.take_over() == 1
    assert second.busy()
    with pytest.raises(BusyError, match="another zdd-deploy is at work on shop"):
        second.take_over()
    other = journal(database, "another environment")
    with pytest.raises(BusyError, match="for another environment"):
        other.take_over()  # the same database's phases
    first.close()
    assert second.take_over() == 2
    assert not other._session().closed
    for one in (second, other):
        one.close()


def test_a_runner_that_lost_its_session_is_fenced(database: str) -> None:
    """Its connection is cut, another takes over: what the first still wants is refused."""
    first, second = journal(database), journal(database)
    first.take_over()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'zdd-deploy%' AND pid <> pg_backend_pid()"
        )
    second.take_over()

    with pytest.raises(FencedError):
        first.append(1, "begun", {})
    with pytest.raises(FencedError):
        first.held()
    first.close()
    second.close()


def test_a_cut_session_alone_is_no_loss(database: str) -> None:
    """Nobody else came: the lock is taken again and the runner goes on."""
    one = journal(database)
    one.take_over()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'zdd-deploy%' AND pid <> pg_backend_pid()"
        )
    one.held()
    assert one.append(1, "begun", {"a": "ä"}).id == 1
    assert [e.body for e in one.events()] == [{"a": "ä"}]
    one.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE zdd_runner.event SET body = '{}' WHERE id = 2",
        "DELETE FROM zdd_runner.event WHERE id = 2",
        "DELETE FROM zdd_runner.event WHERE id = 3",
        "UPDATE zdd_runner.event SET at_us = at_us + 1 WHERE id = 2",
    ],
)
def test_what_was_written_stays(database: str, change: str) -> None:
    """Changing an event is refused; changed past the refusal, the chain shows where."""
    one = journal(database)
    one.take_over()
    for n in range(3):
        one.append(1, "intended", {"step": str(n)})
    assert one.tampered() is None
    with psycopg.connect(database, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute(change)
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute("TRUNCATE zdd_runner.event")
        connection.execute("ALTER TABLE zdd_runner.event DISABLE TRIGGER append_only")
        connection.execute(change)

    assert one.tampered() in (2, 3)
    one.close()


def test_a_person_may_speak_while_a_runner_works(database: str) -> None:
    """Commands carry no epoch and need no lock; without any release there is nobody to tell."""
    person = journal(database)
    with pytest.raises(InputError, match="no release was ever begun on shop"):
        person.command(1, {"command": "pause"})
    runner = journal(database)
    runner.take_over()
    runner.append(1, "begun", {})
    person.command(1, {"command": "pause"})

    assert [e.kind for e in runner.events()] == ["begun", "command"]
    assert "@" in runner.events()[1].body["by"]
    person.close()
    runner.close()
