"""Programs of our own beside us: run by an unprivileged user, gone when we are, whatever ends us."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a server runs as: ourselves, or somebody unprivileged when we are root."""

    uid: int
    gid: int

    def popen(self) -> dict[str, object]:
        """What subprocess needs to be told."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged() -> Owner:
    """The owner of what is started here."""
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Owner(entry.pw_uid, entry.pw_gid)
    return Owner(65534, 65534)


def scratch_directory(owner: Owner) -> Path:
    """A directory that the owner alone may enter."""
    directory = Path(tempfile.mkdtemp(prefix="zdd-pg-"))
    hand_over(directory, owner)
    return directory


def hand_over(path: Path, owner: Owner) -> None:
    """Make it the owner's."""
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid)


def start(directory: Path, owner: Owner, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a server; it says what it says into `server.log` there, and takes the directory along
    when it ends."""
    log = directory / "server.log"
    log.touch()
    hand_over(log, owner)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "zdd_migrate.postgres.supervisor",
            str(directory),
            str(owner.uid),
            str(owner.gid),
            "--",
            *command,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(supervisor: subprocess.Popen[bytes]) -> None:
    """Let it go, and wait until it is gone."""
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    try:
        supervisor.wait(30)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
