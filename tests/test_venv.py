"""tools/venv says in one line what a machine lacks, and leaves a good environment alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: what the script itself calls
PROGRAMS = ("sh", "cksum", "cat", "dirname", "rm", "mkdir", "sleep")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout's root with the script, and a directory `bin` for the PATH to be."""
    root = tmp_path / "checkout"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "venv", root / "tools" / "venv")
    shutil.copy(ROOT / "pyproject.toml", root / "pyproject.toml")
    (root / "bin").mkdir()
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None
        (root / "bin" / program).symlink_to(found)
    return root


def _run(
    checkout: Path, kind: str = "demo", **environment: str
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(checkout / "bin"), "HOME": str(checkout), **environment}
    return subprocess.run(
        [str(checkout / "bin" / "sh"), "tools/venv", kind],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _python(checkout: Path, name: str, body: str) -> None:
    """A stand-in for a Python: a shell script that answers the script's questions."""
    program = checkout / "bin" / name
    program.write_text(f"#!{checkout}/bin/sh\n{body}\n")
    program.chmod(0o755)


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_no_python_is_said(checkout: Path) -> None:
    """Nothing on the PATH: say what to install, and touch nothing."""
    assert "no Python >= 3.11 on the PATH" in _one_line(_run(checkout))
    assert not (checkout / ".venv").exists()


def test_an_old_python_is_not_enough(checkout: Path) -> None:
    """One that says it is older is passed over; a chosen one is named."""
    _python(checkout, "python3", "exit 1")

    assert "no Python >= 3.11 on the PATH" in _one_line(_run(checkout))
    assert "python3 is not a Python >= 3.11 that runs" in _one_line(
        _run(checkout, PYTHON="python3")
    )


def test_a_missing_venv_module_is_said(checkout: Path) -> None:
    """As on Debian without python3-venv: the line names the package."""
    answers = 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.11 ;; esac'
    _python(checkout, "python3.11", answers)

    assert "python3.11 has no venv module: apt-get install python3.11-venv" in _one_line(
        _run(checkout)
    )


def test_a_later_python_serves_where_the_first_is_old(checkout: Path) -> None:
    """python3 may be anything; python3.12 beside it is used."""
    _python(checkout, "python3", "exit 1")
    _python(checkout, "python3.12", 'case "$1" in -V) echo 3.12 ;; -m) echo used; exit 1 ;; esac')

    done = _run(checkout)

    assert "making .venv with 3.12" in done.stderr
    assert "python3.12 could not make" in done.stderr


def _installed(checkout: Path, kind: str) -> None:
    """Mark a `.venv` as complete, as the script does at its end."""
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    sums = subprocess.run(
        ["cksum"],
        input=(checkout / "pyproject.toml").read_bytes(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    (venv / ".installed").write_text(f"{kind} {sums.strip()} {os.path.realpath(checkout)}\n")


def test_a_good_environment_is_left_alone(checkout: Path) -> None:
    """What tests need includes what the demo needs; nothing is run a second time."""
    _installed(checkout, "dev")

    for kind in ("demo", "dev"):
        done = _run(checkout, kind)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_build_that_goes_on_elsewhere_is_not_disturbed(checkout: Path) -> None:
    """Two terminals: the second says so, and does not remove what the first is making."""
    _installed(checkout, "dev")
    (checkout / ".venv" / ".building").write_text(f"{os.getpid()}\n")

    assert f"process {os.getpid()} is building" in _one_line(_run(checkout))
    assert (checkout / ".venv" / "bin" / "python").exists()


@pytest.mark.parametrize("fault", ["cut short", "moved"])
def test_a_broken_environment_is_made_again(checkout: Path, fault: str) -> None:
    """Left half built, or made for another place: it is not trusted."""
    _installed(checkout, "dev")
    if fault == "cut short":
        (checkout / ".venv" / ".building").write_text("")
    else:
        noted = checkout / ".venv" / ".installed"
        noted.write_text(noted.read_text().strip() + "-elsewhere\n")

    # no Python on the PATH, so that it goes no further than to want a new one
    assert "no Python >= 3.11 on the PATH" in _one_line(_run(checkout))
