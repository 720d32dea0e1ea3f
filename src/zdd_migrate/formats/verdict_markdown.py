"""A verdict as Markdown for a pull request: the matrix, what failed, the laws, the ways back."""

from __future__ import annotations

from collections.abc import Iterator

from zdd_migrate.formats.marks import code, plain
from zdd_migrate.formats.verdict import (
    cell,
    codes,
    columns,
    longest,
    of_cell,
    runs,
    waited_for,
    where,
    worst_times,
)
from zdd_migrate.model.verdict import Failure, Judgement, Verdict

_HEADS = {
    Judgement.PASS: "✅ the plan works",
    Judgement.FAIL: "❌ the plan fails",
    Judgement.INCONCLUSIVE: "❓ it could not be told whether the plan works",
}
_WORDS = {
    "works": "✅ works",
    "breaks": "breaks, as it must",
    "FAILS": "❌ fails",
    "?": "❓",
    "": "·",
}
_SHOWN = 10


def render(verdict: Verdict, name: str = "plan") -> str:
    """A whole comment."""
    title = f"### zdd-migrate verify {code(name)}: {_HEADS[verdict.judgement]}"
    return "\n".join([title, "", *lines(verdict)]) + "\n"


def lines(verdict: Verdict) -> Iterator[str]:
    """The same without its title, to stand in something larger."""
    yield (
        f"Tried on PostgreSQL {verdict.pg_version}: {verdict.statements:,} statements of old and "
        f"new code, longest wait {longest(verdict):,.0f} ms, "
        f"{_count(len(verdict.rollbacks), 'way')} back walked."
    )
    if verdict.conditions:
        yield f"Tried under: {plain(', '.join(verdict.conditions))}."
    yield ""
    if verdict.failures:
        yield from _failures(verdict)
    yield from _matrix(verdict)
    broken = sum(not law.holds for law in verdict.laws)
    if verdict.laws:
        yield ""
        yield f"<details><summary>{len(verdict.laws)} checks of laws, {broken or 'none'} broken</summary>\n"
        yield "| law | after | |\n|---|---|---|"
        for law in verdict.laws:
            word = "✅ holds" if law.holds else f"❌ {law.violations} violations"
            yield f"| {plain(law.name)} | {plain(law.phase)} | {word} |"
        yield "\n</details>"
    yield from _times(verdict)
    for one in verdict.rollbacks:
        if not one.schema_restored or one.rows_lost:
            restored = "restored" if one.schema_restored else "**not** restored"
            yield (
                f"\n❌ back from {plain(one.start)} to {plain(one.to)}: schema {restored}, "
                f"{one.rows_lost} rows lost"
            )
    for note in verdict.notes:
        yield f"\n> {plain(note)}"


def _failures(verdict: Verdict) -> Iterator[str]:
    for one in verdict.failures[:_SHOWN]:
        yield from _failure(one)
    if len(verdict.failures) > _SHOWN:
        yield f"- and {len(verdict.failures) - _SHOWN} more"
    yield ""


def _failure(one: Failure) -> Iterator[str]:
    state = f"{code(one.sqlstate)} " if one.sqlstate else ""
    yield f"- ❌ {state}{plain(one.message)}<br>{plain(where(one))}"
    if one.statement:
        yield f"  <br>{code(one.statement[:300])}"


def _matrix(verdict: Verdict) -> Iterator[str]:
    shown = columns(verdict)
    heads = [f"{phase}<br>{when}" for phase, whens in shown for when in whens]
    yield f"| code | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(heads)}"
    for name in codes(verdict):
        words = [
            _WORDS[cell(of_cell(verdict, name, phase, when))]
            for phase, whens in shown
            for when in whens
        ]
        yield f"| {plain(name)} | {' | '.join(words)} |"


def _times(verdict: Verdict) -> Iterator[str]:
    shown = worst_times(verdict, _SHOWN)
    if not shown:
        return
    over = sum(bool(time.over) for time in verdict.times)
    yield ""
    yield (
        f"<details><summary>time of {_count(len(verdict.times), 'statement')}, {over or 'none'} "
        f"over {verdict.longest_allowed_ms:,.0f} ms; the slowest</summary>\n"
    )
    yield "| statement | code | longest | runs | waited for |\n|---|---|--:|---|---|"
    for time in shown:
        locks = "<br>".join(plain(waited_for(lock)) for lock in time.locks[:2])
        sign = "❌ " if time.over else ""
        yield (
            f"| {code(time.statement[:120])} | {plain(time.code)} | {sign}{time.longest_ms:,.0f} ms "
            f"| {runs(time)} | {locks} |"
        )
    yield "\n</details>"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
