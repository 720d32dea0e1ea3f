"""The local driver on a real HAProxy and real processes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from tests.deploy.conftest import MakeDriver
from zdd_deploy.drivers.local.driver import LocalDriver
from zdd_deploy.drivers.local.haproxy import TICKETS, apportion
from zdd_deploy.failures import FencedError, StepFailedError
from zdd_deploy.model import Instances
from zdd_migrate.errors import EnvironmentFailedError

pytestmark = pytest.mark.e2e


def serving(driver: LocalDriver, build: str = "one", count: int = 2) -> LocalDriver:
    """A driver whose `build` has all the traffic."""
    driver.fence(1)
    driver.ensure_version(build, count)
    driver.warm(build)
    driver.ensure_weights({build: 100})
    return driver


def ask(driver: LocalDriver, path: str = "/") -> httpx.Response:
    return httpx.post(f"http://{driver.settings.bind}{path}", content="x", timeout=20)


def test_a_build_comes_in_and_the_other_goes(make_driver: MakeDriver) -> None:
    """Start, warm, share out, drain, stop: each seen on the platform, and again without effect."""
    driver = serving(make_driver())
    assert ask(driver).text == "one"

    driver.ensure_version("two", 1)
    assert driver.observe().instances["two"] == Instances(ready=1, warm=0)
    assert {ask(driver).text for _ in range(20)} == {"one"}
    driver.warm("two")
    driver.ensure_version("two", 1)
    assert driver.observe().instances["two"] == Instances(ready=1, warm=1)

    driver.ensure_weights({"one": 50, "two": 50})
    assert driver.observe().weights == {"one": 50, "two": 50}
    assert {ask(driver).text for _ in range(40)} == {"one", "two"}

    driver.ensure_weights({"two": 100})
    driver.drain("one", 0)
    assert driver.observe().instances["one"] == Instances(draining=2)
    driver.retire("one")
    driver.retire("one")
    assert "one" not in driver.observe().instances
    assert {ask(driver).text for _ in range(20)} == {"two"}


def test_shares_are_exact(make_driver: MakeDriver) -> None:
    """A thousand tickets: what is observed is what was set, and what requests get is near it."""
    driver = serving(make_driver())
    driver.ensure_version("two", 1)
    driver.warm("two")

    driver.ensure_weights({"one": 2, "two": 1})

    assert driver.observe().weights == {"one": 2, "two": 1}
    assert sorted(driver.balancer.route().tickets.values()) == [333, 667]
    with httpx.Client() as client:
        url = f"http://{driver.settings.bind}/"
        seen = Counter(client.post(url, content="x").text for _ in range(600))
    assert 120 < seen["two"] < 280  # 200 expected; six standard deviations
    assert driver.totals()["two"].requests == seen["two"]
    assert driver.totals()["two"].failed == 0


def test_shares_that_somebody_else_set_are_seen(make_driver: MakeDriver) -> None:
    """The tickets in memory are the truth, not the note of what was set."""
    driver = serving(make_driver())
    driver.ensure_version("two", 1)
    pool = {b: p for p, b in driver._builds_by_pool().items()}["two"]

    for ticket in range(300):
        driver.balancer.tell(f"set map {driver.balancer.map_path} {ticket} {pool}")

    assert driver.observe().weights == {"one": 700, "two": 300}


def test_draining_waits_for_what_is_open(make_driver: MakeDriver) -> None:
    """A request that was begun before the drain is answered; new ones go elsewhere."""
    driver = serving(make_driver(), count=1)
    driver.ensure_version("two", 1)
    driver.warm("two")
    answers: list[str] = []
    slow = threading.Thread(target=lambda: answers.append(ask(driver, "/slow").text))
    slow.start()
    while not driver.observe().inflight:
        time.sleep(0.01)

    driver.ensure_weights({"two": 100})
    driver.drain("one", 0)

    assert not driver.observe().inflight.get("one")
    driver.retire("one")
    slow.join()
    assert answers == ["one"]


def test_draining_that_takes_too_long_cuts_nothing(make_driver: MakeDriver) -> None:
    """After the deadline it says who is busy, and leaves it alone."""
    driver = serving(make_driver(drain_timeout=0.2), count=1)
    answers: list[str] = []
    slow = threading.Thread(target=lambda: answers.append(ask(driver, "/slow").text))
    slow.start()
    while not driver.observe().inflight:
        time.sleep(0.01)

    with pytest.raises(EnvironmentFailedError, match=r"still had requests after 0\.2 s"):
        driver.drain("one", 0)
    slow.join()
    assert answers == ["one"]


def test_instances_are_warmed_before_they_get_traffic(make_driver: MakeDriver) -> None:
    """The warm-up requests went to the instance itself, past the balancer."""
    driver = make_driver(warm_rounds=5)
    driver.fence(1)
    driver.ensure_version("one", 1)
    (instance,) = driver.processes.all()
    assert httpx.get(instance.url + "/count").text == "0"
    driver.warm("one")
    assert httpx.get(instance.url + "/count").text == "6"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ("broken", "an instance of broken ended instead of serving"),
        ("never", "was not ready after 1 s: /readyz says still loading"),
    ],
)
def test_an_instance_that_never_gets_ready(make_driver: MakeDriver, build: str, says: str) -> None:
    """The build's fault; nothing of it is left, and the others serve on."""
    driver = serving(make_driver(ready_timeout=15.0))
    object.__setattr__(driver.settings, "ready_timeout", 1.0)

    with pytest.raises(StepFailedError, match=says):
        driver.ensure_version(build, 1)

    assert set(driver.observe().instances) == {"one"}
    assert ask(driver).text == "one"


def test_a_dead_instance_is_replaced(make_driver: MakeDriver) -> None:
    """kill -9: seen as broken, replaced by the same verb, buried on the way."""
    driver = serving(make_driver())
    victim = driver.processes.all()[0]
    os.kill(driver.processes._pid(victim), signal.SIGKILL)
    while driver.processes.alive(victim):
        time.sleep(0.01)
    assert driver.observe().instances["one"].ready == 1

    driver.ensure_version("one", 2)
    driver.warm("one")

    assert driver.observe().instances["one"] == Instances(ready=2, warm=2)
    assert victim not in driver.processes.all()


def test_a_second_driver_finds_everything(make_driver: MakeDriver) -> None:
    """A runner that was killed leaves instances, shares and epoch for the next one."""
    first = serving(make_driver())
    first.ensure_weights({"one": 100})
    second = make_driver()
    second.fence(2)

    seen = second.observe()

    assert seen.instances == {"one": Instances(ready=2, warm=2)}
    assert seen.weights == {"one": 100}
    assert seen.epoch == 2
    with pytest.raises(FencedError, match="taken the balancer over"):
        first.ensure_weights({"one": 1})
    with pytest.raises(FencedError):
        first.fence(1)


def test_a_balancer_that_died_comes_back_with_its_shares(make_driver: MakeDriver) -> None:
    """HAProxy forgets servers that were added to it; the driver does not."""
    driver = serving(make_driver())
    driver.balancer.stop()
    assert not driver.balancer.running()

    again = make_driver()
    again.fence(2)

    assert again.observe().weights == {"one": 100}
    assert again.observe().instances == {"one": Instances(ready=2, warm=2)}
    assert ask(again).text == "one"


def test_a_port_that_is_taken(make_driver: MakeDriver) -> None:
    """One line: which address, and what to do."""
    import socket

    driver = make_driver()
    host, port = driver.settings.bind.split(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(EnvironmentFailedError, match=rf"cannot listen on {host}:{port}"):
            driver.fence(1)


def test_a_number_that_another_process_has_is_left_alone(
    make_driver: MakeDriver, tmp_path: Path
) -> None:
    """A stale pid file names somebody else's process: it is not ours, and is never stopped."""
    driver = serving(make_driver(), count=1)
    (instance,) = driver.processes.all()
    home = driver.processes._home(instance)
    real = driver.processes._pid(instance)
    stranger = psutil.Popen(["sleep", "60"])
    try:
        (home / "pid").write_text(str(stranger.pid))
        assert not driver.processes.alive(instance)
        driver.processes.stop(instance, 1)
        assert stranger.is_running()
        assert stranger.status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()
        stranger.wait()
        os.kill(real, signal.SIGKILL)


def test_prometheus_can_find_the_instances(make_driver: MakeDriver) -> None:
    """`targets.json` is what file_sd reads: an address and a build for each."""
    driver = serving(make_driver())
    targets = json.loads((driver.settings.directory / "targets.json").read_text())
    ports = {f"127.0.0.1:{i.port}" for i in driver.processes.all()}
    assert {t["targets"][0] for t in targets} == ports
    assert {t["labels"]["build"] for t in targets} == {"one"}


@pytest.mark.parametrize(
    "weights", [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 1, "c": 1}, {"a": 999, "b": 1}]
)
def test_tickets_add_up(weights: dict[str, int]) -> None:
    """All tickets are given out, in proportion to within one."""
    shared = apportion(weights)
    total = sum(weights.values())
    assert sum(shared.values()) == TICKETS
    for name, weight in weights.items():
        assert abs(shared.get(name, 0) - TICKETS * weight / total) < 1


def test_no_weight_is_no_ticket() -> None:
    """Without weights nobody gets traffic."""
    assert apportion({}) == apportion({"a": 0}) == {}
