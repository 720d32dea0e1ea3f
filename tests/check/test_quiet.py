"""What is said once, and what is not said at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Finding, Severity
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.statements import read_sql

BEFORE = """
CREATE TABLE users (id bigint PRIMARY KEY, email text, age int);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users (id), age int);
CREATE INDEX orders_user_idx ON orders (user_id);
"""


def check(sql: str, before: str = BEFORE, *, in_transaction: bool = False) -> list[Finding]:
    """Findings of a migration, in order."""
    schema = Schema(complete=True)
    replay(read_sql(before, "before.sql").statements, schema)
    read = read_sql(sql, "m.sql", in_transaction=in_transaction)
    return Checker(Config(root=Path())).run([read], schema).findings


def rules(findings: list[Finding]) -> list[str]:
    """Their ids, without what is said for the curious."""
    return [f.rule for f in findings if f.severity is not Severity.INFO]


def test_a_missing_lock_timeout_is_said_once_for_each_table() -> None:
    """A file with twenty ALTERs has one thing to mend."""
    found = check(
        "ALTER TABLE users ADD COLUMN a int;\nALTER TABLE users ADD COLUMN b int;\n"
        "ALTER TABLE orders ADD COLUMN a int;\n"
    )

    assert [f.span.line for f in found if f.rule == "ZDD110"] == [1, 3]


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ADD COLUMN c int DEFAULT 5, ADD CONSTRAINT k CHECK (c > 0) NOT VALID;",
        (
            "ALTER TABLE users ADD COLUMN c int;\n"
            "ALTER TABLE users ADD CONSTRAINT k CHECK (c > 0) NOT VALID;"
        ),
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey, ADD CONSTRAINT f "
            "FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE NOT VALID;"
        ),
        "CREATE UNIQUE INDEX CONCURRENTLY u ON users (id, email);",
    ],
)
def test_what_asks_nothing_new_of_old_code_is_no_restriction(sql: str) -> None:
    """Columns it does not know, keys it already keeps to, rows that are unique by fewer columns."""
    assert "ZDD206" not in rules(check(sql))


def test_a_restriction_on_what_old_code_writes_is_one() -> None:
    """NOT VALID or not."""
    sql = "ALTER TABLE users ADD CONSTRAINT k CHECK (age > 0) NOT VALID;"

    assert rules(check(sql)) == ["ZDD206"]


def test_an_index_that_follows_the_key_is_seen() -> None:
    """The foreign key's index may come later in the same migration."""
    key = "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (age) REFERENCES users (id) NOT VALID;"
    found = {f.rule for f in check(key)}
    followed = {f.rule for f in check(f"{key}\nCREATE INDEX CONCURRENTLY i ON orders (age);")}

    assert "ZDD123" in found
    assert "ZDD123" not in followed


def test_what_is_not_there_can_be_dropped() -> None:
    """IF EXISTS over nothing hurts nobody."""
    assert check("DROP VIEW IF EXISTS nothing;\nDROP SEQUENCE IF EXISTS nothing;") == []


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("BEGIN;\nALTER TABLE users ADD COLUMN a int;\nCOMMIT;", []),
        ("BEGIN;\nALTER TABLE users ADD COLUMN a int;", ["ZDD412"]),
        ("BEGIN;\nBEGIN;\nCOMMIT;", ["ZDD411"]),
        ("BEGIN;\nCOMMIT;\nBEGIN;\nROLLBACK;", []),
        ("BEGIN;\nSAVEPOINT a;\nROLLBACK TO a;\nCOMMIT;", []),
    ],
)
def test_transactions_are_followed(sql: str, found: list[str]) -> None:
    """Opened twice, left open, or as they should be."""
    assert [r for r in rules(check(sql)) if r.startswith("ZDD41")] == found


def test_a_commit_splits_the_transaction_of_the_tool() -> None:
    """It is not the file's to end."""
    found = check("ALTER TABLE users ADD COLUMN a int;\nCOMMIT;", in_transaction=True)

    assert [(f.rule, f.span.line) for f in found if f.severity is Severity.WARNING] == [
        ("ZDD411", 2)
    ]


def test_one_statement_one_finding_for_one_thing() -> None:
    """The special rule speaks, the general ones do not."""
    assert rules(check("REINDEX TABLE users;")) == ["ZDD129"]
    assert rules(check("ALTER TABLE users ADD COLUMN n bigserial;")) == ["ZDD112"]
    assert rules(check("DELETE FROM users;")) == ["ZDD302"]


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("ALTER INDEX users RENAME TO people;", "ZDD215"),
        ("ALTER DOMAIN price RENAME TO amount;", "ZDD215"),
        ("ALTER DOMAIN price SET SCHEMA other;", "ZDD215"),
        ("ALTER ROLE shop RENAME TO store;", "ZDD215"),
        ("DROP PUBLICATION outbox;", "ZDD227"),
    ],
)
def test_a_name_that_goes_is_said_whatever_it_names(sql: str, rule: str) -> None:
    """ALTER INDEX renames a table too; domains, roles and publications are asked for by name."""
    before = (
        f"{BEFORE}CREATE DOMAIN price AS numeric;\nCREATE PUBLICATION outbox FOR TABLE users;\n"
    )

    assert rules(check(sql, before)) == [rule]


def test_an_index_that_gets_another_name_is_not() -> None:
    """No statement names an index."""
    assert rules(check("ALTER INDEX orders_user_idx RENAME TO orders_by_user;")) == []
