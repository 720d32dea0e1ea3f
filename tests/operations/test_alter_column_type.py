"""What ALTER COLUMN … TYPE says it will do, beside what a server does."""

from __future__ import annotations

import psycopg
import pytest

from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import walk
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.statements import read_sql

TO_ENUM = """CREATE TYPE e AS ENUM ('a');
CREATE TABLE t (s text);
ALTER TABLE t ALTER s SET DEFAULT {default};
ALTER TABLE t ALTER s TYPE e USING s::e;"""


@pytest.mark.pg
@pytest.mark.parametrize("default", ["'a'::e", '\'a\'::"public"."e"', "'a'", "'a'::text"])
def test_a_default_follows_where_it_is_of_the_new_type_already(
    default: str, pg_server: Server
) -> None:
    script = TO_ENUM.format(default=default)
    foretold = list(walk(read_sql(script, "m.sql"), Schema(complete=True)))[-1].effects.error
    database = pg_server.create_database()
    came = None
    with pg_server.connect(database) as connection:
        try:
            connection.execute(script.encode())
        except psycopg.Error as error:
            came = error.sqlstate
    pg_server.drop_database(database)

    assert (foretold.sqlstate if foretold is not None else None) == came
