"""zdd-deploy.toml: what is wrong in it is said with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories import STORIES, Story
from zdd_deploy.assemble import Wanted, order_of
from zdd_deploy.config import load
from zdd_deploy.signals import Prometheus
from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.plan.directory import write as write_plan

GOOD = """
[builds.old]
command = "old"
[builds.new]
command = "new --x"
environment = { A = 1 }
"""


def write(path: Path, text: str) -> Path:
    file = path / "zdd-deploy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    """Two commands; everything else has a default."""
    found = load(write(tmp_path, GOOD), "postgresql://db")

    assert (found.fleet.old, found.fleet.new, found.fleet.desired) == ("old", "new", 2)
    assert found.environment == tmp_path.name
    assert found.local.builds["new"].environment == {"DATABASE_URL": "postgresql://db", "A": "1"}
    assert found.flag is None


@pytest.mark.parametrize("story", ["dual-write-rename", "rename-columns-by-view"])
def test_a_plan_that_asks_more_than_one_release_is_refused(story: str, tmp_path: Path) -> None:
    """It would replace the old code by the new in one go, and the plan needs more than that."""
    write_plan(Story(STORIES / story).plan(16), tmp_path / "plan")
    wanted = Wanted(tmp_path / "plan", "rolling", "postgresql://db")

    with pytest.raises(InputError, match="asks more of a release"):
        order_of(wanted, load(write(tmp_path, GOOD), "postgresql://db"))


def test_a_flag_that_is_learnt_by_a_restart(tmp_path: Path) -> None:
    """It makes another build of the new one."""
    text = GOOD + '[flag]\nname = "f"\nenvironment = "FLAG"\n'
    found = load(write(tmp_path, text), "db")

    assert found.flag is not None
    assert found.flag.by_restart
    assert found.local.builds["new@on"].environment["FLAG"] == "on"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "builds.old.command is missing"),
        ("[builds.old", "cannot be read"),
        (GOOD + "[pcae]\n", "'pcae' is not a setting; known are"),
        (GOOD + "[pace]\nsoack = 1\n", r"\[pace\] 'soack' is not a setting"),
        (GOOD + "[pace]\nweights = [50, 20, 100]\n", "pace.weights are percents that rise to 100"),
        (GOOD + "[pace]\nweights = [5]\n", "rise to 100"),
        (GOOD + "[pace]\nbatch = 0\n", "pace.batch must be at least 1"),
        (GOOD + '[pace]\nsoak = "long"\n', "pace.soak must be a number, not 'long'"),
        ("desired = 0\n" + GOOD, "desired must be at least 1"),
        ("desired = true\n" + GOOD, "desired must be a whole number"),
        (GOOD + "[judge]\nmax_error_rate = 1.0\n", "lie between 0 and 1"),
        (GOOD + '[judge]\nsource = "guess"\n', "judge.source is haproxy or prometheus"),
        (GOOD + '[judge]\nsource = "prometheus"\n', "judge.url is missing"),
        (GOOD + '[flag]\nname = "f"\n', "needs a name, and either file"),
        (GOOD + "[instances]\nwarm = [{pth = 1}]\n", "neither a path nor a table"),
        ('builds = "old"\n', "must be a table"),
        (GOOD.replace("[builds.new]", '[builds.new]\nname = "old"'), "are both old"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    """File and key, in one line."""
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=says) as found:
        load(file, "db")
    assert str(file) in str(found.value)


def test_prometheus_that_is_not_there() -> None:
    """The environment's fault, naming the address."""
    with pytest.raises(EnvironmentFailedError, match=r"Prometheus at http://127\.0\.0\.1:1"):
        Prometheus("http://127.0.0.1:1").ask("up")


def test_a_query_that_cannot_be_filled_in() -> None:
    """Braces of PromQL have to be doubled."""
    with pytest.raises(InputError, match="double every other brace"):
        Prometheus("http://x", total='sum(x{a="1"})').counts("b", 5)
