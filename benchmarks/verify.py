"""How long a proof takes on the demo's story, and what watching costs a client.

    python benchmarks/verify.py [RUNS]

The walk: everything (both versions of the shop really run, every way back) from an empty cache,
the same warm, `--quick`, and a second run with nothing changed. The recorder: how long a statement
takes one client that tells of each, as the walk's clients do, beside the same client that does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import Command, Figure, machine, once

from zdd_migrate.cli.demo import copy_story, plan_story
from zdd_migrate.postgres.servers import server
from zdd_migrate.verify.children.loop import Report

#: short rounds in turn, of which the median counts: what else runs on the machine then matters least
_STATEMENTS, _ROUNDS = 400, 150
_UPDATE = "UPDATE users SET user_name = user_name WHERE id = %s"


def main() -> None:
    """Print both tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as scratch:
        story = copy_story(Path(scratch))
        plan_story(story)
        print(f"{machine()}, load {os.getloadavg()[0]:.1f}\n")
        print("| verify of the demo's plan | wall s | cpu s |\n|---|---|---|")
        for name, figures in _walks(story, Path(scratch) / "cache", runs):
            wall = " · ".join(f"{f.wall:.1f}" for f in figures)
            cpu = " · ".join(f"{f.cpu:.1f}" for f in figures)
            print(f"| {name} | {wall} | {cpu} |", flush=True)
        _recorder((story / "before.sql").read_text() + (story / "seed.sql").read_text())


def _walks(story: Path, cache: Path, runs: int) -> Iterator[tuple[str, list[Figure]]]:
    program = [sys.executable, "-m", "zdd_migrate", "verify", str(story / "plan")]
    options = {
        "`--quick`, warm": ["--quick", "--no-cache"],
        "`--quick`, nothing changed": ["--quick"],
        "all of it, warm": ["--no-cache"],
        "all of it, nothing cached": ["--no-cache"],
    }
    os.environ["XDG_CACHE_HOME"] = str(cache)
    for name, more in options.items():
        command = Command([*program, "--postgres", "embedded", *more], story)
        if "nothing cached" not in name:
            once(command)  # what it leaves is what the runs that count find
        taken = []
        for _ in range(runs):
            if "nothing cached" in name:
                shutil.rmtree(cache, ignore_errors=True)
            taken.append(once(command))
        yield name, taken


def _recorder(schema: str) -> None:
    print("\n| client | µs a statement | of its processor | throughput |\n|---|---|---|---|")
    with (
        server("embedded") as found,
        found.scratch_database() as database,
        found.connect(database) as connection,
    ):
        connection.execute(schema.encode())
        taken: dict[str, list[tuple[float, float]]] = {"bare": [], "recorded": []}
        # read by another process, as the walk reads
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            assert reader.stdin is not None
            report = Report(reader.stdin.fileno())
            for _ in range(_ROUNDS):
                for name, tell in (("bare", _silent), ("recorded", report.ran)):
                    taken[name].append(_one(connection.execute, tell))
            report.close()
    pairs = zip(taken["bare"], taken["recorded"], strict=True)
    kept = {"bare": 1.0, "recorded": median(bare[0] / told[0] for bare, told in pairs)}
    for name, values in taken.items():
        wall, cpu = (median(column) * 1e6 for column in zip(*values, strict=True))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {kept[name]:.2f} |")


def _one(execute: Callable[..., object], tell: Callable[[float, str], None]) -> tuple[float, float]:
    """Seconds that a prepared statement takes, and of the client's own processor."""
    began, worked = time.monotonic(), time.thread_time()
    for number in range(_STATEMENTS):
        started = time.monotonic()
        execute(_UPDATE, (number % 500 + 1,))
        tell(time.monotonic() - started, _UPDATE)
    return (time.monotonic() - began) / _STATEMENTS, (time.thread_time() - worked) / _STATEMENTS


def _silent(_: float, __: str) -> None:
    return None


if __name__ == "__main__":
    main()
