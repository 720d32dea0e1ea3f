"""The walk: every phase steady, every step under load, every way back, on real databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Law, Phase, Plan
from zdd_migrate.model.verdict import Judgement, Verdict
from zdd_migrate.plan.fingerprint import require_same_schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.bench import Bench, Living, Say
from zdd_migrate.verify.blame import failures
from zdd_migrate.verify.clock import Clock, in_turn
from zdd_migrate.verify.code import Code, Effort
from zdd_migrate.verify.forward import walk_plan
from zdd_migrate.verify.judge import Limits, Seen, doubtful, settle
from zdd_migrate.verify.laws import broken, check_given
from zdd_migrate.verify.plain import run_plain
from zdd_migrate.verify.stage import Data, set_up
from zdd_migrate.verify.times import merged
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
    data: Data = Data(),  # noqa: B008 - frozen
    laws: Sequence[Law] = (),
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plan: made-up statements always, and the given code of both versions besides.

    `laws` are the users' own, looked at beside the plan's.
    """
    if plan.search_path and server.pooler is not None:
        raise InputError(
            f"{plan.name}: new code finds {', '.join(plan.search_path)} by its search_path, which a pooler "
            "in transaction mode does not pass on: verify it without --pooled, and in production set it "
            "for the role that new code logs in as (ALTER ROLE … SET search_path)"
        )
    plan = replace(plan, laws=(*plan.laws, *laws))

    def walk() -> Bench:
        with _bench(
            plan, schema_sql, server, (old, new), seed_sql, data, effort, limits, say
        ) as bench:
            require_same_schema(plan, bench.stage.before)
            _require_sense(bench, laws)
            walk_plan(bench)
            return bench

    return _judged(walk, say)


def verify_migration(
    sources: Sequence[str],
    *,
    in_transaction: bool,
    schema_sql: str,
    server: Server,
    old: Sequence[CodeVersion] = (),
    new: Sequence[CodeVersion] = (),
    seed_sql: str | None = None,
    data: Data = Data(),  # noqa: B008 - frozen
    laws: Sequence[Law] = (),
    effort: Effort | None = None,
    limits: Limits | None = None,
    say: Say = lambda _: None,
) -> Verdict:
    """Try a plain migration: run while the old code works, then both versions side by side.

    Both are expected to work all the while, for that is what a deployment without downtime needs.
    """
    plan = Plan("migration", "", {}, sources=tuple(sources), laws=tuple(laws))

    def walk() -> Bench:
        with _bench(
            plan, schema_sql, server, (old, new), seed_sql, data, effort, limits, say
        ) as bench:
            _require_sense(bench, laws)
            database = server.create_database(template=bench.stage.start)
            bench.steady(database, "start", [Living("old", bench.code)])
            say("running the migration under the old code's load")
            run_plain(bench, database, sources, in_transaction)
            both = [Living(name, bench.code) for name in ("old", "new")]
            bench.steady(database, "migration", both)
            check_given(bench, database, "migration")
            return bench

    return _judged(walk, say)


def _judged(walk: Callable[[], Bench], say: Say) -> Verdict:
    """A verdict on a walk; one that fails by what may be chance is walked once more."""
    bench = walk()
    seen = _seen(bench)
    if doubtful(seen):
        say("what failed may be chance: once more")
        seen = settle(seen, _seen(walk()))
    return _verdict(bench, seen)


def _seen(bench: Bench) -> Seen:
    return Seen(tuple(bench.trials), tuple(bench.laws), tuple(bench.rollbacks))


@contextmanager
def _bench(
    plan: Plan,
    schema_sql: str,
    server: Server,
    given: tuple[Sequence[CodeVersion], Sequence[CodeVersion]],
    seed_sql: str | None,
    data: Data,
    effort: Effort | None,
    limits: Limits | None,
    say: Say,
) -> Iterator[Bench]:
    """All that is tried on, and who tries, for the length of a block."""
    effort, limits = effort or Effort(), limits or Limits()
    say("building the starting schema and rows")
    code: dict[str, list[CodeVersion]] = {"old": list(given[0]), "new": list(given[1])}
    with server.cleared(), Crew() as crew, ThreadPoolExecutor(1) as beside:
        stage = set_up(
            server,
            schema_sql,
            plan.sources,
            seed_sql=seed_sql,
            rows=effort.rows,
            crew=crew,
            given=code,
            beside=beside,
            data=data,
        )
        made_up = {
            name: Synthetic(
                name,
                shapes,
                crew.ledger(name),
                own_faults=stage.own_faults,
                asks=stage.asks[name],
            )
            for name, shapes in (("old", stage.old), ("new", stage.new))
        }
        clock = Clock(allowed_ms=limits.longest_wait_ms)
        yield Bench(
            server, crew, stage, plan, Code(made_up, code), effort, limits, say, clock=clock
        )


def _require_sense(bench: Bench, laws: Sequence[Law]) -> None:
    """A law that does not even hold before anything was changed says nothing about a change."""
    with bench.server.connect(bench.stage.start) as connection:
        for law in laws:
            if law.since is not Phase.EXPAND:
                continue
            found = broken(connection, law)
            if found:
                raise InputError(f"the law {law.name!r} does not hold at the start: {found}")


def _verdict(bench: Bench, seen: Seen) -> Verdict:
    judgement = seen.judgement
    notes = [*bench.stage.notes, *bench.notes]
    missing = []
    count = len(bench.server.abandoned)
    if count:
        left = "1 scratch database" if count == 1 else f"{count} scratch databases"
        notes.append(f"{left} that a killed run had left on the server: dropped")
    pooler = bench.server.pooler
    if pooler is not None:
        count = pooler.transactions()
        notes.append(f"clients went through {pooler.told}: {count:,} transactions")
        if not count:
            missing.append("the pooler was asked for and no client came through it")
    if not any((bench.stage.old, bench.stage.new, *bench.stage.asks.values())):
        missing.append(
            "the migration changes nothing that a statement could ask for: none was tried"
        )
    for condition in bench.effort.hostile:
        count = bench.happened[condition]
        if count:
            notes.append(f"{condition} came to pass {count} times")
        else:
            missing.append(f"{condition} was asked for and never came to pass")
    if missing and judgement is Judgement.PASS:
        judgement = Judgement.INCONCLUSIVE
    return Verdict(
        judgement=judgement,
        pg_version=bench.server.version,
        trials=seen.trials,
        laws=seen.laws,
        rollbacks=seen.rollbacks,
        notes=(*notes, *missing),
        failures=failures(bench.plan, seen.trials, seen.laws, seen.rollbacks),
        timeline=in_turn(bench.clock, bench.way_back),
        times=merged(time for clock in (bench.clock, *bench.clocks) for time in clock.times()),
        longest_allowed_ms=bench.limits.longest_wait_ms,
        conditions=(*(("pooled",) if pooler is not None else ()), *bench.effort.hostile),
    )
