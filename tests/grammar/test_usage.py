"""What a query touches, held to a real server: a column is touched when renaming it breaks it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.story import schema_of
from zdd_migrate.grammar.usage import analyse
from zdd_migrate.model.names import QName

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, name text, age int, team bigint);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, note text, total numeric, name text);
CREATE TABLE items (order_id bigint, sku text, n int, PRIMARY KEY (order_id, sku));
CREATE VIEW adults AS SELECT id, name FROM users WHERE age > 17;
"""
COLUMNS = (
    [("users", c) for c in ("id", "email", "name", "age", "team")]
    + [("orders", c) for c in ("id", "user_id", "note", "total", "name")]
    + [("items", c) for c in ("order_id", "sku", "n")]
)
#: each with the parameters' types left to the server
QUERIES = """
SELECT name FROM users WHERE id = $1
SELECT u.name, o.note FROM users u JOIN orders o ON o.user_id = u.id WHERE u.email = $1
SELECT * FROM users
SELECT u.* FROM users u, orders o WHERE o.user_id = u.id
SELECT count(*) FROM users WHERE age > $1
SELECT x.name FROM (SELECT * FROM users) x
SELECT x.n FROM (SELECT name AS n FROM users) x
SELECT x.name FROM (SELECT note AS name FROM orders) x
WITH u AS (SELECT id, name FROM users) SELECT u.name FROM u JOIN orders o ON o.user_id = u.id
WITH users AS (SELECT id, note AS name FROM orders) SELECT name FROM users
SELECT note FROM orders WHERE user_id IN (SELECT id FROM users WHERE age > 3)
SELECT note FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = o.user_id AND team = 1)
SELECT note FROM orders WHERE EXISTS (SELECT 1 FROM users WHERE users.id = user_id AND total > age)
SELECT (SELECT email FROM users WHERE id = user_id) FROM orders
SELECT sku FROM items JOIN orders ON id = order_id
SELECT total FROM orders o LEFT JOIN items i ON i.order_id = o.id AND i.n > 3
SELECT orders.name FROM orders NATURAL JOIN items
SELECT a.id FROM users a JOIN orders b USING (id)
SELECT name FROM users UNION ALL SELECT note FROM orders ORDER BY 1
SELECT name, rank() OVER (PARTITION BY team ORDER BY age) FROM users
SELECT email FROM users ORDER BY age DESC LIMIT $1 OFFSET $2
SELECT team, count(*) FROM users GROUP BY team HAVING max(age) > 5
SELECT DISTINCT ON (team) email FROM users ORDER BY team, age
SELECT name FROM adults WHERE id = $1
SELECT u FROM users u
SELECT to_jsonb(u) FROM users u WHERE u.id = $1
SELECT row_to_json(u.*) FROM users u
SELECT l.note FROM users u, LATERAL (SELECT note FROM orders o WHERE o.user_id = u.id LIMIT 1) l
SELECT email FROM users FOR UPDATE
SELECT CASE WHEN age > 1 THEN name ELSE email END FROM users
SELECT name FROM users WHERE (team, age) = ($1, $2)
SELECT name FROM users WHERE id = ANY ($1::bigint[])
SELECT upper("name") FROM "users" WHERE Email ILIKE $1
SELECT x.a FROM (VALUES (1)) x(a) JOIN users ON users.id = x.a
SELECT s.i FROM generate_series(1, 3) s(i)
SELECT x.c FROM (SELECT * FROM users) x(a, b, c)
INSERT INTO users (id, email, name) VALUES ($1, $2, $3)
INSERT INTO users (id, name) VALUES ($1,$2) ON CONFLICT (id) DO UPDATE SET name = excluded.name, age = users.age + 1
INSERT INTO users (id, name) VALUES ($1,$2) ON CONFLICT (email) DO NOTHING RETURNING team
INSERT INTO users (id, email) SELECT user_id, note FROM orders WHERE total > $1
INSERT INTO orders (id, user_id) SELECT $1, id FROM users WHERE email = $2 RETURNING total
INSERT INTO users AS u (id, age) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET age = u.age WHERE u.team IS NULL
INSERT INTO items DEFAULT VALUES
UPDATE users SET name = $1 WHERE id = $2
UPDATE users u SET name = o.note FROM orders o WHERE o.user_id = u.id AND o.total > $1
UPDATE users SET (name, age) = ($1, $2) WHERE email = $3 RETURNING team
UPDATE users SET (name, age) = (SELECT note, 3 FROM orders WHERE user_id = users.id LIMIT 1)
UPDATE users SET age = age + 1 WHERE id IN (SELECT user_id FROM orders WHERE total > 3)
UPDATE orders SET note = name
UPDATE orders SET note = (SELECT email FROM users WHERE id = user_id)
DELETE FROM users WHERE email = $1
DELETE FROM users USING orders o WHERE o.user_id = users.id AND note = $1 RETURNING users.team
DELETE FROM orders WHERE user_id NOT IN (SELECT id FROM users)
WITH gone AS (DELETE FROM orders WHERE id = $1 RETURNING user_id) SELECT email FROM users JOIN gone ON gone.user_id = id
WITH made AS (INSERT INTO users (id, name) VALUES ($1, $2) RETURNING id) INSERT INTO orders (id, user_id) SELECT 1, id FROM made
WITH RECURSIVE t AS (SELECT id, team FROM users WHERE id = $1 UNION ALL SELECT u.id, u.team FROM users u JOIN t ON u.id = t.team) SELECT id FROM t
MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN UPDATE SET name = o.note WHEN NOT MATCHED THEN INSERT (id, email) VALUES (o.id, o.note)
SELECT json_agg(json_build_object('n', u.name)) FROM users u GROUP BY u.team
SELECT coalesce(o.name, u.name) FROM users u LEFT JOIN orders o ON true
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM users
SELECT sum(total) FILTER (WHERE note IS NOT NULL) FROM orders
SELECT name FROM users TABLESAMPLE system (10) WHERE age BETWEEN $1 AND $2
SELECT o.id FROM orders o WHERE o.total > ALL (SELECT i.n FROM items i WHERE i.order_id = o.id)
SELECT array(SELECT email FROM users WHERE team = o.id) FROM orders o
SELECT name FROM users WINDOW w AS (ORDER BY age)
""".strip().splitlines()
#: more than the server minds: the star gives names away that the outer query then renames, and names
#: that, once gone, are found in the query around instead: nothing fails, and it means something else
MORE = {
    "SELECT x.c FROM (SELECT * FROM users) x(a, b, c)",
    "SELECT orders.name FROM orders NATURAL JOIN items",
    "SELECT note FROM orders WHERE user_id IN (SELECT id FROM users WHERE age > 3)",
    "SELECT (SELECT email FROM users WHERE id = user_id) FROM orders",
    "UPDATE orders SET note = (SELECT email FROM users WHERE id = user_id)",
    "DELETE FROM orders WHERE user_id NOT IN (SELECT id FROM users)",
}


@pytest.fixture(scope="module")
def connection(pg_server: object) -> Iterator[psycopg.Connection]:
    """The tables on a real server."""
    from zdd_migrate.postgres.servers import Server

    assert isinstance(pg_server, Server)
    with pg_server.scratch_database() as name, pg_server.connect(name) as opened:
        opened.execute(SCHEMA.encode())
        yield opened


def touched(connection: psycopg.Connection, query: str) -> set[tuple[str, str]]:
    """The columns whose renaming keeps the server from preparing a query."""
    out = set()
    for table, column in COLUMNS:
        with connection.transaction(force_rollback=True):
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO zdd_gone".encode())
            try:
                with connection.transaction():
                    connection.execute(f"PREPARE q AS {query}".encode())
                    connection.execute(b"DEALLOCATE q")
            except psycopg.errors.UndefinedColumn:
                out.add((table, column))
            except psycopg.Error as error:  # another name is found instead, of another type
                out.add((table, column)) if error.sqlstate != "42P05" else None
    return out


@pytest.mark.pg
@pytest.mark.parametrize("query", QUERIES)
def test_what_a_rename_breaks_is_seen(query: str, connection: psycopg.Connection) -> None:
    """Never less than what the server says, and hardly ever more."""
    usage = analyse(query, schema_of(SCHEMA))
    ours = {(t.name, c) for t, c in usage.columns if (t.name, c) in COLUMNS}
    theirs = touched(connection, query)

    assert not usage.problem
    assert ours >= theirs
    if query not in MORE:
        assert ours == theirs


def test_stars_are_of_the_tables_they_stand_for() -> None:
    """Not of those beside them; and a whole row is a star."""
    schema = schema_of(SCHEMA)
    users, orders = QName("public", "users"), QName("public", "orders")

    for query, wanted in {
        "SELECT * FROM users": {users},
        "SELECT u.* FROM users u, orders o": {users},
        "SELECT count(*) FROM users": set(),
        "SELECT note FROM orders WHERE EXISTS (SELECT * FROM users)": {users},
        "SELECT * FROM users u JOIN orders o ON true": {users, orders},
        "SELECT u FROM users u": {users},
        "INSERT INTO users VALUES (1)": {users},
        "UPDATE users SET name = '' RETURNING *": {users},
        "DELETE FROM users RETURNING id": set(),
    }.items():
        assert analyse(query, schema).stars == wanted, query


def test_what_is_written_is_known() -> None:
    """The table, the columns an INSERT names, what is assigned, what ON CONFLICT names."""
    schema = schema_of(SCHEMA)
    users = QName("public", "users")
    usage = analyse(
        "INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (email) DO UPDATE SET age = 3",
        schema,
    )

    assert usage.written == {users}
    assert [(i.table, i.columns) for i in usage.insertions] == [(users, ("id", "name"))]
    assert usage.assigned == {(users, "age")}
    assert usage.conflicts == ((users, ("email",)),)
    assert set(usage.sources) == {(1, users, "id"), (2, users, "name")}


def test_parameters_belong_to_the_columns_they_are_compared_with() -> None:
    """So that values can be drawn from the data."""
    schema = schema_of(SCHEMA)
    users, orders = QName("public", "users"), QName("public", "orders")
    usage = analyse(
        "UPDATE users u SET name = $1 FROM orders o WHERE o.user_id = $2 AND u.age BETWEEN $3 AND $4 "
        "AND u.email IN ($5)",
        schema,
    )

    assert set(usage.sources) == {
        (1, users, "name"),
        (2, orders, "user_id"),
        (3, users, "age"),
        (4, users, "age"),
        (5, users, "email"),
    }


@pytest.mark.parametrize(
    "query",
    ["CALL tidy()", "DO $$ BEGIN END $$", "SELEC name FROM users", "SELECT 'open", "EXECUTE x"],
)
def test_what_cannot_be_followed_says_so(query: str) -> None:
    """A problem, and the words in the text; never an empty answer."""
    usage = analyse(query, schema_of(SCHEMA))

    assert usage.problem
    assert usage.words


def test_copy_and_cursors() -> None:
    """COPY names a table or holds a query, a cursor holds one."""
    schema = schema_of(SCHEMA)
    users = QName("public", "users")

    assert analyse("COPY users (id, name) FROM STDIN", schema).columns == {
        (users, "id"),
        (users, "name"),
    }
    assert analyse("COPY public.users TO STDOUT", schema).stars == {users}
    assert analyse("COPY (SELECT age FROM users) TO STDOUT", schema).columns == {(users, "age")}
    assert analyse("DECLARE c CURSOR FOR SELECT age FROM users", schema).columns == {(users, "age")}
