"""Rows made up from a schema, on a real server: they satisfy it, and they are not tame."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.story import schema_of
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.model.names import QName
from zdd_migrate.postgres import archives, binaries
from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.data import fill
from zdd_migrate.verify.shapes import shapes, vary

pytestmark = pytest.mark.pg
SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'fine', 'glad');
CREATE DOMAIN percent AS int NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN mail AS text CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE TABLE teams (id serial PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
CREATE TABLE users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email mail NOT NULL UNIQUE,
  team int NOT NULL REFERENCES teams, boss bigint REFERENCES users,
  age int CHECK (age >= 18 AND age < 120), mood mood NOT NULL, score percent,
  state text NOT NULL CHECK (state IN ('new', 'old')), nick varchar(12), born date,
  shout text GENERATED ALWAYS AS (upper(nick)) STORED,
  price numeric(8,2) NOT NULL CHECK (price > 0), low int NOT NULL, high int NOT NULL,
  CHECK (low <= high), CHECK (mood <> 'sad' OR state = 'old'));
CREATE UNIQUE INDEX ON users (lower(email));
CREATE TABLE badges (user_id bigint PRIMARY KEY REFERENCES users, text text);
CREATE TABLE likes (a bigint REFERENCES users, b bigint REFERENCES users, PRIMARY KEY (a, b));
CREATE TABLE events (id bigint NOT NULL, at date NOT NULL, note text, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
CREATE TABLE places (id int, land text) PARTITION BY LIST (land);
CREATE TABLE places_1 PARTITION OF places FOR VALUES IN ('de', 'at');
CREATE TABLE places_2 PARTITION OF places FOR VALUES IN ('ch');
"""
TABLES = ("teams", "users", "badges", "likes", "events", "places")


def filled(connection: psycopg.Connection, seed: int = 0) -> list[str]:
    """Make the tables and fill them."""
    connection.execute(SCHEMA.encode())
    schema = read_schema(connection)
    wanted = [n for n in schema.tables if n.name in TABLES]
    return fill(connection, schema, wanted, 2000, seed=seed)


def one(connection: psycopg.Connection, query: str) -> Any:
    """The only value of a query."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_rows_satisfy_all_that_the_schema_asks(connection: psycopg.Connection) -> None:
    """Keys, foreign keys, uniqueness, CHECKs over several columns, domains, enums, partitions."""
    notes = filled(connection)
    counts = {t: one(connection, f"SELECT count(*) FROM {t}") for t in TABLES}

    assert notes == []
    assert counts["teams"] == counts["users"] == 2000
    assert all(count >= 1500 for count in counts.values()), counts
    assert one(connection, "SELECT count(*) FROM events_1") > 500
    assert one(connection, "SELECT count(*) FROM events_2") > 500
    assert one(connection, "SELECT count(*) FROM places_2") > 500


def test_rows_are_not_tame(connection: psycopg.Connection) -> None:
    """NULLs, limits and ends, the empty and the longest text, letters beyond ASCII, skew."""
    filled(connection)

    for condition in (
        "age IS NULL",
        "age = 18",
        "age = 119",
        "score = 0",
        "score = 100",
        "nick IS NULL",
        "nick = ''",
        "length(nick) = 12",
        "nick LIKE '%ø%'",
        "born = '9999-12-31'",
        "mood = 'sad'",
        "state = 'new'",
    ):
        assert one(connection, f"SELECT count(*) FROM users WHERE {condition}") > 0, condition
    most = "SELECT max(n) FROM (SELECT count(*) n FROM users GROUP BY team) x"
    assert one(connection, most) > 50


def test_the_same_seed_gives_the_same_rows(pg_server: Server) -> None:
    """And another gives others."""
    digests = []
    for seed in (0, 0, 1):
        with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
            filled(connection, seed)
            digest = "SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u"
            digests.append(one(connection, digest))

    assert digests[0] == digests[1] != digests[2]


def test_circles_of_references_and_late_keys_are_filled(connection: psycopg.Connection) -> None:
    """What need not refer goes first, NULLs of a unique key are no duplicates, deferred keys are
    no arbiters, and several columns agree with each other."""
    connection.execute(
        """CREATE TABLE versions (id int PRIMARY KEY, failure int UNIQUE);
           CREATE TABLE jobs (id int PRIMARY KEY, version int NOT NULL REFERENCES versions);
           ALTER TABLE versions ADD FOREIGN KEY (failure) REFERENCES jobs;
           CREATE TABLE places (id int PRIMARY KEY, n int UNIQUE DEFERRABLE,
             kind text NOT NULL, owner int,
             CHECK ((kind = 'own' AND owner IS NOT NULL) OR (kind = 'free' AND owner IS NULL)));
           CREATE TABLE keys (job int REFERENCES jobs, place int REFERENCES places,
             CHECK ((job IS NULL) <> (place IS NULL)));"""
    )
    schema = read_schema(connection)

    notes = fill(connection, schema, sorted(schema.tables), 300)

    assert notes == []
    for table in ("versions", "jobs", "places", "keys"):
        assert one(connection, f"SELECT count(*) FROM {table}") >= 150, table
    assert one(connection, "SELECT count(*) FROM places WHERE kind = 'free'") > 5


#: what real histories ask of their texts
PATTERNS = (
    "x ~ '^[A-Z]{2}[0-9]{4}$'",
    "x ~* '^([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$' AND length(x) <= 50",
    "x ~* '^([^\\s/._-]|[^\\s/._-].*[^\\s/._-])$'",
    "x ~* '^https?://.+'",
    "x ~ '^[a-z0-9][a-z0-9:-]{0,48}[a-z0-9]$'",
    "x ~* '^[A-F0-9]{64}$'",
    "x ~ '^\\d{4}-(0[1-9]|1[0-2])-\\d\\d$'",
    "x ~ '^[[:alpha:]_][[:alnum:]_]{2,}$'",
    "x ~ '^#(?:[0-9a-f]{3}){1,2}\\Z'",
    "x LIKE 'cus\\_%'",
    "char_length(x) = 12",
    "length(x) BETWEEN 8 AND 40 AND x <> ''",
)


def test_texts_match_what_their_checks_ask(connection: psycopg.Connection) -> None:
    """Of columns, of unique ones, and of domains; as many as are wanted."""
    for n, check in enumerate(PATTERNS):
        value = check.replace("x", "VALUE", 1).replace("(x)", "(VALUE)").replace("x <>", "VALUE <>")
        connection.execute(
            f"CREATE DOMAIN d{n} AS varchar(80) CHECK ({value});"
            f"CREATE TABLE t{n} (x varchar(80) UNIQUE NOT NULL CHECK ({check}), y d{n} NOT NULL)".encode()
        )
    schema = read_schema(connection)

    notes = fill(connection, schema, list(schema.tables), 600)
    counts = {
        check: one(connection, f"SELECT count(*) FROM t{n}") for n, check in enumerate(PATTERNS)
    }
    several = one(connection, "SELECT count(DISTINCT y) FROM t0")

    assert notes == []
    assert set(counts.values()) == {600}, counts
    assert several > 50


#: what two rows must not agree in, and how made-up code keeps its rows apart
APART = {
    "during int4range, EXCLUDE USING gist (during WITH &&)": "during",
    "during int8range, EXCLUDE USING gist (during range_ops WITH &&)": "during",
    "during numrange, EXCLUDE USING gist (during WITH &&)": "during",
    "during daterange NOT NULL, EXCLUDE USING gist (during WITH &&) WHERE (id > 0)": "during",
    "during tsrange, EXCLUDE USING gist (during WITH &&)": "during",
    'spot point, "how long" tstzrange, EXCLUDE USING gist (spot WITH ~=, "how long" WITH &&)': "how long",
    "room int, EXCLUDE USING btree (room WITH =)": "room",
    "room int REFERENCES t0, n int, EXCLUDE USING btree (room WITH =, n WITH =)": "n",
    "n serial, room int REFERENCES t0, EXCLUDE USING btree (room WITH =, n WITH =)": None,
    "room text NOT NULL, EXCLUDE USING hash (room WITH =)": "room",
    "area box, EXCLUDE USING gist (area WITH &&)": None,
    "net inet, EXCLUDE USING gist (net inet_ops WITH &&)": None,
}


def test_rows_keep_apart_what_an_exclusion_wants_apart(connection: psycopg.Connection) -> None:
    """Rows made up at the start, and all that made-up code adds to them; where it cannot know how,
    it adds none."""
    for n, columns in enumerate(APART):
        connection.execute(f"CREATE TABLE t{n} (id int PRIMARY KEY, {columns})".encode())
    schema = read_schema(connection)
    sure = [QName("public", f"t{n}") for n, column in enumerate(APART.values()) if column]

    notes = fill(connection, schema, sure, 300)
    seen = {shape.name: shape for shape in shapes(schema, list(schema.tables))}
    added: dict[QName, int] = {}
    for name in sure:
        (column,) = (schema.tables[name].column(c) for c in seen[name].vary if c != "id")
        assert column is not None
        insert = f"INSERT INTO {name} (id, {quote_ident(column.name)}) VALUES (%s, %s)"
        for number in (*range(1, 100), *range(7_000_001, 7_000_100)):
            connection.execute(
                insert.encode(), (1_000_000 + number, vary(column, None, number, "m"))
            )
        added[name] = one(connection, f"SELECT count(*) FROM {name}")

    assert notes == []
    assert set(added.values()) == {300 + 198}, added
    assert [
        next((c for c in seen[QName("public", f"t{n}")].vary if c != "id"), None)
        for n in range(len(APART))
    ] == list(APART.values())
    assert [s.name.name for s in seen.values() if not s.insertable] == ["t10", "t11"]


def test_an_exclusion_to_come_is_kept_by_both_versions() -> None:
    """Old code's rows must be able to stay, under whichever name the table with it comes."""
    before = schema_of("CREATE TABLE b (id int PRIMARY KEY, during int4range)")
    after = schema_of(
        "CREATE TABLE b (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&))"
    )

    (old,) = shapes(before, list(before.tables), after)

    assert old.vary == ("id", "during")
    assert old.insertable


def test_what_cannot_be_made_up_is_said(connection: psycopg.Connection) -> None:
    """With what to do about it."""
    connection.execute("CREATE TABLE t (code text NOT NULL CHECK (code ~ '^(?!x)(a+)-\\1b[0-9]$'))")
    schema = read_schema(connection)

    (note,) = fill(connection, schema, list(schema.tables), 100)

    assert "no rows could be made up for public.t" in note
    assert "code must match '^(?!x)(a+)-\\1b[0-9]$', and (?! looks around" in note
    assert "--seed" in note


def test_wild_values_are_left_out_where_the_migration_cannot_take_them(pg_server: Server) -> None:
    """The ends of a type's range are no reason to fail a migration that narrows it."""
    from zdd_migrate.verify.stage import set_up
    from zdd_migrate.verify.workers import Crew

    schema = (
        "CREATE TABLE t (id bigserial PRIMARY KEY, n int, kept int, "
        "code char(6) UNIQUE NOT NULL CHECK (code ~ '^[A-Z]{2}[0-9]{4}$'))"
    )
    with Crew() as crew, ThreadPoolExecutor(1) as beside:
        found = []
        for migration in ("ALTER TABLE t ALTER n TYPE smallint", "ALTER TABLE t ADD x int"):
            stage = set_up(
                pg_server,
                schema,
                [migration],
                seed_sql=None,
                rows=500,
                crew=crew,
                given={"old": [], "new": []},
                beside=beside,
            )
            stage.whole()
            with pg_server.connect(stage.start) as connection:
                found.append((one(connection, "SELECT max(n) > 32767 FROM t"), stage.notes))
            # made-up code writes codes too, and the server takes them
            assert stage.own_faults["old"] == frozenset()

    assert found == [(False, []), (True, [])]


def test_a_dump_with_copied_rows_is_a_seed(pg_server: Server) -> None:
    """As pg_dump --data-only writes it, settings and all."""
    from zdd_migrate.verify.stage import run_script

    dump = (
        "SET client_encoding = 'UTF8';\nSELECT pg_catalog.set_config('search_path', '', false);\n"
        "COPY public.t (id, name) FROM stdin;\n1\tone; SELECT 'x\n2\t\\N\n\\.\n\n"
        "SELECT pg_catalog.setval('public.t_id_seq', 2, true);\n"
    )
    with pg_server.scratch_database() as name, pg_server.connect(name) as connection:
        connection.execute("CREATE TABLE t (id serial, name text)")
        run_script(connection, dump, "seed.sql", pg_server)

        assert one(
            connection, "SELECT string_agg(coalesce(name, '-'), '|' ORDER BY id) FROM public.t"
        ) == ("one; SELECT 'x|-")


@pytest.mark.parametrize("form", ["-Fc", "-Fd", "-Ft"])
def test_an_archive_of_pg_dump_is_a_seed(form: str, tmp_path: Path, pg_server: Server) -> None:
    """Its tables come in any order, and its schema is not looked at."""
    from zdd_migrate.verify.stage import run_script

    program = next(
        (
            str(place.directory / "pg_dump")
            for place in (*binaries.embedded(), *binaries.system())
            if place.major >= pg_server.major and (place.directory / "pg_dump").exists()
        ),
        None,
    )
    if program is None or not archives._programs():
        pytest.skip("no pg_dump and pg_restore of this server's version here")
    schema = (
        "CREATE TABLE a_orders (id serial PRIMARY KEY, user_id int NOT NULL, note text);"
        "CREATE TABLE z_users (id int PRIMARY KEY);"
        "ALTER TABLE a_orders ADD FOREIGN KEY (user_id) REFERENCES z_users;"
    )
    file = tmp_path / "rows"
    with pg_server.scratch_database() as source, pg_server.connect(source) as connection:
        connection.execute(
            f"{schema} INSERT INTO z_users VALUES (7);"
            "INSERT INTO a_orders (user_id, note) VALUES (7, E'\\\\restrict x\\n;'), (7, NULL)".encode()
        )
        command = [program, form, "-f", str(file), pg_server.dsn(source)]
        subprocess.run(command, check=True, capture_output=True)
    assert archives.is_archive(file)
    with pg_server.scratch_database() as copy, pg_server.connect(copy) as connection:
        connection.execute(schema.encode())
        run_script(connection, archives.rows_of(file), "rows", pg_server)

        notes = "SELECT array_agg(note ORDER BY id) FROM public.a_orders"
        assert one(connection, notes) == ["\\restrict x\n;", None]
        assert one(connection, "SELECT nextval('public.a_orders_id_seq')") == 3
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO public.a_orders (user_id) VALUES (8)")


def test_an_archive_that_nobody_can_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and what to do."""
    file = tmp_path / "rows.dump"
    file.write_bytes(b"PGDMP\x01\xff\x00 of a time to come")
    if archives._programs():
        with pytest.raises(InputError, match=r"rows\.dump: pg_restore cannot read it: "):
            archives.rows_of(file)
    monkeypatch.setattr(archives, "_programs", list)

    with pytest.raises(EnvironmentFailedError, match="pg_restore --data-only --disable-triggers"):
        archives.rows_of(file)


def test_a_sample_of_another_database_is_closed_and_masked(pg_server: Server) -> None:
    """Every reference leads to a row; nothing that people wrote is left; the source is only read."""
    from zdd_migrate.verify.sampling import Sample, copy_sample

    schema_sql = """
      CREATE TABLE towns (name text PRIMARY KEY, land text CHECK (land IN ('de', 'at')));
      CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE,
        town text NOT NULL REFERENCES towns, boss bigint REFERENCES users, bio jsonb, born date,
        loud text GENERATED ALWAYS AS (upper(email)) STORED);
      CREATE TABLE orders (id serial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users);
    """
    rows = """
      INSERT INTO towns SELECT 'Town ' || g, 'de' FROM generate_series(1, 50) g;
      INSERT INTO users (email, town, boss, bio, born)
        SELECT 'Ann' || g || '@firm.example', 'Town ' || 1 + g % 50, nullif(g - 1, 0), '{"a": 1}',
          '2000-01-01' FROM generate_series(1, 3000) g;
      INSERT INTO orders (user_id) SELECT 1 + g % 3000 FROM generate_series(1, 6000) g;
      ANALYZE;
    """
    with pg_server.scratch_database() as source, pg_server.scratch_database() as copy:
        with pg_server.connect(source) as connection:
            connection.execute((schema_sql + rows).encode())
            schema = read_schema(connection)
            connection.execute(f'ALTER DATABASE "{source}" SET default_transaction_read_only = on')
        with pg_server.connect(copy) as connection:
            connection.execute(schema_sql.encode())
            wanted = [n for n in schema.tables if n.name == "orders"]
            notes = copy_sample(connection, Sample(pg_server.dsn(source), rows=40), schema, wanted)
            for check in (
                "SELECT count(*) FROM orders o LEFT JOIN users u ON u.id = o.user_id WHERE u.id IS NULL",
                "SELECT count(*) FROM users u LEFT JOIN towns t ON t.name = u.town WHERE t.name IS NULL",
                "SELECT count(*) FROM users WHERE boss NOT IN (SELECT id FROM users)",
                "SELECT count(*) FROM users WHERE email LIKE '%firm%' OR bio <> '{}'",
                "SELECT count(*) FROM towns WHERE name LIKE 'Town%'",
                "SELECT count(*) FROM users WHERE email NOT LIKE '_%@%.%' OR loud <> upper(email)",
            ):
                assert one(connection, check) == 0, check
            assert one(connection, "SELECT count(*) FROM orders") == 40
            assert one(connection, "SELECT bool_and(land = 'de' ) FROM towns")
            assert one(connection, "SELECT count(*) > 40 FROM users")
            connection.execute("INSERT INTO orders (user_id) SELECT id FROM users LIMIT 3")

    assert "40 of public.orders" in notes[0]
