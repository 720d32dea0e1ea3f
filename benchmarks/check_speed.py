"""How long checking takes beside reading: a thousand files, in one process, in turn.

    python benchmarks/check_speed.py [CORPUS.jsonl] [RUNS]

CORPUS holds real statements with their repository, path and order; the files of the first repositories
are put together again until there are a thousand. Each run reads them all; reads them and replays them into
a schema, which is what every command does with files it does not judge; and reads and checks them all.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.reading.statements import read_sql

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "migrations_corpus.jsonl"


def files(corpus: Path) -> list[tuple[str, str]]:
    """(path, text) of a thousand files, in the order they run."""
    texts: dict[str, list[str]] = defaultdict(list)
    for line in corpus.read_text().splitlines():
        row = json.loads(line)
        if row.get("direction", "up") == "up":
            texts[f"{row['repo']}/{row['path']}"].append(row["sql"])
    return [(path, ";\n".join(sql) + ";\n") for path, sql in list(texts.items())[:1000]]


def main() -> None:
    """Print the medians and their ratios."""
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    texts = files(corpus)
    seconds: dict[str, list[float]] = defaultdict(list)
    found = statements = 0
    for _ in range(runs):
        started = time.process_time()
        read = [read_sql(text, path) for path, text in texts]
        seconds["read"].append(time.process_time() - started)
        statements = sum(len(m.statements) for m in read)

        started = time.process_time()
        schema = Schema()
        for migration in [read_sql(text, path) for path, text in texts]:
            replay(migration.statements, schema)
        seconds["read and replayed"].append(time.process_time() - started)

        started = time.process_time()
        read = [read_sql(text, path) for path, text in texts]
        found = len(Checker(Config(root=Path())).run(read, Schema()).findings)
        seconds["read and checked"].append(time.process_time() - started)
    print(f"{len(texts)} files, {statements} statements, {found} findings; median of {runs} runs")
    medians = {what: statistics.median(those) for what, those in seconds.items()}
    for what, median in medians.items():
        print(
            f"{what:17} {median:.2f} s of processor time, "
            f"{median / medians['read']:.2f} × read, "
            f"{median / medians['read and replayed']:.2f} × read and replayed"
        )


if __name__ == "__main__":
    main()
