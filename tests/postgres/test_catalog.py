"""A live catalog and replayed SQL give the same schema; every kind of change is seen."""

from __future__ import annotations

import psycopg
import pytest

from tests.story import BEFORE, schema_of
from zdd_migrate.model.names import QName
from zdd_migrate.plan.fingerprint import fingerprint
from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.postgres.serverlog import read_errors
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg
RICH = """
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TABLE t (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text COLLATE "C" DEFAULT 'x', b int NOT NULL,
  c mood, d positive, e numeric(10,2), UNIQUE (a, b), CHECK (b > 0 AND length(a) < 100));
CREATE INDEX t_e ON t (lower(a), e) INCLUDE (b) WHERE b > 1;
CREATE VIEW v AS SELECT id, a FROM t;
CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t;
CREATE TABLE p (id int, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x';
CREATE FUNCTION tg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION tg();
CREATE POLICY po ON t USING (b > 1);
CREATE SEQUENCE s;
"""


def test_replay_and_catalog_agree(connection: psycopg.Connection) -> None:
    """The same tables, columns, constraints and indexes: one hash from either."""
    connection.execute(BEFORE.encode())
    live, replayed = read_schema(connection), schema_of(BEFORE)
    names = [QName("public", "users"), QName("public", "orders")]

    assert fingerprint(live, names) == fingerprint(replayed, names)
    for name in names:
        assert [c.name for c in live.tables[name].columns] == [
            c.name for c in replayed.tables[name].columns
        ]


SET = """
CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text, d text);
CREATE INDEX t_a ON t (lower(a), id, upper(b));
ALTER TABLE t ALTER a SET STATISTICS 7;
ALTER TABLE t ALTER b SET (n_distinct = 7, N_Distinct_Inherited=-0.5);
ALTER TABLE t ALTER b RESET (n_distinct);
ALTER TABLE t ALTER c SET STORAGE external, ALTER c SET COMPRESSION PGLZ;
ALTER TABLE t ALTER d SET STORAGE MAIN, ALTER d SET COMPRESSION default;
ALTER INDEX t_a ALTER 1 SET STATISTICS 8;
ALTER INDEX t_a ALTER COLUMN 3 SET STATISTICS 9;
ALTER INDEX t_a ALTER COLUMN 1 SET STATISTICS -1;
"""


def test_what_is_set_for_columns_is_known(connection: psycopg.Connection) -> None:
    """What ANALYZE and the planner are told of columns and of an index's expressions, and storage."""
    connection.execute(SET.encode())
    live, replayed = read_schema(connection), schema_of(SET)

    name, index = QName("public", "t"), QName("public", "t_a")
    assert live.tables[name].columns == replayed.tables[name].columns
    assert live.indexes[index].statistics == replayed.indexes[index].statistics == ((3, 9),)


MOVED = """
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE DOMAIN positive AS int CONSTRAINT above CHECK (value > 0);
CREATE TYPE pair AS (one mood, two positive);
CREATE TABLE t (id serial PRIMARY KEY, a mood, b positive[], c pair, d numeric(10,2));
CREATE TABLE u (id bigserial, t_id int REFERENCES t);
CREATE VIEW v AS SELECT id FROM t;
CREATE SEQUENCE s;
ALTER TYPE mood RENAME TO "Mood";
ALTER DOMAIN positive RENAME TO above_zero;
ALTER DOMAIN above_zero RENAME CONSTRAINT above TO beyond;
ALTER TYPE pair SET SCHEMA other;
ALTER TABLE t SET SCHEMA other;
ALTER TABLE u RENAME TO w;
ALTER VIEW v SET SCHEMA other;
ALTER SEQUENCE s SET SCHEMA other;
"""


def test_what_moves_takes_along_what_names_it(connection: psycopg.Connection) -> None:
    """Types in columns, attributes and domains, owned sequences, keys that refer to a table."""
    connection.execute(MOVED.encode())
    live, replayed = read_schema(connection), schema_of(MOVED)

    names = [QName("other", "t"), QName("public", "w")]
    assert fingerprint(live, names) == fingerprint(replayed, names)
    for kind in ("tables", "indexes", "sequences", "types", "views"):
        assert set(getattr(live, kind)) == set(getattr(replayed, kind)), kind
    for name in names:
        assert [c.type for c in live.tables[name].columns] == [
            c.type for c in replayed.tables[name].columns
        ]
    for name, sequence in live.sequences.items():
        assert replayed.sequences[name].owned_by == sequence.owned_by
    for name, type_ in live.types.items():
        known = replayed.types[name]
        assert [a.type for a in known.attributes] == [a.type for a in type_.attributes]
        assert [c.name for c in known.constraints] == [c.name for c in type_.constraints]


def test_a_rich_schema_is_read(connection: psycopg.Connection) -> None:
    """Each kind of object arrives with what matters of it."""
    connection.execute(RICH.encode())
    schema = read_schema(connection)
    t = schema.tables[QName("public", "t")]
    index = schema.indexes[QName("public", "t_e")]

    assert t.primary_key is not None
    assert t.column("id").identity == "always"  # type: ignore[union-attr]
    assert t.column("a").collation == '"C"'  # type: ignore[union-attr]
    assert t.triggers[0].columns == ("a",)
    assert t.policies[0].using == "(b > 1)"
    assert index.columns == {"a", "e", "b"}
    assert schema.types[QName("public", "mood")].labels == ("a", "b")
    assert schema.types[QName("public", "positive")].constrained
    assert (QName("public", "t"), "a") in schema.views[QName("public", "v")].depends_on_columns
    assert schema.tables[QName("public", "p1")].parent == QName("public", "p")
    assert schema.functions[QName("public", "f")][0].volatility == "immutable"


CHANGES = [
    "ALTER TABLE t ADD COLUMN z int",
    "ALTER TABLE t ALTER e TYPE numeric(12,2)",
    "ALTER TABLE t ALTER b DROP NOT NULL",
    "ALTER TABLE t ALTER a SET DEFAULT 'y'",
    "ALTER TABLE t ADD CHECK (b > 2) NOT VALID",
    "DROP INDEX t_e",
    "CREATE OR REPLACE VIEW v AS SELECT id, a FROM t WHERE b > 1",
    "ALTER TYPE mood ADD VALUE 'c'",
    "ALTER TABLE t DISABLE TRIGGER tr",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "DROP POLICY po ON t",
    "COMMENT ON COLUMN t.a IS 'x'",
    "GRANT SELECT ON t TO PUBLIC",
    "ALTER SEQUENCE s INCREMENT 2",
    "ALTER TABLE p DETACH PARTITION p1",
    "ALTER TABLE t ALTER a SET STATISTICS 7",
    "ALTER TABLE t ALTER a SET (n_distinct = -0.5)",
    "ALTER INDEX t_e ALTER 1 SET STATISTICS 7",
    "ALTER TABLE t REPLICA IDENTITY FULL",
    "CREATE OR REPLACE FUNCTION f(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + 1'",
    "CREATE SCHEMA extra",
    "CREATE CAST (mood AS text) WITH INOUT AS IMPLICIT",
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_is_seen(change: str, connection: psycopg.Connection) -> None:
    """And two looks without one are equal."""
    connection.execute(RICH.encode())
    before = snapshot(connection)
    assert not differences(before, snapshot(connection))

    connection.execute(change.encode())

    assert differences(before, snapshot(connection))


def test_failures_are_read_from_the_log(pg_server: Server) -> None:
    """SQLSTATE, message and whole statement, by application."""
    assert pg_server.log_path is not None
    offset = pg_server.log_path.stat().st_size
    with (
        pg_server.connect(application_name="prober") as connection,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        connection.execute("SELECT *\nFROM nowhere")

    (error,), _ = read_errors(pg_server.log_path, offset, "prober")

    assert error.sqlstate == "42P01"
    assert error.statement == "SELECT * FROM nowhere"
