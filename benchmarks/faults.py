"""The planted-fault table: every broken plan is tried, and every intact twin, N runs in a row.

    python benchmarks/faults.py [RUNS] [--only PATTERN] [--postgres WHERE]

Prints what each broken plan was caught by. Ends with 1 where a fault is not caught, an intact plan
does not pass with nothing reported, or two runs disagree.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.verify.planted import FAULTS, STORIES, shown, try_plan

from zdd_migrate.model.verdict import Verdict
from zdd_migrate.postgres.servers import Server, server


def main() -> int:
    """Run the table; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="?", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--postgres", default="embedded")
    given = parser.parse_args()
    seen: dict[str, Counter[str]] = {}
    evidence: dict[str, str] = {}
    started = time.monotonic()
    with server(given.postgres) as found:
        for number in range(given.runs):
            for name, verdict, good in _round(found, given.only):
                seen.setdefault(name, Counter())[good] += 1
                if good != "as expected" or name not in evidence:
                    evidence[name] = _evidence(verdict)
                print(f"{number + 1:3} {good:12} {name}", file=sys.stderr, flush=True)
    wrong = {name: counts for name, counts in seen.items() if set(counts) != {"as expected"}}
    print("| plan | runs | as expected | what was named first |\n|---|---|---|---|")
    for name, counts in seen.items():
        print(f"| {name} | {counts.total()} | {counts['as expected']} | {evidence[name]} |")
    print(
        f"\n{len(seen)} plans, {given.runs} runs, {len(wrong)} with a run that was not as "
        f"expected, {time.monotonic() - started:.0f} s"
    )
    return 1 if wrong else 0


def _round(found: Server, only: str) -> Iterator[tuple[str, Verdict, str]]:
    """Each plan's title, verdict, and whether it was as expected."""
    for name, story in STORIES.items():
        title = f"*intact*: {name}"
        if re.search(only, title):
            verdict = try_plan(story, story.plan(), found)
            fine = verdict.judgement.value == "pass" and not verdict.failures
            yield title, verdict, "as expected" if fine else verdict.judgement.value
    for fault in FAULTS:
        title = f"{fault.story}: {fault.name}"
        if re.search(only, title):
            story = STORIES[fault.story]
            with tempfile.TemporaryDirectory() as scratch:
                plan = story.broken(Path(scratch) / "plan", fault)
                verdict = try_plan(story, plan, found)
            fine = verdict.judgement.value == "fail" and shown(fault, verdict) is not None
            word = "not named" if verdict.judgement.value == "fail" else verdict.judgement.value
            yield title, verdict, "as expected" if fine else word
            if not fine:
                for failure in verdict.failures:
                    print("      ", failure, file=sys.stderr)


def _evidence(verdict: Verdict) -> str:
    if not verdict.failures:
        return ""
    first = verdict.failures[0]
    where = f"{first.code} code in {first.phase} ({first.when})" if first.code else first.phase
    step = f"; step {first.step}" if first.step else ""
    text = f"{first.sqlstate} {first.message}".strip().replace("|", "\\|")
    return f"{where}: {text[:110]}{step}"


if __name__ == "__main__":
    sys.exit(main())
