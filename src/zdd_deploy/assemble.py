"""From a plan's directory and a configuration to a runner with all its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zdd_deploy.config import Settings
from zdd_deploy.core import Release, contents_of, rules_of
from zdd_deploy.drivers import DRIVERS
from zdd_deploy.drivers.local.driver import LocalDriver
from zdd_deploy.flags import FileFlag
from zdd_deploy.journal import PostgresJournal
from zdd_deploy.matrix import matrix_of
from zdd_deploy.phases import AppliedPhases
from zdd_deploy.runner import Order, Parts, Runner
from zdd_deploy.signals import Counters, Prometheus, Signal
from zdd_deploy.strategies import STRATEGIES
from zdd_migrate.errors import FindingsError, InputError
from zdd_migrate.model.plan import Phase
from zdd_migrate.plan.directory import plan_hash, read

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person who releases asks for. `journal`: a database URL, by default `database`."""

    plan_dir: Path
    strategy: str
    database: str
    journal: str | None = None
    driver: str = "local"
    until: Phase = Phase.CONTRACT
    approve: bool = False
    wait: float = 0.0


def evidence(plan_dir: Path) -> dict[str, Any]:
    """The verdict on exactly this plan, which must be a pass. FindingsError when it is not."""
    file = plan_dir / "verdict.json"
    again = f"zdd-migrate verify {plan_dir}"
    if not file.is_file():
        raise FindingsError(f"{plan_dir} has never been verified: run {again} first")
    try:
        verdict: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        judgement, of = verdict["verdict"], verdict["plan_hash"]
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(f"{file}: not a verdict that can be read: run {again}") from None
    if of != plan_hash(plan_dir):
        raise FindingsError(f"{plan_dir} was changed after it was verified: run {again} again")
    if judgement != "pass":
        raise FindingsError(f"the verdict on {plan_dir} is {judgement}: nothing is released on it")
    return verdict


def order_of(wanted: Wanted, settings: Settings) -> Order:
    """What to walk, by which rules. Refuses a plan without a passing verdict."""
    if wanted.strategy not in STRATEGIES:
        raise InputError(f"--strategy {wanted.strategy}: known are {', '.join(sorted(STRATEGIES))}")
    plan = read(wanted.plan_dir)
    if plan.dual_writes or plan.search_path:
        raise InputError(
            f"{wanted.plan_dir}: this plan asks more of a release than to replace the old code by the "
            "new (see its README.md): walk it with zdd-migrate apply and your own deploys"
        )
    verdict = evidence(wanted.plan_dir)
    fleet = settings.fleet
    release = Release(
        fleet=fleet,
        contents=contents_of(plan),
        strategy=wanted.strategy,
        pace=settings.pace,
        flag=settings.flag,
        until=wanted.until,
    )
    return Order(
        release=release,
        rules=rules_of(release, matrix_of(plan, fleet.old, fleet.new, verdict)),
        plan=plan_hash(wanted.plan_dir),
        title=plan.name,
        criteria=settings.criteria,
        wait=wanted.wait,
        approve=wanted.approve,
    )


def driver_of(settings: Settings, name: str = "local", say: Say = lambda _: None) -> LocalDriver:
    """The platform."""
    if name not in DRIVERS:
        raise InputError(f"--driver {name}: known are {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name](settings, say)


def runner_of(wanted: Wanted, settings: Settings, say: Say = lambda _: None) -> Runner:
    """A runner that has not begun."""
    order = order_of(wanted, settings)
    driver = driver_of(settings, wanted.driver, say)
    source = settings.source
    signal: Signal = Counters(driver.totals)
    if source.name == "prometheus":
        signal = Prometheus(source.url, source.total, source.failed, source.settle)
    parts = Parts(
        journal=PostgresJournal(
            settings.environment, wanted.journal or wanted.database, wanted.database
        ),
        driver=driver,
        phases=AppliedPhases(wanted.plan_dir, wanted.database, say),
        signal=signal,
        flags=FileFlag(settings.flag_file) if settings.flag_file is not None else None,
    )
    return Runner(parts, order, say)
