"""An empty database for migrations that have to run to be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.postgres.servers import URL_VARIABLE, Server, server


@contextmanager
def scratch_database(spec: str) -> Iterator[tuple[Server, str]]:
    """A server and the name of an empty database on it. EnvironmentFailedError.

    `spec` is a server as `--postgres` names it. auto takes the URL in ZDD_DATABASE_URL, else an
    installed server, else the embedded one: reading starts no containers unless they are named.
    """
    with ExitStack() as stack:
        running = _first(stack, _choices(spec))
        yield running, stack.enter_context(running.scratch_database())


def _choices(spec: str) -> list[str]:
    if spec != "auto":
        return [spec]
    given = os.environ.get(URL_VARIABLE)
    return [given] if given else ["system", "embedded"]


def _first(stack: ExitStack, choices: list[str]) -> Server:
    *others, last = choices
    for choice in others:
        try:
            return stack.enter_context(server(choice))
        except EnvironmentFailedError:
            continue
    return stack.enter_context(server(last))
