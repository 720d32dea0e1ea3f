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
from zdd_migrate.verify.looking import (
    Look,
    LookingConnection,
    scanned_under_lock,
    tables_there,
)
from zdd_migrate.verify.watching import Bystander, Watcher

SCANS = "no step reads through a table that it keeps others from"
GIVES_UP = "every step gives up its lock rather than keep everybody waiting (lock_timeout)"
#: the first wait for a lock: short, for every step is made to wait once
_FIRST_WAIT_MS = 40
_ATTEMPTS = 8
_HOSTILE_ATTEMPTS = 40
#: how often a step is run again after its connection was ended
_LOSSES = 6


@dataclass(slots=True)
class _Seen:
    """What a step's transaction was, should its connection go at the moment it commits."""

    transaction: str = ""


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

    @property
    def hostile(self) -> bool:
        """Whether connections may be ended and locks be long in coming, by our own making."""
        return bool(self.effort.hostile)

    @property
    def _stands_by(self) -> bool:
        """Others stand in the way where conditions are hostile."""
        return self.effort.bystander and not self.hostile

    def run(self, step: Step, phase: Phase, watcher: Watcher) -> str:
        """Run a step; gives what went wrong, "" when nothing did."""
        return self._do(step, phase, "during", watcher, run_step, stand_by=True)

    def undo(self, step: Step, phase: Phase, watcher: Watcher, *, stand_by: bool) -> str:
        """Undo a step, with somebody's transaction in its way if `stand_by`."""
        return self._do(step, phase, "undo", watcher, undo_step, stand_by=stand_by)

    def _do(
        self,
        step: Step,
        phase: Phase,
        when: When,
        watcher: Watcher,
        do: Callable[..., None],
        *,
        stand_by: bool,
    ) -> str:
        tries: list[str] = []
        began = time.monotonic()
        said, stuck = "", ""
        for again in range(_LOSSES, -1, -1):
            said, stuck, lost = self._once(step, watcher, do, tries, stand_by=stand_by)
            # as a person does whose run was cut off: look whether it was done, and run it again
            if not lost or not self.hostile or not again:
                break
            tries.append("the connection was ended")
        self._tried += 1
        if stuck:
            self._stuck.append((step.id, f"{step.id} goes on waiting for {stuck}"))
        self.clock.span(step.id, phase.value, when, began, 1 + len(tries))
        return said

    def _once(
        self,
        step: Step,
        watcher: Watcher,
        do: Callable[..., None],
        tries: list[str],
        *,
        stand_by: bool,
    ) -> tuple[str, str, bool]:
        """One run of a step: what went wrong, what it would not give up, whether it was cut off."""
        policy = Policy(
            attempts=_HOSTILE_ATTEMPTS if self.hostile else _ATTEMPTS,
            first_wait_ms=_FIRST_WAIT_MS,
            pause_s=0.05,
            say=tries.append,
        )
        with ExitStack() as stack:
            runner = self.server.connect_as(
                LookingConnection, self.database, application_name=self.name
            )
            stack.callback(runner.close)
            seen = _Seen()
            bystander = None
            if stand_by and self._stands_by and isinstance(step, (Sql, Validate)):
                pid = runner.info.backend_pid
                bystander = stack.enter_context(
                    Bystander(self.server, self.database, self.touches, watcher, pid)
                )
            said = ""
            try:
                hook = None
                if isinstance(step, (Sql, Validate)):
                    look = Look(tables_there(runner))
                    hook = self._hook(look, seen)
                    runner.look = look
                do(runner, step, policy=policy, before_commit=hook)
                self._note(step, runner.look)
            except (EnvironmentFailedError, FindingsError) as error:
                said = str(error)
            except psycopg.OperationalError as error:  # ended before the step began
                said = f"{step.id}: {' '.join(str(error).split())[:200]}"
            lost = bool(said) and runner.closed
            if lost and seen.transaction and self._committed(seen.transaction):
                said, lost = "", False
        return said, bystander.stuck if bystander is not None else "", lost

    def _committed(self, transaction: str) -> bool:
        """Whether a transaction that nobody was told of took place."""
        with self.server.connect(self.database, application_name=self.name) as connection:
            row = connection.execute(
                "SELECT pg_xact_status(%s::text::xid8)", (transaction,)
            ).fetchone()
        return row is not None and row[0] == "committed"

    def _hook(self, look: Look, seen: _Seen) -> Hook:
        def before_commit(connection: psycopg.Connection) -> None:
            if self.hostile:
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                seen.transaction = str(row[0]) if row is not None else ""
            look.found += scanned_under_lock(connection, look.there)

        return before_commit

    def _note(self, step: Step, look: Look | None) -> None:
        for found in look.found if look is not None else ():
            self._scans.append((step.id, f"{step.id} {found}"))

    def laws(self, phase: Phase) -> list[LawResult]:
        """What the steps run so far were asked to keep to."""
        if not self._tried:
            return []
        out = []
        for law, found in ((SCANS, self._scans), (GIVES_UP, self._stuck)):
            if law == GIVES_UP and not self._stands_by:
                continue
            distinct = dict(found)
            out += [LawResult(law, phase.value, False, 1, d, s) for s, d in distinct.items()]
            if not found:
                out.append(LawResult(law, phase.value, True))
        return out
