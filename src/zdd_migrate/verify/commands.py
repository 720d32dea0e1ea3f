"""Programs as code versions: whatever can be started and given the database's URL."""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.schema import Schema
from zdd_migrate.postgres.serverlog import LoggedError, read_errors
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.programs import (
    Kept,
    await_ready,
    free_port,
    last_line,
    variables,
    words,
)
from zdd_migrate.verify.recording import Recorded, Recorder
from zdd_migrate.verify.versions import Session
from zdd_migrate.verify.workers import Crew

_COMMAND_SECONDS = 120.0
#: a program that has not connected after this long does so when it likes
_CONNECT_SECONDS = 3.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Service:
    """A program that stays up while the other is run against it; `{port}` is given it as PORT too.

    `ready` is a URL that answers, or a command that ends with 0, within `seconds`.
    """

    start: str
    ready: str
    seconds: float = 60.0


@dataclass(slots=True)
class Command:
    """Any program that is given the database's URL in DATABASE_URL; exit status 0 means it worked.

    `command` is split as a shell would, `python` at its start is the version's own, `{url}` in it
    is the URL and `{port}` the service's port. It runs in `directory` with `environment` added.
    """

    name: str
    command: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable
    service: Service | None = None
    seconds: float = _COMMAND_SECONDS
    depth: str = "command"
    ledger: Ledger | None = None
    #: errors in the server's log of runs that worked: the program provokes them, or bears with them
    borne: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def has_work(self) -> bool:
        """A program always has."""
        return True

    def branched(self) -> Command:
        """It keeps no record."""
        return self

    def prepare(self, server: Server, database: str, schema: Schema, crew: Crew) -> list[str]:
        """See a service come up where it must: that it cannot later on is then no bad setting."""
        if self.service is not None:
            session = _CommandSession(self, server, database)
            session.close()
            if session.unready:
                raise InputError(
                    f"versions.{self.name}.start: {self.service.start} does not come up on its own "
                    f"schema: {session.unready}"
                )
        return []

    def argv(self, setting: str, text: str, url: str, port: int | None) -> list[str]:
        """A program and its arguments; InputError when it is nothing to run."""
        argv = words(f"versions.{self.name}.{setting}", text, self.python)
        return [w.replace("{url}", url).replace("{port}", str(port or "")) for w in argv]

    def open(self, server: Server, database: str, crew: Crew) -> Session:
        """A service is started now; the program runs once a round."""
        return _CommandSession(self, server, database)


_THERE = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s "
    "LIMIT 1"
)


class _CommandSession:
    whole_runs = True

    def __init__(self, version: Command, server: Server, database: str) -> None:
        self.version = version
        self.recorder = Recorder()
        self.server = server
        self.database = database
        #: whether the program under way was seen at the database, or need not be awaited any more
        self.connected = False
        # its own, for the server's log to tell it from the same program at another database
        self.application = f"zdd-{version.name}-command-{secrets.token_hex(2)}"
        self.url = server.client_dsn(database, self.application)
        self.offset = (
            server.log_path.stat().st_size if server.log_path and server.log_path.exists() else 0
        )
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.program: Kept | None = None
        self.service: Kept | None = None
        self.port: int | None = None
        #: why the service did not come up
        self.unready = ""
        if version.service is not None:
            self._serve(version.service)

    @property
    def _environment(self) -> Mapping[str, str]:
        return {**self.version.environment, **variables(self.url, self.port)}

    def _serve(self, service: Service) -> None:
        self.port = free_port()
        argv = self.version.argv("start", service.start, self.url, self.port)
        self.service = Kept(argv, self.version.directory, self._environment)
        check: str | list[str] = service.ready.replace("{port}", str(self.port))
        if not service.ready.startswith(("http://", "https://")):
            check = self.version.argv("ready", service.ready, self.url, self.port)
        try:
            self.unready = await_ready(
                self.service, check, service.seconds, self.version.directory, self._environment
            )
        except BaseException:
            self.service.end()
            raise
        if self.unready:
            self.recorder.failed("-----", f"the service did not come up: {self.unready}", "")

    def work_once(self) -> None:
        if self.unready:
            self._errors_logged()
            self.recorder.ran(0.0)
            return
        argv = self.version.argv("command", self.version.command, self.url, self.port)
        started = time.monotonic()
        self.program = Kept(argv, self.version.directory, self._environment)
        try:
            status = self.program.wait(self.version.seconds)
            output = self.program.output
        finally:
            self.program.end()
        if status is None:
            self.recorder.unclear(
                f"{self.version.command} did not end in {self.version.seconds:.0f} s"
            )
            return
        self.recorder.ran(time.monotonic() - started if status == 0 else 0.0)
        self._judge(output, status)
        self.recorder.round_done()

    def _errors_logged(self) -> list[LoggedError]:
        if self.server.log_path is None:
            return []
        logged, self.offset = read_errors(self.server.log_path, self.offset, self.application)
        return logged

    def _judge(self, output: str, status: int) -> None:
        said = last_line(output)
        if status in (126, 127):
            raise InputError(
                f"versions.{self.version.name}.command does not start: {self.version.command} "
                f"ended with {status}: {said}"
            )
        logged = {(e.sqlstate, e.message, e.statement): e for e in self._errors_logged()}
        if status == 0:
            self.version.borne.update(logged)
            return
        new = [error for key, error in logged.items() if key not in self.version.borne]
        for error in new:
            self.recorder.failed(error.sqlstate, error.message, error.statement)
        if not new:
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
            if self.unready:
                return

    def settle(self, rounds: int) -> None:
        """Until it is connected, or has been through: a change it does not meet says nothing."""
        if self.thread is None or self.connected:
            return
        until = time.monotonic() + _CONNECT_SECONDS
        with self.server.connect(self.database) as connection:
            while time.monotonic() < until and self.thread.is_alive():
                row = connection.execute(_THERE, (self.application,)).fetchone()
                if row is not None or self.recorder.rounds:
                    self.connected = True
                    return
                time.sleep(_LOOK_S)
        self.connected = True

    def last_round(self) -> None:
        """No change is still to come that another run could meet."""
        self.stopping.set()

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
        for kept in (self.program, self.service):
            if kept is not None:
                kept.end()
        self.program = self.service = None
