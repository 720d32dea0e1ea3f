"""A pooler in transaction mode before a server: clients keep nothing, and it goes when we do."""

from __future__ import annotations

import shutil

import psycopg
import pytest

from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.postgres import pooler
from zdd_migrate.postgres.pooler import pooled
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
needs_pgbouncer = pytest.mark.skipif(
    shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin") is None,
    reason="no pgbouncer is installed",
)


@needs_pgbouncer
def test_a_client_keeps_no_connection_between_two_transactions(pg_server: Server) -> None:
    """What it set is there for another, its next statement runs elsewhere; a database in the pool
    can be copied all the same; and without the password nobody gets in."""
    with pooled(pg_server) as running, pg_server.scratch_database() as name:
        url = pg_server.client_dsn(name, "zdd-old-0")
        one, two = (psycopg.connect(url, prepare_threshold=None) for _ in range(2))
        for client in (one, two):
            client.execute("SELECT 1")  # in a transaction: each holds a connection now
        for client in (one, two):
            client.rollback()
            client.autocommit = True
        pids = {one.execute("SELECT pg_backend_pid()").fetchone() for _ in range(4)}
        one.execute("SET work_mem = '77MB'")
        seen = {two.execute("SHOW work_mem").fetchone() for _ in range(4)}
        pg_server.drop_database(pg_server.create_database(template=name))
        again = one.execute("SELECT 1").fetchone()
        for client in (one, two):
            client.close()
        with pytest.raises(psycopg.OperationalError, match=r"auth|password"):
            psycopg.connect(url, password="guessed")
        served = running.transactions()

    assert len(pids) == 2
    assert ("77MB",) in seen
    assert len(seen) == 2
    assert again == (1,)
    assert served >= 11
    assert pg_server.pooler is None
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)


def test_a_missing_pooler_is_said_in_one_line(
    pg_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to get one; nothing was started."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(pooler, "_PLACES", ())

    with pytest.raises(EnvironmentFailedError, match="apt install pgbouncer"), pooled(pg_server):
        pass
