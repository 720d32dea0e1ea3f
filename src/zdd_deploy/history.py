"""What a journal's events add up to: where a run stands. A pure fold, so that no state is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_deploy.model import (
    Contents,
    Program,
    Step,
    World,
    after,
    from_json,
    world_from_json,
)
from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Phase


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the journal: `id` rises, `run` is 0 for what belongs to no run, `at` is Unix
    seconds of the journal's clock.
    """

    id: int
    run: int
    at: float
    epoch: int
    kind: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class History:
    """Where the newest run stands.

    `direction` is forward or back. `position` is the first step that is not verified; `intended`
    tells that its effect may have begun. `paused`, `frozen` and `waiting` say why nothing goes on
    ("" when it does); `abort` is set once a person asked for the way back, `undo_schema` with it.
    `ended` is "", done or rolled-back.
    """

    run: int = 0
    begun: Mapping[str, Any] = field(default_factory=dict)
    program: Program = ()
    direction: str = "forward"
    reason: str = ""
    position: int = 0
    intended: bool = False
    world: World = field(default_factory=World)
    approved: set[str] = field(default_factory=set)
    waiting: str = ""
    paused: str = ""
    frozen: str = ""
    abort: bool = False
    undo_schema: bool = False
    ended: str = ""
    last_event: int = 0
    last_at: float = 0.0

    @property
    def active(self) -> bool:
        """Whether a run was begun and has not ended."""
        return self.run > 0 and not self.ended

    @property
    def current(self) -> Step | None:
        """The step to do next; None when the program is through."""
        return self.program[self.position] if self.position < len(self.program) else None

    @property
    def contents(self) -> Contents:
        """What the begun plan holds."""
        given = self.begun["contents"]
        return Contents(
            phases=frozenset(Phase(p) for p in given["phases"]),
            reversible_contract=bool(given["reversible_contract"]),
            final_contract=bool(given["final_contract"]),
        )


def fold(events: Iterable[Event]) -> History:
    """Everything that matters of `events`, oldest first."""
    history = History()
    for event in events:
        apply(history, event)
    return history


def apply(history: History, event: Event) -> None:
    """Add one event."""
    history.last_event, history.last_at = event.id, event.at
    if event.kind == "begun":
        _begin(history, event)
        return
    if event.run != history.run or not history.run:
        return
    body = event.body
    match event.kind:
        case "intended":
            _expect(history, body)
            history.intended = True
        case "verified":
            step = _expect(history, body)
            history.world = after(step, history.world, history.contents)
            history.position += 1
            history.intended, history.waiting = False, ""
        case "turned":
            history.program = tuple(from_json(one) for one in body["steps"])
            history.world = world_from_json(body["world"])
            history.direction, history.reason = "back", str(body["why"])
            history.position, history.intended = 0, False
            history.paused = history.waiting = history.frozen = ""
            history.abort = False
        case "command":
            _command(history, body)
        case "approved":
            history.approved.add(str(body["what"]))
            history.waiting = ""
        case "waiting":
            history.waiting = str(body["what"])
        case "frozen":
            history.frozen, history.abort = str(body["why"]), False
        case "ended":
            history.ended = str(body["status"])


def _begin(history: History, event: Event) -> None:
    fresh = History(
        run=event.run,
        begun=event.body,
        program=tuple(from_json(one) for one in event.body["steps"]),
        world=world_from_json(event.body["world"]),
        last_event=event.id,
        last_at=event.at,
    )
    for name in History.__slots__:
        setattr(history, name, getattr(fresh, name))


def _command(history: History, body: Mapping[str, Any]) -> None:
    match body.get("command"):
        case "pause":
            history.paused = f"paused by {body.get('by', 'somebody')}"
        case "resume":
            history.paused = history.frozen = ""
            history.abort = False
        case "promote":
            history.paused = ""
            if history.waiting:
                history.approved.add(history.waiting)
                history.waiting = ""
        case "abort":
            history.abort, history.frozen, history.paused = True, "", ""
            history.undo_schema = history.undo_schema or bool(body.get("undo_schema"))


def _expect(history: History, body: Mapping[str, Any]) -> Step:
    step = history.current
    if step is None or step.id != body.get("step"):
        raise InputError(
            f"the journal of run {history.run} does not fit together: {body.get('step')} is "
            f"recorded where {step.id if step else 'the end'} is due; it was written by another "
            "program, or changed"
        )
    return step
