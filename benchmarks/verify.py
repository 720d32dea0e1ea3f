"""How long a proof takes on the demo's story, and what watching costs a client.

    python benchmarks/verify.py [RUNS]

The walk: everything (both versions of the shop really run, every way back) from an empty cache,
the same warm, `--quick`, and a second run with nothing changed. The recorder: statements a second
of one client that tells of each, as the walk's clients do, beside the same client that does not.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import Command, Figure, machine, once

from zdd_migrate.cli.demo import copy_story, plan_story
from zdd_migrate.postgres.servers import server
from zdd_migrate.verify.children.loop import Report

#: short rounds in turn, the best of each counting: what else runs on the machine then matters least
_STATEMENTS, _ROUNDS = 400, 120
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
    print("\n| client | statements a second | of the bare one |\n|---|---|---|")
    with (
        server("embedded") as found,
        found.scratch_database() as database,
        found.connect(database) as connection,
    ):
        connection.execute(schema.encode())
        rates: dict[str, list[float]] = {"bare": [], "recorded": []}
        reading, writing = os.pipe()
        threading.Thread(target=_drain, args=(reading,), daemon=True).start()
        report = Report(writing)
        for _ in range(_ROUNDS):
            for name, tell in (("bare", _silent), ("recorded", report.ran)):
                rates[name].append(_rate(connection.execute, tell))
        os.close(writing)
    bare = max(rates["bare"])
    for name, values in rates.items():
        rate = max(values)
        print(f"| {name} | {rate:,.0f} | {rate / bare:.2f} |")


def _rate(execute: Callable[..., object], tell: Callable[[float, str], None]) -> float:
    """Statements a second over one connection, prepared."""
    began = time.monotonic()
    for number in range(_STATEMENTS):
        started = time.monotonic()
        execute(_UPDATE, (number % 500 + 1,))
        tell(time.monotonic() - started, _UPDATE)
    return _STATEMENTS / (time.monotonic() - began)


def _silent(_: float, __: str) -> None:
    return None


def _drain(reading: int) -> None:
    while os.read(reading, 65536):
        pass


if __name__ == "__main__":
    main()
