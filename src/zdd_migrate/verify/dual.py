"""Code that writes both shapes: the releases between the old code and the new of a dual write.

They are made up like the old and the new code, and write the other shape's columns in the same
statement. COPY is left out: what it writes twice would have to be computed by the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zdd_migrate.model.plan import DualWrite, Phase
from zdd_migrate.verify.bench import Bench
from zdd_migrate.verify.code import Code
from zdd_migrate.verify.shapes import Shape


def code_in(bench: Bench, phase: Phase, code: Code | None = None) -> Code:
    """The code that lives in a phase, and while it is undone.

    Without a dual write it is what was given. With one, "old" writes both from migrate on, and
    "new" writes both in switch; code that people gave knows nothing of that, and is tried where it
    lives as it is: before migrate and after switch.
    """
    code = code or bench.code
    writes = bench.plan.dual_writes
    if not writes or phase in (Phase.EXPAND, Phase.CONTRACT):
        return code
    old, new = code.synthetic["old"], code.synthetic["new"]
    both = {
        "old": replace(old, shapes=[_twice(s, writes, old=True) for s in old.shapes]),
        "new": replace(new, shapes=[_twice(s, writes, old=False) for s in new.shapes]),
    }
    if any(code.given.values()):
        note = "the releases that write both were tried by made-up statements alone"
        if note not in bench.notes:
            bench.notes.append(note)
    return replace(code.without_given(), synthetic=both)


def living(phase: Phase) -> str:
    """Which side works while a phase of a dual write is undone."""
    return "new" if phase in (Phase.SWITCH, Phase.CONTRACT) else "old"


def _twice(shape: Shape, writes: Sequence[DualWrite], *, old: bool) -> Shape:
    mirror: list[tuple[str, str]] = []
    sources: set[str] = set()
    for write in writes:
        if write.table != shape.name:
            continue
        mine, theirs = (write.old, write.new) if old else (write.new, write.old)
        mirror += [(column, expression) for column, _, expression in theirs]
        sources |= {column for column, _, _ in mine}
    if not mirror:
        return shape
    return replace(shape, mirror=tuple(mirror), sources=frozenset(sources), copyable=False)
