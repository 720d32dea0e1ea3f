"""Scratch servers: there when asked, gone whatever happens, never in each other's way."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from zdd_migrate.errors import EnvironmentFailedError, InputError, NoServerError
from zdd_migrate.postgres import binaries
from zdd_migrate.postgres.servers import Server, server

pytestmark = pytest.mark.pg
HOLD = (
    "import signal, sys, time\n"
    # a job started in the background inherits an ignored SIGINT, and Python then leaves it so
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from zdd_migrate.postgres.servers import server\n"
    "with server('embedded') as s:\n"
    "    print(s.log_path.parent, flush=True)\n"
    "    time.sleep(120)\n"
)


def hold() -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a server, and the server's directory."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    assert directory.is_dir()
    return process, directory


def wait_until_gone(directory: Path) -> bool:
    """Whether the directory, and whoever runs in it, goes away."""
    for _ in range(300):
        if not directory.exists() and not running_in(directory):
            return True
        time.sleep(0.1)
    return False


def running_in(directory: Path) -> bool:
    """Whether a server still runs on that directory."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(str(directory) in line for line in listed.stdout.splitlines())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_server_never_outlives_its_owner(how: signal.Signals) -> None:
    """Killed, interrupted or asked to end: the server and its directory are gone."""
    process, directory = hold()

    os.kill(process.pid, how)
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()

    assert wait_until_gone(directory)


def test_several_servers_side_by_side() -> None:
    """Ports and directories of their own."""
    with server("embedded") as one, server("embedded") as two:
        assert one.dsn() != two.dsn()
        with one.connect() as a, two.connect() as b:
            assert a.execute("SELECT 1").fetchone() == b.execute("SELECT 1").fetchone()


def test_the_embedded_majors() -> None:
    """18 and 16 come in one wheel; another is refused, naming what is there."""
    if not binaries.embedded():
        pytest.skip("the embedded wheel is not installed")
    with server("embedded", major=16) as sixteen:
        assert sixteen.major == 16
    with (
        pytest.raises(NoServerError, match=r"no Postgres 12 here .*embedded 18"),
        server("embedded", major=12),
    ):
        pass


def test_system_binaries() -> None:
    """Whatever the distribution installed."""
    if not binaries.system():
        pytest.skip("no installed Postgres server")
    with server("system") as found:
        assert found.provider == "system"


def test_a_given_server_keeps_what_is_its_own(pg_server: Server) -> None:
    """Only databases of ours are made and dropped there."""
    with server(pg_server.dsn()) as given:
        name = given.create_database()
        assert given.provider == "dsn"
        assert given.log_path is None
    with pg_server.connect() as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname = %s", (name,))
        assert left.fetchone() is None


def test_what_a_killed_run_left_is_dropped_by_the_next(pg_server: Server) -> None:
    """Its databases alone: not those of a run that lives, nor what somebody else called so.

    The second was made just before the kill: nothing but making it was done.
    """
    program = (
        "import os, signal, sys\n"
        "from zdd_migrate.postgres.ownership import Owner\n"
        "from zdd_migrate.postgres.servers import server\n"
        "with server(sys.argv[1]) as found:\n"
        "    print(found.create_database(), flush=True)\n"
        "    def killed(self, name):\n"
        "        print(name, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    Owner.mark = killed\n"
        "    found.create_database()\n"
    )
    url = pg_server.dsn()
    done = subprocess.run(
        [sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True, check=False
    )
    dead = done.stdout.split()
    others = pg_server.create_database("zdd_00c0ffee00c0ffee_00c0ffee")
    query = "SELECT datname FROM pg_database WHERE datname = ANY (%s)"
    with pg_server.connect() as connection:
        owners = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'zdd-migrate owner'"
        while connection.execute(owners).fetchone():  # until the server has seen that it is gone
            time.sleep(0.01)
    with server(url) as living:
        name = living.create_database()
        first = living.abandoned
        with server(url) as next_:
            copy = next_.create_database(template=name)
            second = next_.abandoned
            with pg_server.connect() as connection:
                left = connection.execute(query, ([*dead, name, copy, others],)).fetchall()
    pg_server.drop_database(others)

    assert len(dead) == 2
    assert first == sorted(dead)
    assert second == []
    assert {row[0] for row in left} == {name, copy, others}


def test_auto_takes_the_url(pg_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZDD_DATABASE_URL comes first."""
    monkeypatch.setenv("ZDD_DATABASE_URL", pg_server.dsn())

    with server("auto") as found:
        assert found.provider == "dsn"


def test_a_role_without_createdb_is_told(pg_server: Server) -> None:
    """What to grant, and what to use instead."""
    role = f"zdd_meek_{secrets.token_hex(4)}"  # others may be at work on the same server
    with pg_server.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'meek'".encode())
    try:
        url = psycopg.conninfo.make_conninfo(pg_server.dsn(), user=role, password="meek")
        with server(url) as found, pytest.raises(EnvironmentFailedError, match="CREATEDB"):
            found.create_database()
    finally:
        with pg_server.connect() as connection:
            connection.execute(f"DROP ROLE {role}".encode())


def test_bad_urls_are_one_line() -> None:
    """Unreadable is bad input, unreachable a failing environment."""
    with pytest.raises(InputError, match="cannot be read"), server("postgresql://[bad"):
        pass
    with (
        pytest.raises(EnvironmentFailedError, match="cannot be reached"),
        server("postgresql://nobody@127.0.0.1:1/none"),
    ):
        pass


def test_a_copied_database_is_the_same(pg_server: Server) -> None:
    """Templates make trials cheap."""
    with pg_server.scratch_database() as first:
        with pg_server.connect(first) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
        with pg_server.scratch_database(first) as second, pg_server.connect(second) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (10,)


@pytest.mark.e2e
def test_a_container_of_a_local_image() -> None:
    """Through Docker, where an engine runs and ZDD_POSTGRES_IMAGE names an image that is there."""
    image = os.environ.get("ZDD_POSTGRES_IMAGE")
    if image is None:
        pytest.skip("no ZDD_POSTGRES_IMAGE names a local image")
    engine = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if engine.returncode != 0:
        pytest.skip(f"no Docker engine with the image {image}")
    with server("testcontainers") as found, found.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
