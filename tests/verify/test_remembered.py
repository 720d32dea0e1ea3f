"""A verdict is used again exactly as long as nothing that made it has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.formats.verdicts import BROKEN, GOOD, UNCLEAR
from zdd_migrate.model.verdict import Verdict
from zdd_migrate.verify.remembered import key_of, recall, remember


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zdd-migrate" / "verdicts"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory with a program."""
    (tmp_path / "code" / "app").mkdir(parents=True)
    (tmp_path / "code" / "app" / "main.py").write_text("print(1)\n")
    return tmp_path / "code"


@pytest.mark.parametrize("verdict", [GOOD, BROKEN], ids=["pass", "fail"])
def test_a_verdict_comes_back_whole(verdict: Verdict) -> None:
    """With when it was reached."""
    remember("k", verdict)
    found = recall("k")

    assert found is not None
    assert found.reused
    assert replace(found, reused="") == verdict


def test_what_could_not_be_told_is_never_kept() -> None:
    """It is tried again."""
    remember("k", UNCLEAR)

    assert recall("k") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("{"),
        lambda file: file.write_text('{"at": "", "verdict": {"judgement": "pass"}}'),
        lambda file: file.write_text(file.read_text().replace('"pass"', '"great"')),
    ],
)
def test_what_cannot_be_read_is_tried_again(damage: Callable[[Path], object], cache: Path) -> None:
    """Cut off, of another time, or meddled with."""
    remember("k", GOOD)
    damage(cache / "k.json")

    assert recall("k") is None


def test_whatever_changes_changes_the_key(code: Path) -> None:
    """Plan, options, server, and every file of the code; caches beside it do not count."""
    key = key_of({"plan": "a"}, [code], "embedded 18.4")
    others = {
        key_of({"plan": "b"}, [code], "embedded 18.4"),
        key_of({"plan": "a", "quick": True}, [code], "embedded 18.4"),
        key_of({"plan": "a"}, [code], "embedded 16.2"),
        key_of({"plan": "a"}, [], "embedded 18.4"),
    }
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "main.pyc").write_text("x")
    same = key_of({"plan": "a"}, [code], "embedded 18.4")
    (code / "app" / "main.py").write_text("print(2)\n")
    others.add(key_of({"plan": "a"}, [code], "embedded 18.4"))

    assert key is not None
    assert same == key
    assert len(others) == 5
    assert key not in others


def test_without_knowing_the_server_there_is_no_key() -> None:
    """As with a container, which is not there yet."""
    assert key_of({"plan": "a"}, [], None) is None
