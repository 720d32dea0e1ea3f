"""Runs one program for as long as whoever started it: `keeper.py FD -- PROGRAM ARGUMENT…`.

FD is the reading end of a pipe; when its writing end closes, because the owner closed it, crashed or
was killed, the program's whole process group is asked to end, and then made to. Whatever the
program left running in its group ends with it. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_PATIENCE_S = 5


def main(argv: list[str]) -> int:
    """Run it; returns its exit status, 127 when it does not start, 128 + N after signal N."""
    watched, command = int(argv[0]), argv[2:]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        program = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_usual_signals
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)  # noqa: T201 - a program's output
        return 127

    def watch() -> None:
        while os.read(watched, 1024):
            pass
        _tell(program, signal.SIGTERM)
        try:
            program.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            _tell(program, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = program.wait()
    _tell(program, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _usual_signals() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


def _tell(program: subprocess.Popen[bytes], what: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
