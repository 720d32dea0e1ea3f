"""Shared fixtures: a real Postgres for the session, fresh databases, measured data where it is."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.postgres.servers import Server, server

ROOT = Path(__file__).parents[1]
# what is tried in a test is tried, whatever was kept from the last time
os.environ["ZDD_NO_CACHE"] = "1"

# a machine that is busy with something else is no failure
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--require-pg`: a missing server fails; `--postgres`: which one; `--every-major`: stories are
    tried on each of their majors, not on one of them; `--whole`: nothing broad is sampled."""
    parser.addoption("--require-pg", action="store_true", help="fail, not skip, without Postgres")
    parser.addoption("--postgres", default=os.environ.get("ZDD_TEST_POSTGRES", "embedded"))
    parser.addoption("--every-major", action="store_true", help="stories on all their majors")
    parser.addoption(
        "--whole", action="store_true", help="every story, case and planted fault, not a sample"
    )


def _samples(config: pytest.Config) -> bool:
    """Whether broad tests are sampled: nobody asked for all of them, or for some by name."""
    named = any("::" in argument for argument in config.args)
    asked = config.getoption("--whole") or config.option.keyword or named
    return not asked and "broad" not in config.option.markexpr


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests marked `broad(n)` one in n is kept, always the same ones, unless some are asked for:
    `--whole`, `-k`, `-m broad` and a test's own name ask. Who changes a story runs that story."""
    if not _samples(config):
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("broad")
        chosen = marker is None or zlib.crc32(item.nodeid.encode()) % marker.args[0] == 0
        (kept if chosen else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say that a sample leaves something out."""
    if _samples(config):
        terminalreporter.write_line(
            "Of the stories, cases and planted faults a sample was tried: --whole tries them all."
        )


def _required(config: pytest.Config) -> bool:
    return bool(config.getoption("--require-pg")) or os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def pg_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for the session (one for each worker)."""
    spec = str(request.config.getoption("--postgres"))
    try:
        running = server(spec)
        found = running.__enter__()
    except EnvironmentFailedError as error:
        if _required(request.config):
            pytest.fail(f"a Postgres is required here: {error}")
        pytest.skip(f"no Postgres: {error}")
    try:
        yield found
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def server_of(
    request: pytest.FixtureRequest, pg_server: Server
) -> Iterator[Callable[[int], Server]]:
    """A server of a major, each started once; where there is none of it the test is skipped."""
    spec = str(request.config.getoption("--postgres"))
    started = {pg_server.major: pg_server}
    with ExitStack() as stack:

        def find(major: int) -> Server:
            if major not in started:
                try:
                    started[major] = stack.enter_context(server(spec, major=major))
                except EnvironmentFailedError as error:
                    if _required(request.config):
                        pytest.fail(f"a Postgres {major} is required here: {error}")
                    pytest.skip(f"no Postgres {major}: {error}")
            return started[major]

        yield find


@pytest.fixture
def database(pg_server: Server) -> Iterator[str]:
    """The URL of a fresh database."""
    with pg_server.scratch_database() as name:
        yield pg_server.dsn(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to a fresh database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Measured behaviour and real statements, where they lie beside the checkout."""
    named = os.environ.get("ZDD_SHARED_DATA")
    path = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (path / "postgres_locks.jsonl").is_file():
        pytest.skip("no measured data here (ZDD_SHARED_DATA names its directory)")
    return path


@pytest.fixture
def shop() -> Path:
    """The story of the web shop."""
    return ROOT / "fixtures" / "shop"
