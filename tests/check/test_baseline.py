"""A baseline leaves alone what was there, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zdd_migrate.check import Checker, baseline
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.model.finding import Report
from zdd_migrate.model.schema import Schema
from zdd_migrate.reading.statements import read_sql

DROP = "ALTER TABLE users DROP COLUMN age;\n"


def check(sql: str, root: Path) -> Report:
    """Findings of m.sql below the root."""
    read = read_sql(sql, str(root / "m.sql"), in_transaction=False)
    return Checker(Config(root=root)).run([read], Schema())


def test_known_findings_survive_lines_that_move(tmp_path: Path) -> None:
    """What is written above, and how it is spaced, changes nothing; another statement is new."""
    file = tmp_path / "baseline.json"
    baseline.write(check(DROP, tmp_path), file, tmp_path)
    moved = check("-- a comment\n\nSELECT 1;\nALTER TABLE users\n  DROP COLUMN age;\n", tmp_path)
    other = check(DROP + "ALTER TABLE users DROP COLUMN city;\n", tmp_path)

    assert baseline.apply(moved, file, tmp_path) == 0
    assert baseline.apply(other, file, tmp_path) == 0

    assert moved.worst() is None
    assert {f.reason for f in moved.findings} == {baseline.REASON}
    assert [f.span.line for f in other.findings if not f.suppressed and f.rule == "ZDD202"] == [2]


def test_the_same_statement_again_is_new(tmp_path: Path) -> None:
    """One entry excuses one finding."""
    file = tmp_path / "baseline.json"
    baseline.write(check(DROP, tmp_path), file, tmp_path)
    twice = check(DROP + DROP, tmp_path)
    baseline.apply(twice, file, tmp_path)

    assert [f.suppressed for f in twice.findings if f.rule == "ZDD202"] == [True, False]


def test_entries_that_match_nothing_are_counted(tmp_path: Path) -> None:
    """So that a baseline shrinks."""
    file = tmp_path / "baseline.json"
    written = baseline.write(check(DROP, tmp_path), file, tmp_path)

    assert baseline.apply(check("SELECT 1;", tmp_path), file, tmp_path) == written > 0


def test_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    """Sorted, one finding a line, nothing of the machine in it."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    baseline.write(check(DROP, tmp_path), first, tmp_path)
    elsewhere = tmp_path / "deeper"
    elsewhere.mkdir()
    baseline.write(check(DROP, elsewhere), second, elsewhere)

    assert first.read_text() == second.read_text()
    assert str(tmp_path) not in first.read_text()
    assert json.loads(first.read_text())["version"] == 1


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2, "findings": []}', '{"version": 1}'])
def test_a_broken_baseline_is_said(tmp_path: Path, text: str) -> None:
    """Fails closed: no baseline is not an empty one."""
    file = tmp_path / "baseline.json"
    file.write_text(text)

    with pytest.raises(InputError, match=r"baseline\.json"):
        baseline.apply(check(DROP, tmp_path), file, tmp_path)
    with pytest.raises(InputError, match="write-baseline"):
        baseline.apply(check(DROP, tmp_path), tmp_path / "none.json", tmp_path)
