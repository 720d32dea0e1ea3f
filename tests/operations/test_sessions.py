"""What SET leaves behind ends with the migration, what SET LOCAL leaves behind with its transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.statements import read_sql

ADD = "ALTER TABLE a ADD b int;"


def without_timeout(*texts: str) -> list[tuple[str, int]]:
    """Where ZDD110 finds a lock waited for without a lock_timeout: (file, line)."""
    migrations = [read_sql(t, f"{n}.sql", in_transaction=False) for n, t in enumerate(texts)]
    report = Checker(Config(Path()), pg=16).run(migrations, Schema())
    return [(f.span.path, f.span.line) for f in report.findings if f.rule == "ZDD110"]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([f"SET lock_timeout = '2s';\n{ADD}", ADD], [("1.sql", 1)]),
        ([f"BEGIN;\nSET LOCAL lock_timeout = '2s';\n{ADD}\nCOMMIT;\n{ADD}"], [("0.sql", 5)]),
        ([f"SET lock_timeout = '2s';\nBEGIN;\n{ADD}\nCOMMIT;\n{ADD}"], []),
        ([f"SET lock_timeout = '2s';\n{ADD}\nRESET lock_timeout;\n{ADD}"], [("0.sql", 4)]),
    ],
)
def test_a_timeout_holds_as_long_as_its_session(
    texts: list[str], found: list[tuple[str, int]]
) -> None:
    """Never beyond: the next file may be run by another session."""
    assert without_timeout(*texts) == found


def test_a_dump_leaves_its_search_path_behind() -> None:
    """pg_dump empties search_path; the next migration's names are looked up as usual."""
    schema = Schema()
    dump = "SELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE public.a (b int);"
    replay(read_sql(dump, "dump.sql").statements, schema)
    replay(read_sql("ALTER TABLE a ADD c int", "1.sql").statements, schema)
    assert [c.name for c in schema.tables[QName("public", "a")].columns] == ["b", "c"]
