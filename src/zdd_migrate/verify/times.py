"""How long each statement took, and which lock it waited for. Pure.

Clients know how long a statement took, the server's locks are sampled: a wait belongs to the
statement that its connection had under way at that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from zdd_migrate.model.verdict import LockWait, Span, StatementTime, Wait

T = TypeVar("T", "Run", Span)
#: a statement is told by so much of its text
_TEXT = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a statement, in ms since the walk's beginning. `client` names its connection."""

    code: str
    client: str
    statement: str
    start_ms: float
    end_ms: float


@dataclass(slots=True)
class Tally:
    """What is counted of a statement while it runs: its number of runs, and the longest of them."""

    runs: int = 0
    over: int = 0
    longest_ms: float = 0.0
    ended_ms: float = 0.0

    def add(self, ms: float, ended_ms: float, allowed_ms: float) -> None:
        """One more run."""
        self.runs += 1
        self.over += ms > allowed_ms
        if ms > self.longest_ms:
            self.longest_ms, self.ended_ms = ms, ended_ms


def attributed(
    waits: Iterable[tuple[str, Wait]], slow: Sequence[Run], spans: Sequence[Span]
) -> list[Wait]:
    """Waits with the step that was under way, and the statement that waited.

    Each wait comes with the name of the connection that waited; `slow` are the runs that were long
    enough to be seen waiting. Who is no client of ours keeps the text that the server gave.
    """
    steps = [span for span in spans if span.when != "steady"]
    return [_attributed(client, wait, slow, steps) for client, wait in waits]


def _attributed(client: str, wait: Wait, slow: Sequence[Run], steps: Sequence[Span]) -> Wait:
    step = _longest_together(wait, steps)
    run = _longest_together(wait, [r for r in slow if r.client == client])
    told = replace(
        wait, statement=shortened(wait.statement), step=step.label if step is not None else ""
    )
    if run is None:
        return told
    return replace(
        told,
        who=run.code,
        statement=run.statement,
        start_ms=max(wait.start_ms, run.start_ms),  # seen at the next look only
        end_ms=min(wait.end_ms, run.end_ms),
    )


def _longest_together(one: Wait | Run, others: Sequence[T]) -> T | None:
    def together(other: T) -> float:
        return min(one.end_ms, other.end_ms) - max(one.start_ms, other.start_ms)

    best = max(others, key=together, default=None)
    return best if best is not None and together(best) >= 0 else None


def statement_times(
    tallies: Iterable[tuple[tuple[str, str], Tally]], waits: Sequence[Wait], spans: Sequence[Span]
) -> list[StatementTime]:
    """What was counted of each statement, by code version and text, with the locks it waited for."""
    out = []
    for (code, statement), tally in tallies:
        began = tally.ended_ms - tally.longest_ms
        seen = _longest_together(Run(code, "", statement, began, tally.ended_ms), spans)
        mine = [w for w in waits if (w.who, w.statement) == (code, statement)]
        out.append(
            StatementTime(
                code,
                statement,
                tally.runs,
                round(tally.longest_ms, 1),
                tally.over,
                seen.phase if seen is not None else "",
                seen.when if seen is not None else "",
                seen.label if seen is not None and seen.when != "steady" else "",
                _joined(_lock(wait) for wait in mine),
            )
        )
    return out


def _lock(wait: Wait) -> LockWait:
    took = round(wait.end_ms - wait.start_ms, 1)
    return LockWait(wait.mode, wait.relation, wait.behind, wait.step, 1, took)


def merged(parts: Iterable[StatementTime]) -> tuple[StatementTime, ...]:
    """One for each statement of a code version, from walks side by side; the longest first."""
    found: dict[tuple[str, str], StatementTime] = {}
    for part in parts:
        key = (part.code, part.statement)
        before = found.get(key)
        if before is None:
            found[key] = part
            continue
        worse = part if part.longest_ms > before.longest_ms else before
        found[key] = replace(
            worse,
            runs=before.runs + part.runs,
            over=before.over + part.over,
            locks=_joined((*before.locks, *part.locks)),
        )
    return tuple(sorted(found.values(), key=lambda time: -time.longest_ms))


def _joined(locks: Iterable[LockWait]) -> tuple[LockWait, ...]:
    found: dict[tuple[str, str, str, str], LockWait] = {}
    for lock in locks:
        key = (lock.mode, lock.relation, lock.behind, lock.step)
        before = found.get(key, replace(lock, waits=0))
        found[key] = replace(
            lock,
            waits=before.waits + lock.waits,
            longest_ms=max(before.longest_ms, lock.longest_ms),
        )
    return tuple(sorted(found.values(), key=lambda lock: -lock.longest_ms))


def shortened(statement: str) -> str:
    """A statement's text on one line, as it is told."""
    return " ".join(statement.split())[:_TEXT]
