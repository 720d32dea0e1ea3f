"""Which step of a plan a failure came with: by when it was first seen, else by what it names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Release, Sql, Step, Validate
from zdd_migrate.model.verdict import Failure, LawResult, Rollback, Trial

_QUOTED = re.compile(r'"([^"]+)"')
_STATE = re.compile(r": (?=\w*\d)([0-9A-Z]{5}) (?!rows)")
_DIFFERENCE = re.compile(r"\b[a-z]+ ([\w.\"$]+)\S* (?:is missing|was )")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
#: words that say what kind of thing is meant, not which
_KINDS = frozenset(
    "column table index constraint view sequence trigger function type default comment public was "
    "is missing not there up down the of and zdd".split()
)


def failures(
    plan: Plan,
    trials: Sequence[Trial],
    laws: Sequence[LawResult],
    rollbacks: Sequence[Rollback],
) -> tuple[Failure, ...]:
    """Everything that came out otherwise than expected, each kind once, with its step."""
    found = [*_statements(plan, trials), *_waits(trials), *_survivors(trials)]
    found += [_law(plan, law) for law in laws if not law.holds]
    found += [_rollback(plan, one) for one in rollbacks if not one.schema_restored or one.rows_lost]
    return tuple(found)


def _statements(plan: Plan, trials: Sequence[Trial]) -> list[Failure]:
    """Failed statements, each kind of failure where it was first seen."""
    folded: dict[tuple[str, str, str], Failure] = {}
    for trial in trials:
        if trial.expected == "breaks":
            continue
        for error in trial.errors:
            said = _told_by_server(error.message)
            key = (trial.code, error.sqlstate, said)
            before = folded.get(key)
            if before is not None:
                folded[key] = _again(before, error.count)
                continue
            step, because = _cause(plan, trial, said, error.statement)
            folded[key] = Failure(
                "statement",
                trial.phase,
                trial.when,
                trial.code,
                said,
                error.sqlstate,
                error.statement,
                step,
                because,
                error.count,
            )
    return list(folded.values())


def _again(failure: Failure, count: int) -> Failure:
    return replace(failure, count=failure.count + count)


def _last_change(plan: Plan, seen: str) -> str | None:
    """The step that was seen, or where that one leaves the database as it is, the one before."""
    last = None
    for _, step in plan.all_steps():
        if not isinstance(step, (Gate, Release)):
            last = step.id
        if step.id == seen:
            return last
    return None


def _cause(plan: Plan, trial: Trial, said: str, statement: str) -> tuple[str | None, str]:
    if trial.when == "during" and trial.step is not None:
        changed = _last_change(plan, trial.step)
        if changed not in (None, trial.step):
            return (
                changed,
                f"the last to change the database before {trial.step}, where it was seen",
            )
        return trial.step, "first seen while it ran"
    upto = _upto(plan, trial.phase)
    if not upto:
        return None, "seen before any step ran" if trial.phase == "start" else ""
    back = trial.when == "undo"
    for names in (_names(said), _WORD.findall(statement)):
        named = _naming(upto, names, back=back)
        if named is not None:
            which = "its undo" if back else "it"
            return named.id, f"{which} is the last to name {_of(named, names)}"
    return None, "seen once all was undone" if back else "no step names what it is about"


def _of(step: Step, names: Sequence[str]) -> str:
    words = _words(step, back=True) | _words(step, back=False)
    return next((name for name in names if name in words), "it")


def _waits(trials: Sequence[Trial]) -> list[Failure]:
    return [
        Failure(
            "wait",
            t.phase,
            t.when,
            t.code,
            t.detail or f"a statement waited {t.longest_wait_ms:.0f} ms",
            statement=t.slowest,
            step=t.step if t.when == "during" else None,
            because="while it ran" if t.when == "during" and t.step else "",
        )
        for t in trials
        if t.outcome == "breaks" and t.expected == "works" and not t.errors
    ]


def _survivors(trials: Sequence[Trial]) -> list[Failure]:
    return [
        Failure(
            "survived",
            t.phase,
            t.when,
            t.code,
            f"{t.code} code still works after {t.phase}, where it must no longer: "
            "what contract is meant to remove is still there",
        )
        for t in trials
        if t.outcome == "works" and t.expected == "breaks"
    ]


def _law(plan: Plan, law: LawResult) -> Failure:
    text = f"{law.name}: {law.violations} {'row' if law.violations == 1 else 'rows'}"
    if law.detail:
        text = f"{law.name}: {_told_by_server(law.detail)}"
    step, because = law.step, "it was the one running" if law.step else ""
    if step is None:
        named = _object(law.detail)
        names = named or _names(law.detail) or _names(law.name)
        found = _naming(_upto(plan, law.phase), names, back=False, first=not named)
        step, because = _told(found, names, "the last" if named else "the first")
    return Failure(
        "law",
        law.phase,
        "during" if law.step else "steady",
        "",
        text,
        _state(law.detail),
        "",
        step,
        because,
        law.violations,
    )


def _rollback(plan: Plan, one: Rollback) -> Failure:
    step, because = one.step, "its undo failed" if one.step else ""
    if step is None:
        steps, named = _upto(plan, one.start), _object(one.detail)
        names = named or _names(one.detail)
        found = _naming(steps, names, back=not named, first=bool(named))
        step, because = _told(found, names, "the first" if named else "the last")
    what = "the schema is not restored" if not one.schema_restored else ""
    lost = f"{one.rows_lost} rows lost" if one.rows_lost else ""
    back = f"back from {one.start}" + ("" if one.to == "start" else f" to {one.to}")
    text = f"{back}: {' and '.join(w for w in (what, lost) if w)}: {_told_by_server(one.detail)}"
    return Failure("rollback", one.start, "undo", "", text, _state(one.detail), "", step, because)


def _told_by_server(text: str) -> str:
    """Without the server's picture of the statement, which one line cannot hold."""
    return text.split(" LINE ")[0].split(" at character")[0]


def _told(step: Step | None, names: Sequence[str], which: str) -> tuple[str | None, str]:
    if step is None:
        return None, "no step of the plan names it"
    return step.id, f"it is {which} to name {_of(step, names)}"


def _object(detail: str) -> list[str]:
    """The name of what is missing, was not there, or is otherwise, most telling part first."""
    found = _DIFFERENCE.search(detail)
    return list(reversed(found[1].replace('"', "").split("."))) if found else []


def _state(detail: str) -> str:
    """The SQLSTATE that a refused step's message begins with."""
    found = _STATE.search(detail)
    return found[1] if found else ""


def _upto(plan: Plan, phase: str) -> list[Step]:
    """The steps that have run when a phase is through, in order."""
    numbers = {p.value: p.number for p in Phase}
    last = numbers.get(phase, 0)
    return [step for p, step in plan.all_steps() if p.number <= last]


def _names(text: str) -> list[str]:
    """Names of objects in a message: what stands in quotes, else its words."""
    quoted = [part for name in _QUOTED.findall(text) for part in name.split(".")]
    words = quoted or _WORD.findall(text)
    return [w for w in dict.fromkeys(words) if w.lower() not in _KINDS]


def _naming(
    steps: Sequence[Step], names: Sequence[str], *, back: bool, first: bool = False
) -> Step | None:
    """The last (or first) step that names one of `names`, the earlier names being tried first."""
    ordered = list(steps) if first else list(reversed(steps))
    # the most telling names come first in Postgres' messages, table names last
    for name in sorted(names, key=lambda n: _is_table(steps, n)):
        for step in ordered:
            if name in _words(step, back=back):
                return step
    return None


def _is_table(steps: Iterable[Step], name: str) -> bool:
    """Whether most steps name it, so that it tells nothing."""
    all_ = list(steps)
    return sum(name in _words(step, back=False) for step in all_) > len(all_) / 2


def _words(step: Step, *, back: bool) -> set[str]:
    if back:
        texts: Sequence[str] = step.undo or ()
    else:
        match step:
            case Sql() | Validate():
                texts = step.statements
            case Backfill():
                texts = [step.table, *(c for c, _ in step.assignments), step.where]
            case _:
                texts = ()
    return set(_WORD.findall(" ".join(texts)))
