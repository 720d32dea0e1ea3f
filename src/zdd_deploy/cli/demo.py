"""`zdd-deploy demo`: the shop's rename, all four phases and new code, under steady load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import psycopg

from zdd_deploy.assemble import Wanted, runner_of
from zdd_deploy.cli.run import sentence
from zdd_deploy.demo.load import Load, Tally, lost
from zdd_deploy.demo.shop import Shop, open_shop
from zdd_deploy.drivers.local.haproxy import HAProxy
from zdd_deploy.strategies import STRATEGIES
from zdd_migrate.cli.options import style
from zdd_migrate.errors import FindingsError


@click.command()
@click.option(
    "--strategy", type=click.Choice(sorted(STRATEGIES)), default="canary", show_default=True
)
@click.option("--naive", is_flag=True, help="The plain migration instead: see what it costs.")
@click.option(
    "--rate", type=click.FloatRange(1), default=150, show_default=True, help="Writes a second."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    help="Where to leave the story, its plan and the logs.",
)
@click.option("--postgres", default="embedded", metavar="WHERE", help="See zdd-migrate verify.")
def demo(strategy: str, naive: bool, rate: float, output: Path, postgres: str) -> None:
    """Release the web shop's rename while clients write; count what they lose."""
    HAProxy.program()  # said at once when it is missing, not after half a minute
    live = _Live()
    how = "the plain migration, then new code" if naive else f"four phases, {strategy}"
    click.echo(f"A web shop serves about {rate:g} writes a second. Its release: {how}.\n")
    with open_shop(output, postgres, live.say) as shop:
        load = Load(shop.settings.local.bind, rate=rate)
        live.tally = load.tally
        with load.running() as tally:
            time.sleep(2)
            ending = _naively(shop, live.say) if naive else _release(shop, strategy, live.say)
            time.sleep(2)
        gone = lost(tally, shop.database)
    click.echo(f"\n{ending}")
    _count(tally, gone)
    if tally.failed or gone:
        raise FindingsError(f"{tally.failed:,} requests failed, {len(gone):,} writes were lost")


class _Live:
    """Lines with the time and the count of requests so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.tally: Tally | None = None

    def say(self, text: str) -> None:
        seconds = time.monotonic() - self.started
        seen = ""
        if self.tally is not None:
            failed = f"{self.tally.failed:,} failed"
            word = style(failed, "error" if self.tally.failed else "ok")
            seen = f"{self.tally.requests:>7,} requests, {word}"
        line = f"{seconds:6.1f} s  {text}"
        line = line if len(line) <= 68 else line[:67] + "…"
        click.echo(f"{line:<68}  {seen}".rstrip())
        sys.stdout.flush()


def _release(shop: Shop, strategy: str, say: Callable[[str], None]) -> str:
    wanted = Wanted(shop.plan_dir, strategy, shop.database, approve=True)
    history = runner_of(wanted, shop.settings, say).run()
    if history.ended != "done":
        raise FindingsError(sentence(history))
    return sentence(history)


def _naively(shop: Shop, say: Callable[[str], None]) -> str:
    """What a release without a plan does: migrate, then replace the code."""
    fleet, driver = shop.settings.fleet, shop.driver
    say("database: the plain migration")
    with psycopg.connect(shop.database, autocommit=True) as connection:
        connection.execute((shop.story / "migration.sql").read_bytes())
    say("new code comes in, drained and warmed up as well as one can")
    driver.ensure_version(fleet.new, fleet.desired)
    driver.warm(fleet.new)
    driver.ensure_weights({fleet.new: 100})
    driver.drain(fleet.old, 0)
    driver.retire(fleet.old)
    return "migrated and deployed, the plain way"


def _count(tally: Tally, gone: list[str]) -> None:
    click.echo(
        f"  requests {tally.requests:>8,}   all of them writes\n"
        f"  failed   {style(f'{tally.failed:>8,}', 'error' if tally.failed else 'ok')}\n"
        f"  lost     {style(f'{len(gone):>8,}', 'error' if gone else 'ok')}   acknowledged, and "
        "not in the database\n"
        f"  slowest  {tally.slowest * 1000:>8,.0f} ms"
    )
    for problem, count in tally.failures.most_common(3):
        click.echo(f"  {count:,} times: {problem[:80]}")
    for one in gone[:3]:
        click.echo(f"  lost: {one[:80]}")
