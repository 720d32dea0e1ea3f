"""Whole releases of the shop under load: HAProxy, Postgres, real code, runners that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.deploy.conftest import ReleaseStory, free_port
from zdd_deploy.demo.load import Load, Tally, lost
from zdd_deploy.drivers.local.driver import LocalDriver
from zdd_deploy.history import History, fold
from zdd_deploy.journal import PostgresJournal
from zdd_deploy.judge import Criteria, Opinion, judge
from zdd_deploy.signals import Prometheus
from zdd_deploy.strategies import STRATEGIES
from zdd_migrate.errors import InputError

pytestmark = [pytest.mark.e2e, pytest.mark.pg]

NEW_ENVIRONMENT = (
    'app/new/shop.py"\nenvironment = { SHOP_FLAG_FILE = ".zdd-deploy/flag", '
    'SHOP_DRAIN_SECONDS = "0.2"'
)
Done = subprocess.CompletedProcess[str]


def command(story: ReleaseStory, verb: str, *arguments: str) -> list[str]:
    """A command line of zdd-deploy on the story."""
    plan = [str(story.plan)] if verb == "run" else []
    return [
        *(sys.executable, "-c", "from zdd_deploy.cli import main; main()", verb, *plan),
        *("--config", str(story.path), "--database", story.database, *arguments),
    ]


def deploy(story: ReleaseStory, verb: str, *arguments: str) -> Done:
    """Run it to its end."""
    return subprocess.run(
        command(story, verb, *arguments), capture_output=True, text=True, timeout=300, check=False
    )


def history(story: ReleaseStory) -> History:
    """Where the release stands."""
    journal = PostgresJournal("shop", story.database, story.database)
    try:
        return fold(journal.events())
    finally:
        journal.close()


@contextmanager
def serving(story: ReleaseStory, rate: float = 60) -> Iterator[Tally]:
    """The old shop serves all, under load; the tally is complete at the end of the block."""
    driver = LocalDriver(story.settings.local)
    driver.fence(0)
    driver.ensure_version("old", 2)
    driver.warm("old")
    driver.ensure_weights({"old": 100})
    with Load(story.settings.local.bind, rate=rate, clients=4).running() as tally:
        yield tally


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def nothing_lost(story: ReleaseStory, tally: Tally) -> None:
    assert tally.requests > 300
    assert dict(tally.failures) == {}
    assert lost(tally, story.database) == []


@pytest.mark.broad(2)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_runner_is_killed_and_the_next_one_finishes(story: ReleaseStory, strategy: str) -> None:
    """kill -9 while new code comes in; run again: released, no request failed, no write lost."""
    with serving(story) as tally:
        first = subprocess.Popen(
            command(story, "run", "--strategy", strategy, "--approve"), stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: _step_reached(story, "judge"))
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        killed = history(story)
        assert killed.active

        done = deploy(story, "run", "--strategy", strategy, "--approve", "--format", "json")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "done"
        assert "taking up" in done.stderr
    nothing_lost(story, tally)
    with psycopg.connect(story.database) as connection:
        row = connection.execute("SELECT to_jsonb(u) FROM users u LIMIT 1").fetchone()
    assert row is not None
    assert "username" in row[0]
    assert "user_name" not in row[0]
    shown = deploy(story, "status")
    assert "rename-user-name" in shown.stdout
    assert "traffic new 100 %; 2 new ready" in shown.stdout


def _step_reached(story: ReleaseStory, what: str) -> bool:
    found = history(story)
    step = found.current
    return step is not None and what in step.id and found.intended


@pytest.mark.parametrize("source", ["haproxy", "prometheus"])
def test_a_bad_canary_is_taken_back(
    story: ReleaseStory, source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One request in ten fails at a share of 20 %: judged a failure, old code serves on alone."""
    story.edit(
        (f"{NEW_ENVIRONMENT} }}", f'{NEW_ENVIRONMENT}, SHOP_ERROR_RATE = "0.1" }}'),
        ("max_error_rate = 0.05", "max_error_rate = 0.01"),
        ("smoke = [", "smoke = []\n# smoke = ["),
    )
    if source == "prometheus":
        program = request.getfixturevalue("prometheus")
        port = free_port()
        story.edit(
            ('source = "haproxy"', f'source = "prometheus"\nurl = "http://127.0.0.1:{port}"')
        )
        running = _prometheus(program, port, story, tmp_path)
    else:
        running = None
    try:
        with serving(story, rate=100) as tally:
            done = deploy(story, "run", "--strategy", "canary", "--approve")
            before = tally.failed
            time.sleep(1)
    finally:
        if running is not None:
            running.kill()
            running.wait()

    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("taken back:")
    assert "requests failed" in done.stdout
    assert tally.failed == before > 0  # none after the way back
    assert all("SHOP_ERROR_RATE" in problem for problem in tally.failures)
    assert lost(tally, story.database) == []
    seen = LocalDriver(story.settings.local).observe()
    assert dict(seen.weights) == {"old": 100}
    assert set(seen.instances) == {"old"}


def _prometheus(program: str, port: int, story: ReleaseStory, place: Path) -> subprocess.Popen[str]:
    """A real Prometheus that finds the instances by the file that the driver writes."""
    config = place / "prometheus.yml"
    targets = story.settings.local.directory / "targets.json"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: shop\n"
        f"  file_sd_configs: [{{files: ['{targets}'], refresh_interval: 1s}}]\n"
    )
    started = subprocess.Popen(
        [
            *(program, f"--config.file={config}", f"--storage.tsdb.path={place / 'tsdb'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/-/ready").is_success
        except httpx.HTTPError:
            return False

    until(ready, 30)
    return started


def test_prometheus_without_data_is_no_pass(
    prometheus: str, story: ReleaseStory, tmp_path: Path
) -> None:
    """A real Prometheus that never saw the build: no counts, which the judge does not take for 0."""
    port = free_port()
    running = _prometheus(prometheus, port, story, tmp_path)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}").counts("new", 10)
        with pytest.raises(InputError, match="Prometheus refused"):
            Prometheus(f"http://127.0.0.1:{port}").ask("sum(")
    finally:
        running.kill()
        running.wait()
    assert found is None
    assert judge(found, None, Criteria(), 1).opinion is Opinion.INCONCLUSIVE


def test_people_are_asked_and_listened_to(story: ReleaseStory) -> None:
    """Contract waits; a second runner is refused; abort takes traffic and schema back."""
    with serving(story) as tally:
        waits = deploy(story, "run", "--strategy", "blue-green")
        assert waits.returncode == 1
        assert "waits for a yes to contract" in waits.stdout

        holder = subprocess.Popen(
            command(story, "run", "--strategy", "blue-green", "--wait", "120"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: "a runner is at work" in deploy(story, "status").stdout)
        second = deploy(story, "run", "--strategy", "blue-green")
        assert second.returncode == 3
        assert "another zdd-deploy is at work on shop" in second.stderr
        assert second.stderr.count("\n") == 1

        told = deploy(story, "abort", "--undo-schema")
        assert told.stdout.strip() == "abort: the runner at work takes it up"
        out, err = holder.communicate(timeout=180)
        assert holder.returncode == 1, err
        assert "taken back: a person asked for the way back" in out
    nothing_lost(story, tally)
    with psycopg.connect(story.database) as connection:
        row = connection.execute("SELECT to_jsonb(u) FROM users u LIMIT 1").fetchone()
    assert row is not None
    assert "user_name" in row[0]
    assert "username" not in row[0]
    nothing_more = deploy(story, "pause")
    assert nothing_more.returncode == 2
    assert "no release is under way on shop" in nothing_more.stderr


def test_pause_and_ctrl_c(story: ReleaseStory) -> None:
    """A pause holds the release where it is; Ctrl-C ends a runner that the next one follows."""
    with serving(story, rate=30) as tally:
        running = subprocess.Popen(
            command(story, "run", "--strategy", "rolling", "--approve", "--wait", "60"),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        until(lambda: history(story).position > 2)
        assert deploy(story, "pause").returncode == 0
        until(lambda: "paused by" in deploy(story, "status").stdout)
        where = history(story).position
        time.sleep(2)
        assert history(story).position == where
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
        assert running.returncode == 130
        assert "Traceback" not in err

        assert deploy(story, "resume").stdout.startswith("resume: recorded; no runner is at work")
        done = deploy(story, "run", "--strategy", "rolling", "--until", "switch")
        assert done.returncode in (0, 1)
    assert dict(tally.failures) == {}


def test_an_instance_that_never_gets_ready(story: ReleaseStory) -> None:
    """The release is taken back, and says what the instance said last."""
    story.edit(("app/new/shop.py", "app/new/missing.py"))
    with serving(story, rate=30) as tally:
        done = deploy(story, "run", "--strategy", "rolling", "--approve")
        assert done.returncode == 1
        assert "taken back" in done.stdout
        assert "missing.py" in done.stdout
    assert dict(tally.failures) == {}


def test_a_plan_without_proof_is_refused(story: ReleaseStory) -> None:
    """Never verified, changed since, or failed: nothing is released, nothing is touched."""
    verdict = story.plan / "verdict.json"
    good = verdict.read_text()
    (story.plan / "1_expand.sql").write_text(
        (story.plan / "1_expand.sql").read_text() + "\n-- edited\n"
    )
    changed = deploy(story, "run", "--strategy", "rolling")
    verdict.write_text(good.replace('"pass"', '"fail"'))
    assert changed.returncode == 1
    assert "was changed after it was verified" in changed.stderr
    verdict.unlink()
    never = deploy(story, "run", "--strategy", "rolling")
    assert never.returncode == 1
    assert "has never been verified" in never.stderr
    with psycopg.connect(story.database) as connection:
        found = connection.execute("SELECT to_regnamespace('zdd_runner')").fetchone()
    assert found == (None,)


def test_somebody_listens_on_the_port(story: ReleaseStory) -> None:
    """One line, exit status 3."""
    import socket

    host, port = story.settings.local.bind.split(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        done = deploy(story, "run", "--strategy", "canary")
    assert done.returncode == 3
    assert f"HAProxy cannot listen on {host}:{port}" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("postgresql://127.0.0.1:1/none", 3, "the journal cannot be reached"),
        ("nonsense=1 and more", 2, "a database URL cannot be read"),
    ],
)
def test_no_journal(story: ReleaseStory, url: str, status: int, says: str) -> None:
    """Nothing is begun without a journal."""
    done = deploy(ReleaseStory(story.path, url), "run", "--strategy", "canary")
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (story.path / ".zdd-deploy" / "haproxy.pid").exists()


def test_the_journal_goes_away_in_the_middle(story: ReleaseStory) -> None:
    """Its sessions are cut and no new one is let in: traffic flows on, nothing is promoted; when it
    is back the same runner goes on to the end."""
    journal = _own_journal(story)
    with serving(story) as tally:
        running = subprocess.Popen(
            command(story, "run", "--strategy", "canary", "--approve", "--journal", journal.url),
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: journal.position() > 4)
        with journal.gone():
            before = dict(LocalDriver(story.settings.local).observe().weights)
            time.sleep(6)
            after = dict(LocalDriver(story.settings.local).observe().weights)
            assert running.poll() is None
        _, err = running.communicate(timeout=180)
        assert running.returncode == 0, err
        assert "nothing is promoted until it is back" in err
    assert before == after
    nothing_lost(story, tally)


class _Journal:
    """A database of its own for the journal, on the same server."""

    def __init__(self, server: str, name: str) -> None:
        self.server, self.name = server, name
        self.url = psycopg.conninfo.make_conninfo(server, dbname=name)

    def position(self) -> int:
        found = PostgresJournal("shop", self.url, self.url)
        try:
            return fold(found.events()).position
        finally:
            found.close()

    @contextmanager
    def gone(self) -> Iterator[None]:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (self.name,),
            )
            yield
            connection.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")


def _own_journal(story: ReleaseStory) -> _Journal:
    name = f"journal_{os.getpid()}_{free_port()}"
    with psycopg.connect(story.database, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return _Journal(story.database, name)
