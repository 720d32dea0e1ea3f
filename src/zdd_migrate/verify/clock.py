"""The walk's clock: what happened when, gathered from everybody who works or watches."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from zdd_migrate.model.verdict import Pulse, Span, StatementTime, Timeline, Wait, When
from zdd_migrate.verify.times import Run, Tally, attributed, shortened, statement_times

#: width of one stretch of the pulse
PULSE_MS = 40.0
#: a statement that was quicker than this was not seen waiting: locks are sampled less often
_SEEN_MS = 8.0
#: so many stretches of the pulse lie between the way there and the way back
_APART = 30


@dataclass(slots=True)
class Clock:
    """Spans, waits, pulses and statements since `origin` (of time.monotonic), on one database.

    `allowed_ms` is the longest that a statement may take.
    """

    origin: float = field(default_factory=time.monotonic)
    allowed_ms: float = float("inf")
    _spans: list[Span] = field(default_factory=list)
    #: with the name of the connection that waited
    _waits: list[tuple[str, Wait]] = field(default_factory=list)
    _pulses: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)
    _tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    _slow: list[Run] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def beside(self) -> Clock:
        """Another clock for what happens at the same time on another database."""
        return Clock(self.origin, self.allowed_ms)

    def ms(self, at: float | None = None) -> float:
        """Milliseconds since the beginning."""
        return round(((time.monotonic() if at is None else at) - self.origin) * 1000, 1)

    def span(self, label: str, phase: str, when: When, began: float, tries: int = 1) -> None:
        """Something that began then ended now."""
        with self._lock:
            self._spans.append(Span(label, phase, when, self.ms(began), self.ms(), tries))

    def wait(self, client: str, wait: Wait) -> None:
        """The connection of that name waited for a lock."""
        with self._lock:
            self._waits.append((client, wait))

    def ran(self, code: str, client: str, statement: str, ended: float, seconds: float) -> None:
        """A statement of a code version ended then and took so long."""
        at, took = (ended - self.origin) * 1000, seconds * 1000
        slot = int(at / PULSE_MS)
        with self._lock:
            count, worst = self._pulses.get((code, slot), (0, 0.0))
            self._pulses[code, slot] = (count + 1, max(worst, took))
            tally = self._tallies.get((code, statement))
            if tally is None:
                tally = self._tallies[code, statement] = Tally()
            tally.add(took, at, self.allowed_ms)
            if took >= _SEEN_MS:
                run = Run(code, client, shortened(statement), round(at - took, 1), round(at, 1))
                self._slow.append(run)

    def _ordered_waits(self) -> list[Wait]:
        found = attributed(self._waits, self._slow, self._spans)
        return sorted(found, key=lambda w: w.start_ms)

    def timeline(self) -> Timeline:
        """All of it, in order."""
        with self._lock:
            pulses = tuple(
                Pulse(code, slot * PULSE_MS, count, round(worst, 1))
                for (code, slot), (count, worst) in sorted(self._pulses.items())
            )
            spans = tuple(sorted(self._spans, key=lambda s: s.start_ms))
            return Timeline(spans, tuple(self._ordered_waits()), pulses)

    def times(self) -> list[StatementTime]:
        """How each statement fared."""
        with self._lock:
            told = (((code, shortened(text)), t) for (code, text), t in self._tallies.items())
            return statement_times(told, self._ordered_waits(), self._spans)


def in_turn(first: Clock, then: Clock | None) -> Timeline:
    """What two clocks saw, one after the other, though part of it was at the same time."""
    forward = first.timeline()
    if then is None:
        return forward
    back = then.timeline()
    ended = max((span.end_ms for span in forward.spans), default=0.0)
    began = min((span.start_ms for span in back.spans), default=0.0)
    # whole stretches of the pulse: one of the first and one of the second never fall together
    later = PULSE_MS * (int((ended - began) / PULSE_MS) + _APART)
    spans = (replace(s, start_ms=s.start_ms + later, end_ms=s.end_ms + later) for s in back.spans)
    waits = (replace(w, start_ms=w.start_ms + later, end_ms=w.end_ms + later) for w in back.waits)
    pulses = (replace(p, at_ms=p.at_ms + later) for p in back.pulses)
    return Timeline((*forward.spans, *spans), (*forward.waits, *waits), (*forward.pulses, *pulses))
