"""Keeps what a plan adds for the time of a release out of `alembic revision --autogenerate`.

from zdd_migrate.integrations.alembic.autogenerate import hide_helpers
context.configure(…, include_object=hide_helpers(Path(__file__).parent / "zdd"))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zdd_migrate.model.plan import Phase, Plan

IncludeObject = Callable[[Any, "str | None", str, bool, Any], bool]


def hide_helpers(plans: Path, also: IncludeObject | None = None) -> IncludeObject:
    """An `include_object` for env.py. `plans` holds the plan directories; `also` is your own one.

    Hidden is what exists only in the database and is ours: schema zdd, whatever is named zdd_…,
    and columns, indexes and constraints that a plan takes away in its contract phase. A column that
    gets its last shape at contract is not compared as long as it has the shape before it.
    """
    leaving, unfinished = _underway(plans)

    def include(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if reflected and compare_to is None:
            table = thing if kind == "table" else getattr(thing, "table", None)
            if table is not None and table.schema == "zdd":
                return False
            if name is not None and name.startswith("zdd_"):
                return False
            owner = table.name if table is not None and kind != "table" else None
            if (owner, name) in leaving or (None, name) in leaving:
                return False
        elif kind == "column" and compare_to is not None:
            before = unfinished.get((thing.table.name, name or ""))
            if before is not None and _shape(compare_to) == before:
                return False
        return also(thing, name, kind, reflected, compare_to) if also is not None else True

    return include


#: (table, name); table None for an index or a table
_Name = tuple["str | None", str]
#: a column's type, and whether it may be NULL
_Shape = tuple[str, bool]


def _shape(column: Any) -> _Shape:
    """The shape of a column that SQLAlchemy reflected."""
    from sqlalchemy.dialects import postgresql

    from zdd_migrate.grammar.types import normalise_type

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return normalise_type(column.type.compile(dialect=dialect)), bool(column.nullable)


def _underway(plans: Path) -> tuple[set[_Name], dict[_Name, _Shape]]:
    """What contract phases take away, and columns they change with their shape before it."""
    from zdd_migrate.plan.directory import read

    gone: set[_Name] = set()
    changed: dict[_Name, _Shape] = {}
    for directory in sorted(p.parent for p in plans.glob("*/plan.yaml")):
        leaving, unfinished = _by_contract(read(directory))
        gone |= leaving
        changed |= unfinished
    return gone, changed


def _by_contract(plan: Plan) -> tuple[set[_Name], dict[_Name, _Shape]]:
    """What the plan's tables have before its contract phase and no longer, or otherwise, after it."""
    from zdd_migrate.model.schema import Schema
    from zdd_migrate.operations.walk import replay
    from zdd_migrate.reading.statements import read_sql

    schema = Schema()
    replay(read_sql(plan.before, "before.sql").statements, schema)
    before = _names(schema)
    for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
        _run(plan, phase, schema)
        before |= _names(schema)
    shapes = _shapes(schema)
    _run(plan, Phase.CONTRACT, schema)
    after = _shapes(schema)
    changed = {name: shape for name, shape in shapes.items() if after.get(name, shape) != shape}
    return before - _names(schema), changed


def _shapes(schema: Any) -> dict[_Name, _Shape]:
    from zdd_migrate.grammar.types import normalise_type

    return {
        (name.name, column.name): (normalise_type(column.type), not column.not_null)
        for name, table in schema.tables.items()
        for column in table.columns
    }


def _run(plan: Plan, phase: Phase, schema: Any) -> None:
    from zdd_migrate.model.plan import Sql
    from zdd_migrate.operations.walk import replay
    from zdd_migrate.reading.statements import read_sql

    for step in plan.steps.get(phase, ()):
        if isinstance(step, Sql):
            replay(read_sql(";\n".join(step.statements), plan.name).statements, schema)


def _names(schema: Any) -> set[_Name]:
    """(table, column or constraint) and (None, table or index) of a schema."""
    found: set[_Name] = set()
    for name, table in schema.tables.items():
        found.add((None, name.name))
        found |= {(name.name, column.name) for column in table.columns}
        found |= {(name.name, one.name) for one in table.constraints if one.name is not None}
    found |= {(None, name.name) for name in schema.indexes}
    return found
