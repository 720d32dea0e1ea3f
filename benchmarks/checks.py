"""How precise the findings are: measured statements that hurt, and those that hurt nobody.

    python benchmarks/checks.py [TABLE.jsonl] [--list]

TABLE holds what Postgres did, one row for each statement and major, and beside it lies the SQL of the
schema they ran on (`…_schema.sql`). The words, from the measured fields alone, over the statements
that succeeded on a major:

- **long-blocking**: reads or writes of some relation wait (`blocks`), and some relation is read in
  full, rewritten or indexed meanwhile (`scans`, `rewrites`, `index_builds`, `index_rebuilds`).
- **harmless**: nothing is worked through while somebody waits, and nothing that code can name or
  count on goes away: no finding could spare anybody a wait or an error. Statements whose very purpose
  is to take a name, a privilege, rows, a guarantee or an object away (or to ask something new of
  writers) are neither: they are brief, and they break code. `TAKES_AWAY` lists them by what they say.

A statement is *flagged* by a finding of warning or error at it. squawk (`pip install squawk-cli`) is
asked the same, without its rules of style and timeouts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent.parent / "shared" / "data" / "postgres_locks.jsonl"
MAJORS = (14, 15, 16, 17, 18)
STYLE = re.compile(r"prefer-|timeout|ban-char|require-concurrent-.*-naming|identifier-too-long")


@dataclass(frozen=True, slots=True)
class Case:
    """A statement on one major, and what Postgres did."""

    id: str
    sql: str
    setup: str
    in_transaction: bool
    pg: int
    row: dict[str, Any]

    @property
    def long_blocking(self) -> bool:
        """Somebody waits while a relation is worked through."""
        work = [self.row.get(k) for k in ("scans", "rewrites", "index_builds", "index_rebuilds")]
        return any(work) and any(b["read"] or b["write"] for b in self.row["blocks"].values())
