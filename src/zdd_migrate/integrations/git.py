"""What a branch changes, asked of git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from zdd_migrate.errors import EnvironmentFailedError, InputError

#: variables in which CI systems name the branch that a change is to be merged into
_TARGETS = (
    "GITHUB_BASE_REF",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "CHANGE_TARGET",
    "SYSTEM_PULLREQUEST_TARGETBRANCHNAME",
)


def root(start: Path) -> Path:
    """The checkout that `start` is in. InputError."""
    found = _git(start, "rev-parse", "--show-toplevel")
    if found is None:
        raise InputError(
            f"{start.resolve()} is not in a git repository: run this in a checkout, or zdd-migrate "
            "check on the files"
        )
    return Path(found.strip())


def base_of(
    checkout: Path, given: str | None = None, environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """(what people call the base, the commit where the branch left it). InputError.

    `given` first; else what the CI system says; else the remote's default branch, main or master.
    """
    environment = os.environ if environment is None else environment
    if given is None:
        named = [environment[v] for v in _TARGETS if environment.get(v)]
        candidates = [f"origin/{named[0]}", named[0]] if named else _usual(checkout)
    else:
        candidates = [given, f"origin/{given}"]
    for candidate in candidates:
        if _git(checkout, "rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}") is None:
            continue
        fork = _git(checkout, "merge-base", candidate, "HEAD")
        if fork is None:
            raise InputError(
                f"HEAD and {candidate} have no commit in common here{_shallow(checkout)}"
            )
        return candidate, fork.strip()
    raise InputError(
        f"the base {' or '.join(candidates)} is not in this clone{_shallow(checkout)}"
        + ("" if given else "; or name it with --base")
    )


def _usual(checkout: Path) -> list[str]:
    default = _git(checkout, "rev-parse", "--abbrev-ref", "origin/HEAD")
    names = ["origin/main", "origin/master", "main", "master"]
    return [default.strip(), *names] if default and default.strip() != "origin/HEAD" else names


def _shallow(checkout: Path) -> str:
    if (_git(checkout, "rev-parse", "--is-shallow-repository") or "").strip() == "true":
        return (
            ": it is shallow; fetch all of it (git fetch --unshallow; in actions/checkout "
            "fetch-depth: 0; in GitLab GIT_DEPTH: 0)"
        )
    return ": fetch it first"


def changed(checkout: Path, fork: str) -> list[str]:
    """Files added or changed since `fork`, committed or not, relative to the checkout."""
    committed = _git(
        checkout, "diff", "--name-only", "--diff-filter=d", "--no-renames", "-z", fork, "--"
    )
    fresh = _git(checkout, "ls-files", "--others", "--exclude-standard", "-z")
    if committed is None or fresh is None:
        raise EnvironmentFailedError(f"git cannot compare {checkout} with {fork}")
    return sorted({name for name in (committed + fresh).split("\0") if name})


def _git(directory: Path, *arguments: str) -> str | None:
    """What git answers; None when it says no."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), "-c", "core.quotePath=false", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentFailedError("git is not installed: the gate compares branches") from None
    if done.returncode and "dubious ownership" in done.stderr:
        raise EnvironmentFailedError(
            f"git refuses to look at {directory}, which belongs to another user: git config "
            f"--global --add safe.directory {directory}"
        )
    return done.stdout if done.returncode == 0 else None
