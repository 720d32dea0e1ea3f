"""Real parts for releases: HAProxy, Prometheus, small web servers, the shop under load."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from zdd_deploy.config import Settings, load
from zdd_deploy.drivers.local.driver import LocalDriver, LocalSettings, Request
from zdd_deploy.drivers.local.processes import Build
from zdd_migrate.cli.demo import copy_story, plan_story
from zdd_migrate.plan.directory import plan_hash

SERVER = Path(__file__).with_name("server.py")


@pytest.fixture(scope="session")
def haproxy() -> str:
    """HAProxy's path; without it these tests are skipped, saying so."""
    return needed("haproxy")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """Prometheus' path."""
    return needed("prometheus")


def needed(program: str) -> str:
    """A program's path, or a skip that says what is missing."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    return found


def verified(plan_dir: Path) -> Path:
    """Put a passing verdict beside a plan: verify has tests of its own."""
    verdict = {"version": 1, "verdict": "pass", "trials": [], "plan_hash": plan_hash(plan_dir)}
    (plan_dir / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    return plan_dir


@dataclass(frozen=True)
class ReleaseStory:
    """The shop's story in a directory of its own, a plan with a verdict, a database with rows."""

    path: Path
    database: str

    @property
    def plan(self) -> Path:
        return self.path / "plan"

    @property
    def settings(self) -> Settings:
        return load(self.path, self.database)

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace texts in zdd-deploy.toml; each must be there."""
        file = self.path / "zdd-deploy.toml"
        text = file.read_text(encoding="utf-8")
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        file.write_text(text, encoding="utf-8")


@pytest.fixture
def story(haproxy: str, tmp_path: Path, database: str) -> Iterator[ReleaseStory]:
    """A shop of which nothing runs yet; whatever was started is stopped at the end."""
    path = copy_story(tmp_path)
    plan_story(path)
    verified(path / "plan")
    with psycopg.connect(database, autocommit=True) as connection:
        for script in ("before.sql", "seed.sql"):
            connection.execute((path / script).read_bytes())
    made = ReleaseStory(path, database)
    made.edit(
        ('"python app/', f'"{sys.executable} app/'),
        ("127.0.0.1:8080", f"127.0.0.1:{free_port()}"),
        ("desired = 3", "desired = 2"),
        ("window = 3", "window = 1"),
        ("soak = 2", "soak = 1"),
        ("weights = [10, 50, 100]", "weights = [20, 100]"),
        ("max_error_rate = 0.02", "max_error_rate = 0.05"),
    )
    try:
        yield made
    finally:
        LocalDriver(made.settings.local).close_down()


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


MakeDriver = Callable[..., LocalDriver]


@pytest.fixture
def make_driver(haproxy: str, tmp_path: Path) -> Iterator[MakeDriver]:
    """Drivers over small web servers; everything is stopped at the end."""
    made: list[LocalDriver] = []
    port = free_port()

    def make(**changes: object) -> LocalDriver:
        def build(name: str, **environment: str) -> Build:
            given = {"NAME": name, **environment}
            return Build(f"{sys.executable} {SERVER}", tmp_path, given)

        given: dict[str, object] = {
            "directory": tmp_path / "state",
            "bind": f"127.0.0.1:{port}",
            "builds": {
                "one": build("one"),
                "two": build("two"),
                "broken": Build("false", tmp_path, {}),
                "never": build("never", READY="no"),
            },
            "warm": (Request("/"),),
            "smoke": (Request("/"),),
            "state": "/state",
            "ready_timeout": 15.0,
            "stop_grace": 5.0,
            **changes,
        }
        driver = LocalDriver(LocalSettings(**given))  # type: ignore[arg-type]
        made.append(driver)
        return driver

    try:
        yield make
    finally:
        for driver in made:
            driver.close_down()


@pytest.fixture(autouse=True)
def _no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own environment decides."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert "DATABASE_URL" not in os.environ
