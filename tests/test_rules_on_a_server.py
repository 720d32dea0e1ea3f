"""Rules are run on a real server: advice works, and what is warned of really happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.test_rules import EXAMPLES, MARK, name_of, wanted
from zdd_migrate.model.locks import LockMode
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.split import split
from zdd_migrate.rulebook import Example, Rule

pytestmark = pytest.mark.pg

RUN = [(r, e) for r, e in EXAMPLES if "not-run" not in e.options]
SAFE = [(r, e) for r, e in RUN if e.safe]
UNSAFE = [(r, e) for r, e in RUN if not e.safe and r.id in e.sql]
#: rules whose statement fails, and with what
FAILS = {
    "ZDD401": "25001",
    "ZDD402": "42703",
    "ZDD409": "55P04",
    "ZDD901": "42601",
}
#: rules whose hazard is not of the statement or comes later, and why nothing can be measured here
SAID_ONLY = {
    "ZDD123": "a scan on each later DELETE",
    "ZDD128": "a fault of early releases of 14",
    "ZDD135": "ZDD107 shows what is done twice",
    "ZDD140": "what the transaction holds in between",
    "ZDD143": "only a second refresh waits",
    "ZDD213": "a plan that is slower later",
    "ZDD218": "what new code may write",
    "ZDD222": "values beyond two thousand million",
    "ZDD223": "what new code may write",
    "ZDD225": "when an error comes",
    "ZDD239": "what new code may write",
    "ZDD302": "row locks until COMMIT",
    "ZDD305": "a crash of the server",
    "ZDD406": "see test_if_not_exists_keeps_an_invalid_index",
    "ZDD407": "one more index for each try",
    "ZDD408": "slow queries in between",
    "ZDD410": "how long others wait",
    "ZDD411": "what a failure leaves behind",
    "ZDD413": "see test_long_names_are_cut",
    "ZDD414": "a second run",
    "ZDD701": "a habit",
    "ZDD702": "a habit",
    "ZDD703": "a second index costs, nothing fails",
    "ZDD705": "values beyond two thousand million",
    "ZDD706": "a price that comes later",
    "ZDD707": "a habit",
    "ZDD902": "about the file, not the database",
}


@dataclass(frozen=True)
class Block:
    """An example taken apart: schema, what code says, and the migration's statements.

    Old code's statements work before; `afterwards` are statements that must fail after it.
    """

    before: list[str]
    old: list[tuple[str | None, str]]
    prepared: list[str]
    afterwards: list[str]
    #: (statement, whether the rule is expected at it)
    migration: list[tuple[str, bool]]


def block(rule: Rule, example: Example) -> Block:
    """The example's parts; comments say what old code does."""
    before, _, migration = example.sql.rpartition(MARK)
    named = {line for line, id_ in wanted(migration) if id_ == rule.id}
    old = re.findall(r"^-- old code(?: as (\w+))?: (.+)$", before, re.MULTILINE)
    marked = [
        (piece.text, migration[: piece.end].count("\n") + 1 in named)
        for piece in split(migration)
        if piece.kind == "statement"
    ]
    return Block(
        [piece.text for piece in split(before) if piece.kind == "statement"],
        [(role or None, sql) for role, sql in old],
        re.findall(r"^-- prepared: (.+)$", before, re.MULTILINE),
        re.findall(r"^-- afterwards: (.+)$", before, re.MULTILINE),
        marked,
    )


@pytest.fixture(scope="module")
def shared(pg_server: Server) -> Iterator[str]:
    """One database for all blocks: making one for each takes longer than all they do."""
    with pg_server.scratch_database() as name:
        yield name


@pytest.fixture
def opened(
    pg_server: Server, shared: str
) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Two autocommit connections to the database as it was when it was new."""
    with pg_server.connect(shared) as connection:
        clean(connection)
    with pg_server.connect(shared) as one, pg_server.connect(shared) as two:
        yield one, two


_LEFT = """
SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication
UNION ALL SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL SELECT format('DROP ACCESS METHOD %I', amname) FROM pg_am WHERE oid > 16383
UNION ALL SELECT format('DROP OWNED BY %I CASCADE', rolname) FROM pg_roles
  WHERE oid > 16383 AND NOT rolsuper
UNION ALL SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE oid > 16383 AND NOT rolsuper
"""


def clean(connection: psycopg.Connection) -> None:
    """Take away whatever the block before made."""
    for (drop,) in connection.execute(_LEFT).fetchall():
        connection.execute(drop.encode())
    connection.execute("CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")


def needs(example: Example, server: Server) -> None:
    """Skip what this server is too old for."""
    for word in example.options:
        if word.startswith("pg") and int(word[2:]) > server.major:
            pytest.skip(f"needs Postgres {word[2:]}, this is {server.major}")


@pytest.mark.parametrize(("rule", "example"), SAFE, ids=name_of)
def test_advice_is_never_refused(
    rule: Rule, example: Example, pg_server: Server, opened: tuple[psycopg.Connection, ...]
) -> None:
    """The safe block runs through, and whatever old code said still works, with the same answer."""
    needs(example, pg_server)
    parts, connection = block(rule, example), opened[0]
    for sql in parts.before:
        connection.execute(sql.encode())
    for i, sql in enumerate(parts.prepared):
        connection.execute(f"PREPARE p{i} AS {sql}".encode())
    said = [ask(opened[1], *each) for each in parts.old]
    for sql, _ in parts.migration:
        connection.execute(sql.encode())

    assert [ask(opened[1], *each) for each in parts.old] == said
    for i in range(len(parts.prepared)):
        connection.execute(f"EXECUTE p{i}".encode())


@pytest.mark.parametrize(("rule", "example"), UNSAFE, ids=name_of)
def test_a_hazard_is_real(
    rule: Rule, example: Example, pg_server: Server, opened: tuple[psycopg.Connection, ...]
) -> None:
    """It fails, or breaks what old code says, or locks and works as the rule claims."""
    needs(example, pg_server)
    parts, (connection, other) = block(rule, example), opened
    for sql in parts.before:
        connection.execute(sql.encode())
    for i, sql in enumerate(parts.prepared):
        other.execute(f"PREPARE p{i} AS {sql}".encode())
    said = [ask(other, *each) for each in parts.old]
    assert all(isinstance(answer, list) for answer in said), "old code works before"
    shown = False
    for sql, here in parts.migration:
        if not here:
            connection.execute(sql.encode())
        elif rule.id in FAILS:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(sql.encode())
            assert caught.value.sqlstate == FAILS[rule.id]
            return
        elif rule.grade is not None or rule.check == "work-under-lock":
            locked, worked = measure(connection, other, sql)
            assert locked, f"nobody waits for {sql}"
            assert worked or rule.grade != "work", f"nothing is worked through by {sql}"
            shown = True
        else:
            connection.execute(sql.encode())
    if rule.id == "ZDD412":
        connection.close()
        assert other.execute(
            "SELECT count(*) FROM pg_attribute WHERE attname = 'city'"
        ).fetchone() == (0,)
        return
    for i in range(len(parts.prepared)):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            other.execute(f"EXECUTE p{i}".encode())
        shown = True
    for sql in parts.afterwards:
        assert isinstance(ask(other, None, sql), str), f"{sql} works"
        shown = True
    if parts.old:
        after = [ask(other, *each) for each in parts.old]
        assert after != said, "old code goes on as if nothing were"
        shown = True

    assert shown != (rule.id in SAID_ONLY), f"{rule.id} shows its hazard: {shown}"


def ask(connection: psycopg.Connection, role: str | None, sql: str) -> list[object] | str:
    """What one statement of old code answers, or its SQLSTATE; nothing of it stays."""
    try:
        with connection.transaction(force_rollback=True):
            if role is not None:
                connection.execute(f'SET LOCAL ROLE "{role}"'.encode())
            cursor = connection.execute(sql.encode())
            return list(cursor.fetchall()) if cursor.description else [cursor.statusmessage]
    except psycopg.Error as error:
        return error.sqlstate or "gone"


BLOCKING = tuple(str(mode) for mode in LockMode if mode.blocks_writes)
_FILES = """SELECT c.oid, pg_relation_filenode(c.oid) FROM pg_class c
  WHERE c.relkind IN ('r', 'i', 'm', 'p') AND c.relnamespace::regnamespace::text !~ '^pg_|^information_'"""
_READ = "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_user_tables"


def measure(
    connection: psycopg.Connection, other: psycopg.Connection, sql: str
) -> tuple[bool, bool]:
    """Whether the statement's transaction keeps writers from a relation, and works through one."""
    own = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    files: dict[int, int] = dict(other.execute(_FILES).fetchall())
    if own:
        connection.execute("BEGIN")
    before = connection.execute(_READ).fetchone()
    connection.execute(sql.encode())
    after = connection.execute(_READ).fetchone()
    now: dict[int, int] = dict(connection.execute(_FILES).fetchall())
    locks = other.execute(
        "SELECT relation FROM pg_locks WHERE pid = %s AND locktype = 'relation' AND granted"
        " AND mode = ANY(%s)",
        (connection.info.backend_pid, list(BLOCKING)),
    ).fetchall()
    if own:
        connection.execute("COMMIT")
    assert before is not None
    assert after is not None
    return bool({oid for (oid,) in locks} & set(files)), now != files or after[0] > before[0]


def test_if_not_exists_keeps_an_invalid_index(opened: tuple[psycopg.Connection, ...]) -> None:
    """ZDD406: the retry after a failed unique build succeeds, and the index stays INVALID."""
    connection = opened[0]
    connection.execute("CREATE TABLE users (email text)")
    connection.execute("INSERT INTO users VALUES ('a'), ('a')")
    build = "CREATE UNIQUE INDEX CONCURRENTLY {} users_email_key ON users (email)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(build.format("").encode())

    connection.execute(build.format("IF NOT EXISTS").encode())

    valid = connection.execute("SELECT indisvalid FROM pg_index WHERE indrelid = 'users'::regclass")
    assert valid.fetchone() == (False,)


def test_long_names_are_cut(opened: tuple[psycopg.Connection, ...]) -> None:
    """ZDD413: 63 bytes are kept."""
    connection = opened[0]
    connection.execute(f"CREATE TABLE {'a' * 70} (id int)".encode())

    names = connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^aaa'").fetchone()
    assert names == ("a" * 63,)


def test_every_rule_shows_its_hazard_or_says_why_not() -> None:
    """A rule that is new must show something, or stand in the list with its reason."""
    shown = {rule.id for rule, _ in UNSAFE}

    assert set(SAID_ONLY) <= shown | {"ZDD902"}
    assert set(FAILS) <= shown
