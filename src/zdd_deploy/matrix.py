"""Which build can live with which shape of the schema: the plan says, the verdict has tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zdd_deploy.model import Stage
from zdd_migrate.model.plan import Phase, Plan


@dataclass(frozen=True, slots=True)
class Matrix:
    """`allowed` maps a build to the stages it works in. A build that is not named works in none."""

    allowed: Mapping[str, frozenset[Stage]]

    def allows(self, build: str, stage: Stage) -> bool:
        """Whether `build` may run, or be started, while the schema is at `stage`."""
        return stage in self.allowed.get(build, frozenset())

    def refused(self, builds: Iterable[str], stages: Iterable[Stage]) -> list[tuple[str, Stage]]:
        """The pairs that do not go together."""
        wanted = list(stages)
        return [(b, s) for b in sorted(set(builds)) for s in wanted if not self.allows(b, s)]


def matrix_of(plan: Plan, old: str, new: str, verdict: Mapping[str, Any] | None = None) -> Matrix:
    """From the plan's phases; `verdict` (the JSON of verify) can only take away, save at contract.

    Old code lives until switch, and beyond it only where it was seen to work. New code lives from
    switch on. Phases without steps change nothing: they count as the stage before them.
    """
    tried = _tried(verdict or {})
    allowed = {
        old: {Stage.START, Stage.EXPAND, Stage.MIGRATE, Stage.SWITCH},
        new: {Stage.SWITCH, Stage.TOMBSTONE, Stage.CONTRACT},
    }
    if not plan.steps.get(Phase.CONTRACT) or (
        not plan.breaks_old and not plan.restricts_old and tried.get(("old", Stage.CONTRACT))
    ):
        allowed[old] |= {Stage.TOMBSTONE, Stage.CONTRACT}
    for role, build in (("old", old), ("new", new)):
        for stage in Stage:
            if tried.get((role, stage)) is False:
                allowed[build].discard(stage)
                if stage is Stage.CONTRACT:
                    allowed[build].discard(Stage.TOMBSTONE)
    return Matrix({build: frozenset(stages) for build, stages in allowed.items()})


def _tried(verdict: Mapping[str, Any]) -> dict[tuple[str, Stage], bool]:
    """(code, stage) → whether every steady trial of it worked."""
    found: dict[tuple[str, Stage], bool] = {}
    for trial in verdict.get("trials", ()):
        try:
            key = (str(trial["code"]).split(" ")[0], Stage(trial["phase"]))
            works = trial["outcome"] == "works"
        except (KeyError, ValueError, TypeError):
            continue
        if trial.get("when") == "steady":
            found[key] = found.get(key, True) and works
    return found


def stage_of(states: Mapping[Phase, str], *, past_return: bool) -> tuple[Stage, Stage]:
    """The stages a schema lies between: equal when no phase is half done.

    `states` says done, partly or open for each phase; a phase without steps is done.
    """
    reached = Stage.START
    for phase in Phase:
        state = states[phase]
        target = Stage(phase.value)
        if state == "done":
            reached = target
            continue
        if phase is Phase.CONTRACT and state == "partly" and not past_return:
            return Stage.TOMBSTONE, Stage.TOMBSTONE
        return reached, (target if state == "partly" else reached)
    return reached, reached
