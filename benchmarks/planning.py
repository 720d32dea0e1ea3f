"""How much of what real teams wrote unsafely is planned without asking anybody.

`python benchmarks/planning.py [CORPUS] [--list planned|question|refused|unread|failed [KIND]]`

CORPUS is a file of JSON lines, one statement each, with repo, path, order, direction and sql;
statements of one path are one migration, the paths of one repository one history. Every migration
is planned as one release against the schema that its predecessors leave.

An operation is *unsafe* by the facts alone, whatever rules say: it breaks old code, loses rows, or
reads, builds or rewrites under a lock that keeps writers out, on a relation that the migration did
not create itself. A migration counts for each kind of unsafe operation it holds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.operations.walk import replay, walk
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import read_sql

CORPUS = Path(__file__).parents[2] / "shared" / "data" / "migrations_corpus.jsonl"
#: what the version table of a migration tool is called: the tool's own bookkeeping, no migration
_BOOKKEEPING = re.compile(r"\balembic_version\b", re.IGNORECASE)
OUTCOMES = ("planned", "question", "refused", "unread", "failed")


@dataclass(frozen=True, slots=True)
class Case:
    """One migration, its kinds of unsafe operations, and what the planner said."""

    repo: str
    path: str
    kinds: frozenset[str]
    outcome: str
    said: str = ""
    sql: str = ""


@dataclass(slots=True)
class Tally:
    """Cases by outcome."""

    by_outcome: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.by_outcome.values())

    def row(self, name: str) -> str:
        cells = " | ".join(str(self.by_outcome[o]) for o in OUTCOMES)
        share = 100 * self.by_outcome["planned"] / self.total
        return f"| {name} | {self.total} | {cells} | {share:.1f} % |"


def histories(corpus: Path) -> Iterator[tuple[str, list[Migration]]]:
    """Each repository's migrations in order, forwards only."""
    repos: dict[str, dict[str, list[str]]] = defaultdict(dict)
    with corpus.open(encoding="utf-8") as rows:
        for line in rows:
            row = json.loads(line)
            if row["direction"] == "up" and not _BOOKKEEPING.search(row["sql"]):
                repos[row["repo"]].setdefault(row["path"], []).append(row["sql"])
    for repo, paths in repos.items():
        yield (
            repo,
            [read_sql(";\n".join(sqls) + ";", path) for path, sqls in paths.items()],
        )


def unsafe_kinds(migration: Migration, schema: Schema) -> frozenset[str]:
    """Kinds of the operations that hurt running code, by what Postgres does."""
    kinds: set[str] = set()
    for explained in walk(migration, schema.copy()):
        for operation, effects in explained.parts:
            if operation.relation is not None:
                relation = explained.schema.resolve(operation.relation)
                if relation in explained.created:
                    continue
            if hurts(effects):
                kinds.add(operation.kind)
    return frozenset(kinds)


def hurts(effects: Effects) -> bool:
    """Whether old code breaks, rows go, or writers wait for work that grows with the table."""
    if effects.loses or any(b.code == "old" and b.kind != "cached_plan" for b in effects.breaks):
        return True
    works = bool(
        effects.rewrites or effects.scans or effects.index_builds or effects.index_rebuilds
    )
    return works and any(mode.blocks_writes for mode in effects.locks.values())


def plan_one(migration: Migration, schema: Schema) -> tuple[str, str]:
    """Outcome and what was said."""
    try:
        plan: Plan = make_plan([migration], schema, name="benchmark")
    except InputError as error:
        return "unread", str(error)
    except Exception:  # a crash is what this looks for: counted, shown, never hidden
        return "failed", traceback.format_exc(limit=-3)
    if plan.refusals:
        return "refused", "; ".join(r.reason for r in plan.refusals)
    if plan.questions:
        return "question", "; ".join(q.ask for q in plan.questions)
    return "planned", ""


def cases(corpus: Path) -> Iterator[Case]:
    """Every migration of the corpus."""
    for repo, migrations in histories(corpus):
        schema = Schema()
        for migration in migrations:
            kinds = unsafe_kinds(migration, schema)
            outcome, said = plan_one(migration, schema)
            sql = ";\n".join(s.sql for s in migration.statements)
            yield Case(repo, migration.path, kinds, outcome, said, sql)
            replay(migration.statements, schema)


def main() -> None:
    """Print the table; with --list, the cases of one outcome and why."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("corpus", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--list", choices=OUTCOMES)
    parser.add_argument("--kind", help="only migrations with this kind of unsafe operation")
    parser.add_argument("--all", action="store_true", help="list safe migrations too")
    parser.add_argument("--sql", action="store_true", help="show their SQL")
    given = parser.parse_args()
    if not given.corpus.exists():
        sys.exit(f"{given.corpus} is not there")
    started = time.perf_counter()
    kinds: dict[str, Tally] = defaultdict(Tally)
    unsafe, safe = Tally(), Tally()
    for case in cases(given.corpus):
        (unsafe if case.kinds else safe).by_outcome[case.outcome] += 1
        for kind in case.kinds:
            kinds[kind].by_outcome[case.outcome] += 1
        wanted = given.kind in case.kinds if given.kind else bool(case.kinds) or given.all
        if given.list == case.outcome and wanted:
            print(f"{case.repo} {case.path} [{', '.join(sorted(case.kinds))}]\n  {case.said}")
            if given.sql:
                print("    " + case.sql.replace("\n", "\n    ")[:1500])
    print(f"\n| unsafe operation | migrations | {' | '.join(OUTCOMES)} | share |")
    print("|---|---|" + "---|" * len(OUTCOMES) + "---|")
    for kind, tally in sorted(kinds.items(), key=lambda item: -item[1].total):
        print(tally.row(kind.replace("_", " ")))
    print(unsafe.row("**any**"))
    print(safe.row("none (safe as they are)"))
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
