"""Instances as processes: recorded before they start, found again after a crash of the runner.

Each has a directory with `record.json` (what it is, written before it starts), `pid` (written by
the process itself before it becomes the program) and `log`. A process is ours when its environment
carries the instance's name: a number that the system gave to another program is never touched.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from zdd_migrate.errors import EnvironmentFailedError, InputError

_MARK = "ZDD_INSTANCE"
_SETTLING = 3.0
"""Seconds after its record was written in which an instance may still have no process."""


_LAUNCH = """/bin/sh -c 'echo $$ > "$0" && exec "$@"' "$0" "$@" &"""
"""In the background, so that nobody but the system has to reap it, whoever outlives whom."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: `name` is unique, `begun` in Unix seconds."""

    name: str
    build: str
    port: int
    begun: float
    warm: bool = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Build:
    """How a build is started: a command, its directory, its environment."""

    command: str
    directory: Path
    environment: Mapping[str, str]


class Processes:
    """The instances in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def all(self) -> list[Instance]:
        """Every recorded instance, oldest first, running or not."""
        found = []
        for record in self.directory.glob("*/record.json"):
            try:
                found.append(Instance(**json.loads(record.read_text(encoding="utf-8"))))
            except (ValueError, TypeError, OSError):
                continue  # its writer was killed: no process was started yet
        return sorted(found, key=lambda i: (i.begun, i.name))

    def start(self, name: str, build: Build) -> Instance:
        """Start an instance on a free port."""
        instance = Instance(
            f"{name.replace('@', ':')}-{secrets.token_hex(3)}", name, _free_port(), time.time()
        )
        home = self._home(instance)
        home.mkdir(parents=True)
        self._record(instance)
        try:
            command = shlex.split(build.command)
        except ValueError as error:
            raise InputError(f"builds: {build.command!r} is no command: {error}") from None
        environment = {
            **os.environ,
            **build.environment,
            "HOST": "127.0.0.1",
            "PORT": str(instance.port),
            _MARK: instance.name,
        }
        with (home / "log").open("ab") as log:
            subprocess.run(
                ["/bin/sh", "-c", _LAUNCH, str(home / "pid"), *command],
                check=True,
                cwd=build.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return instance

    def alive(self, instance: Instance) -> bool:
        """Whether its process runs, or may just be starting."""
        if self._process(instance) is not None:
            return True
        return not self._pid(instance) and time.time() - instance.begun < _SETTLING

    def mark_warm(self, instance: Instance) -> Instance:
        """Note that it has been warmed up."""
        warm = replace(instance, warm=True)
        self._record(warm)
        return warm

    def stop(self, instance: Instance, grace: float) -> bool:
        """Ask it to end, and end it after `grace` seconds; whether asking was enough."""
        process = self._process(instance)
        gently = True
        if process is not None:
            gently = end(process, grace)
        shutil.rmtree(self._home(instance), ignore_errors=True)
        return gently

    def last_words(self, instance: Instance) -> str:
        """The end of what it wrote, in one line."""
        try:
            text = (self._home(instance) / "log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " ".join(text.split())[-300:]

    def _home(self, instance: Instance) -> Path:
        return self.directory / instance.name.replace(":", "_")

    def _record(self, instance: Instance) -> None:
        home = self._home(instance)
        partial = home / "record.partial"
        partial.write_text(json.dumps(asdict(instance)), encoding="utf-8")
        partial.replace(home / "record.json")

    def _pid(self, instance: Instance) -> int:
        try:
            return int((self._home(instance) / "pid").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def _process(self, instance: Instance) -> psutil.Process | None:
        pid = self._pid(instance)
        if not pid:
            return None
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return process if process.environ().get(_MARK) == instance.name else None
        except psutil.AccessDenied:
            raise EnvironmentFailedError(
                f"process {pid} of {instance.name} belongs to another user: run zdd-deploy as the "
                "user who started the release"
            ) from None
        except (psutil.Error, OSError):
            return None


def end(process: psutil.Process, grace: float) -> bool:
    """End a process and those it started; whether SIGTERM was enough within `grace` seconds."""
    family = [process]
    with suppress(psutil.Error):
        family += process.children(recursive=True)
        process.terminate()
    gently = _gone(process, grace)
    for one in family:
        with suppress(psutil.Error):
            one.send_signal(signal.SIGKILL)
            _gone(one, 5)
    return gently


def _gone(process: psutil.Process, seconds: float) -> bool:
    """Wait for a process that is not our child: one that only waits to be reaped is gone too."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.Error:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _free_port() -> int:
    """A port that nobody listens on now. It may be taken before the instance does: start again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
