"""How much of what real teams wrote unsafely is planned without asking anybody.

`python benchmarks/planning.py [CORPUS] [--list planned|question|refused|unread|failed] [--kind KIND]`
`python benchmarks/planning.py [CORPUS] --prove [--postgres SPEC] [--repo NAME]`

CORPUS is a file of JSON lines, one statement each, with repo, path, order, direction and sql;
statements of one path are one migration, the paths of one repository one history. Every migration
is planned as one release against the schema that its predecessors leave.

An operation is *unsafe* by the facts alone, whatever rules say: it breaks old code, loses rows, or
reads, builds or rewrites under a lock that keeps writers out, on a relation that the migration did
not create itself. A migration counts for each kind of unsafe operation it holds.

`--prove` runs every unsafe migration's plan on a real server, on the schema its history builds: up
to the point of no return, all the way back (the catalog must be the starting one), and through
again (it must be the one that the plain migration makes).
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

import psycopg

from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.errors import InputError, ZddError
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.operations.walk import replay, walk
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.postgres.servers import Server, server
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
        schema = Schema(complete=True)
        for migration in migrations:
            kinds = unsafe_kinds(migration, schema)
            outcome, said = plan_one(migration, schema)
            sql = ";\n".join(s.sql for s in migration.statements)
            yield Case(repo, migration.path, kinds, outcome, said, sql)
            replay(migration.statements, schema)


# -- the proof ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Proof:
    """What running the plans showed."""

    proven: int = 0
    wrong: int = 0
    skipped: int = 0


def prove(corpus: Path, postgres: str, repo: str | None, *, everything: bool) -> Proof:
    """Run each planned migration both ways on a server; say what differs."""
    proof = Proof()
    with server(postgres) as running:
        for name, migrations in histories(corpus):
            if repo is None or repo in name:
                _prove_history(running, name, migrations, proof, everything=everything)
    return proof


def _prove_history(
    running: Server, repo: str, migrations: list[Migration], proof: Proof, *, everything: bool
) -> None:
    base = running.create_database()
    schema = Schema(complete=True)
    for migration in migrations:
        wanted = everything or bool(unsafe_kinds(migration, schema))
        plan = None
        if wanted and plan_one(migration, schema)[0] == "planned":
            plan = make_plan([migration], schema, name="benchmark", pg=running.major)
        trial = running.create_database(template=base) if plan is not None else None
        error = _plain(running, base, migration)
        if trial is not None and plan is not None:
            if error is not None:
                proof.skipped += 1
            elif said := _try_plan(running, plan, trial, base):
                proof.wrong += 1
                print(f"{repo} {migration.path}\n  " + "\n  ".join(said[:6]))
            else:
                proof.proven += 1
            running.drop_database(trial)
        replay(migration.statements, schema)
    running.drop_database(base)


def _plain(running: Server, base: str, migration: Migration) -> str | None:
    """Run the migration as it is; the first error, for what follows counts all the same."""
    first = None
    with running.connect(base) as connection:
        connection.execute("RESET ALL")
        for statement in migration.statements:
            try:
                connection.execute(statement.sql.encode())
            except psycopg.Error as error:
                first = first or str(error)
    return first


def _try_plan(running: Server, plan: Plan, trial: str, base: str) -> list[str]:
    with running.connect(base) as connection:
        end = snapshot(connection)
    steps = [step for _, step in plan.all_steps()]
    gone = next((i for i, step in enumerate(steps) if step.undo is None), len(steps))
    at = "start"
    with running.connect(trial) as connection:
        begin = snapshot(connection)
        try:
            for step in steps[:gone]:
                at = step.id
                run_step(connection, step)
            for step in reversed(steps[:gone]):
                at = f"undo of {step.id}"
                undo_step(connection, step)
            if said := differences(begin, snapshot(connection), leaving=dict(plan.leaves)):
                return ["after undo:", *said]
            for step in steps:
                at = step.id
                run_step(connection, step)
        except (psycopg.Error, ZddError) as error:
            return [f"{at}: {' '.join(str(error).split())[:300]}"]
        said = differences(end, snapshot(connection))
        return ["at the end:", *said] if said else []


def main() -> None:
    """Print the table; with --list, the cases of one outcome and why."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("corpus", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--list", choices=OUTCOMES)
    parser.add_argument("--kind", help="only migrations with this kind of unsafe operation")
    parser.add_argument("--all", action="store_true", help="list safe migrations too")
    parser.add_argument("--sql", action="store_true", help="show their SQL")
    parser.add_argument("--prove", action="store_true", help="run the plans on a server")
    parser.add_argument("--postgres", default="embedded")
    parser.add_argument("--repo", help="only repositories with this in their name")
    given = parser.parse_args()
    if not given.corpus.exists():
        sys.exit(f"{given.corpus} is not there")
    started = time.perf_counter()
    if given.prove:
        proof = prove(given.corpus, given.postgres, given.repo, everything=given.all)
        print(
            f"{proof.proven} proven, {proof.wrong} wrong, {proof.skipped} not tried (the migration "
            f"itself fails there); {time.perf_counter() - started:.0f} s"
        )
        return
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
