"""The cases in `fixtures/cases`: plain migrations of every kind over one schema, and how each ends.

`python -m tests.plan.cases` prints the table that stands in `docs/cases.md`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.story import schema_of
from zdd_migrate.model.plan import Phase, Plan, Release
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

HERE = Path(__file__).parents[2] / "fixtures" / "cases"
BEFORE = (HERE / "before.sql").read_text(encoding="utf-8")
_CASE = re.compile(r"^-- case: (.+)\n-- expect: (planned|question|refusal)\n", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A plain migration, its name, and how planning it ends."""

    name: str
    expect: str
    sql: str

    @property
    def is_answered(self) -> bool:
        """Whether a conversion was written by hand."""
        return "-- zdd:" in self.sql

    def plan(self, pg: int = 18) -> Plan:
        """Its plan."""
        migration = read_sql(self.sql, "case.sql", in_transaction=False)
        return make_plan([migration], schema_of(BEFORE), name="case", before=BEFORE, pg=pg)


def cases() -> list[Case]:
    """All of them, in order."""
    text = (HERE / "cases.sql").read_text(encoding="utf-8")
    found = list(_CASE.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [
        Case(match[1], match[2], text[match.end() : end].strip())
        for match, end in zip(found, ends, strict=True)
    ]


def outcome(plan: Plan) -> str:
    """planned, question or refusal."""
    return "refusal" if plan.refusals else "question" if plan.questions else "planned"


def table() -> str:
    """The Markdown table: each case, how it ends, and by what."""
    lines = ["| migration | ends | how |", "|---|---|---|"]
    for case in cases():
        plan = case.plan()
        ends = outcome(plan)
        lines.append(f"| {case.name} | {ends} | {_how(plan, ends)} |")
    return "\n".join(lines)


def _how(plan: Plan, ends: str) -> str:
    if ends == "refusal":
        said = plan.refusals[0].reason
    elif ends == "question":
        said = plan.questions[0].ask
    else:
        counted = [
            f"{phase.value} {len(steps)}"
            for phase in Phase
            if (steps := [s for s in plan.steps[phase] if not isinstance(s, Release)])
        ]
        said = ", ".join(counted) or "nothing to do"
    return said.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
