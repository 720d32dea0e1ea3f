"""A snapshot holds what check needs, in a fixed order, and nothing that may be data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.snapshot import Snapshot, load, write
from zdd_migrate.reading.statements import read_sql

SECRET = "Kowalski"
BEFORE = f"""
CREATE TYPE mood AS ENUM ('ok', 'bad');
CREATE DOMAIN code AS text DEFAULT '{SECRET}' CHECK (VALUE <> '{SECRET}');
CREATE TABLE users (
  id bigserial PRIMARY KEY,
  name varchar(50) NOT NULL DEFAULT '{SECRET}',
  born date CHECK (born > '1900-01-01' AND born IS NOT NULL),
  points int DEFAULT 31415 CHECK (points <> 31415),
  feels mood, c code, twice int GENERATED ALWAYS AS (length('{SECRET}') + 31415) STORED
);
COMMENT ON TABLE users IS '{SECRET}';
COMMENT ON COLUMN users.name IS '{SECRET}';
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users (id));
CREATE INDEX users_name_idx ON users (lower(name), (name || '{SECRET}')) WHERE name <> '{SECRET}';
CREATE VIEW people AS SELECT id, name FROM users WHERE name <> '{SECRET}';
CREATE FUNCTION f(a text DEFAULT '{SECRET}') RETURNS text LANGUAGE sql AS $$SELECT '{SECRET}'$$;
CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER tr BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.name = '{SECRET}') EXECUTE FUNCTION t();
CREATE POLICY p ON users USING (name = '{SECRET}');
CREATE TABLE events (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE PUBLICATION out FOR TABLE users;
"""
USERS = QName("public", "users")


def before() -> Schema:
    """The schema, with sizes."""
    schema = Schema(complete=True)
    replay(read_sql(BEFORE, "before.sql").statements, schema)
    assert not schema.gaps
    for table in list(schema.tables.values()):
        if table.kind == "table":
            schema.put_table(
                replace(table, rows=123_456, bytes=987_654_321, writes_per_second=12.34)
            )
    return schema


def back(schema: Schema, directory: Path) -> Snapshot:
    """Written and read again."""
    path = directory / "db.json"
    path.write_text(write(Snapshot(schema, 17)))
    return load(path)


def test_no_literal_is_left() -> None:
    """Not in defaults, checks, indexes, views, bodies, comments, bounds, policies or triggers."""
    text = write(Snapshot(before(), 17))

    assert SECRET not in text
    assert "31415" not in text
    assert "1900" not in text
    assert "2024" not in text
    assert json.loads(text)["pg_version"] == 17


def test_equal_schemas_give_equal_files(tmp_path: Path) -> None:
    """Whatever order they were built in; and a snapshot of a snapshot is itself."""
    schema = before()
    turned = schema.copy()
    turned.tables = dict(reversed(schema.tables.items()))
    turned.indexes = dict(reversed(schema.indexes.items()))
    text = write(Snapshot(schema, 17))

    assert write(Snapshot(turned, 17)) == text
    assert write(back(schema, tmp_path)) == text


def test_a_row_more_changes_nothing() -> None:
    """Sizes are rounded to two digits."""
    schema = before()
    text = write(Snapshot(schema, 17))
    table = schema.tables[USERS]
    schema.put_table(replace(table, rows=123_457, bytes=987_700_000, writes_per_second=12.9))

    assert write(Snapshot(schema, 17)) == text


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ALTER COLUMN born SET NOT NULL;",
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(80);",
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(10);",
        "ALTER TABLE users DROP COLUMN name CASCADE;",
        "ALTER TABLE users ADD COLUMN x code;",
        "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey;",
        "DROP INDEX users_name_idx;",
        "CREATE INDEX i ON users (points);",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');",
        "ALTER TABLE users ALTER COLUMN name DROP DEFAULT;",
        "DROP TABLE events_1;",
        "CREATE OR REPLACE VIEW people AS SELECT id FROM users;",
        "UPDATE users SET points = 1;",
    ],
)
def test_check_finds_the_same(sql: str, tmp_path: Path) -> None:
    """The snapshot stands for the database it was taken of."""

    def found(schema: Schema) -> list[tuple[str, str]]:
        read = read_sql(sql, "m.sql", in_transaction=False)
        report = Checker(Config(root=Path())).run([read], schema)
        return [(f.rule, f.severity.value) for f in report.findings]

    assert found(back(before(), tmp_path).schema) == found(before())


def test_what_was_blotted_out_proves_nothing(tmp_path: Path) -> None:
    """A check whose bound is not known must not spare a scan: that would be a false "safe"."""
    sql = """
    CREATE TABLE events (id bigint, at int NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE part (id bigint, at int NOT NULL, CHECK (at >= 10 AND at < 20));
    """
    schema = Schema(complete=True)
    replay(read_sql(sql, "before.sql").statements, schema)
    attach = "ALTER TABLE events ATTACH PARTITION part FOR VALUES FROM ({}) TO ({});"

    def scans(of: Schema, low: int, high: int) -> bool:
        read = read_sql(attach.format(low, high), "m.sql", in_transaction=False)
        return "ZDD130" in {f.rule for f in Checker(Config(root=Path())).run([read], of).findings}

    assert not scans(schema.copy(), 10, 20)
    assert scans(back(schema, tmp_path).schema, 10, 20)
    assert scans(back(schema, tmp_path).schema, 0, 5)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"kind": "zdd-migrate snapshot", "version": 2}', '{"kind": "zdd-migrate snapshot", "version": 1}'],
)  # fmt: skip
def test_a_damaged_snapshot_is_said(text: str, tmp_path: Path) -> None:
    """One line that names the file."""
    path = tmp_path / "db.json"
    path.write_text(text)

    with pytest.raises(InputError, match=r"db\.json: "):
        load(path)
    with pytest.raises(InputError, match=r"none\.json: "):
        load(tmp_path / "none.json")
