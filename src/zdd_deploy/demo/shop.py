"""A shop in full service, to release on: its database, its verified plan, its instances."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from zdd_deploy.assemble import driver_of
from zdd_deploy.config import Settings, load
from zdd_deploy.drivers.local.driver import LocalDriver
from zdd_migrate.cli.demo import copy_story, plan_story, verify_story
from zdd_migrate.postgres.servers import server

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shop:
    """The story's directory, its database, its settings, and the driver that serves it."""

    story: Path
    database: str
    settings: Settings
    driver: LocalDriver

    @property
    def plan_dir(self) -> Path:
        """The verified plan."""
        return self.story / "plan"


@contextmanager
def open_shop(output: Path, postgres: str, say: Say) -> Iterator[Shop]:
    """A fresh shop: old code serves from behind HAProxy. Everything is stopped at the end."""
    story = copy_story(output)
    _here(story)
    say("planning the rename, and trying it with both code versions on a real Postgres")
    plan_story(story)
    verify_story(story, story / "plan", postgres)
    with server(postgres) as found:
        name = found.create_database()
        database = found.dsn(name)
        with psycopg.connect(database, autocommit=True) as connection:
            for script in ("before.sql", "seed.sql"):
                connection.execute((story / script).read_bytes())
        settings = load(story, database)
        driver = driver_of(settings)
        try:
            driver.fence(0)
            say(f"{settings.fleet.desired} instances of the old shop start behind HAProxy")
            driver.ensure_version(settings.fleet.old, settings.fleet.desired)
            driver.warm(settings.fleet.old)
            driver.ensure_weights({settings.fleet.old: 100})
            yield Shop(story, database, settings, driver)
        finally:
            driver.close_down()


def _here(story: Path) -> None:
    """This Python for the shop's programs, and a port that is free."""
    file = story / "zdd-deploy.toml"
    text = file.read_text(encoding="utf-8")
    text = text.replace('"python app/', f'"{sys.executable} app/')
    if not _free(8080):
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{_free_port()}")
    file.write_text(text, encoding="utf-8")
    shutil.rmtree(story / ".zdd-deploy", ignore_errors=True)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
