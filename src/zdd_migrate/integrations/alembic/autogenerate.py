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
    and columns, indexes and constraints that a plan takes away in its contract phase.
    """
    leaving = _leaving(plans)

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
        return also(thing, name, kind, reflected, compare_to) if also is not None else True

    return include


def _leaving(plans: Path) -> set[tuple[str | None, str]]:
    """(table, name) of what contract phases take away; table None for an index or a table."""
    from zdd_migrate.plan.directory import read

    found: set[tuple[str | None, str]] = set()
    for directory in sorted(p.parent for p in plans.glob("*/plan.yaml")):
        found |= _gone(read(directory))
    return found


def _gone(plan: Plan) -> set[tuple[str | None, str]]:
    """What the plan's tables have before its contract phase and no longer after it."""
    from zdd_migrate.model.schema import Schema
    from zdd_migrate.operations.walk import replay
    from zdd_migrate.reading.statements import read_sql

    schema = Schema()
    replay(read_sql(plan.before, "before.sql").statements, schema)
    before = _names(schema)
    for phase in (Phase.EXPAND, Phase.MIGRATE, Phase.SWITCH):
        _run(plan, phase, schema)
        before |= _names(schema)
    _run(plan, Phase.CONTRACT, schema)
    return before - _names(schema)


def _run(plan: Plan, phase: Phase, schema: Any) -> None:
    from zdd_migrate.model.plan import Sql
    from zdd_migrate.operations.walk import replay
    from zdd_migrate.reading.statements import read_sql

    for step in plan.steps.get(phase, ()):
        if isinstance(step, Sql):
            replay(read_sql(";\n".join(step.statements), plan.name).statements, schema)


def _names(schema: Any) -> set[tuple[str | None, str]]:
    """(table, column or constraint) and (None, table or index) of a schema."""
    found: set[tuple[str | None, str]] = set()
    for name, table in schema.tables.items():
        found.add((None, name.name))
        found |= {(name.name, column.name) for column in table.columns}
        found |= {(name.name, one.name) for one in table.constraints if one.name is not None}
    found |= {(None, name.name) for name in schema.indexes}
    return found
