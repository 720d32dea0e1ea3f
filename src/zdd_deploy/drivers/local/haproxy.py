"""HAProxy by its runtime API: fixed pools, servers added and removed at run time, a ticket map.

One frontend draws a ticket (0 to 999) for each request, and a map says which pool holds it. The
map is replaced in one act (`prepare map` … `commit map`), so that shares are exact to 0.1 %, a
blue-green switch is atomic, and the epoch of the runner that did it is stamped with it. The map in
memory is the truth; the file it is read from at a restart is written just before.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from zdd_deploy.drivers.local.processes import end
from zdd_deploy.judge import Counts
from zdd_migrate.errors import EnvironmentFailedError

TICKETS = 1000
POOLS = ("a", "b", "c", "d")

_CONFIG = """\
# Written by zdd-deploy; servers and shares are set through the socket, not here.
global
    stats socket {socket} mode 600 level admin
    pidfile {pidfile}
    log stdout format raw local0 warning
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server {timeout}s
    timeout http-keep-alive 75s
    option redispatch 1
    retries 3
frontend traffic
    bind {bind}
    use_backend %[rand({tickets}),map({map},none)]
backend none
    http-request deny deny_status 503
"""
_POOL = """\
backend {pool}
    balance leastconn
    option httpchk GET {ready}
    http-check expect status 200
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A server's line of `show stat`: `status` as HAProxy says it, `current` open requests."""

    pool: str
    name: str
    status: str
    current: int


@dataclass(frozen=True, slots=True)
class Route:
    """What the map says: weights by build as they were given, the tickets by pool, the epoch."""

    weights: Mapping[str, int]
    tickets: Mapping[str, int]
    epoch: int


class BalancerSilentError(EnvironmentFailedError):
    """HAProxy's socket does not answer."""


class HAProxy:
    """One HAProxy whose files are in `directory`, listening on `bind` (host:port).

    `timeout` is the longest that a request may take, in seconds; `ready` the path of its checks.
    """

    def __init__(self, directory: Path, bind: str, *, ready: str, timeout: float) -> None:
        self.directory = directory
        self.bind = bind
        self.ready = ready
        self.timeout = timeout
        self.socket_path = _socket_path(directory)
        self.map_path = directory / "route.map"

    # -- its process ----------------------------------------------------------------------------

    def running(self) -> bool:
        """Whether its socket answers."""
        try:
            self.ask("show version")
        except BalancerSilentError:
            return False
        return True

    def start(self) -> None:
        """Start it when it does not run, with the shares it had. EnvironmentFailedError."""
        if self.running():
            return
        _own_directory(self.socket_path.parent)
        program = self.program()
        if not self.map_path.exists():
            self._write_map([("epoch", "0"), ("weights", "-")])
        config = self.directory / "haproxy.cfg"
        config.write_text(self._config(), encoding="utf-8")
        with (self.directory / "haproxy.log").open("ab") as log:
            done = subprocess.run(
                [program, "-D", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
        if done.returncode != 0:
            words = " ".join(done.stderr.split())
            if "cannot bind" in words or "Address already in use" in words:
                raise EnvironmentFailedError(
                    f"HAProxy cannot listen on {self.bind}: something else does; stop that, or set "
                    "balancer.bind to a free port"
                )
            raise EnvironmentFailedError(f"HAProxy does not start: {words[-400:]}")
        self._wait_until_running()

    def _wait_until_running(self) -> None:
        for _ in range(100):
            if self.running():
                return
            time.sleep(0.05)
        raise EnvironmentFailedError(f"HAProxy started but {self.socket_path} does not answer")

    def stop(self) -> None:
        """Stop it; its clients' connections are closed."""
        pidfile = self.directory / "haproxy.pid"
        try:
            process = psutil.Process(int(pidfile.read_text(encoding="utf-8")))
            if "haproxy" in process.name():
                end(process, 5)
        except (OSError, ValueError, psutil.Error):
            pass
        self.socket_path.unlink(missing_ok=True)

    @staticmethod
    def program() -> str:
        """HAProxy's path. EnvironmentFailedError when it is not installed."""
        found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise EnvironmentFailedError(
                "haproxy is not installed: apt-get install haproxy (the local driver needs it)"
            )
        return found

    def _config(self) -> str:
        head = _CONFIG.format(
            socket=self.socket_path,
            pidfile=self.directory / "haproxy.pid",
            timeout=max(1, round(self.timeout)),
            bind=self.bind,
            tickets=TICKETS,
            map=self.map_path,
        )
        return head + "".join(_POOL.format(pool=pool, ready=self.ready) for pool in POOLS)

    # -- its socket -----------------------------------------------------------------------------

    def ask(self, command: str) -> str:
        """Send a command; what it answers. BalancerSilentError when nobody does."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(5)
                connection.connect(str(self.socket_path))
                connection.sendall(command.encode() + b"\n")
                pieces = []
                while piece := connection.recv(65536):
                    pieces.append(piece)
        except OSError as error:
            raise BalancerSilentError(
                f"HAProxy does not answer on {self.socket_path}: {error.strerror or error}"
            ) from None
        return b"".join(pieces).decode(errors="replace").strip()

    def tell(self, command: str, *expected: str) -> None:
        """Send a command that answers nothing, or one of `expected`; else EnvironmentFailedError."""
        answer = self.ask(command)
        if answer and not any(word in answer for word in expected):
            first = command.splitlines()[0]
            raise EnvironmentFailedError(f"HAProxy refused `{first}`: {' '.join(answer.split())}")

    # -- servers --------------------------------------------------------------------------------

    def servers(self) -> list[Row]:
        """Every server of every pool."""
        return [
            Row(row["pxname"], row["svname"], row["status"], int(row["scur"] or 0))
            for row in self._stat()
            if row["pxname"] in POOLS and row["svname"] != "BACKEND"
        ]

    def totals(self) -> dict[str, Counts]:
        """All requests and failed ones by pool, since HAProxy started."""
        return {
            row["pxname"]: Counts(
                sum(int(row[f"hrsp_{kind}"] or 0) for kind in _KINDS),
                max(int(row["hrsp_5xx"] or 0), int(row["eresp"] or 0)),
            )
            for row in self._stat()
            if row["pxname"] in POOLS and row["svname"] == "BACKEND"
        }

    def _stat(self) -> list[dict[str, str]]:
        text = self.ask("show stat")
        return list(csv.DictReader(io.StringIO(text.removeprefix("# "))))

    def add_server(self, pool: str, name: str, port: int) -> None:
        """Make a server known; it gets no traffic before `enable`."""
        self.tell(
            f"add server {pool}/{name} 127.0.0.1:{port} check inter 500ms fall 2 rise 2",
            "New server registered",
            "already exists",
        )

    def enable(self, pool: str, name: str) -> None:
        """Let a server have traffic, once its checks say it is up."""
        self.tell(f"enable health {pool}/{name}")
        self.tell(f"enable server {pool}/{name}")
        self.tell(f"set server {pool}/{name} state ready")

    def drain(self, pool: str, name: str) -> None:
        """Give a server nothing new."""
        self.tell(f"set server {pool}/{name} state drain")

    def remove_server(self, pool: str, name: str) -> None:
        """Forget a server; connections that it still holds are closed."""
        self.tell(f"set server {pool}/{name} state maint", "No such server")
        for _ in range(40):
            answer = self.ask(f"del server {pool}/{name}")
            if not answer or "deleted" in answer or "No such server" in answer:
                return
            self.ask(f"shutdown sessions server {pool}/{name}")
            time.sleep(0.05)
        raise EnvironmentFailedError(f"HAProxy keeps the server {pool}/{name}: {answer}")

    # -- the map --------------------------------------------------------------------------------

    def route(self) -> Route:
        """What the map in memory says."""
        tickets: dict[str, int] = {}
        other: dict[str, str] = {}
        for line in self.ask(f"show map {self.map_path}").splitlines():
            parts = line.split()
            if len(parts) != 3:
                continue
            if parts[1].isdigit():
                tickets[parts[2]] = tickets.get(parts[2], 0) + 1
            else:
                other[parts[1]] = parts[2]
        return Route(
            _weights(other.get("weights", "-")), tickets, int(other.get("epoch", "0") or 0)
        )

    def set_route(self, weights: Mapping[str, int], pools: Mapping[str, str], epoch: int) -> None:
        """Share new requests out by `weights` (build → weight; `pools`: build → pool), at once."""
        tickets = apportion({pools[build]: w for build, w in weights.items() if w})
        rows = [("epoch", str(epoch)), ("weights", _spell(weights))]
        numbers = iter(range(TICKETS))
        for pool, count in sorted(tickets.items()):
            rows += [(str(next(numbers)), pool) for _ in range(count)]
        self._write_map(rows)
        answer = self.ask(f"prepare map {self.map_path}")
        version = answer.rsplit(" ", 1)[-1]
        if not version.isdigit():
            raise EnvironmentFailedError(f"HAProxy refused a new map: {answer}")
        lines = "".join(f"{key} {value}\n" for key, value in rows)
        self.tell(f"add map @{version} {self.map_path} <<\n{lines}")
        self.tell(f"commit map @{version} {self.map_path}")

    def _write_map(self, rows: Sequence[tuple[str, str]]) -> None:
        partial = self.map_path.with_suffix(".partial")
        partial.write_text("".join(f"{k} {v}\n" for k, v in rows), encoding="utf-8")
        partial.replace(self.map_path)


def _socket_path(directory: Path) -> Path:
    """Beside the other files; in a directory of our own where that path is too long for a socket."""
    beside = directory.resolve() / "haproxy.sock"
    if len(os.fsencode(beside)) <= 85:  # of 107; HAProxy binds a longer, temporary name first
        return beside
    mark = hashlib.sha256(os.fsencode(beside)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"zdd-deploy-{os.getuid()}-{mark}" / "haproxy.sock"


def _own_directory(directory: Path) -> None:
    """Make it, for this user alone; somebody else's is refused."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise EnvironmentFailedError(f"{directory} belongs to another user: remove it")


_KINDS = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")


def apportion(weights: Mapping[str, int], seats: int = TICKETS) -> dict[str, int]:
    """`seats` shared out in proportion, by largest remainder; they add up when any weight is > 0."""
    total = sum(weights.values())
    if not total:
        return {}
    exact = {name: seats * weight / total for name, weight in weights.items()}
    out = {name: int(share) for name, share in exact.items()}
    left = seats - sum(out.values())
    for name in sorted(exact, key=lambda n: (out[n] - exact[n], n))[:left]:
        out[name] += 1
    return {name: count for name, count in out.items() if count}


def _spell(weights: Mapping[str, int]) -> str:
    return ",".join(f"{b}={w}" for b, w in sorted(weights.items()) if w) or "-"


def _weights(text: str) -> dict[str, int]:
    if text == "-":
        return {}
    pairs = (part.rpartition("=") for part in text.split(","))
    return {build: int(weight) for build, _, weight in pairs}
