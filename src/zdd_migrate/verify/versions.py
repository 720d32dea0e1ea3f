"""Code versions: whatever reads and writes the database the way one release does."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psycopg

from zdd_migrate.errors import InputError
from zdd_migrate.postgres.serverlog import LoggedError, read_errors
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.recording import Recorder
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.synthetic import (
    Ledger,
    LostConnectionError,
    SyntheticWriter,
    as_it_is,
)

_COMMAND_SECONDS = 120
#: between two rounds, so that the load leaves the processor to the real programs beside it
_BREATH_S = 0.02


class Session(Protocol):
    """A code version at work on one database, from `open` until `close`."""

    recorder: Recorder

    def work_once(self) -> None:
        """Do one whole round now, and return when it is through."""

    def start(self) -> None:
        """Begin to work in the background, over connections opened now."""

    def stop(self) -> None:
        """Stop working in the background, and wait until all is still."""

    def close(self) -> None:
        """Give everything back."""


class CodeVersion(Protocol):
    """One release's code: `name` is old or new, `depth` says how real it is."""

    name: str
    depth: str

    @property
    def has_work(self) -> bool:
        """Whether there is anything that this version can do."""

    def open(self, server: Server, database: str) -> Session:
        """Connect to a database."""


@dataclass(slots=True)
class Synthetic:
    """Statements made up from the schema this version was written for.

    All its sessions on one lineage of databases share `ledger`, so that a write acknowledged in
    one phase is looked for in the next.
    """

    name: str
    shapes: Sequence[Shape]
    writers: int = 2
    depth: str = "synthetic"
    ledger: Ledger = field(default_factory=Ledger)
    ignored: frozenset[tuple[str, str]] = frozenset()
    _opened: int = 0

    @property
    def has_work(self) -> bool:
        """False where the change leaves this version no table to work on."""
        return bool(self.shapes)

    def open(self, server: Server, database: str) -> Session:
        """Open as many connections as there are writers."""
        self._opened += 1
        seed = self._opened * 10 + (5 if self.name == "new" else 0)
        return SyntheticSession(self, server, database, seed)


class SyntheticSession:
    """Connections of a made-up version at work. `shapes` are its tables as the database has them."""

    def __init__(self, version: Synthetic, server: Server, database: str, seed: int) -> None:
        self.recorder = Recorder(ignored=version.ignored)
        with server.connect(database) as looking:
            self.shapes = [as_it_is(looking, shape) for shape in version.shapes]
        self.connections = [
            server.connect(database, application_name=f"zdd-{version.name}-{i}")
            for i in range(version.writers)
        ]
        self.writers = [
            SyntheticWriter(
                connection,
                self.shapes,
                self.recorder,
                version.ledger,
                marker=f"z{version.name[0]}",
                seed=seed + i,
                transactions=i % 2 == 1,
            )
            for i, connection in enumerate(self.connections)
        ]
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def work_once(self) -> None:
        for writer in self.writers:
            try:
                writer.round()
            except (LostConnectionError, psycopg.OperationalError):
                return

    def start(self) -> None:
        self.stopping.clear()
        self.threads = [
            threading.Thread(target=self._loop, args=(writer,), daemon=True)
            for writer in self.writers
        ]
        for thread in self.threads:
            thread.start()

    def _loop(self, writer: SyntheticWriter) -> None:
        while not self.stopping.is_set():
            try:
                writer.round()
            except (LostConnectionError, psycopg.OperationalError) as error:
                self.recorder.failed("08006", f"the connection was lost {error}", "")
                return
            time.sleep(_BREATH_S)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def close(self) -> None:
        self.stop()
        for connection in self.connections:
            connection.close()


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

    def open(self, server: Server, database: str) -> Session:
        """Nothing is started yet; the program runs once a round."""
        return _CommandSession(self, server, database)


class _CommandSession:
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
