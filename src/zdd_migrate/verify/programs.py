"""Programs of the users: started in a group of their own, and ended with us whatever happens."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from zdd_migrate.errors import InputError

_KEEPER = Path(__file__).parent / "children" / "keeper.py"
_POLL_S = 0.1


class Kept:
    """A program that is running. `output` holds what it has written, both streams."""

    def __init__(
        self, argv: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        reading, self._writing = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(reading), "--", *argv],
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(reading,),
                start_new_session=True,
            )
        finally:
            os.close(reading)

    def wait(self, seconds: float) -> int | None:
        """Its exit status, None when it is not through by then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def end(self) -> None:
        """End it and all that it started."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with suppress(ValueError):
            self._output.close()


def words(setting: str, text: str, python: str) -> list[str]:
    """A command as a shell would split it; `python` at its start is the version's own.

    InputError when it is nothing to run.
    """
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{setting}: {error}") from None
    if not argv:
        raise InputError(f"{setting} is empty")
    if argv[0] in ("python", "python3"):
        argv[0] = python
    return argv


def variables(url: str, port: int | None = None) -> dict[str, str]:
    """What a program is told of the database: DATABASE_URL, and libpq's PG… for psql and the like."""
    parts = urlsplit(url)
    query = {k: v[0] for k, v in parse_qs(parts.query).items()}
    found = {
        "DATABASE_URL": url,
        "PGHOST": query.get("host") or parts.hostname or "",
        "PGPORT": str(parts.port or query.get("port", "5432")),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGAPPNAME": query.get("application_name", ""),
    }
    if port is not None:
        found["PORT"] = str(port)
    return found


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_ready(
    service: Kept,
    check: Sequence[str] | str,
    seconds: float,
    directory: Path,
    environment: Mapping[str, str],
) -> str:
    """Until a URL answers with 2xx (or 3xx), or a command ends with 0; what went wrong, else ""."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not service.running:
            return f"it ended with {service.process.returncode}: {last_line(service.output)}"
        if isinstance(check, str):
            if _answers(check):
                return ""
        else:
            probe = Kept(check, directory, environment)
            status = probe.wait(max(1.0, deadline - time.monotonic()))
            probe.end()
            if status == 0:
                return ""
        time.sleep(_POLL_S)
    return f"it was not ready in {seconds:.0f} s: {last_line(service.output)}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http, of the configuration
            return bool(answer.status < 400)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def last_line(output: str) -> str:
    """What a program said last, for a message of one line."""
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it printed nothing"
