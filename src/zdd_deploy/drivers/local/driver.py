"""The local platform: processes behind HAProxy, as the runner's verbs."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from zdd_deploy.drivers.local.haproxy import POOLS, HAProxy, Row, apportion
from zdd_deploy.drivers.local.processes import Build, Instance, Processes
from zdd_deploy.drivers.protocol import Caps, Lint
from zdd_deploy.failures import FencedError, StepFailedError
from zdd_deploy.model import Fleet, Instances, Observation
from zdd_deploy.pace import Pace
from zdd_deploy.signals import Totals
from zdd_migrate.errors import EnvironmentFailedError, InputError


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an instance itself, and the status that is right."""

    path: str
    method: str = "GET"
    body: str | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How instances are started, asked and stopped. Times are seconds.

    `ready` answers 200 once an instance can take traffic; `state` answers JSON with `flag`.
    `warm` is sent `warm_rounds` times to each instance before it gets traffic. `request_timeout`
    is the longest that a request may take, and so the least grace when draining.
    """

    directory: Path
    bind: str
    builds: Mapping[str, Build]
    ready: str = "/readyz"
    state: str | None = None
    warm: Sequence[Request] = ()
    warm_rounds: int = 8
    smoke: Sequence[Request] = ()
    ready_timeout: float = 30.0
    drain_timeout: float = 60.0
    request_timeout: float = 30.0
    stop_grace: float = field(default=40.0)


class _EndedError(StepFailedError):
    """An instance's process ended before it was ready."""


class LocalDriver:
    """Processes on this machine behind a HAProxy of their own."""

    def __init__(
        self, settings: LocalSettings, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.settings = settings
        self.say = say
        self.balancer = HAProxy(
            settings.directory,
            settings.bind,
            ready=settings.ready,
            timeout=settings.request_timeout,
        )
        self.processes = Processes(settings.directory / "instances")
        self.epoch = 0

    # -- what is so -----------------------------------------------------------------------------

    def caps(self) -> Caps:
        """Exact shares, observable draining, one act to switch."""
        return Caps(
            frozenset({"rolling", "canary", "blue-green"}),
            "exact",
            drain_observable=True,
            atomic_switch=True,
        )

    def lint(self, fleet: Fleet, strategy: str, pace: Pace) -> list[Lint]:
        """Settings with which requests could be lost."""
        found = []
        chosen = self.settings
        if chosen.drain_timeout < chosen.request_timeout:
            found.append(
                Lint(
                    "drain-shorter-than-request",
                    "error",
                    f"draining waits {chosen.drain_timeout:g} s, a request may take "
                    f"{chosen.request_timeout:g} s: it would be cut off",
                    "set drain_timeout to at least request_timeout",
                )
            )
        if not chosen.warm:
            found.append(
                Lint(
                    "no-warm-up",
                    "warning",
                    "instances get traffic cold: the first requests of each are slow",
                    'name what to ask them first: warm = ["/path"]',
                )
            )
        if strategy != "rolling" and not chosen.smoke:
            found.append(
                Lint(
                    "no-smoke-test",
                    "warning",
                    "nothing is asked of new instances before they get traffic but that they are "
                    "ready",
                    'name what they must answer: smoke = ["/path"]',
                )
            )
        return found

    def observe(self) -> Observation:
        """Asked of HAProxy and of the system's processes."""
        rows = {row.name: row for row in self.balancer.servers()}
        route = self.balancer.route()
        counted: dict[str, Counter[str]] = {}
        inflight: Counter[str] = Counter()
        for instance in self.processes.all():
            row = rows.get(instance.name)
            kind = _condition(self.processes.alive(instance), row, warm=instance.warm)
            counts = counted.setdefault(instance.build, Counter())
            counts[kind] += 1
            counts["warm"] += kind == "ready" and instance.warm
            inflight[instance.build] += row.current if row is not None else 0
        return Observation(
            instances={
                build: Instances(c["ready"], c["draining"], c["broken"], c["warm"])
                for build, c in counted.items()
            },
            weights=self._weights(),
            epoch=route.epoch,
            inflight={b: n for b, n in inflight.items() if n},
        )

    def _weights(self) -> dict[str, int]:
        """The weights as they were given, unless the tickets say otherwise."""
        route = self.balancer.route()
        builds = self._builds_by_pool()
        real: dict[str, int] = {}
        for pool, count in route.tickets.items():
            name = builds.get(pool, f"pool {pool}")
            real[name] = real.get(name, 0) + count
        given = {b: w for b, w in route.weights.items() if w}
        return given if apportion(given) == real else real

    def _builds_by_pool(self) -> dict[str, str]:
        builds = {i.name: i.build for i in self.processes.all()}
        return {row.pool: builds[row.name] for row in self.balancer.servers() if row.name in builds}

    def flags(self, build: str) -> frozenset[str]:
        """What `/zdd/state`, or what was named for it, says on each instance in traffic."""
        values = set()
        if self.settings.state is None:
            return frozenset()
        for instance in self._ready(build):
            answer = _ask(instance, Request(self.settings.state))
            value = answer.json().get("flag") if answer is not None and answer.is_success else None
            values.add("nothing" if value is None else str(value))
        return frozenset(values)

    def totals(self) -> Totals:
        """Requests by build, as HAProxy counted them."""
        by_pool = self._builds_by_pool()
        counts = self.balancer.totals()
        return {build: counts[pool] for pool, build in by_pool.items()}

    # -- what is to be so -----------------------------------------------------------------------

    def fence(self, epoch: int) -> None:
        """Start HAProxy when it does not run, give it back its servers, stamp the epoch."""
        self.settings.directory.mkdir(parents=True, exist_ok=True)
        self.balancer.start()
        self.epoch = epoch
        self._tidy()
        route = self.balancer.route()
        pools = {build: pool for pool, build in self._builds_by_pool().items()}
        self._set_route({b: w for b, w in route.weights.items() if b in pools}, pools)

    def _tidy(self) -> None:
        """Servers for instances that run and lost theirs; no servers for instances that are gone."""
        instances = {i.name: i for i in self.processes.all()}
        rows = {row.name: row for row in self.balancer.servers()}
        for name, row in rows.items():
            if name not in instances:
                self.balancer.remove_server(row.pool, name)
        for name, instance in instances.items():
            if name not in rows and self.processes.alive(instance) and instance.warm:
                self._add(instance)
                self._admit(instance)

    def _set_route(self, weights: Mapping[str, int], pools: Mapping[str, str]) -> None:
        stamped = self.balancer.route().epoch
        if stamped > self.epoch:
            raise FencedError(
                f"another zdd-deploy has taken the balancer over (epoch {stamped}, this one has "
                f"{self.epoch}): this one stops and touches nothing more"
            )
        self.balancer.set_route(weights, pools, self.epoch)

    def ensure_version(self, build: str, count: int) -> None:
        """Start what is missing, and wait until each says twice that it is ready."""
        if build not in self.settings.builds:
            raise InputError(f"there is no build {build} in the configuration")
        missing = count - len(self._ready(build))
        if missing <= 0:
            return
        self._bury(build)
        started = [self._start(build) for _ in range(missing)]
        try:
            for position, instance in enumerate(started):
                try:
                    self._wait_ready(instance)
                except _EndedError:  # its port may have been taken in between: once more
                    self.processes.stop(instance, 0)
                    started[position] = again = self._start(build)
                    self._wait_ready(again)
                self._add(started[position])
        except BaseException:
            for instance in started:
                self._remove(instance, 1)
            raise

    def _start(self, build: str) -> Instance:
        instance = self.processes.start(build, self.settings.builds[build])
        self._write_targets()
        return instance

    def _bury(self, build: str) -> None:
        """Stop what is of no use any more: dead, down, or half stopped by a runner that was killed."""
        rows = {row.name: row for row in self.balancer.servers()}
        for instance in [i for i in self.processes.all() if i.build == build]:
            alive = self.processes.alive(instance)
            if _condition(alive, rows.get(instance.name), warm=instance.warm) == "broken":
                self._remove(instance, self.settings.stop_grace)

    def _remove(self, instance: Instance, grace: float) -> None:
        row = self._row(instance)
        if row is not None:
            self.balancer.remove_server(row.pool, row.name)
        if not self.processes.stop(instance, grace):
            self.say(f"{instance.name} had to be killed after {grace:g} s")
        self._write_targets()

    def _write_targets(self) -> None:
        """The instances for Prometheus to find (file_sd), each with its build as a label."""
        targets = [
            {"targets": [f"127.0.0.1:{i.port}"], "labels": {"build": i.build, "instance": i.name}}
            for i in self.processes.all()
        ]
        partial = self.settings.directory / "targets.partial"
        partial.write_text(json.dumps(targets), encoding="utf-8")
        partial.replace(self.settings.directory / "targets.json")

    def _wait_ready(self, instance: Instance) -> None:
        deadline = time.monotonic() + self.settings.ready_timeout
        good = 0
        while good < 2:
            answer = _ask(instance, Request(self.settings.ready), timeout=2)
            good = good + 1 if answer is not None and answer.status_code == 200 else 0
            if not self.processes.alive(instance):
                raise _EndedError(
                    f"an instance of {instance.build} ended instead of serving: "
                    f"{self.processes.last_words(instance) or 'it said nothing'}"
                )
            if time.monotonic() > deadline and good < 2:
                said = answer.text[:200] if answer is not None else "it does not answer"
                raise StepFailedError(
                    f"an instance of {instance.build} was not ready after "
                    f"{self.settings.ready_timeout:g} s: {self.settings.ready} says {said}"
                )
            time.sleep(0.1)

    def warm(self, build: str) -> None:
        """Send each instance that is not warm its requests, then let it have traffic.

        Each request has to succeed once: how often it fails is for the judge to say.
        """
        for instance in self._ready(build):
            if not instance.warm:
                self._warm_up(instance)
                self.processes.mark_warm(instance)
            row = self._row(instance)
            if row is None or row.status.startswith("MAINT"):
                self._admit(instance)

    def _warm_up(self, instance: Instance) -> None:
        failed: dict[Request, StepFailedError | None] = {}
        for _ in range(max(1, self.settings.warm_rounds)):
            for request in self.settings.warm:
                try:
                    self._expect(instance, request, "warm-up")
                    failed[request] = None
                except StepFailedError as error:
                    failed.setdefault(request, error)
        for problem in failed.values():
            if problem is not None:
                raise problem

    def smoke(self, build: str) -> None:
        """Ask each instance past the balancer."""
        for instance in self._ready(build):
            for request in self.settings.smoke:
                self._expect(instance, request, "smoke test")

    def _expect(self, instance: Instance, request: Request, what: str) -> None:
        answer = _ask(instance, request, timeout=self.settings.request_timeout)
        got = "no answer" if answer is None else str(answer.status_code)
        if answer is None or answer.status_code != request.status:
            body = "" if answer is None else f": {' '.join(answer.text.split())[:200]}"
            raise StepFailedError(
                f"{what} of {instance.build}: {request.method} {request.path} got {got} where "
                f"{request.status} is right{body}"
            )

    def ensure_weights(self, weights: Mapping[str, int]) -> None:
        """Replace the map."""
        pools = {build: pool for pool, build in self._builds_by_pool().items()}
        missing = sorted(b for b, w in weights.items() if w and b not in pools)
        if missing:
            raise EnvironmentFailedError(f"{missing[0]} has no instance to give traffic to")
        self._set_route(weights, pools)

    def drain(self, build: str, keep: int) -> None:
        """Give the oldest but `keep` nothing new; wait for what they have."""
        ready = self._ready(build)
        for instance in ready[: max(0, len(ready) - keep)]:
            row = self._row(instance)
            if row is not None:
                self.balancer.drain(row.pool, row.name)
        self._wait_drained(build)

    def _wait_drained(self, build: str) -> None:
        names = {i.name for i in self.processes.all() if i.build == build}
        deadline = time.monotonic() + self.settings.drain_timeout
        quiet = 0
        while quiet < 3:
            busy = [
                row
                for row in self.balancer.servers()
                if row.name in names and row.status.startswith("DRAIN") and row.current
            ]
            quiet = quiet + 1 if not busy else 0
            if time.monotonic() > deadline:
                raise EnvironmentFailedError(
                    f"{busy[0].name if busy else build} still had requests after "
                    f"{self.settings.drain_timeout:g} s of draining: look what takes so long, "
                    "then run again"
                )
            time.sleep(0.02)

    def retire(self, build: str) -> None:
        """Stop what is drained or broken."""
        rows = {row.name: row for row in self.balancer.servers()}
        for instance in [i for i in self.processes.all() if i.build == build]:
            row = rows.get(instance.name)
            alive = self.processes.alive(instance)
            if _condition(alive, row, warm=instance.warm) == "ready":
                continue
            self._remove(instance, self.settings.stop_grace)

    def close_down(self) -> None:
        """Stop every instance and HAProxy: the end of a demonstration or of a test."""
        self.balancer.stop()
        for instance in self.processes.all():
            self.processes.stop(instance, self.settings.stop_grace)

    # -- servers and instances ------------------------------------------------------------------

    def _ready(self, build: str) -> list[Instance]:
        rows = {row.name: row for row in self.balancer.servers()}
        return [
            instance
            for instance in self.processes.all()
            if instance.build == build
            and _condition(
                self.processes.alive(instance), rows.get(instance.name), warm=instance.warm
            )
            == "ready"
        ]

    def _row(self, instance: Instance) -> Row | None:
        found = [row for row in self.balancer.servers() if row.name == instance.name]
        return found[0] if found else None

    def _add(self, instance: Instance) -> None:
        """A server in the pool of its build, or in one that nobody uses."""
        builds = self._builds_by_pool()
        mine = [pool for pool, build in builds.items() if build == instance.build]
        used = set(builds) | set(self.balancer.route().tickets)
        free = [pool for pool in POOLS if pool not in used]
        if not mine and not free:
            raise EnvironmentFailedError(
                f"all {len(POOLS)} pools of the balancer are in use: stop builds that nobody needs"
            )
        self.balancer.add_server((mine or free)[0], instance.name, instance.port)

    def _admit(self, instance: Instance) -> None:
        """Let it have traffic, and wait until the balancer's own checks agree."""
        row = self._row(instance)
        if row is None:
            raise EnvironmentFailedError(f"{instance.name} has no server in the balancer")
        self.balancer.enable(row.pool, row.name)
        deadline = time.monotonic() + self.settings.ready_timeout
        while True:
            row = self._row(instance)
            if row is not None and row.status.startswith("UP"):
                return
            if time.monotonic() > deadline:
                status = row.status if row is not None else "gone"
                raise StepFailedError(
                    f"the balancer does not find {instance.name} up ({status}): it asks "
                    f"{self.settings.ready}"
                )
            time.sleep(0.05)


def _condition(alive: bool, row: Row | None, *, warm: bool) -> str:
    """What an instance is: ready, draining (also: drained and not stopped yet) or broken."""
    if not alive or row is None:
        return "broken"
    if row.status.startswith("DRAIN"):
        return "draining"
    if row.status.startswith("MAINT"):
        return "broken" if warm else "ready"
    return "ready" if row.status.startswith("UP") or row.status == "no check" else "broken"


def _ask(instance: Instance, request: Request, timeout: float = 5) -> httpx.Response | None:
    try:
        return httpx.request(
            request.method,
            instance.url + request.path,
            content=request.body,
            timeout=timeout,
            headers={"Content-Type": "application/json"} if request.body else None,
        )
    except httpx.HTTPError:
        return None
