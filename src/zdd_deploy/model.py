"""The runner's nouns: steps of a release, the world they change, and what was observed of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from fractions import Fraction
from math import ceil
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Phase


class Stage(Enum):
    """What shape the schema has: the last phase that is through.

    TOMBSTONE is contract up to, but not including, its first step without a way back.
    """

    START = "start"
    EXPAND = "expand"
    MIGRATE = "migrate"
    SWITCH = "switch"
    TOMBSTONE = "tombstone"
    CONTRACT = "contract"

    @property
    def number(self) -> int:
        """0 for start to 5 for contract."""
        return list(Stage).index(self)


@dataclass(frozen=True, slots=True)
class EnsureVersion:
    """At least `count` instances of `build` are ready; they get no traffic by this alone."""

    id: str
    build: str
    count: int


@dataclass(frozen=True, slots=True)
class Warm:
    """Every instance of `build` has answered its warm-up requests."""

    id: str
    build: str


@dataclass(frozen=True, slots=True)
class Smoke:
    """Every instance of `build` answers the smoke requests as expected, asked directly."""

    id: str
    build: str


@dataclass(frozen=True, slots=True)
class SetWeights:
    """Traffic is shared out in the proportion of `weights` (build → weight, not all zero)."""

    id: str
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Drain:
    """All but `keep` instances of `build` get no new requests and have finished the old ones."""

    id: str
    build: str
    keep: int


@dataclass(frozen=True, slots=True)
class Retire:
    """The drained instances of `build` are stopped."""

    id: str
    build: str


@dataclass(frozen=True, slots=True)
class RunPhase:
    """A phase of the plan is run on the database.

    `keep_old` stops contract before its first step without a way back.
    """

    id: str
    phase: Phase
    keep_old: bool = False


@dataclass(frozen=True, slots=True)
class UndoPhases:
    """The plan is walked back until `to` is the last phase standing ("start": none is)."""

    id: str
    to: str


@dataclass(frozen=True, slots=True)
class Judge:
    """`build` is watched: only a pass goes on, a fail rolls back, no verdict waits for a person.

    `against` is the build it is compared with, None when it serves alone. At least `seconds`
    long, at most `budget` seconds.
    """

    id: str
    build: str
    against: str | None
    seconds: float
    budget: float


@dataclass(frozen=True, slots=True)
class Soak:
    """`build` serves for `seconds`; a fail rolls back, too little data does not hold it up.

    `window` marks the rollback window: once it is over, the rollback target may go.
    """

    id: str
    build: str
    seconds: float
    window: bool = False


@dataclass(frozen=True, slots=True)
class SetFlag:
    """The flag has `value`, and every instance of `build` in traffic says so."""

    id: str
    flag: str
    value: str
    build: str


@dataclass(frozen=True, slots=True)
class Approve:
    """A person has said yes to `what`."""

    id: str
    what: str


@dataclass(frozen=True, slots=True)
class Forget:
    """`build` is no rollback target any more: from here on nothing starts it again."""

    id: str
    build: str


Step = (
    EnsureVersion
    | Warm
    | Smoke
    | SetWeights
    | Drain
    | Retire
    | RunPhase
    | UndoPhases
    | Judge
    | Soak
    | SetFlag
    | Approve
    | Forget
)
Program = tuple[Step, ...]
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Step.__args__}


def to_json(step: Step) -> dict[str, Any]:
    """A step as the journal keeps it."""
    out: dict[str, Any] = {"kind": type(step).__name__}
    for one in fields(step):
        value = getattr(step, one.name)
        out[one.name] = value.value if isinstance(value, Enum) else value
    return out


def from_json(data: Mapping[str, Any]) -> Step:
    """A step from `to_json`; InputError when a newer runner wrote it."""
    rest = dict(data)
    try:
        kind = _KINDS[rest.pop("kind", "")]
        if "phase" in rest:
            rest["phase"] = Phase(rest["phase"])
        step: Step = kind(**rest)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"the journal holds a step that this version does not know ({data.get('kind')}): go on "
            "with the zdd-deploy that began the run"
        ) from None
    return step


@dataclass(frozen=True, slots=True)
class Instances:
    """How many instances of a build there are.

    `ready` take traffic or could at once; `draining` finish what they have; `broken` are neither.
    `warm` of the ready ones have answered their warm-up.
    """

    ready: int = 0
    draining: int = 0
    broken: int = 0
    warm: int = 0

    @property
    def total(self) -> int:
        """All that are there."""
        return self.ready + self.draining + self.broken


@dataclass(frozen=True, slots=True)
class Observation:
    """What the platform says is so: `weights` by build as they are set (builds at 0 left out).

    `epoch` is the highest runner epoch that has stamped the platform, `flags` the values that
    instances in traffic report (empty when they report none), `inflight` open requests by build.
    """

    instances: Mapping[str, Instances]
    weights: Mapping[str, int]
    epoch: int = 0
    flags: frozenset[str] = frozenset()
    inflight: Mapping[str, int] = field(default_factory=dict)

    def ready(self, build: str) -> int:
        """Ready instances of a build."""
        return self.instances.get(build, Instances()).ready


def shares(weights: Mapping[str, int]) -> dict[str, Fraction]:
    """Each build's part of the traffic; they add up to 1, builds without any are left out."""
    total = sum(weights.values())
    return {build: Fraction(w, total) for build, w in weights.items() if w} if total else {}


def needed(desired: int, weights: Mapping[str, int]) -> dict[str, int]:
    """How many ready instances each build must have to carry its share of `desired` ones' load."""
    return {build: ceil(desired * share) for build, share in shares(weights).items()}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a release works on: build names, and how many ready instances there must always be."""

    old: str
    new: str
    desired: int


@dataclass(frozen=True, slots=True)
class World:
    """Where a run believes it is: the fold of its verified steps.

    `ready`, `draining` and `warm` count instances by build; `restorable` are the builds that a
    rollback, or a restart after a crash, may start again.
    """

    stage: Stage = Stage.START
    ready: Mapping[str, int] = field(default_factory=dict)
    draining: Mapping[str, int] = field(default_factory=dict)
    warm: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    flag: str | None = None
    restorable: frozenset[str] = frozenset()
    approved: frozenset[str] = frozenset()
    window_over: bool = False
    past_return: bool = False

    @property
    def live(self) -> frozenset[str]:
        """Builds with an instance that is not stopped; an idle colour counts."""
        return frozenset(
            build for counts in (self.ready, self.draining) for build, n in counts.items() if n
        )

    def count(self, build: str) -> int:
        """Ready instances of a build."""
        return self.ready.get(build, 0)


@dataclass(frozen=True, slots=True)
class Contents:
    """What of a plan the program depends on: its phases with steps, and where contract turns final.

    `reversible_contract`: contract has steps that can be undone; `final_contract`: it has one
    that cannot.
    """

    phases: frozenset[Phase]
    reversible_contract: bool
    final_contract: bool

    def settle(self, stage: Stage) -> Stage:
        """The stage that counts: a phase without steps is through as soon as the one before is."""
        if stage is Stage.TOMBSTONE:
            return stage
        for phase in Phase:
            reached = Stage(phase.value)
            if reached.number > stage.number:
                if phase in self.phases:
                    return stage
                stage = reached
        return stage


def after(step: Step, world: World, contents: Contents) -> World:
    """The world once `step` is through."""
    match step:
        case EnsureVersion(_, build, count):
            return replace(world, ready=_set(world.ready, build, max(count, world.count(build))))
        case Warm(_, build):
            return replace(world, warm=_set(world.warm, build, world.count(build)))
        case SetWeights(_, weights):
            return replace(world, weights={b: w for b, w in weights.items() if w})
        case Drain(_, build, keep):
            gone = max(0, world.count(build) - keep)
            return replace(
                world,
                ready=_set(world.ready, build, world.count(build) - gone),
                warm=_set(world.warm, build, min(world.warm.get(build, 0), keep)),
                draining=_set(world.draining, build, world.draining.get(build, 0) + gone),
            )
        case Retire(_, build):
            return replace(world, draining=_set(world.draining, build, 0))
        case RunPhase(_, Phase.CONTRACT, True):
            return replace(world, stage=Stage.TOMBSTONE)
        case RunPhase(_, phase, _):
            past = world.past_return or (phase is Phase.CONTRACT and contents.final_contract)
            return replace(world, stage=contents.settle(Stage(phase.value)), past_return=past)
        case UndoPhases(_, to):
            return replace(world, stage=contents.settle(Stage(to)))
        case Soak(_, _, _, True):
            return replace(world, window_over=True)
        case SetFlag(_, _, value, _):
            return replace(world, flag=value)
        case Approve(_, what):
            return replace(world, approved=world.approved | {what})
        case Forget(_, build):
            return replace(world, restorable=(world.live | world.restorable) - {build})
        case Smoke() | Judge() | Soak():
            return world


def _set(counts: Mapping[str, int], build: str, count: int) -> dict[str, int]:
    changed = {**counts, build: count}
    return {name: n for name, n in changed.items() if n}


def world_to_json(world: World) -> dict[str, Any]:
    """A world as the journal keeps it."""
    return {
        "stage": world.stage.value,
        "ready": dict(world.ready),
        "draining": dict(world.draining),
        "warm": dict(world.warm),
        "weights": dict(world.weights),
        "flag": world.flag,
        "restorable": sorted(world.restorable),
        "approved": sorted(world.approved),
        "window_over": world.window_over,
        "past_return": world.past_return,
    }


def world_from_json(data: Mapping[str, Any]) -> World:
    """A world from `world_to_json`."""
    return World(
        stage=Stage(data["stage"]),
        ready=data["ready"],
        draining=data["draining"],
        warm=data["warm"],
        weights=data["weights"],
        flag=data["flag"],
        restorable=frozenset(data["restorable"]),
        approved=frozenset(data["approved"]),
        window_over=data["window_over"],
        past_return=data["past_return"],
    )


def describe(step: Step) -> str:
    """A step in words, for people who watch."""
    match step:
        case EnsureVersion(_, build, count):
            return f"{_many(count, 'instance')} of {build} ready"
        case Warm(_, build):
            return f"warm up {build}"
        case Smoke(_, build):
            return f"smoke test {build}"
        case SetWeights(_, weights):
            return f"traffic: {show_weights(weights)}"
        case Drain(_, build, keep):
            return f"drain {build}" + (f" down to {keep}" if keep else "")
        case Retire(_, build):
            return f"stop what is drained of {build}"
        case RunPhase(_, phase, keep_old):
            return f"database: {phase.value}" + (" as far as it can be undone" if keep_old else "")
        case UndoPhases(_, to):
            return f"database: back to {to}"
        case Judge(_, build, against, _, _):
            return f"judge {build}" + (f" against {against}" if against else "")
        case Soak(_, build, seconds, window):
            why = ", the way back kept open" if window else ""
            return f"watch {build} for {seconds:g} s{why}"
        case SetFlag(_, flag, value, _):
            return f"flag {flag}: {value}"
        case Approve(_, what):
            return f"wait for approval of {what}"
        case Forget(_, build):
            return f"{build} is no way back any more"


def show_weights(weights: Mapping[str, int]) -> str:
    """`old 95 %, new 5 %`."""
    parts = [
        f"{build} {float(share) * 100:.3g} %" for build, share in sorted(shares(weights).items())
    ]
    return ", ".join(parts) or "none"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
