"""Keeps one scratch server alive exactly as long as whoever started it.

Run as a program of its own: `python -m zdd_migrate.postgres.supervisor DIRECTORY UID GID -- ARGV`.
It starts the server, waits on standard input, and when that ends, because its owner closed it,
was interrupted, crashed or was killed outright, stops the server and removes the directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Supervise one server; returns its exit status."""
    directory, uid, gid = Path(argv[0]), int(argv[1]), int(argv[2])
    command = argv[argv.index("--") + 1 :]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    root = os.geteuid() == 0
    with (directory / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            start_new_session=True,
            preexec_fn=_default_signals,
            user=uid if root else None,
            group=gid if root else None,
            extra_groups=[] if root else None,
        )
    sys.stdin.buffer.read()  # until the owner is gone
    server.send_signal(signal.SIGINT)  # fast shutdown
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(10)
    shutil.rmtree(directory, ignore_errors=True)
    return server.returncode or 0


def _default_signals() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
