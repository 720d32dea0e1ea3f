"""Where error rates per build come from. A source counts from when its watch began."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from zdd_deploy.judge import Counts
from zdd_migrate.errors import EnvironmentFailedError, InputError

Totals = Mapping[str, Counts]
"""Build → all requests since the source began to count."""


class Watch(Protocol):
    """Counts since it was made."""

    def counts(self, build: str) -> Counts | None:
        """What `build` answered since then; None when the source says nothing of it."""
        ...


class Signal(Protocol):
    """A source of error rates."""

    def watch(self) -> Watch:
        """Begin to count."""
        ...


class Counters:
    """Counters that only rise, such as a balancer's: a watch is the difference of two readings."""

    def __init__(self, read: Callable[[], Totals]) -> None:
        self._read = read

    def watch(self) -> Watch:
        """Begin to count now."""
        return _Difference(self._read, self._read())


class _Difference:
    def __init__(self, read: Callable[[], Totals], start: Totals) -> None:
        self._read, self._start = read, start

    def counts(self, build: str) -> Counts | None:
        now = self._read().get(build)
        if now is None:
            return None
        then = self._start.get(build, Counts(0, 0))
        if now.requests < then.requests:  # the source was started anew
            then = Counts(0, 0)
        return Counts(now.requests - then.requests, max(0, now.failed - then.failed))


TOTAL = 'sum(increase(http_requests_total{{version="{version}"}}[{seconds}s]))'
FAILED = 'sum(increase(http_requests_total{{version="{version}",status=~"5.."}}[{seconds}s]))'


class Prometheus:
    """Per-build counts asked of a Prometheus server.

    The queries name `{version}` (the build, without its variant) and `{seconds}`, the length of
    the window. Without failures there is no series of them: that is 0. Without requests there is
    no answer, never a pass. `settle` is the shortest window that means something: four scrapes.
    """

    def __init__(
        self,
        url: str,
        total: str = TOTAL,
        failed: str = FAILED,
        settle: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self.total, self.failed = total, failed
        self.settle = settle
        self.clock = clock

    def watch(self) -> Watch:
        """Begin to count now."""
        return _Since(self, self.clock())

    def counts(self, build: str, seconds: float) -> Counts | None:
        """The counts of the last `seconds`."""
        names = {"version": build.split("@", maxsplit=1)[0], "seconds": max(1, round(seconds))}
        requests = self.ask(_fill(self.total, names))
        if not requests:
            return None
        failed = self.ask(_fill(self.failed, names)) or 0.0
        return Counts(round(requests), min(round(requests), round(failed)))

    def ask(self, query: str) -> float | None:
        """A query's one value; None when it has none."""
        import httpx

        try:
            reply = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=5)
            found = reply.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise EnvironmentFailedError(f"Prometheus at {self.url}: {error}") from None
        if found.get("status") != "success":
            raise InputError(f"Prometheus refused {query}: {found.get('error', reply.status_code)}")
        result = found["data"]["result"]
        if found["data"].get("resultType") == "scalar":
            return float(result[1])
        if len(result) > 1:
            raise InputError(f"{query} gives {len(result)} values, one is needed: sum() them")
        value = float(result[0]["value"][1]) if result else None
        return None if value is None or value != value else value  # NaN is no number


class _Since:
    def __init__(self, source: Prometheus, start: float) -> None:
        self._source, self._start = source, start

    def counts(self, build: str) -> Counts | None:
        seconds = self._source.clock() - self._start
        if seconds < self._source.settle:
            return Counts(0, 0)
        return self._source.counts(build, seconds)


def _fill(template: str, names: Mapping[str, object]) -> str:
    try:
        return template.format(**names)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"the query {template!r} cannot be filled in ({error}): write {{version}} and "
            "{seconds}, and double every other brace"
        ) from None
