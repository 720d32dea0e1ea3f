"""`zdd-migrate demo`: the whole idea on a small web shop, in under a minute."""

from __future__ import annotations

import shutil
import sys
import time
from importlib.resources import files
from pathlib import Path

import click

from zdd_migrate.check import Checker
from zdd_migrate.cli.asked import Request
from zdd_migrate.cli.options import config_for, read_migrations, style, width
from zdd_migrate.cli.verify import verify
from zdd_migrate.errors import FindingsError, InputError
from zdd_migrate.formats import findings_text, plan_text
from zdd_migrate.formats import verdict as verdict_text
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.verdict import Judgement, Verdict
from zdd_migrate.operations.base import DEFAULT_PG
from zdd_migrate.plan.directory import write
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.schema_source import load_schema_file


@click.command(name="demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    help="Where to leave the story and its plan.",
)
@click.option("--postgres", default="embedded", metavar="WHERE", help="See zdd-migrate verify.")
def command(output: Path, postgres: str) -> None:
    """Check, plan and prove a rename on a web shop with two real code versions."""
    started = time.monotonic()
    story = copy_story(output)
    click.echo(
        f"A web shop runs. Its next release wants {style('users.user_name', 'bold')} to be called "
        f"{style('username', 'bold')},\nand while it is rolled out, old and new code share one "
        "database. The migration is one line:\n"
    )
    click.echo(f"    {(story / 'migration.sql').read_text(encoding='utf-8').strip()}\n")
    _check(story)
    naive = _verify(
        story,
        story / "migration.sql",
        postgres,
        quick=True,
        title="2  verify the line as it is: both versions of the shop really run",
    )
    if naive.judgement is not Judgement.FAIL:
        raise FindingsError("the plain rename was expected to break the old shop, and did not")
    plan_dir = _plan(story)
    verdict = _verify(
        story,
        plan_dir,
        postgres,
        quick=False,
        title="4  verify the plan: every phase, every step under load, every way back",
    )
    click.echo(f"\n{style('The files', 'bold')}  ({time.monotonic() - started:.0f} s)")
    click.echo(f"  {plan_dir}/README.md     who does what, when, and how back")
    click.echo(f"  {plan_dir}/1_expand.sql  … and the other phases, each with its .undo.sql")
    click.echo(f"  {plan_dir}/verdict.json  the evidence, for a pull request")
    click.echo(f"  {story}/verdict.html       the same to look at: open it in a browser")
    click.echo(f"  {story}/app/             the shop's two versions\n")
    if verdict.judgement is not Judgement.PASS:
        raise FindingsError("the plan was expected to pass, and did not")


def _title(text: str) -> None:
    click.echo(f"\n{style(text, 'bold')}\n{style('─' * 100, 'dim')}")


def copy_story(output: Path) -> Path:
    """A copy of the story to work in. Only an earlier copy is ever replaced."""
    packaged = files("zdd_migrate") / "story"
    source = (
        Path(str(packaged)) if packaged.is_dir() else Path(__file__).parents[3] / "fixtures/shop"
    )
    if not (source / "migration.sql").is_file():
        raise InputError(
            "the demo's story is not part of this installation; run it from a checkout"
        )
    target = output / "shop"
    if target.exists():
        if not (target / "migration.sql").is_file():
            raise InputError(f"{target} is there and is not the demo's; choose another with -o")
        shutil.rmtree(target)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return target


def _check(story: Path) -> None:
    _title("1  check: what it breaks, what it locks")
    path = str(story / "migration.sql")
    schema, _ = load_schema_file(story / "before.sql")
    report = Checker(config_for([path]), pg=DEFAULT_PG).run(read_migrations([path], None), schema)
    click.echo(findings_text.render(report, style=style, width=width()))


def _verify(story: Path, path: Path, postgres: str, *, quick: bool, title: str) -> Verdict:
    _title(title)
    verdict = verify_story(story, path, postgres, quick=quick)
    if sys.stderr.isatty():
        click.echo("\r\x1b[2K", nl=False, err=True)
    click.echo(verdict_text.render(verdict, style=style, width=width()))
    return verdict


def verify_story(story: Path, path: Path, postgres: str, *, quick: bool = True) -> Verdict:
    """Try the story's migration, or its plan, with both versions of the shop."""
    request = Request(
        path=path,
        schema=str(story / "before.sql"),
        old=(),
        new=(),
        postgres=postgres,
        major=None,
        seed=None,
        quick=quick,
        longest_wait_ms=5000,
        quiet=False,
        programs=True,
        cache=False,
        outputs=() if quick else (("html", story / "verdict.html"),),
    )
    return verify(request)


def _plan(story: Path) -> Path:
    _title("3  plan: the same change in four phases, each step with its undo")
    plan = plan_story(story)
    click.echo(plan_text.render(plan, style=style, width=width(), brief=True))
    return story / "plan"


def plan_story(story: Path) -> Plan:
    """Plan the story's migration; its directory is `plan` in the story's."""
    schema, before = load_schema_file(story / "before.sql")
    migrations = read_migrations([str(story / "migration.sql")], None)
    plan = make_plan(migrations, schema, name="rename-user-name", before=before)
    write(plan, story / "plan")
    return plan
