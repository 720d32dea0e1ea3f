"""A plain migration, run as it is while the old code works."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from zdd_migrate.model.verdict import LawResult
from zdd_migrate.verify.bench import Bench, settle, start
from zdd_migrate.verify.looking import (
    Look,
    LookingConnection,
    scanned_under_lock,
    tables_there,
)
from zdd_migrate.verify.runner import SCANS
from zdd_migrate.verify.watching import Watcher


def run_plain(bench: Bench, database: str, sources: Sequence[str], in_transaction: bool) -> None:
    """Run its statements under the old code's load."""
    sessions = bench.open(database, ("old",), bench.code)
    runner = bench.server.connect_as(
        LookingConnection, database, application_name="zdd-migrate migration"
    )
    runner.look = look = Look(tables_there(runner))
    try:
        start(sessions, bench.effort.settle)
        with Watcher(bench.server, database, bench.clock):
            began = time.monotonic()
            try:
                if in_transaction:
                    with runner.transaction():
                        for statement in sources:
                            runner.execute(statement.encode())
                        look.found += scanned_under_lock(runner, look.there)
                else:
                    for statement in sources:
                        runner.execute(statement.encode())
            except psycopg.Error as error:
                said = " ".join(str(error).split())[:300]
                bench.laws.append(LawResult("the migration runs", "migration", False, 1, said))
            bench.clock.span("the migration", "migration", "during", began)
        read = dict.fromkeys(f"the migration {found}" for found in look.found)
        bench.laws += [LawResult(SCANS, "migration", False, 1, one) for one in read]
        if not read:
            bench.laws.append(LawResult(SCANS, "migration", True))
        settle(sessions, bench.effort.settle * 2)
        bench.collect(sessions, "migration", "during", None)
    finally:
        runner.close()
        bench.close(sessions, "migration", "during")
