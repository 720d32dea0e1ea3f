"""PgBouncer in front of a server, in transaction mode: what many applications really talk to.

A client keeps no server connection between two transactions, so nothing that it set or prepared
on one is there on the next. Each database has a few connections, taken in turn.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.postgres.servers import Server
from zdd_migrate.postgres.supervised import (
    free_port,
    hand_over,
    scratch_directory,
    start,
    stop,
    unprivileged,
)

#: no client's statement takes longer: it would keep a connection from all the others
STATEMENT_TIMEOUT_MS = 20_000
_POOL_SIZE = 6
_START_SECONDS = 20
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
#: the first version that passes prepared statements of the protocol on
_PREPARES = (1, 21)


class Pooler:
    """A running PgBouncer. `version` is (1, 18, 0) of 1.18.0."""

    def __init__(self, parameters: dict[str, str], version: tuple[int, ...]) -> None:
        self._parameters = parameters
        self.version = version

    def dsn(self, database: str, application_name: str | None = None) -> str:
        """A URL for clients of a database."""
        return Server.url({**self._parameters, "dbname": database}, application_name)

    @contextmanager
    def _console(self) -> Iterator[psycopg.Connection]:
        """Its own console, which knows neither transactions nor parameters."""
        opened = psycopg.connect(
            self.dsn("pgbouncer"), autocommit=True, connect_timeout=10, prepare_threshold=None
        )
        try:
            yield opened
        finally:
            opened.close()

    @contextmanager
    def let_go(self, database: str) -> Iterator[None]:
        """Without any connection to a database for the length of a block: it can be copied then."""
        name = sql.Identifier(database)
        with self._console() as console:
            try:
                console.execute(sql.SQL("PAUSE {}").format(name))
            except psycopg.DatabaseError:  # it has never heard of it
                yield
                return
            try:
                yield
            finally:
                console.execute(sql.SQL("RESUME {}").format(name))

    def transactions(self) -> int:
        """How many transactions of clients went through it."""
        with self._console() as console, psycopg.ClientCursor(console) as cursor:
            cursor.execute("SHOW STATS_TOTALS")
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return sum(int(row["xact_count"]) for row in rows if row["database"] != "pgbouncer")

    @property
    def told(self) -> str:
        """What it is, for a reader of the verdict."""
        name = f"PgBouncer {'.'.join(map(str, self.version))} in transaction mode"
        if self.version >= _PREPARES:
            return name
        return f"{name}, which passes no prepared statements on (1.21 and later do)"


@contextmanager
def pooled(server: Server) -> Iterator[Pooler]:
    """Clients of a server go through a PgBouncer for the length of a block. It is always stopped.

    EnvironmentFailedError where there is none, or it does not start.
    """
    program = _program()
    version = _version(program)
    for attempt in range(5):
        process, parameters, directory = _start(program, version, server)
        try:
            _await(process, Pooler(parameters, version), directory)
            break
        except _PortTakenError:
            stop(process)
            if attempt == 4:
                raise EnvironmentFailedError("no free port for PgBouncer was found") from None
        except BaseException:
            stop(process)
            raise
    server.pooler = Pooler(parameters, version)
    try:
        yield server.pooler
    finally:
        server.pooler = None
        stop(process)


class _PortTakenError(Exception):
    """Somebody else took the port between looking and starting."""


def _program() -> str:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_PLACES))
    found = shutil.which("pgbouncer", path=places)
    if found is None:
        raise EnvironmentFailedError(
            "--pooled: no pgbouncer was found on this machine; install it (Debian: apt install "
            "pgbouncer), or leave --pooled out"
        )
    return found


def _version(program: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFailedError(f"--pooled: {program} does not start: {error}") from None
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    if found is None:
        raise EnvironmentFailedError(f"--pooled: {program} does not say its version")
    return tuple(int(part) for part in found.groups() if part is not None)


def _start(
    program: str, version: tuple[int, ...], server: Server
) -> tuple[subprocess.Popen[bytes], dict[str, str], Path]:
    owner = unprivileged()
    directory = scratch_directory(owner)
    with server.connect() as connection:
        info = connection.info
        where = {
            "host": info.host,
            "port": str(info.port),
            "user": info.user,
            "password": info.password,
        }
    parameters = {
        "host": "127.0.0.1",
        "port": str(free_port()),
        "user": where["user"],
        "password": secrets.token_hex(16),
    }
    files = {
        "users.txt": f'"{_doubled(parameters["user"])}" "{parameters["password"]}"\n',
        "pgbouncer.ini": _settings(parameters, where, version, directory),
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
        (directory / name).chmod(0o600)
        hand_over(directory / name, owner)
    process = start(directory, owner, [program, str(directory / "pgbouncer.ini")])
    return process, parameters, directory


def _settings(
    parameters: dict[str, str], where: dict[str, str], version: tuple[int, ...], directory: Path
) -> str:
    given = " ".join(
        f"{key}='{value.replace(chr(39), chr(39) * 2)}'" for key, value in where.items() if value
    )
    lines = [
        "[databases]",
        f"* = {given} connect_query='SET statement_timeout = {STATEMENT_TIMEOUT_MS}'",
        "[pgbouncer]",
        "pool_mode = transaction",
        f"listen_addr = {parameters['host']}",
        f"listen_port = {parameters['port']}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {directory / 'users.txt'}",
        f"admin_users = {parameters['user']}",
        f"default_pool_size = {_POOL_SIZE}",
        "max_client_conn = 500",
        # whoever asks next gets the connection that rested longest: hardly ever its last one
        "server_round_robin = 1",
        # what is set as a connection begins cannot be kept; those who send it are let in
        "ignore_startup_parameters = extra_float_digits,options",
        "log_connections = 0",
        "log_disconnections = 0",
        "log_stats = 0",
    ]
    if version >= _PREPARES:
        lines.append("max_prepared_statements = 200")
    return "\n".join(lines) + "\n"


def _doubled(name: str) -> str:
    return name.replace('"', '""')


def _await(process: subprocess.Popen[bytes], pooler: Pooler, directory: Path) -> None:
    """Until its console answers."""
    log = directory / "server.log"
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            pooler.transactions()
            return
        except psycopg.OperationalError as error:
            said = log.read_text(errors="replace") if log.exists() else ""
            if "Address already in use" in said:
                raise _PortTakenError from None
            lines = [line for line in said.splitlines() if "FATAL" in line or "ERROR" in line]
            if process.poll() is not None or "FATAL" in said:
                why = (
                    lines[-1].split("FATAL")[-1].strip() if lines else " ".join(str(error).split())
                )
                raise EnvironmentFailedError(f"PgBouncer did not start: {why[:200]}") from None
            time.sleep(0.02)
    raise EnvironmentFailedError(f"PgBouncer did not answer in {_START_SECONDS} s")
