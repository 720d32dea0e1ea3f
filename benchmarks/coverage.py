"""How much of real migrations is understood, and whether libpg_query reads it alike.

    python benchmarks/coverage.py STATEMENTS.jsonl…

Each line is a JSON object with the statement under "sql". Statements that libpg_query does not
accept are left out. Beside it: how many stock sqlglot gives back as more than text.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))


def main() -> None:
    """Count, and print every disagreement."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from tests.grammar.oracle import trees
    from tests.grammar.oracle.compare import differences

    logging.disable(logging.WARNING)
    print("| file | accepted | understood | read otherwise | sqlglot: more than text | s |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:]:
        counts: Counter[str] = Counter()
        started = time.perf_counter()
        for line in Path(name).read_text(encoding="utf-8").splitlines():
            sql = json.loads(line)["sql"]
            try:
                found = differences(sql)
            except trees.UnparsedError:
                continue
            counts["accepted"] += 1
            counts["understood"] += found is not None
            counts["otherwise"] += bool(found)
            for each in found or ():
                print(f"{' '.join(sql.split())[:120]}: {each}", file=sys.stderr)
            try:
                tree = sqlglot.parse_one(sql, dialect="postgres")
            except (SqlglotError, RecursionError):
                continue
            counts["sqlglot"] += not isinstance(tree, exp.Command)
        taken = time.perf_counter() - started
        accepted = max(counts["accepted"], 1)
        print(
            f"| {Path(name).name} | {counts['accepted']:,} | {counts['understood']:,} "
            f"({100 * counts['understood'] / accepted:.2f} %) | {counts['otherwise']} | "
            f"{counts['sqlglot']:,} ({100 * counts['sqlglot'] / accepted:.2f} %) | {taken:.0f} |"
        )


if __name__ == "__main__":
    main()
