"""How exactly effects foretell what Postgres was measured to do, field by field.

    python benchmarks/effects.py            # the project's own table, fixtures/facts
    python benchmarks/effects.py DIRECTORY  # the table in DIRECTORY (postgres_locks.jsonl and schema)

Every miss is listed: `more` is on the safe side, `LESS` is not.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import facts

PLACE = {"waits": "who waits indirectly", "builds": "index builds", "rebuilds": "index rebuilds"}


def main() -> None:
    """Count and print."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    schema = facts.shared_schema(directory) if directory is not None else facts.starting()
    rows = facts.shared_facts(directory) if directory is not None else facts.facts()
    total: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    found: dict[tuple[str, str, str, str], list[facts.Miss]] = {}
    statements = set()
    for case, major, measured in rows:
        statements.add(case.id)
        predicted = facts.predict(case, major, schema)
        missed = {m.field: m for m in facts.misses(case, major, predicted, measured)}
        for name in facts.FIELDS:
            if measured.error is not None and name not in ("error", "transactional"):
                continue
            total[name] += 1
            exact[name] += name not in missed
        for miss in missed.values():
            key = (case.id, miss.field, repr(miss.predicted), repr(miss.measured))
            found.setdefault(key, []).append(miss)
    for same in found.values():
        miss = same[0]
        majors = ",".join(str(m.major) for m in same)
        print(f"{'LESS' if miss.less else 'more'} {miss.field} {miss.case.id} ({majors})")
        print(f"     {' '.join(miss.case.sql.split())}")
        if miss.case.setup:
            print(f"     after {' '.join(miss.case.setup.split())[:150]}")
        print(f"     predicted {miss.predicted}\n     measured  {miss.measured}")
    print(f"\n{len(statements)} statements, {total['error']} rows of statement and major")
    for name in facts.FIELDS:
        share = 100 * exact[name] / max(1, total[name])
        less = sum(len(same) for same in found.values() if same[0].field == name and same[0].less)
        print(f"{PLACE.get(name, name):22} {share:6.2f} % of {total[name]} exact, {less} less")


if __name__ == "__main__":
    main()
