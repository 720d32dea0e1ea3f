"""How a run of verify ends: used again, killed outright, or out of disk. Nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.story import BEFORE, SEED, write_plan

pytestmark = pytest.mark.pg
_VERIFY = [sys.executable, "-m", "zdd_migrate", "verify"]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan's directory, with a program that goes on until it is ended."""
    path = write_plan(tmp_path / "plan", "ALTER TABLE users ADD COLUMN city text")
    (tmp_path / "before.sql").write_text(BEFORE)
    (tmp_path / "seed.sql").write_text(SEED)
    return path


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A place for servers, which another user must be able to reach."""
    with tempfile.TemporaryDirectory(prefix="zdd-test-", ignore_cleanup_errors=True) as made:
        path = Path(made)
        path.chmod(0o1777)
        yield path


def _environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "ZDD_NO_CACHE"}
    return {**kept, "XDG_CACHE_HOME": str(tmp_path / "cache"), **more}


def test_a_second_run_is_answered_from_the_first(plan: Path, tmp_path: Path) -> None:
    """Until anything changes, or is asked to be tried again."""
    environment = _environment(tmp_path)

    def run(*more: str) -> dict[str, object]:
        done = subprocess.run(
            [*_VERIFY, str(plan), "--quick", "--postgres", "embedded", "--format", "json", *more],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    first, second = run(), run("-o", f"junit={tmp_path / 'r.xml'}")
    third = run("--no-cache")
    script = plan / "1_expand.sql"
    script.write_text(script.read_text().replace("city text", "city varchar(40)"))

    assert "reused" not in first
    assert second["reused"]
    assert second["trials"] == first["trials"]
    assert "<testsuites" in (tmp_path / "r.xml").read_text()
    assert "reused" not in third
    changed = subprocess.run(
        [*_VERIFY, str(plan), "--quick", "--postgres", "embedded"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert changed.returncode == 1  # another end schema than the migration's
    assert "nothing has changed" not in changed.stdout


def _processes(mark: str) -> list[int]:
    """Processes with a text in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text:
            found.append(int(entry.name))
    return found


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_run_leaves_nothing_behind(plan: Path, tmp_path: Path, scratch: Path) -> None:
    """No server, no pooler, no directory, no process of either code version."""
    pooled = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") is not None
    (tmp_path / "zdd-migrate.toml").write_text(f"[verify]\npooled = {str(pooled).lower()}\n")
    program = tmp_path / "code.py"
    program.write_text("import time\nopen('started', 'w').close()\ntime.sleep(300)\n")
    running = subprocess.Popen(
        [
            *_VERIFY,
            *(str(plan), "--postgres", "embedded", "--old", f"command:python {program}"),
        ],
        cwd=tmp_path,
        env=_environment(tmp_path, TMPDIR=str(scratch)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: (tmp_path / "started").exists(), 120)
    assert _processes(str(scratch))
    assert not pooled or _processes("pgbouncer.ini")

    running.send_signal(signal.SIGKILL)
    running.wait()

    _until(lambda: not _processes(str(scratch)), 120)
    left = [p.name for p in scratch.iterdir() if p.name.startswith("zdd-pg-")]
    assert left == []


def _until(holds: object, seconds: float) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


@contextmanager
def _small_disk(where: Path, size: str) -> Iterator[None]:
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()[:100]}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize(
    ("size", "rows"), [("8m", 0), ("48m", 0), ("64m", 400_000)], ids=["server", "database", "rows"]
)
def test_a_full_disk_ends_the_run_cleanly(
    plan: Path, tmp_path: Path, scratch: Path, size: str, rows: int
) -> None:
    """Too small for a server, for its databases, or for what is written to them: one line, and 3."""
    seed = tmp_path / "seed.sql"
    if rows:
        seed.write_text(SEED.replace("generate_series(1, 500)", f"generate_series(1, {rows})"))
    with _small_disk(scratch / "disk", size):
        done = subprocess.run(
            [*_VERIFY, str(plan), "--postgres", "embedded", "--quick", "--seed", str(seed)],
            capture_output=True,
            text=True,
            env=_environment(tmp_path, TMPDIR=str(scratch / "disk")),
            timeout=300,
            check=False,
        )
        left = [p.name for p in (scratch / "disk").iterdir() if p.name.startswith("zdd-pg-")]

    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "No space left" in done.stderr
    assert left == []
