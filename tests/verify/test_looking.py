"""What a statement reads while others wait for it: its own reading, and nobody else's."""

from __future__ import annotations

import psycopg
import pytest

from tests.story import BEFORE, SEED
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.looking import Look, LookingConnection, tables_there

pytestmark = pytest.mark.pg


def test_each_statement_answers_for_what_it_read_itself(pg_server: Server) -> None:
    """Outside a transaction, in one that is ended by a statement, and where none is allowed."""
    with pg_server.scratch_database() as name:
        with pg_server.connect(name) as connection:
            connection.execute((BEFORE + SEED).encode())
        with pg_server.connect_as(LookingConnection, name) as looking:
            looking.look = look = Look(tables_there(looking))
            for harmless in (
                "SELECT count(*) FROM users",
                "ALTER TABLE users ADD COLUMN city text",
                "CREATE INDEX CONCURRENTLY a ON users (city)",
                "ALTER TABLE users ALTER city SET DEFAULT ''",
                "CREATE TABLE fresh AS SELECT * FROM orders",
                "CREATE INDEX ON fresh (note)",
                "VACUUM users",
                "SET lock_timeout = '1s'",
            ):
                looking.execute(harmless)
                assert look.found == [], harmless
            assert looking.execute("SHOW lock_timeout").fetchone() == ("1s",)
            looking.execute("CREATE INDEX b ON users (city)")
            looking.execute("BEGIN")
            looking.execute("ALTER TABLE orders ADD CHECK (note <> 'x')")
            looking.execute("COMMIT")
            with pytest.raises(psycopg.errors.UndefinedTable):
                looking.execute("ALTER TABLE nowhere ADD a int")
            looking.execute("ALTER TABLE users DROP COLUMN city")

    assert [(f.relation, f.rows, f.mode) for f in look.found] == [
        ("public.users", 500, "ShareLock"),
        ("public.orders", 800, "AccessExclusiveLock"),
    ]
