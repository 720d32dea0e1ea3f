"""A hash of the relations a plan touches, the same from SQL files and from a live catalog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from zdd_migrate.errors import PlanMovedError
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.schema import Schema


def fingerprint(schema: Schema, relations: Iterable[QName]) -> str:
    """Sixteen hex digits over what matters of `relations` (resolved names).

    Existence and kind, columns with type and nullability, constraints by kind, columns and
    validity, indexes by columns and uniqueness. Spelling (type aliases, deparsed expressions,
    column order) does not count, nor does what Postgres 18 stores besides (NOT NULL constraints).
    """
    described = {str(name): _describe(schema, name) for name in sorted(set(relations))}
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_same_schema(plan: Plan, schema: Schema) -> None:
    """PlanMovedError unless what the plan touches looks as it did when the plan was made."""
    found = fingerprint(schema, plan.touches)
    if found != plan.schema_hash:
        tables = ", ".join(str(t) for t in plan.touches)
        raise PlanMovedError(
            f"the schema of {tables} is not the one plan {plan.name} was made for (its hash is "
            f"{found}, not {plan.schema_hash}); make the plan anew with --schema DATABASE_URL"
        )


def _describe(schema: Schema, name: QName) -> Any:
    table = schema.tables.get(name)
    if table is None:
        return None
    return {
        "kind": table.kind,
        "columns": sorted([c.name, _type(c.type), c.not_null] for c in table.columns),
        "constraints": sorted(
            [c.name, c.kind, sorted(c.columns), c.valid]
            for c in table.constraints
            if c.kind != "not_null"
        ),
        "indexes": sorted(
            [i.name.name, sorted(i.columns), i.unique, i.valid] for i in schema.indexes_of(name)
        ),
    }


def _type(text: str) -> str:
    """A type's name without the schema that format_type leaves out when the path has it."""
    return normalise_type(text).rsplit(".", 1)[-1]
