"""The walk: every phase steady, every step under load, every way back, on real databases."""

from __future__ import annotations

from collections.abc import Sequence

from zdd_migrate.model.plan import Plan
from zdd_migrate.model.verdict import Judgement, Verdict
from zdd_migrate.plan.fingerprint import require_same_schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.bench import Bench, Say
from zdd_migrate.verify.blame import failures
from zdd_migrate.verify.code import Code, Effort
from zdd_migrate.verify.forward import walk_plan
from zdd_migrate.verify.judge import Limits, judge
from zdd_migrate.verify.plain import run_plain
from zdd_migrate.verify.stage import set_up
from zdd_migrate.verify.versions import CodeVersion, Synthetic
from zdd_migrate.verify.workers import Crew

__all__ = ["Effort", "verify_migration", "verify_plan"]


def verify_plan(
    plan: Plan,
    *,
    schema_sql: str,
    server: Server,
    old: Sequence[CodeVersion] = (),
    new: Sequence[CodeVersion] = (),
    seed_sql: str | None = None,
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plan: made-up statements always, and the given code of both versions besides."""
    with Crew() as crew:
        bench = _bench(crew, plan, schema_sql, server, (old, new), seed_sql, effort, limits, say)
        require_same_schema(plan, bench.stage.before)
        walk_plan(bench)
        return _verdict(bench)


def verify_migration(
    sources: Sequence[str],
    *,
    in_transaction: bool,
    schema_sql: str,
    server: Server,
    old: Sequence[CodeVersion] = (),
    new: Sequence[CodeVersion] = (),
    seed_sql: str | None = None,
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plain migration: run while the old code works, then both versions side by side.

    Both are expected to work all the while, for that is what a deployment without downtime needs.
    """
    plan = Plan("migration", "", {}, sources=tuple(sources))
    with Crew() as crew:
        bench = _bench(crew, plan, schema_sql, server, (old, new), seed_sql, effort, limits, say)
        database = server.create_database(template=bench.stage.start)
        bench.steady(database, "start", "old", expected=True, code=bench.code)
        say("running the migration under the old code's load")
        run_plain(bench, database, sources, in_transaction)
        for name in ("old", "new"):
            bench.steady(database, "migration", name, expected=True, code=bench.code)
        return _verdict(bench)


def _bench(
    crew: Crew,
    plan: Plan,
    schema_sql: str,
    server: Server,
    given: tuple[Sequence[CodeVersion], Sequence[CodeVersion]],
    seed_sql: str | None,
    effort: Effort | None,
    limits: Limits | None,
    say: Say,
) -> Bench:
    effort = effort or Effort()
    say("building the starting schema and rows")
    code: dict[str, list[CodeVersion]] = {"old": list(given[0]), "new": list(given[1])}
    stage = set_up(
        server, schema_sql, plan.sources, seed_sql=seed_sql, rows=effort.rows, crew=crew, given=code
    )
    made_up = {
        name: Synthetic(
            name, shapes, crew.ledger(name), ignored=stage.own_faults.get(name, frozenset())
        )
        for name, shapes in (("old", stage.old), ("new", stage.new))
    }
    return Bench(server, crew, stage, plan, Code(made_up, code), effort, limits or Limits(), say)


def _verdict(bench: Bench) -> Verdict:
    judgement = judge(bench.trials, bench.laws, bench.rollbacks)
    notes = [*bench.stage.notes, *bench.notes]
    if not bench.stage.old and not bench.stage.new:
        notes.append("the migration changes no table, so no statement was tried")
        judgement = Judgement.INCONCLUSIVE if judgement is Judgement.PASS else judgement
    return Verdict(
        judgement=judgement,
        pg_version=bench.server.version,
        trials=tuple(bench.trials),
        laws=tuple(bench.laws),
        rollbacks=tuple(bench.rollbacks),
        notes=tuple(notes),
        failures=failures(bench.plan, bench.trials, bench.laws, bench.rollbacks),
        timeline=bench.clock.timeline(),
    )
