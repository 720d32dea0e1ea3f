"""A plan for a terminal: four phases, for each step the lock, who waits, and the way back."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Release, Sql, Step, Validate

Style = Callable[[str, str], str]

_ABOUT = {
    Phase.EXPAND: "add what new code needs; old code does not notice",
    Phase.MIGRATE: "fill and validate, in batches and under weak locks",
    Phase.SWITCH: "release the new code",
    Phase.CONTRACT: "remove and restrict what only old code lived with",
}


def render(
    plan: Plan, *, style: Style = lambda text, _: text, width: int = 100, brief: bool = False
) -> str:
    """The plan as lines of at most `width` columns; `brief` leaves the SQL and undo out."""
    lines: list[str] = [style(f"plan {plan.name}", "bold")]
    for phase in Phase:
        steps = plan.steps.get(phase, ())
        if not steps:
            continue
        lines += [
            "",
            f"{style(f'{phase.number} {phase.value}', 'bold')}  {style(_ABOUT[phase], 'dim')}",
        ]
        for step in steps:
            lines += _step(step, style, width, brief=brief)
    lines += _wrapped_list("notes", plan.notes, style, width)
    lines += _wrapped_list(
        "alternatives", tuple(one.text for one in plan.alternatives), style, width
    )
    lines += _wrapped_list("undo leaves", tuple(what for _, what in plan.leaves), style, width)
    last = plan.point_of_no_return
    lines += ["", f"point of no return: {last}" if last else "every step can be undone"]
    return "\n".join(lines)


def unplanned(plan: Plan, *, style: Style = lambda text, _: text, width: int = 100) -> str:
    """Questions and refusals, for a plan that could not be made."""
    lines: list[str] = []
    for question in plan.questions:
        lines += [style(f"question about {question.about}", "warning")]
        lines += _fold(question.ask, "  ", width)
        lines += [f"  answer with: {question.answer_with}"]
    for refusal in plan.refusals:
        lines += [style("no safe way", "error") + f"  {_short(refusal.statement, width - 13)}"]
        lines += _fold(refusal.reason, "  ", width)
        lines += _fold(f"instead: {refusal.instead}", "  ", width)
    return "\n".join(lines)


def _step(step: Step, style: Style, width: int, *, brief: bool) -> Iterator[str]:
    yield f"  {style(f'{step.id:11}', 'info')} {'; '.join(_fold(step.why, '', width - 14)[:1])}"
    for more in _fold(step.why, "", width - 14)[1:]:
        yield " " * 14 + more
    for line in () if brief else _body(step):
        yield from (style(t, "dim") for t in _sql(line, width))
    waits = _waits(step)
    if waits:
        yield from _fold(waits, " " * 14, width)
    if brief and step.undo is not None:
        return
    yield f"{' ' * 14}{style('undo', 'fix')}: {_undo(step, width - 20)}"


def _body(step: Step) -> tuple[str, ...]:
    if isinstance(step, (Sql, Validate)):
        return step.statements
    if isinstance(step, Backfill):
        sets = ", ".join(f"{column} = {expression}" for column, expression in step.assignments)
        return (f"UPDATE {step.table} SET {sets} WHERE {step.where}  -- {step.batch} rows a batch",)
    if isinstance(step, Gate):
        return (step.query,)
    return ()


def _waits(step: Step) -> str:
    if isinstance(step, Release):
        return "waits for you: go on when no instance of the other version is left"
    if isinstance(step, Gate):
        return f"goes on only when this returns no row ({step.message})"
    if isinstance(step, Backfill):
        return "row locks only, for the length of a batch"
    lock = step.lock
    if lock is None:
        return ""
    where = f" on {step.relation}" if isinstance(step, Sql) and step.relation else ""
    if lock.blocks_reads:
        who = "reads and writes wait for an instant"
    elif lock.blocks_writes:
        who = "writes wait for an instant"
    else:
        who = "nobody waits"
    timeout = ""
    if isinstance(step, Sql) and lock.blocks_writes:
        timeout = f", gives up after {step.lock_timeout_ms} ms and tries again"
    return f"{lock}{where}: {who}{timeout}"


def _undo(step: Step, width: int) -> str:
    if step.undo is None:
        days = step.after_days if isinstance(step, Sql) else 0
        wait = f"; asks for --approve-drop, {days} days after the step before it" if days else ""
        return f"none: the point of no return{wait}"
    if not step.undo:
        return "nothing to undo"
    return _short("; ".join(step.undo), width)


def _sql(text: str, width: int) -> list[str]:
    return [" " * 14 + _short(text, width - 14)]


def _short(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _fold(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ) or [""]


def _wrapped_list(title: str, items: tuple[str, ...], style: Style, width: int) -> Iterator[str]:
    if items:
        yield ""
        yield style(title, "bold")
        for item in items:
            yield from textwrap.wrap(
                item, width, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
            )
