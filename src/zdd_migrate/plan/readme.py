"""The plan's README.md: who does what, when, and how back, for the people who review it."""

from __future__ import annotations

from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Release, Sql, Step

_WHO = {
    Phase.EXPAND: "While only the old code runs. It does not notice.",
    Phase.MIGRATE: "While only the old code runs. Takes as long as there are rows.",
    Phase.SWITCH: "The release of the new code: both versions run side by side.",
    Phase.CONTRACT: "When no instance of the old code is left anywhere: no worker, no cron job.",
}

_DUAL_WHO = {
    Phase.MIGRATE: "Begins with a release, at which apply stops until it is run again; the rows are filled "
    "while that code runs alone.",
    Phase.SWITCH: "Two releases, one after the other; apply stops at each until it is run again.",
}


def readme(plan: Plan) -> str:
    """Markdown."""
    who = {**_WHO, **_DUAL_WHO} if plan.dual_writes else _WHO
    lines = [
        f"# {plan.name}",
        "",
        "The migration",
        "",
        "```sql",
        *(f"{source};" for source in plan.sources),
        "```",
        "",
        "as a plan in phases, so that the code version that is still running never breaks.",
        "",
    ]
    code = "old"
    for phase in Phase:
        steps = plan.steps.get(phase, ())
        if steps:
            lines += [f"## {phase.number}. {phase.value}", "", who[phase], ""]
            for step in steps:
                lines.append(f"- `{step.id}` {step.why}. {_back(step, code)}")
                code = step.code if isinstance(step, Release) else code
            lines += [
                "",
                f"    zdd-migrate apply . --phase {phase.value} --database URL{_approve(phase)}",
                "",
            ]
            if plan.drops and phase is Phase.CONTRACT:
                lines += _drop(plan)
    lines += ["## Back", ""]
    last = plan.point_of_no_return
    if last is None:
        lines.append("Every step can be undone, from any phase:")
    else:
        lines.append(
            f"Everything before `{last}` can be undone; `{last}` is the point of no return:"
        )
    lines += ["", "    zdd-migrate undo . --database URL", ""]
    if plan.leaves:
        lines += ["What undo leaves:", "", *(f"- {what}" for _, what in plan.leaves), ""]
    if plan.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in plan.notes), ""]
    if plan.alternatives:
        lines += ["## Alternatives", "", *(f"- {one.text}" for one in plan.alternatives), ""]
    lines += [
        "## Proof",
        "",
        "    zdd-migrate verify .",
        "",
        f"Made for the schema with hash `{plan.schema_hash}`; refused on any other.",
        "",
    ]
    return "\n".join(lines)


def _drop(plan: Plan) -> list[str]:
    """The part of contract that has no way back: later, and behind a yes of its own."""
    dropping = plan.part(Phase.CONTRACT, drop=True)
    days = max((s.after_days for s in dropping if isinstance(s, Sql)), default=0)
    which = ", ".join(f"`{id_}`" for id_ in plan.drops)
    wait = f"{days} days later, when" if days else "When"
    wait += " nobody has missed anything:"
    return [
        f"That leaves out {which}: until then everything can be brought back at once. {wait}",
        "",
        "    zdd-migrate apply . --phase contract --database URL --approve-drop",
        "",
    ]


def _approve(phase: Phase) -> str:
    return " --approve" if phase is Phase.CONTRACT else ""


def _back(step: Step, before: str) -> str:
    """The way back; `before` is the code that a release takes the place of."""
    if step.undo is None:
        return "**No way back.**"
    if isinstance(step, Release):
        return f"Back: release the {before} code again{', then undo' if step.undo else ''}."
    if isinstance(step, Gate):
        return f"Goes on only when: {step.message}."
    if isinstance(step, Backfill):
        return "Can be stopped and resumed at any time."
    return "Can be undone." if step.undo else "Needs no undoing."
