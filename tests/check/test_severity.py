"""Severity follows sizes and traffic where they are known, and says what it assumed where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.cost import Prices, in_bytes, in_words
from zdd_migrate.model.finding import Finding, Severity
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.statements import read_sql

BEFORE = "CREATE TABLE users (id bigint PRIMARY KEY, email text, age int);"
USERS = QName("public", "users")
GB = 1_000_000_000


def check(
    sql: str, *, size: int | None = None, writes: float | None = None, prices: Prices | None = None
) -> dict[str, Finding]:
    """What is found in a migration of a table that is so large and so busy."""
    schema = Schema(complete=True)
    replay(read_sql(BEFORE, "before.sql").statements, schema)
    table = schema.tables[USERS]
    schema.put_table(replace(table, rows=None, bytes=size, writes_per_second=writes))
    config = Config(root=Path(), prices=prices or Prices())
    report = Checker(config).run([read_sql(sql, "m.sql", in_transaction=False)], schema)
    return {f.rule: f for f in report.findings}


INDEX = "CREATE INDEX i ON users (email);"


@pytest.mark.parametrize(
    ("size", "writes", "severity"),
    [
        (None, None, Severity.ERROR),
        (8_192, 0.0, Severity.INFO),
        (8_192, 50.0, Severity.WARNING),
        (200_000_000, 0.0, Severity.WARNING),
        (200_000_000, 50.0, Severity.ERROR),
        (100 * GB, 0.0, Severity.ERROR),
    ],
)
def test_a_blocking_build_is_graded(
    size: int | None, writes: float | None, severity: Severity
) -> None:
    """By the time it takes, one step higher where somebody is known to wait."""
    assert check(INDEX, size=size, writes=writes)["ZDD101"].severity is severity


def test_the_time_is_said_and_so_is_what_was_assumed() -> None:
    """With a size, how long; without one, that it was taken to be large."""
    known = check(INDEX, size=12 * GB, writes=0.0)["ZDD101"]
    unknown = check(INDEX)["ZDD101"]

    assert "At 12 GB that is about 5 minutes." in known.message
    assert known.assumed == ()
    assert unknown.assumed == ("public.users is large: its size is not known",)


def test_the_bars_are_configurable() -> None:
    """What one team calls long, another does not."""
    slow = Prices(index_mb_per_second=1.0)
    patient = Prices(long_seconds=10_000.0, brief_seconds=5_000.0)

    assert (
        check(INDEX, size=20_000_000, writes=0.0, prices=slow)["ZDD101"].severity is Severity.ERROR
    )
    assert (
        check(INDEX, size=12 * GB, writes=0.0, prices=patient)["ZDD101"].severity is Severity.INFO
    )


def test_a_short_lock_matters_on_a_busy_table() -> None:
    """Without a lock_timeout it is a finding in any case; who is known to wait decides how bad."""
    column = "ALTER TABLE users ADD COLUMN city text;"
    busy = check(column, size=8_192, writes=40.0)["ZDD110"]

    assert check(column)["ZDD110"].severity is Severity.INFO
    assert check(column, size=8_192, writes=0.0)["ZDD110"].severity is Severity.INFO
    assert busy.severity is Severity.WARNING
    assert "public.users takes about 40 writes a second" in busy.message
    assert "ZDD110" not in check(f"SET lock_timeout = '2s';\n{column}", writes=40.0)


def test_new_tables_are_empty_whatever_they_are_called() -> None:
    """What the migration made itself costs nothing."""
    found = check(
        "CREATE TABLE notes (id bigint PRIMARY KEY, b text); CREATE INDEX i ON notes (b);"
    )

    assert not [f for f in found.values() if f.severity is not Severity.INFO]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than a second"),
        (1, "about 1 second"),
        (89, "about 89 seconds"),
        (90, "about 2 minutes"),
        (3_600, "about 60 minutes"),
        (7_200, "about 2 hours"),
        (300_000, "about 3 days"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    """Rough on purpose."""
    assert in_words(seconds) == words


def test_sizes_in_words() -> None:
    """In powers of a thousand."""
    assert [in_bytes(n) for n in (512, 8_192, 12 * GB, 3_400 * GB)] == [
        "512 bytes",
        "8.2 kB",
        "12 GB",
        "3.4 TB",
    ]
