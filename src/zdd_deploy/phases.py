"""The database's side of a release: phases of a plan, run, undone and asked after."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zdd_deploy.matrix import stage_of
from zdd_deploy.model import Stage
from zdd_migrate.model.plan import Phase

Interrupt = Callable[[], None]


class PhaseEngine(Protocol):
    """What runs phases. Every verb may be called again: done steps are skipped."""

    def run(self, phase: Phase, *, keep_old: bool, interrupt: Interrupt) -> None:
        """Run a phase. `interrupt` is called now and then and may raise to stop in between."""
        ...

    def undo(self, to: str) -> None:
        """Walk back until `to` is the last phase standing ("start": none is)."""
        ...

    def stages(self) -> tuple[Stage, Stage]:
        """The stages that the schema lies between; equal when no phase is half done."""
        ...


class AppliedPhases:
    """A plan's directory on a database, by `zdd_migrate.apply` and its journal."""

    def __init__(
        self, plan_dir: Path, database: str, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.plan_dir = plan_dir
        self.database = database
        self.say = say

    def run(self, phase: Phase, *, keep_old: bool, interrupt: Interrupt) -> None:
        """Run a phase with short lock timeouts; backfills stop between batches when interrupted."""
        from zdd_migrate.apply import Policy, run_phase

        asked = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal asked
            if time.monotonic() - asked >= 1:
                self.say(f"{done:,} of about {total:,} rows")
                interrupt()
                asked = time.monotonic()

        run_phase(
            self.plan_dir,
            phase,
            self.database,
            approve=phase is Phase.CONTRACT,
            approve_drop=phase is Phase.CONTRACT and not keep_old,
            early=True,  # how long the old shape waits is the release's own business: its soak
            policy=Policy(say=self.say),
            say=self.say,
            progress=progress,
        )

    def undo(self, to: str) -> None:
        """Walk the plan back."""
        from zdd_migrate.apply import Policy, undo

        undo(self.plan_dir, self.database, to, policy=Policy(say=self.say), say=self.say)

    def stages(self) -> tuple[Stage, Stage]:
        """From the journal in the database."""
        from zdd_migrate.apply import status

        found = status(self.plan_dir, self.database)
        states = {one.phase: one.state for one in found.phases}
        return stage_of(states, past_return=found.past_return)
