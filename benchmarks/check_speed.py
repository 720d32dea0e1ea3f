"""How long checking takes beside reading: a thousand files, in one process, in turn.

    python benchmarks/check_speed.py [CORPUS.jsonl] [RUNS]

CORPUS holds real statements with their repository, path and order; the files of the first repositories
are put together again until there are a thousand. Each run reads them all, and reads and checks them all.
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
    """Print the medians and their ratio."""
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    texts = files(corpus)
    reading, checking = [], []
    found = statements = 0
    for _ in range(runs):
        started = time.process_time()
        read = [read_sql(text, path) for path, text in texts]
        reading.append(time.process_time() - started)
        statements = sum(len(m.statements) for m in read)
        started = time.process_time()
        read = [read_sql(text, path) for path, text in texts]
        found = len(Checker(Config(root=Path())).run(read, Schema()).findings)
        checking.append(time.process_time() - started)
    one, both = statistics.median(reading), statistics.median(checking)
    print(f"{len(texts)} files, {statements} statements, {found} findings; median of {runs} runs")
    print(
        f"read {one:.2f} s, read and checked {both:.2f} s of processor time: {both / one:.2f} times"
    )


if __name__ == "__main__":
    main()
