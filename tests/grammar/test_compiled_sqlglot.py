"""Reading is the same with sqlglot's compiled part, which any other dependency may bring along."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: tokens, statements and queries, all compared with libpg_query
READING = ("tests/grammar",)
_PROBE = """
from sqlglot.parser import Parser
class Mine(Parser): pass
try:
    Mine()
except TypeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose sqlglot is the compiled one, of the version installed here."""
    packages = tmp_path_factory.mktemp("compiled")
    version = metadata.version("sqlglot")
    wanted = [f"sqlglot=={version}", f"sqlglotc=={version}"]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages)]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        pytest.skip(f"sqlglot[c] {version} cannot be installed here: {last}")
    return {**os.environ, "PYTHONPATH": str(packages)}


@pytest.mark.e2e
def test_reading_with_compiled_sqlglot(compiled: dict[str, str]) -> None:
    """The fast tests of reading, in a process that cannot subclass sqlglot's parser."""
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE], env=compiled, capture_output=True, text=True, check=True
    )
    assert "compiled" in probe.stdout, f"this is not the compiled sqlglot: {probe.stdout!r}"

    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "not pg and not e2e", *READING],
        cwd=ROOT,
        env=compiled,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
