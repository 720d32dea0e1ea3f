"""What must hold of the data and of the schema, looked at after every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psycopg

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Law, Phase
from zdd_migrate.model.verdict import LawResult
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.verify.acknowledged import Ledger, Tables, compare, differences_of
from zdd_migrate.verify.bench import Bench
from zdd_migrate.verify.code import Code
from zdd_migrate.verify.shapes import Shape


def check_laws(bench: Bench, database: str, phase: Phase) -> None:
    """The laws of the plan that are meant to hold in a phase."""
    with bench.server.connect(database) as connection:
        for law in bench.plan.laws:
            if law.since.number <= phase.number <= law.until.number:
                bench.laws.append(_check(connection, law, phase.value))


def check_given(bench: Bench, database: str, when: str) -> None:
    """The users' own laws where there are no phases."""
    with bench.server.connect(database) as connection:
        for law in bench.plan.laws:
            bench.laws.append(_check(connection, law, when))


def check_rows(bench: Bench, database: str, phase: str) -> None:
    """Nothing that was written, or was there at the start, is lost or changed."""
    bench.stage.whole()
    with bench.server.connect(database) as connection:
        tables = Tables(connection)
        _check_ledgers(bench, tables, phase)
        _check_unharmed(bench, tables, phase)


def _check_unharmed(bench: Bench, tables: Tables, phase: str) -> None:
    """Every row that was there at the start is there, with the values it had.

    Not where programs were run: what they change is theirs.
    """
    if any(version.depth == "command" for one in bench.code.given.values() for version in one):
        return
    shapes = bench.stage.new if phase == Phase.CONTRACT.value else bench.stage.old
    still = bench.stage.moved | bench.stage.restless
    filled = bench.filled
    gone = changed = 0
    example = ""
    for shape in shapes:
        rows = bench.stage.baseline.get(shape.name)
        if not rows or len(next(iter(rows))) != len(shape.key):
            continue
        try:
            there = tables.of(shape)
        except psycopg.Error as error:
            gone, example = gone + len(rows), " ".join(str(error).split())[:200]
            continue
        for key, row in rows.items():
            found = there.get(key)
            if found is None:
                gone += 1
                example = example or f"{shape.name} {key} is gone"
                continue
            if found == row:
                continue
            kept = {c: v for c, v in row.items() if (shape.name, c) not in still}
            wrong = differences_of(shape.name, kept, found, shape, filled)
            changed += bool(wrong)
            example = example or wrong
    if bench.stage.baseline:
        name = "rows that were there at the start are there, unchanged"
        bench.laws.append(LawResult(name, phase, not (gone or changed), gone + changed, example))


def _check_ledgers(bench: Bench, tables: Tables, phase: str) -> None:
    """No write that a client was told of may be missing or changed."""
    sides: list[tuple[str, Sequence[Shape]]] = []
    if phase != Phase.CONTRACT.value:
        sides.append(("old", bench.stage.old))
    if phase in (Phase.SWITCH.value, Phase.CONTRACT.value):
        sides.append(("new", bench.stage.new))
    if phase == Phase.CONTRACT.value:
        # what old code wrote must have come through: by key and common columns
        sides.append(("old", bench.stage.new))
    sides = [
        (name, [_reached(tables.connection, s, bench.plan.search_path) for s in shapes])
        if name == "new"
        else (name, shapes)
        for name, shapes in sides
    ]
    for name, shapes in sides:
        for called, ledger in bench.code.ledgers(name):
            _ledger(bench, tables, ledger, shapes, phase, called)


def _reached(connection: psycopg.Connection, shape: Shape, schemas: Sequence[str]) -> Shape:
    """The shape by the name that new code reaches it by: a view, where one stands in for it."""
    for schema in schemas:
        view = QName(schema, shape.name.name)
        row = connection.execute("SELECT to_regclass(%s)", (quote_qname(view),)).fetchone()
        if row is not None and row[0] is not None:
            return replace(shape, reached=view)
    return shape


def _ledger(
    bench: Bench,
    tables: Tables,
    ledger: Ledger,
    shapes: Sequence[Shape],
    phase: str,
    name: str,
) -> None:
    law = f"no write acknowledged to {name} code is lost"
    try:
        missing, differing, example = compare(
            tables, ledger, shapes, bench.filled, bench.stage.restless
        )
    except psycopg.Error as error:
        said = " ".join(str(error).split())[:200]
        bench.laws.append(LawResult(law, phase, False, 1, said))
        return
    bench.laws.append(
        LawResult(law, phase, not (missing or differing), missing + differing, example)
    )


def check_end(bench: Bench, database: str) -> None:
    """The schema that contract leaves is the one the plain migration would have made."""
    if bench.stage.end is None:
        return
    with bench.server.connect(database) as connection:
        found = differences(bench.stage.end, snapshot(connection), grown=bench.stage.grown)
    bench.laws.append(
        LawResult(
            "the end schema equals the plain migration's",
            Phase.CONTRACT.value,
            not found,
            len(found),
            "; ".join(found[:3])[:400],
        )
    )


def rows_lost(bench: Bench, connection: psycopg.Connection, code: Code) -> tuple[int, str]:
    """How many acknowledged rows are missing or changed at the start's shape, and an example."""
    bench.stage.whole()
    total, example = 0, ""
    tables = Tables(connection)
    for ledger in [kept for name in ("old", "new") for _, kept in code.ledgers(name)]:
        try:
            missing, differing, one = compare(
                tables, ledger, bench.stage.old, bench.filled, bench.stage.restless
            )
        except psycopg.Error as error:
            return 1, f"the rows cannot be compared: {' '.join(str(error).split())[:120]}"
        total += missing + differing
        example = example or one
    return total, example


def broken(connection: psycopg.Connection, law: Law) -> str:
    """Why a law does not hold, "" when it does."""
    result = _check(connection, law, "")
    return "" if result.holds else (result.detail or f"{result.violations} rows break it")


def _check(connection: psycopg.Connection, law: Law, phase: str) -> LawResult:
    query = f"SELECT count(*) FROM ({law.query}) v"
    try:
        row = connection.execute(query.encode()).fetchone()
    except psycopg.Error as error:
        return LawResult(law.name, phase, False, 1, " ".join(str(error).split())[:200])
    assert row is not None
    return LawResult(law.name, phase, row[0] == 0, int(row[0]))
