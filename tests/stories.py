"""The stories in `fixtures/stories`: a schema, a plain migration, and the plan it must become.

A story is a directory with `before.sql`, `migration.sql`, perhaps `seed.sql`, and `expected.yaml`:

    about: one line
    answers: {fill: {users.city: "'?'"}}   # --up, --down and --fill, where they are needed
    sync: application                      # --sync, where it is not the trigger
    via: view                              # --via, where it is not the usual way
    proof: catalog                         # made-up code cannot try it (say why, and what else
                                           # proves it): run, undone and compared
    majors: [18]                           # where only some majors are meant; default 16 and 18
    phases:                                # each step: its kind, and a piece of its SQL or reason
      expand:
        - sql: ADD COLUMN username
      contract:
        - sql: DROP COLUMN zdd_old_user_name
          undo: none                       # a point of no return, and only that, says so
    questions: [users.city]                # instead of phases: what is asked about
    refusals: [exclusion]                  # or a piece of the reason of each refusal
    notes: [v_users]                       # pieces that must stand among the notes

`python -m tests.stories NAME…` prints the plan of a story in that form, to be judged and kept.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.story import schema_of
from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Release, Sql, Step, Validate
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

STORIES = Path(__file__).parents[1] / "fixtures" / "stories"
MAJORS = (16, 18)
#: what a story can end with
ENDS = ("phases", "questions", "refusals")
#: statements that tell steps apart the least
_COMMON = ("CREATE SCHEMA IF NOT EXISTS", "CREATE OR REPLACE FUNCTION", "DROP TRIGGER")
_KINDS = {Sql: "sql", Backfill: "backfill", Validate: "validate", Gate: "gate", Release: "release"}


@dataclass(frozen=True)
class Story:
    """One directory of `fixtures/stories`."""

    path: Path

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @cached_property
    def expected(self) -> dict[str, Any]:
        """What `expected.yaml` says."""
        path = self.path / "expected.yaml"
        found = yaml.safe_load(path.read_text()) if path.is_file() else {}
        assert isinstance(found, dict), f"{path} is not a mapping"
        return found

    @cached_property
    def before(self) -> str:
        """SQL that builds the starting schema."""
        return (self.path / "before.sql").read_text()

    @cached_property
    def migration(self) -> str:
        """The plain migration."""
        return (self.path / "migration.sql").read_text()

    @property
    def seed(self) -> str | None:
        """Rows of its own, where those that verify makes up would not do."""
        path = self.path / "seed.sql"
        return path.read_text() if path.is_file() else None

    @property
    def majors(self) -> tuple[int, ...]:
        """The majors it is planned for and tried on."""
        return tuple(self.expected.get("majors", MAJORS))

    def chosen_majors(self, *, every: bool) -> tuple[int, ...]:
        """All its majors, or the one that its name falls on."""
        if every:
            return self.majors
        return (self.majors[zlib.crc32(self.name.encode()) % len(self.majors)],)

    @property
    def is_planned(self) -> bool:
        """Whether a plan comes out, not a question or refusal."""
        return "phases" in self.expected

    @property
    def is_tried_under_load(self) -> bool:
        """Whether verify tries it with both versions; else its plan is run, undone and compared."""
        return self.is_planned and self.expected.get("proof") != "catalog"

    def plan(self, major: int) -> Plan:
        """Its plan for a major, as the command makes it."""
        answers = {
            (kind, target.lower()): expression
            for kind, given in self.expected.get("answers", {}).items()
            for target, expression in given.items()
        }
        return make_plan(
            [read_sql(self.migration, f"{self.name}/migration.sql", in_transaction=False)],
            schema_of(self.before),
            name=self.name,
            before=self.before,
            pg=major,
            answers=answers,
            via=self.expected.get("via"),
            dual_write=self.expected.get("sync") == "application",
        )


def stories() -> list[Story]:
    """All of them, by name."""
    return [Story(path) for path in sorted(STORIES.iterdir()) if path.is_dir()]


def kind(step: Step) -> str:
    """sql, backfill, validate, gate or release."""
    return _KINDS[type(step)]


def text(step: Step) -> str:
    """All that a step says and does, to look for pieces in; white space folded."""
    match step:
        case Sql():
            parts = [*step.statements, step.why]
        case Backfill():
            sets = ", ".join(f"{c} = {e}" for c, e in step.assignments)
            parts = [f"{step.table} SET {sets} WHERE {step.where}", step.why]
        case Validate():
            parts = [*step.statements, step.why]
        case Gate():
            parts = [step.query, step.message, step.why]
        case Release():
            parts = [step.code, step.why]
    return " ".join(" ".join(parts).split())


def outline(plan: Plan) -> dict[str, list[dict[str, str]]]:
    """The phases as `expected.yaml` writes them, with the first telling piece of each step."""
    return {
        phase.value: [
            {kind(step): _piece(step), **({"undo": "none"} if step.undo is None else {})}
            for step in plan.steps[phase]
        ]
        for phase in Phase
        if plan.steps.get(phase)
    }


def _piece(step: Step) -> str:
    match step:
        case Sql():
            found = [" ".join(s.split()) for s in step.statements if not s.startswith(_COMMON)]
            dropping = [s for s in found if "DROP COLUMN" in s] if step.undo is None else []
            return _head((dropping or found or [step.why])[0])
        case Backfill():
            return _head(text(step).removesuffix(" ".join(step.why.split())))
        case Validate():
            return f"VALIDATE CONSTRAINT {step.constraint}"
        case Gate():
            return _head(step.message.split(":")[0])
        case Release():
            return step.code


def _head(said: str, limit: int = 110) -> str:
    return said.strip() if len(said) <= limit else said[:limit].rpartition(" ")[0]


def mismatches(expected: dict[str, Any], plan: Plan) -> list[str]:
    """Where a plan is not what `expected.yaml` says, in words; empty when it is."""
    out = _unlike("question", expected.get("questions", []), [q.about for q in plan.questions])
    out += _unlike("refusal", expected.get("refusals", []), [r.reason for r in plan.refusals])
    said = " | ".join([*plan.notes, *(one.text for one in plan.alternatives)])
    out += [
        f"no note says {piece!r}: {said}"
        for piece in expected.get("notes", [])
        if piece not in said
    ]
    phases = expected.get("phases", {})
    for phase in Phase:
        wanted, got = phases.get(phase.value, []), plan.steps.get(phase, ())
        shapes = [next(iter(step)) for step in wanted]
        if shapes != [kind(step) for step in got]:
            shown = "; ".join(f"{kind(s)} {_piece(s)}" for s in got)
            out.append(f"{phase.value}: expected {shapes}, planned: {shown}")
            continue
        for number, (want, step) in enumerate(zip(wanted, got, strict=True), start=1):
            piece = " ".join(str(want[kind(step)] or "").split())
            if piece not in text(step):
                out.append(f"{phase.value}-{number}: no {piece!r} in {text(step)}")
            if (want.get("undo") == "none") != (step.undo is None):
                out.append(f"{phase.value}-{number}: its undo is {step.undo}")
    return out


def _unlike(what: str, wanted: list[str], got: list[str]) -> list[str]:
    fits = len(wanted) == len(got) and all(
        piece in found for piece, found in zip(wanted, got, strict=True)
    )
    return [] if fits else [f"expected the {what}s {wanted}, got {got}"]


def _show(name: str) -> None:
    story = Story(STORIES / name)
    plan = story.plan(story.majors[-1])
    shown = {k: v for k, v in story.expected.items() if k not in ENDS}
    if plan.questions:
        shown["questions"] = [q.about for q in plan.questions]
    if plan.refusals:
        shown["refusals"] = [r.reason for r in plan.refusals]
    if not (plan.questions or plan.refusals):
        shown["phases"] = outline(plan)
    sys.stdout.write(yaml.safe_dump(shown, sort_keys=False, width=140, allow_unicode=True))


if __name__ == "__main__":
    for given in sys.argv[1:]:
        _show(given)
