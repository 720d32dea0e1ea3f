"""For how many tables of real histories rows are made up: what verify has to work with.

    python benchmarks/rows.py [CORPUS] [--rows N] [--list] [--postgres WHERE]

CORPUS is a file of JSON lines, one statement each, with repo, direction and sql, in order. Every
history is run; what does not run (a function or an extension that is not there) is left out, as is
a history of which nothing runs. Then all its tables are filled. A table with fewer rows than a
tenth of N is not counted as filled.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import psycopg

from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.servers import Server, server
from zdd_migrate.verify.data import fill

CORPUS = Path(__file__).parents[2] / "shared" / "data" / "migrations_corpus.jsonl"


def main() -> None:
    """Run all histories and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--postgres", default="embedded")
    given = parser.parse_args()
    repos: dict[str, list[str]] = defaultdict(list)
    with given.corpus.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["direction"] == "up":
                repos[row["repo"]].append(row["sql"])
    tables = filled = 0
    with server(given.postgres) as found:
        for repo, statements in repos.items():
            some, notes, took = _history(found, statements, given.rows)
            tables, filled = tables + some, filled + some - len(notes)
            print(f"{repo:42} {some - len(notes):4} of {some:4} tables filled, {took:.1f} s")
            for note in notes if given.list else ():
                print(f"    {note[:240]}")
        print(f"{'all':42} {filled:4} of {tables:4} tables filled, on Postgres {found.version}")


def _history(found: Server, statements: list[str], rows: int) -> tuple[int, list[str], float]:
    with found.scratch_database() as name, found.connect(name) as connection:
        for statement in statements:
            try:
                connection.execute(statement.encode())
            except psycopg.Error:
                continue
        schema = read_schema(connection)
        wanted = [n for n, t in schema.tables.items() if t.kind != "foreign" and t.parent is None]
        started = time.monotonic()
        notes = fill(connection, schema, wanted, rows)
        return len(wanted), notes, time.monotonic() - started


if __name__ == "__main__":
    main()
