"""What a CI gate looked at: every changed migration, with what was found, planned and tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zdd_migrate.model.finding import Finding, Report
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.verdict import Judgement, Verdict

State = Literal["safe", "planned", "unsafe", "not understood"]


@dataclass(frozen=True, slots=True)
class Examined:
    """One changed migration, or one changed plan (`path` is its directory then).

    safe: nothing found at or above the bar. planned: found, but a plan in the same change covers it
    and was seen to work. unsafe: found; `plan` is what could be written instead, `verdict` how it
    did. `note` says why there is no plan or no verdict.
    """

    path: str
    state: State
    findings: tuple[Finding, ...] = ()
    plan: Plan | None = None
    verdict: Verdict | None = None
    note: str = ""

    @property
    def passes(self) -> bool:
        """Whether it may be merged."""
        tried = self.verdict is None or self.verdict.judgement is Judgement.PASS
        return self.state in ("safe", "planned") and tried


@dataclass(frozen=True, slots=True)
class Gate:
    """`base` is what the change is measured against, as the user knows it."""

    base: str
    examined: tuple[Examined, ...]
    report: Report

    @property
    def passes(self) -> bool:
        """Whether everything may be merged."""
        return all(one.passes for one in self.examined)
