"""Other revisions of the users' code, checked out beside their working copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zdd_migrate.errors import EnvironmentFailedError, InputError

_PREFIX = "zdd-worktree-"


@contextmanager
def checkout(directory: Path, revision: str) -> Iterator[Path]:
    """What `directory` was at a revision, in a worktree that is removed afterwards. InputError."""
    top = _git(directory, "rev-parse", "--show-toplevel")
    if top is None:
        raise InputError(f"{directory} is in no git repository, so there is no revision {revision}")
    root = Path(top.strip()).resolve()
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        raise InputError(f"{root} has no revision {revision}")
    _tidy(root)
    made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        if _git(root, "worktree", "add", "--detach", "--force", str(made), commit.strip()) is None:
            raise InputError(f"{revision} of {root} could not be checked out")
        here = made / directory.resolve().relative_to(root)
        if not here.is_dir():
            raise InputError(
                f"{directory.resolve().relative_to(root)} is not there in revision {revision}"
            )
        yield here
    finally:
        _git(root, "worktree", "remove", "--force", str(made))
        shutil.rmtree(made, ignore_errors=True)
        _git(root, "worktree", "prune")


def _tidy(root: Path) -> None:
    """Remove worktrees of ours whose process is gone: it was killed."""
    listed = _git(root, "worktree", "list", "--porcelain") or ""
    for path, pid in re.findall(rf"^worktree (.*/{_PREFIX}(\d+)-[^/\n]*)$", listed, re.MULTILINE):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            _git(root, "worktree", "remove", "--force", path)
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue  # somebody else's, and alive


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")},
        )
    except FileNotFoundError:
        raise EnvironmentFailedError("revisions need git, which is not installed here") from None
    return done.stdout if done.returncode == 0 else None
