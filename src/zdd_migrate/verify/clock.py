"""The walk's clock: what happened when, gathered from everybody who works or watches."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from zdd_migrate.model.verdict import Pulse, Span, Timeline, Wait, When

#: width of one stretch of the pulse
PULSE_MS = 40.0


@dataclass(slots=True)
class Clock:
    """Spans, waits and pulses since `origin` (of time.monotonic)."""

    origin: float = field(default_factory=time.monotonic)
    spans: list[Span] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    _pulses: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ms(self, at: float | None = None) -> float:
        """Milliseconds since the beginning."""
        return round(((time.monotonic() if at is None else at) - self.origin) * 1000, 1)

    def span(self, label: str, phase: str, when: When, began: float, tries: int = 1) -> None:
        """Something that began then ended now."""
        with self._lock:
            self.spans.append(Span(label, phase, when, self.ms(began), self.ms(), tries))

    def wait(self, wait: Wait) -> None:
        """Somebody waited for a lock."""
        with self._lock:
            self.waits.append(wait)

    def beat(self, code: str, ended: float, seconds: float) -> None:
        """A statement of a code version ended then and took so long."""
        slot = int((ended - self.origin) * 1000 / PULSE_MS)
        with self._lock:
            count, worst = self._pulses.get((code, slot), (0, 0.0))
            self._pulses[code, slot] = (count + 1, max(worst, seconds * 1000))

    def timeline(self) -> Timeline:
        """All of it, in order."""
        with self._lock:
            pulses = tuple(
                Pulse(code, slot * PULSE_MS, count, round(worst, 1))
                for (code, slot), (count, worst) in sorted(self._pulses.items())
            )
            spans = tuple(sorted(self.spans, key=lambda s: s.start_ms))
            return Timeline(spans, tuple(sorted(self.waits, key=lambda w: w.start_ms)), pulses)
