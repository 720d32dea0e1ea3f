"""A scratch cluster of our own: made from a cached template, run by an unprivileged user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from zdd_migrate.errors import NoServerError
from zdd_migrate.postgres.binaries import Binaries
from zdd_migrate.postgres.supervised import (
    Owner,
    free_port,
    scratch_directory,
    start,
    stop,
    unprivileged,
)

SUPERUSER = "postgres"
#: what a scratch server runs with: nothing is kept, so nothing is synced
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m zdd[%p] app=%a sqlstate=%e ",
    "lc_messages": "C",
    "deadlock_timeout": "200ms",
    "log_checkpoints": "off",
    "autovacuum_naptime": "10s",
}
_INITDB = ("--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1")

_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Running:
    """A started cluster: where it listens, its superuser's password, its log."""

    port: int
    password: str
    log: Path
    socket_directory: Path
    supervisor: subprocess.Popen[bytes]


@contextmanager
def run_cluster(binaries: Binaries, settings: Mapping[str, str]) -> Iterator[Running]:
    """Start a cluster, and stop and remove it afterwards, whatever happens."""
    owner = unprivileged()
    binaries = _reachable(binaries, owner)
    template = _template(binaries, owner)
    running = None
    for attempt in range(5):
        try:
            running = _start(binaries, template, owner, {**SETTINGS, **settings})
            break
        except _PortTakenError:
            if attempt == 4:
                raise NoServerError("no free port for a scratch server was found") from None
    assert running is not None
    try:
        yield running
    finally:
        stop(running.supervisor)


class _PortTakenError(Exception):
    """Somebody else took the port between looking and starting."""


def _reachable(binaries: Binaries, owner: Owner) -> Binaries:
    """The binaries, copied to where the server's user can run them when it cannot reach them."""
    if os.geteuid() != 0 or _runs(binaries, owner):
        return binaries
    source = binaries.directory.parent
    key = hashlib.sha256(f"{source}{binaries.version}".encode()).hexdigest()[:12]
    root = Path(tempfile.gettempdir()) / f"zdd-migrate-binaries-{key}"
    copied = Binaries(
        root / source.parent.name / source.name / "bin", binaries.version, binaries.provider
    )
    if not (root / "done").exists():
        partial = Path(tempfile.mkdtemp(prefix="zdd-migrate-binaries-"))
        shutil.copytree(source, partial / source.parent.name / source.name, symlinks=True)
        # the wheel keeps the libraries it needs beside the package
        libraries = source.parent.parent / f"{source.parent.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        partial.chmod(0o755)
        (partial / "done").touch()
        try:
            partial.rename(root)
        except OSError:  # another run was quicker
            shutil.rmtree(partial, ignore_errors=True)
    if not _runs(copied, owner):
        raise NoServerError(
            f"the unprivileged user {owner.uid} cannot run {binaries.program('postgres')}; "
            "run zdd-migrate as an ordinary user"
        )
    return copied


def _runs(binaries: Binaries, owner: Owner) -> bool:
    try:
        done = subprocess.run(
            [binaries.program("postgres"), "--version"],
            capture_output=True,
            cwd="/",
            timeout=20,
            check=False,
            **owner.popen(),  # type: ignore[call-overload]
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(done.returncode == 0)


def cache_directory() -> Path:
    """Where cluster templates are kept: the user's cache, or a temporary directory of ours."""
    base = os.environ.get("XDG_CACHE_HOME")
    candidates = [Path(base)] if base else []
    with suppress(RuntimeError):  # no home directory is known
        candidates.append(Path.home() / ".cache")
    candidates.append(Path(tempfile.gettempdir()) / f"zdd-migrate-cache-{os.geteuid()}")
    for candidate in candidates:
        directory = candidate / "zdd-migrate"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = directory / f".probe-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        if directory.stat().st_uid == os.geteuid():
            return directory
    return Path(tempfile.mkdtemp(prefix="zdd-migrate-cache-"))


def _template(binaries: Binaries, owner: Owner) -> Path:
    """An initialised data directory to copy; made once for each version and set of options."""
    key = hashlib.sha256(
        repr((str(binaries.directory), binaries.version, _INITDB, owner.uid)).encode()
    ).hexdigest()[:12]
    cache = cache_directory()
    template = cache / f"cluster-{binaries.version}-{key}"
    if template.is_dir():
        return template
    with (cache / f"{template.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.is_dir():
            _initdb(binaries, owner, template)
    return template


def _initdb(binaries: Binaries, owner: Owner, template: Path) -> None:
    scratch = scratch_directory(owner)
    try:
        data = scratch / "data"
        done = subprocess.run(
            [binaries.program("initdb"), "-D", str(data), f"--username={SUPERUSER}", *_INITDB],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
            timeout=180,
            check=False,
            **owner.popen(),  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise NoServerError(f"initdb of Postgres {binaries.version} failed: {_telling(said)}")
        partial = template.with_name(f"{template.name}.{secrets.token_hex(4)}")
        _copy(data, partial)
        partial.rename(template)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _telling(lines: Sequence[str]) -> str:
    """The line that says why: what follows is only the cleaning up."""
    marks = ("No space left", "FATAL:", "error:")
    return next(
        (line.strip() for mark in marks for line in lines if mark in line),
        lines[-1] if lines else "no message",
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a data directory with owners and modes; sparse and shared where the disk can."""
    cp = shutil.which("cp")
    flags = ["-a", "--reflink=auto"] if sys.platform == "linux" else ["-Rp"]
    if cp is not None:
        done = subprocess.run(
            [cp, *flags, str(source), str(target)], capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def _start(
    binaries: Binaries, template: Path, owner: Owner, settings: Mapping[str, str]
) -> Running:
    scratch = scratch_directory(owner)
    data = scratch / "data"
    try:
        _copy(template, data)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        said = "No space left on device" if "No space left" in str(error) else str(error)[:200]
        raise NoServerError(
            f"a scratch server cannot be made in {scratch.parent}: {said}; TMPDIR names another "
            "place"
        ) from None
    hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    hba += "local replication all trust\n"
    (data / "pg_hba.conf").write_text(hba)
    port = free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(scratch),
        "unix_socket_permissions": "0700",
        **settings,
    }
    command = [binaries.program("postgres"), "-D", str(data)]
    for key, value in options.items():
        command += ["-c", f"{key}={value}"]
    supervisor = start(scratch, owner, command)
    running = Running(port, secrets.token_hex(16), scratch / "server.log", scratch, supervisor)
    try:
        _await(running, binaries)
    except BaseException:
        stop(running.supervisor)
        raise
    return running


def _await(running: Running, binaries: Binaries) -> None:
    """Wait until the server answers, then set the superuser's password for TCP."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with psycopg.connect(
                host=str(running.socket_directory),
                port=running.port,
                user=SUPERUSER,
                dbname="postgres",
                autocommit=True,
                connect_timeout=5,
            ) as connection:
                connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{running.password}'")
                return
        except psycopg.OperationalError:
            said = running.log.read_text(errors="replace") if running.log.exists() else ""
            if "could not bind" in said or "Address already in use" in said:
                raise _PortTakenError from None
            if running.supervisor.poll() is not None or "FATAL:  " in said.replace(
                "FATAL:  the database system is", ""
            ):
                lines = [line for line in said.splitlines() if "FATAL" in line or "HINT" in line]
                raise NoServerError(
                    f"Postgres {binaries.version} did not start: "
                    f"{lines[-1].split('FATAL:')[-1].strip() if lines else 'no message'}"
                ) from None
            time.sleep(0.02)
    raise NoServerError(f"Postgres {binaries.version} did not answer in {_START_SECONDS} s")
