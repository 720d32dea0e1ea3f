"""Timing whole processes in turn: A B C, A B C …, so that a slow moment hits all of them."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, where it runs, and the exit statuses that mean it did its work."""

    argv: Sequence[str]
    cwd: Path
    fine: tuple[int, ...] = (0, 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of one command: wall and processor seconds; `peak` is MiB of its largest run."""

    wall: float
    cpu: float
    peak: float


def once(command: Command) -> Figure:
    """Run it and ask the kernel what it took. Raises RuntimeError on an unexpected exit status."""
    started = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command.argv,
        cwd=command.cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in command.fine:
        tail = said.decode(errors="replace")[-500:]
        raise RuntimeError(f"{' '.join(command.argv)} ended with {process.returncode}: {tail}")
    return Figure(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turn(commands: Mapping[str, Command], runs: int) -> dict[str, Figure]:
    """Each command `runs` times, one after another, after one round that does not count."""
    taken: dict[str, list[Figure]] = {name: [] for name in commands}
    for round_ in range(runs + 1):
        for name, command in commands.items():
            figure = once(command)
            if round_:
                taken[name].append(figure)
    return {
        name: Figure(
            statistics.median(f.wall for f in figures),
            statistics.median(f.cpu for f in figures),
            max(f.peak for f in figures),
        )
        for name, figures in taken.items()
    }


def table(figures: Mapping[str, Figure], unit: str) -> str:
    """A Markdown table; the last column is wall time as a multiple of `unit`'s."""
    one = figures[unit].wall
    rows = [
        f"| {name} | {f.wall:.3f} | {f.cpu:.3f} | {f.peak:.0f} | {f.wall / one:.2f} |"
        for name, f in figures.items()
    ]
    head = f"| command | wall s | cpu s | peak MiB | × {unit} |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def machine() -> str:
    """What it ran on, for the table's caption."""
    cores = len(os.sched_getaffinity(0))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    bound = "" if limit == resource.RLIM_INFINITY else f", {limit >> 20} MiB at most"
    return f"Python {sys.version.split()[0]}, {cores} cores{bound}"
