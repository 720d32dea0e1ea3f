"""Programs as code versions: whatever can be started and given the database's URL."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.postgres.serverlog import LoggedError, read_errors
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.recording import Recorded, Recorder
from zdd_migrate.verify.versions import Session
from zdd_migrate.verify.workers import Crew

_COMMAND_SECONDS = 120


@dataclass(slots=True)
class Command:
    """Any program that is given the database's URL in DATABASE_URL; exit status 0 means it worked.

    `command` is split as a shell would, `python` at its start is this interpreter, `{url}` in it is
    the URL. It runs in `directory` with `environment` added.
    """

    name: str
    command: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    depth: str = "command"

    @property
    def has_work(self) -> bool:
        """A program always has."""
        return True

    def argv(self, url: str) -> list[str]:
        """The program and its arguments; InputError when it is nothing to run."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"versions.{self.name}.command: {error}") from None
        if not words:
            raise InputError(f"versions.{self.name}.command is empty")
        if words[0] in ("python", "python3"):
            words[0] = sys.executable
        return [word.replace("{url}", url) for word in words]

    def open(self, server: Server, database: str, crew: Crew) -> Session:
        """Nothing is started yet; the program runs once a round."""
        return _CommandSession(self, server, database)


class _CommandSession:
    whole_runs = True

    def __init__(self, version: Command, server: Server, database: str) -> None:
        self.version = version
        self.recorder = Recorder()
        self.server = server
        self.application = f"zdd-{version.name}-command"
        self.url = server.dsn(database, self.application)
        self.offset = (
            server.log_path.stat().st_size if server.log_path and server.log_path.exists() else 0
        )
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.process: subprocess.Popen[str] | None = None

    def work_once(self) -> None:
        argv = self.version.argv(self.url)
        started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                argv,
                cwd=self.version.directory,
                env={**os.environ, **self.version.environment, "DATABASE_URL": self.url},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise InputError(
                f"versions.{self.version.name}.command does not start: {argv[0]}: {error.strerror}"
            ) from None
        try:
            output, _ = self.process.communicate(timeout=_COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self.recorder.unclear(f"{self.version.command} did not end in {_COMMAND_SECONDS} s")
            return
        self.recorder.ran(time.monotonic() - started if self.process.returncode == 0 else 0.0)
        self._judge(output, self.process.returncode)
        self.recorder.round_done()

    def _judge(self, output: str, status: int) -> None:
        if self.stopping.is_set() and status < 0:
            return  # we ended it ourselves
        if status in (126, 127):
            raise InputError(
                f"versions.{self.version.name}.command does not start: {self.version.command} "
                f"ended with {status}: {_last(output)}"
            )
        logged: list[LoggedError] = []
        if self.server.log_path is not None:
            logged, self.offset = read_errors(self.server.log_path, self.offset, self.application)
        if status == 0:
            return
        for error in logged:
            self.recorder.failed(error.sqlstate, error.message, error.statement)
        if not logged:
            said = _last(output)
            if "ModuleNotFoundError" in said or "can't open file" in said:
                raise InputError(f"versions.{self.version.name}.command does not start: {said}")
            self.recorder.failed("-----", f"{self.version.command} ended with {status}: {said}", "")

    def start(self) -> None:
        self.stopping.clear()
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        while not self.stopping.is_set():
            try:
                self.work_once()
            except InputError as error:
                self.recorder.unclear(str(error))
                return

    def stop(self) -> None:
        """The round under way is let finish: ending it would look like a failure."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def take(self) -> Recorded:
        return self.recorder.take()

    def close(self) -> None:
        self.stop()
        self._kill()

    def _kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it printed nothing"
