"""Both versions of the shop as real processes: answers, probes, metrics, and a quiet stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

pytestmark = pytest.mark.pg

STORY = Path(__file__).resolve().parents[2] / "fixtures" / "shop"
MIGRATION = (STORY / "migration.sql").read_bytes()
PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Shop:
    """A running instance of the shop."""

    process: subprocess.Popen[str]
    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded answer, over a connection of its own."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body)
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ask("GET", "/readyz")[0] == 200)

    def counted(self) -> dict[str, int]:
        """Requests by status, as /metrics has them."""
        lines = self.ask("GET", "/metrics")[1].splitlines()
        totals = [line for line in lines if line.startswith("http_requests_total{")]
        return {line.split('status="')[1][:3]: int(line.split()[-1]) for line in totals}


Start = Callable[..., Shop]


def ask(connection: HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    said = response.read()
    is_json = response.getheader("Content-Type") == "application/json"
    return response.status, json.loads(said) if is_json else said.decode()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def start(shop_database: str) -> Iterator[Start]:
    """Start a version, with settings of the environment; all are ended after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(version: str, database: str = shop_database, **settings: str) -> Shop:
        process = subprocess.Popen(
            [sys.executable, STORY / "app" / version / "shop.py"],
            env=os.environ
            | {"DATABASE_URL": database, "PORT": "0", "SHOP_DRAIN_SECONDS": "0.3"}
            | settings,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert f"shop {version}: listening on http://127.0.0.1:" in said
        return Shop(process, int(said.rsplit(":", 1)[1]))

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("version", ["old", "new"])
def test_each_version_answers_on_its_schema(
    start: Start, connection: psycopg.Connection, version: str
) -> None:
    if version == "new":
        connection.execute(MIGRATION)
    shop = start(version)
    assert shop.ask("GET", "/healthz")[0] == 200
    shop.wait_until_ready()
    assert shop.ask("GET", "/zdd/state") == (
        200,
        {"version": version, "flag": "off", "ready": True},
    )

    status, user = shop.ask("POST", "/users", {"email": "ann@shop.example", "name": "Ann"})
    assert (status, user["name"]) == (201, "Ann")
    path = f"/users/{user['id']}"
    assert shop.ask("PUT", path, {"name": "Ann Other"})[0] == 200
    prices = connection.execute("SELECT price FROM products WHERE id IN (1, 2) ORDER BY id")
    (one,), (two,) = prices.fetchall()
    items = [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]
    status, order = shop.ask("POST", "/orders", {"user_id": user["id"], "items": items})
    assert (status, order["name"], order["total"]) == (201, "Ann Other", str(2 * one + two))
    assert shop.ask("GET", path) == (
        200,
        {
            "id": user["id"],
            "email": "ann@shop.example",
            "name": "Ann Other",
            "orders": [order["id"]],
        },
    )
    status, report = shop.ask("GET", "/report?format=json")
    assert (status, report["by"], len(report["buyers"])) == (200, "orders", 10)
    assert all(buyer["name"] for buyer in report["buyers"])
    # The order's answer is a promise that it is in the database.
    row = connection.execute("SELECT count(*) FROM order_items WHERE order_id = %s", [order["id"]])
    assert row.fetchone() == (2,)


def test_wrong_requests_are_named(start: Start) -> None:
    shop = start("old")
    keep_alive = shop.connect()
    taken = {"email": "customer1@shop.example", "name": "Ada"}
    for method, path, body, status, word in (
        ("POST", "/users", {"email": "x@shop.example"}, 400, "name"),
        ("POST", "/users", ["no object"], 400, "object"),
        ("POST", "/users", taken, 409, "users_email_key"),
        ("GET", "/users/99999999", None, 404, "99999999"),
        ("PUT", "/users/99999999", {"name": "Nobody"}, 404, "99999999"),
        ("POST", "/orders", {"user_id": 1, "items": []}, 400, "items"),
        ("GET", "/nowhere", None, 404, "/nowhere"),
        ("DELETE", "/users/1", None, 404, "DELETE"),
    ):
        found, answer = ask(keep_alive, method, path, body)
        assert (found, word in answer["error"]) == (status, True), (method, path, answer)
    keep_alive.close()
    assert shop.counted() == {"200": 0, "201": 0, "400": 3, "404": 4, "409": 1, "500": 0}


def test_plain_rename_breaks_the_running_version_which_lives_on(
    start: Start, connection: psycopg.Connection
) -> None:
    shop = start("old")
    shop.wait_until_ready()
    assert shop.ask("GET", "/users/1")[0] == 200
    connection.execute(MIGRATION)
    for method, path, body in (
        ("GET", "/users/1", None),
        ("GET", "/report", None),
        ("POST", "/users", {"email": "b@shop.example", "name": "B"}),
        ("PUT", "/users/1", {"name": "B"}),
        ("POST", "/orders", {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}),
    ):
        status, answer = shop.ask(method, path, body)
        assert (status, answer["sqlstate"]) == (500, "42703"), (method, path, answer)
    assert shop.ask("GET", "/healthz")[0] == 200
    connection.execute("ALTER TABLE users RENAME COLUMN username TO user_name")
    assert shop.ask("GET", "/users/1")[0] == 200


def test_not_ready_until_the_schema_fits(start: Start, connection: psycopg.Connection) -> None:
    shop = start("new")
    wait_until(lambda: "users.username" in shop.ask("GET", "/readyz")[1].get("why", ""))
    assert shop.ask("GET", "/readyz")[0] == 503
    assert shop.ask("GET", "/healthz")[0] == 200
    connection.execute(MIGRATION)
    shop.wait_until_ready()


def test_ready_means_a_warm_pool_under_the_given_name(
    start: Start, shop_database: str, connection: psycopg.Connection
) -> None:
    start("old").wait_until_ready()
    named = make_conninfo(shop_database, application_name="blue-1")
    start("old", named).wait_until_ready()
    names = connection.execute(
        """
        SELECT application_name, count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend' -- autovacuum may visit
        GROUP BY application_name ORDER BY application_name
        """
    )
    assert names.fetchall() == [("blue-1", 5), ("shop-old", 5)]


def test_lost_connections_are_replaced(start: Start, connection: psycopg.Connection) -> None:
    shop = start("old")
    shop.wait_until_ready()
    connection.execute(
        """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """
    )
    assert shop.ask("GET", "/users/1")[0] == 200


@pytest.mark.parametrize(
    ("rate", "least", "most"), [("0", 0, 0), ("0.5", 60, 140), ("1", 200, 200)]
)
def test_error_rate_is_the_share_of_failures(
    start: Start, rate: str, least: int, most: int
) -> None:
    shop = start("old", SHOP_ERROR_RATE=rate)
    shop.wait_until_ready()
    assert shop.counted()["500"] == 0
    keep_alive = shop.connect()
    statuses = [ask(keep_alive, "GET", "/users/1")[0] for _ in range(200)]
    keep_alive.close()
    assert least <= statuses.count(500) <= most
    assert statuses.count(200) == 200 - statuses.count(500)
    counted = shop.counted()
    assert (counted["200"], counted["500"]) == (statuses.count(200), statuses.count(500))
    assert shop.ask("GET", "/readyz")[0] == 200


def test_metrics_say_the_version_and_start_at_zero(start: Start) -> None:
    shop = start("old")
    lines = shop.ask("GET", "/metrics")[1].splitlines()
    assert 'http_requests_total{version="old",status="200"} 0' in lines
    assert 'http_requests_total{version="old",status="500"} 0' in lines
    shop.wait_until_ready()
    shop.ask("GET", "/users/1")
    lines = shop.ask("GET", "/metrics")[1].splitlines()
    assert 'http_requests_total{version="old",status="200"} 1' in lines
    assert 'http_request_duration_seconds_bucket{version="old",le="+Inf"} 1' in lines


def test_flag_follows_its_file(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    shop = start("old", SHOP_FLAG_FILE=str(flag))
    shop.wait_until_ready()
    for said, by in (("on\n", "revenue"), ("off\n", "orders")):
        flag.write_text(said)
        assert shop.ask("GET", "/zdd/state")[1]["flag"] == said.strip()
        assert shop.ask("GET", "/report")[1]["by"] == by


def test_wrong_settings_are_named() -> None:
    for settings, word in (
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://h/d", "SHOP_ERROR_RATE": "2"}, "SHOP_ERROR_RATE"),
        ({"DATABASE_URL": "postgresql://h/d", "PORT": "web"}, "PORT"),
    ):
        done = subprocess.run(
            [sys.executable, STORY / "app" / "old" / "shop.py"],
            env=os.environ | settings,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert word in done.stderr


class Client(threading.Thread):
    """Asks over one kept-alive connection until it is told to go elsewhere.

    That is what a load balancer does on `Connection: close`; anything else that ends the
    conversation is a lost request.
    """

    def __init__(self, shop: Shop) -> None:
        super().__init__(daemon=True)
        self.shop = shop
        self.statuses: list[int] = []
        self.lost: Exception | None = None
        self.sent_away = False

    def run(self) -> None:
        connection = self.shop.connect()
        try:
            while not self.sent_away:
                connection.request("PUT", "/users/1", json.dumps({"name": "Busy"}))
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
                self.sent_away = response.getheader("Connection") == "close"
        except (OSError, HTTPException) as error:
            self.lost = error
        finally:
            connection.close()


def test_stop_under_load_loses_no_request(start: Start) -> None:
    shop = start("old", SHOP_DRAIN_SECONDS="3")
    shop.wait_until_ready()
    idle = shop.connect()
    assert ask(idle, "GET", "/healthz")[0] == 200
    clients = [Client(shop) for _ in range(8)]
    for client in clients:
        client.start()
    wait_until(lambda: all(client.statuses for client in clients))
    shop.process.send_signal(signal.SIGTERM)
    wait_until(lambda: shop.ask("GET", "/readyz")[0] == 503)
    for client in clients:
        client.join(PATIENCE_SECONDS)
    assert [client.lost for client in clients] == [None] * 8
    assert all(client.sent_away for client in clients)
    assert {status for client in clients for status in client.statuses} == {200}
    assert shop.process.wait(PATIENCE_SECONDS) == 0  # the idle connection does not hold it up
    idle.close()


def test_stop_finishes_what_was_begun(start: Start, shop_database: str) -> None:
    shop = start("old", SHOP_DRAIN_SECONDS="0")
    shop.wait_until_ready()
    answers: list[tuple[int, Any]] = []
    slow = threading.Thread(
        target=lambda: answers.append(shop.ask("PUT", "/users/1", {"name": "Late"})), daemon=True
    )
    with psycopg.connect(shop_database) as blocker:
        blocker.execute("SELECT 1 FROM users WHERE id = 1 FOR UPDATE")
        slow.start()
        waits = """
            SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
        with psycopg.connect(shop_database, autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(waits).fetchone() == (1,))
        shop.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(shop))
        assert shop.process.poll() is None
        assert not answers
    slow.join(PATIENCE_SECONDS)
    assert answers == [(200, {"id": 1, "name": "Late"})]
    assert shop.process.wait(PATIENCE_SECONDS) == 0


def accepts(shop: Shop) -> bool:
    """Without a drain, a probe at the very instant of closing may be left unanswered: no is no."""
    probe = HTTPConnection("127.0.0.1", shop.port, timeout=2)
    try:
        return ask(probe, "GET", "/healthz")[0] == 200
    except (OSError, HTTPException):
        return False
    finally:
        probe.close()
