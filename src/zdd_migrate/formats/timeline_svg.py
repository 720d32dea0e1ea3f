"""The walk over time as an SVG picture: steps above, the traffic of each code version below.

Only the stretches in which a step ran are drawn; what lies between, both versions at work with
nothing changing, is cut out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from zdd_migrate.model.verdict import Pulse, Span, Timeline, Wait

_LEFT, _RIGHT, _BETWEEN = 132.0, 10.0, 16.0
_HEAD, _BAR, _LANE, _GAP = 20, 24, 84, 18
#: how wide a second is drawn, and how wide the picture is at least
_PER_SECOND, _AT_LEAST = 150.0, 1080.0
#: shown before the first step of a stretch and after its last
_AROUND_MS = 180.0
#: steps closer than this are drawn in one stretch
_TOGETHER_MS = 600.0
#: a statement that took longer than this kept its client standing
STILL_MS = 100.0
_FLOOR_MS = 0.5


def draw(timeline: Timeline) -> str:
    """One picture; its colours are the page's."""
    return "\n".join(_Picture(timeline).lines())


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some time in which steps of one phase ran, and where it is drawn."""

    title: str
    start_ms: float
    end_ms: float
    x: float
    per_ms: float

    @property
    def width(self) -> float:
        return (self.end_ms - self.start_ms) * self.per_ms

    def at(self, ms: float) -> float:
        inside = min(max(ms, self.start_ms), self.end_ms)
        return round(self.x + (inside - self.start_ms) * self.per_ms, 1)

    def holds(self, ms: float) -> bool:
        return self.start_ms <= ms <= self.end_ms


def _stretches(steps: Sequence[Span]) -> list[_Stretch]:
    """Neighbouring steps of a phase together."""
    found: list[tuple[str, float, float]] = []
    for step in steps:
        title = step.phase if step.when == "during" else "back"
        start, end = step.start_ms - _AROUND_MS, step.end_ms + _AROUND_MS
        last = found[-1] if found else None
        if last is not None and last[0] == title and start <= last[2] + _TOGETHER_MS:
            found[-1] = (title, last[1], end)
        else:
            found.append((title, max(start, last[2]) if last else start, end))
    total = max(sum(end - start for _, start, end in found), 1.0)
    room = max(_AT_LEAST - _LEFT - _RIGHT - _BETWEEN * len(found), total / 1000 * _PER_SECOND)
    x, out = _LEFT, []
    for title, start, end in found:
        one = _Stretch(title, start, end, x, room / total)
        out.append(one)
        x += one.width + _BETWEEN
    return out


class _Picture:
    def __init__(self, timeline: Timeline) -> None:
        self.steps = [s for s in timeline.spans if s.when != "steady"]
        self.stretches = _stretches(self.steps)
        self.pulses = [p for p in timeline.pulses if self._stretch(p.at_ms) is not None]
        self.waits = [w for w in timeline.waits if self._stretch(w.start_ms) is not None]
        worst = max((p.worst_ms for p in self.pulses), default=1.0)
        self.top_ms = max(100.0, 10 ** math.ceil(math.log10(max(worst, 1.0))))
        self.codes = sorted({p.code for p in self.pulses}, key=lambda c: (c[:3] != "old", c))
        last = self.stretches[-1] if self.stretches else None
        self.width = (last.x + last.width if last else _AT_LEAST) + _RIGHT

    def _stretch(self, ms: float) -> _Stretch | None:
        return next((s for s in self.stretches if s.holds(ms)), None)

    def height(self, ms: float) -> float:
        """How tall a statement of so many ms is drawn: logarithmic."""
        share = math.log10(max(ms, _FLOOR_MS) / _FLOOR_MS) / math.log10(self.top_ms / _FLOOR_MS)
        return round(max(1.5, min(1.0, share) * _LANE), 1)

    def lines(self) -> Iterator[str]:
        waits = _HEAD + _BAR + 10
        lanes = waits + 14 + _GAP
        total = lanes + len(self.codes) * (_LANE + _GAP) + 8
        yield (
            f'<svg viewBox="0 0 {self.width:.0f} {total}" style="min-width:{self.width * 0.68:.0f}px" '
            f'role="img" xmlns="http://www.w3.org/2000/svg" '
            f'aria-label="{escape(self._summary(), quote=True)}">'
        )
        for stretch in self.stretches:
            yield from self._frame(stretch, total - 18)
        yield f'<text class="name" x="0" y="{_HEAD + 16}">steps</text>'
        yield from (self._step(step) for step in self.steps)
        yield f'<text x="0" y="{waits + 11}">wait for a lock</text>'
        yield from (self._wait(w, waits, 14) for w in self.waits if w.who == "plan")
        for i, code in enumerate(self.codes):
            yield from self._lane(code, lanes + i * (_LANE + _GAP))
        yield "</svg>"

    def _summary(self) -> str:
        still = [p for p in self.pulses if p.worst_ms > STILL_MS]
        worst = max((p.worst_ms for p in self.pulses), default=0.0)
        stood = (
            f"statements took longer than {STILL_MS:.0f} ms at {len(still)} moments"
            if still
            else f"no statement took longer than {STILL_MS:.0f} ms"
        )
        return f"{len(self.steps)} steps; {stood}, the slowest {worst:.0f} ms"

    def _frame(self, stretch: _Stretch, bottom: float) -> Iterator[str]:
        yield (
            f'<text class="name" x="{stretch.x:.1f}" y="12">{escape(stretch.title)}</text>'
            f'<line class="grid" x1="{stretch.x:.1f}" x2="{stretch.x:.1f}" y1="4" y2="{bottom}"/>'
        )
        unit = next(u for u in (100, 200, 500, 1000, 5000, 60000) if u * stretch.per_ms >= 55)
        for i in range(1, int((stretch.end_ms - stretch.start_ms) / unit) + 1):
            x = stretch.at(stretch.start_ms + i * unit)
            yield f'<line class="grid faint" x1="{x}" x2="{x}" y1="{_HEAD}" y2="{bottom}"/>'
            if x < stretch.x + stretch.width - 14:
                text = f"{i * unit / 1000:g} s"
                yield f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{text}</text>'

    def _step(self, span: Span) -> str:
        stretch = self._stretch((span.start_ms + span.end_ms) / 2)
        if stretch is None:
            return ""
        x = stretch.at(span.start_ms)
        width = max(stretch.at(span.end_ms) - x, 3)
        back = " back" if span.when == "undo" else ""
        # the whole name where there is room for it, else its number, else nothing
        names = (span.label, span.label.rpartition("-")[2])
        name = next((n for n in names if width > 8 * len(n) + 4), "")
        text = ""
        if name:
            text = (
                f'<text class="on" x="{x + width / 2:.1f}" y="{_HEAD + 16}" '
                f'text-anchor="middle">{escape(name)}</text>'
            )
        return (
            f'<g><title>{escape(_told(span))}</title><rect class="{escape(_phase(span))}{back}" '
            f'x="{x}" y="{_HEAD}" width="{width:.1f}" height="{_BAR}" rx="3"/>{text}</g>'
        )

    def _wait(self, wait: Wait, top: float, height: float) -> str:
        stretch = self._stretch(wait.start_ms)
        if stretch is None:
            return ""
        x = stretch.at(wait.start_ms)
        width = max(stretch.at(wait.end_ms) - x, 2)
        behind = f", behind {wait.behind}" if wait.behind else ""
        said = (
            f"{wait.who} waits {wait.end_ms - wait.start_ms:.0f} ms for {wait.mode} on "
            f"{wait.relation}{behind}"
        )
        return (
            f'<rect class="wait" x="{x}" y="{top}" width="{width:.1f}" height="{height}" rx="2">'
            f"<title>{escape(said)}</title></rect>"
        )

    def _lane(self, code: str, top: float) -> Iterator[str]:
        bottom = top + _LANE
        yield f'<text class="name" x="0" y="{top + 10}">{escape(code)} code</text>'
        for level in (1.0, 10.0, 100.0, 1000.0, 10000.0):
            if level <= self.top_ms:
                y = bottom - self.height(level)
                text = f"{level:g} ms" if level < 1000 else f"{level / 1000:g} s"
                yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{text}</text>'
                for s in self.stretches:
                    yield (
                        f'<line class="grid" x1="{s.x:.1f}" x2="{s.x + s.width:.1f}" y1="{y}" '
                        f'y2="{y}"/>'
                    )
        mine = [p for p in self.pulses if p.code == code]
        yield from self._still(mine, top)
        side = "new" if code.startswith("new") else "old"
        for pulse in mine:
            yield self._pulse(pulse, side, bottom)
        for wait in self.waits:
            if wait.who == side and code == side:
                yield self._wait(wait, bottom + 2, 4)

    def _pulse(self, pulse: Pulse, side: str, bottom: float) -> str:
        stretch = self._stretch(pulse.at_ms)
        if stretch is None:
            return ""
        height = self.height(pulse.worst_ms)
        width = max(1.5, 40 * stretch.per_ms - 0.8)
        slow = " slow" if pulse.worst_ms > STILL_MS else ""
        return (
            f'<rect class="{side}{slow}" x="{stretch.at(pulse.at_ms)}" y="{bottom - height:.1f}" '
            f'width="{width:.1f}" height="{height}"><title>{pulse.statements} statements, the '
            f"slowest {pulse.worst_ms:.0f} ms</title></rect>"
        )

    def _still(self, pulses: Sequence[Pulse], top: float) -> Iterator[str]:
        """The stretches in which a client stood, for as long as its statement took."""
        for pulse in pulses:
            stretch = self._stretch(pulse.at_ms)
            if pulse.worst_ms > STILL_MS and stretch is not None:
                x = stretch.at(pulse.at_ms + 20 - pulse.worst_ms)
                width = stretch.at(pulse.at_ms + 20) - x
                yield (
                    f'<rect class="still" x="{x}" y="{top}" width="{width:.1f}" '
                    f'height="{_LANE}"><title>a statement took {pulse.worst_ms:.0f} ms</title></rect>'
                )


def _phase(span: Span) -> str:
    return span.label.partition("-")[0] if span.when == "undo" else span.phase


def _told(span: Span) -> str:
    took = span.end_ms - span.start_ms
    tries = f", {span.tries} tries for its lock" if span.tries > 1 else ""
    undone = "undone" if span.when == "undo" else "ran"
    return f"{span.label} {undone} in {took:.0f} ms{tries}"
