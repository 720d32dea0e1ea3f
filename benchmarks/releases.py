"""Whole releases under load: each strategy several times, then the plain migration.

    python benchmarks/releases.py [RUNS]

Needs HAProxy. Every run is `zdd-deploy demo` on a database of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTED = ("requests", "failed", "lost", "slowest")


def run(*options: str) -> list[str]:
    """One release; its counts as it printed them."""
    program = str(Path(sys.executable).parent / "zdd-deploy")
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run(
            [program, "demo", *options, "-o", output], capture_output=True, text=True, check=False
        )
    found = {m[1]: m[2] for m in re.finditer(r"^  (\w+) +([\d,]+)", done.stdout, re.MULTILINE)}
    missing = [name for name in COUNTED if name not in found]
    if missing:
        sys.exit(
            f"{' '.join(options)} said nothing of {missing}: {done.stdout[-800:]}{done.stderr}"
        )
    return [*(found[name] for name in COUNTED), str(done.returncode)]


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| release | requests | failed | lost | slowest ms | exit |\n|---|---|---|---|---|---|")
    for _ in range(runs):
        for strategy in ("rolling", "canary", "blue-green"):
            print(f"| {strategy} | {' | '.join(run('--strategy', strategy))} |", flush=True)
    print(f"| plain migration | {' | '.join(run('--naive'))} |")


if __name__ == "__main__":
    main()
