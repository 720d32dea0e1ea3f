"""Running a plan's steps as `apply` does, and looking at what each does to everybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from zdd_migrate.apply.steps import Hook, Policy, run_step, undo_step
from zdd_migrate.errors import EnvironmentFailedError, FindingsError
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase, Sql, Step, Validate
from zdd_migrate.model.verdict import LawResult, When
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.clock import Clock
from zdd_migrate.verify.code import Effort
from zdd_migrate.verify.watching import Bystander, Watcher, scanned_under_lock, tables_there

SCANS = "no step reads through a table that it keeps others from"
GIVES_UP = "every step gives up its lock rather than keep everybody waiting (lock_timeout)"
#: the first wait for a lock: short, for every step is made to wait once
_FIRST_WAIT_MS = 40
_ATTEMPTS = 8


@dataclass(slots=True)
class Runner:
    """Runs steps, each on a connection of its own. What they did wrong is kept for `laws`.

    A new process for each step has no statistics of earlier ones to be told apart from its own.
    """

    server: Server
    database: str
    name: str
    touches: Sequence[QName]
    effort: Effort
    clock: Clock
    _scans: list[tuple[str, str]] = field(default_factory=list)
    _stuck: list[tuple[str, str]] = field(default_factory=list)
    _tried: int = 0

    def run(self, step: Step, phase: Phase, watcher: Watcher) -> str:
        """Run a step; gives what went wrong, "" when nothing did."""
        return self._do(step, phase, "during", watcher, run_step, keep=True)

    def undo(self, step: Step, phase: Phase, watcher: Watcher, *, keep: bool) -> str:
        """Undo a step. `keep` puts it onto the timeline, and somebody's transaction in its way."""
        return self._do(step, phase, "undo", watcher, undo_step, keep=keep)

    def _do(
        self,
        step: Step,
        phase: Phase,
        when: When,
        watcher: Watcher,
        do: Callable[..., None],
        *,
        keep: bool,
    ) -> str:
        tries: list[str] = []
        policy = Policy(
            attempts=_ATTEMPTS, first_wait_ms=_FIRST_WAIT_MS, pause_s=0.05, say=tries.append
        )
        began = time.monotonic()
        said = ""
        with ExitStack() as stack:
            runner = self.server.connect(self.database, application_name=self.name)
            stack.callback(runner.close)
            there = tables_there(runner)
            bystander = None
            if keep and self.effort.bystander and isinstance(step, (Sql, Validate)):
                pid = runner.info.backend_pid
                bystander = stack.enter_context(
                    Bystander(self.server, self.database, self.touches, watcher, pid)
                )
            try:
                do(
                    runner,
                    step,
                    policy=policy,
                    before_commit=self._look(step, there) if isinstance(step, Sql) else None,
                )
            except (EnvironmentFailedError, FindingsError) as error:
                said = str(error)
        self._tried += 1
        if bystander is not None and bystander.stuck:
            self._stuck.append((step.id, f"{step.id} goes on waiting for {bystander.stuck}"))
        if keep:
            self.clock.span(step.id, phase.value, when, began, 1 + len(tries))
        return said

    def _look(self, step: Step, there: Sequence[int]) -> Hook:
        def look(connection: psycopg.Connection) -> None:
            for found in scanned_under_lock(connection, there):
                said = (
                    f"{step.id} reads {found.rows} rows of {found.relation} under {found.mode}: "
                    "on a large table everybody waits that long"
                )
                self._scans.append((step.id, said))

        return look

    def laws(self, phase: Phase) -> list[LawResult]:
        """What the steps run so far were asked to keep to."""
        if not self._tried:
            return []
        out = []
        for law, found in ((SCANS, self._scans), (GIVES_UP, self._stuck)):
            if law == GIVES_UP and not self.effort.bystander:
                continue
            distinct = dict(found)
            out += [LawResult(law, phase.value, False, 1, d, s) for s, d in distinct.items()]
            if not found:
                out.append(LawResult(law, phase.value, True))
        return out
