"""Steady writes over HTTP, and a record of every one that a client was told is done.

Every request is a POST or a PUT, which no client and no balancer may repeat by itself. The record
is compared with the database at the end: what was acknowledged must be there.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg


@dataclass(slots=True)
class Tally:
    """What clients saw. `acknowledged`: e-mail address → the name last confirmed for it.

    `slowest` is the longest answer in seconds; `failures` counts what failed requests got.
    """

    requests: int = 0
    failed: int = 0
    slowest: float = 0.0
    acknowledged: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)


class Load:
    """`clients` write in turn to `address` (host:port), about `rate` requests a second together."""

    def __init__(self, address: str, *, rate: float = 100.0, clients: int = 8) -> None:
        self.address = address
        self.rate = rate
        self.clients = clients
        self.tally = Tally()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Tally]:
        """Write for the length of a block; every request begun is finished."""
        threads = [
            threading.Thread(target=self._client, args=(n,), daemon=True)
            for n in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.tally
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _client(self, number: int) -> None:
        pause = self.clients / self.rate
        due = time.monotonic() + pause * number / self.clients
        connection = http.client.HTTPConnection(self.address, timeout=60)
        user: tuple[int, str] | None = None
        turn = 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + pause, time.monotonic() - 1)
            turn += 1
            if user is not None and turn % 4 == 0:
                self._write(connection, "PUT", f"/users/{user[0]}", user[1], f"Renamed {turn}")
            else:
                email = f"load-{number}-{turn}@client.example"
                made = self._write(connection, "POST", "/users", email, f"Client {number}-{turn}")
                user = (made, email) if made is not None else user
        connection.close()

    def _write(
        self, connection: http.client.HTTPConnection, method: str, path: str, email: str, name: str
    ) -> int | None:
        """One request; the user's id when it was acknowledged."""
        body = json.dumps({"email": email, "name": name} if method == "POST" else {"name": name})
        started = time.monotonic()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            status, text = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._count(started, email, name, f"{type(error).__name__}: {error}")
            return None
        problem = "" if status in (200, 201) else f"{status} {text[:120].decode(errors='replace')}"
        self._count(started, email, name, problem)
        if problem or method == "PUT":
            return None
        made: int = json.loads(text)["id"]
        return made

    def _count(self, started: float, email: str, name: str, problem: str) -> None:
        with self._lock:
            self.tally.requests += 1
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - started)
            if problem:
                self.tally.failed += 1
                self.tally.failures[problem] += 1
                self.tally.unsure.add(email)  # it may have been written all the same
            else:
                self.tally.acknowledged[email] = name
                self.tally.unsure.discard(email)


def lost(tally: Tally, database: str) -> list[str]:
    """Acknowledged writes that the database does not hold, in words; [] is what must come out.

    Every column of `users` that holds the name has to agree.
    """
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT u.email, to_jsonb(u) FROM users AS u").fetchall()
    found = {email: {row[c] for c in ("user_name", "username") if c in row} for email, row in rows}
    out = []
    for email, name in tally.acknowledged.items():
        if email not in found:
            out.append(f"{email} is not there")
        elif found[email] != {name} and email not in tally.unsure:
            out.append(f"{email} is called {', '.join(map(str, found[email]))}, not {name}")
    return out
