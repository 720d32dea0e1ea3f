"""Tables as they are made: keys, references, types that surprise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zdd_migrate.checks.case import Case
from zdd_migrate.checks.rooms import is_add_column, is_add_constraint, is_create_table
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema


def foreign_key_not_indexed(case: Case) -> Mapping[str, Any] | None:
    """No index leads with the referencing columns when the migration is over."""
    for table, columns, referenced in _foreign_keys(case):
        if _led_by(case.schema, table, columns):
            continue

        def without(schema: Schema, t: QName = table, c: Sequence[str] = columns) -> bool:
            return t in schema.tables and not _led_by(schema, t, c)

        return {
            "relation": str(table),
            "columns": ", ".join(columns),
            "referenced": str(referenced),
            "still": without,
        }
    return None


def _led_by(schema: Schema, table: QName, columns: Sequence[str]) -> bool:
    wanted = set(columns)
    return any(
        set(index.keys[: len(wanted)]) == wanted and index.predicate is None
        for index in schema.indexes_of(table)
    )


def _foreign_keys(case: Case) -> list[tuple[QName, tuple[str, ...], QName]]:
    operation, schema = case.operation, case.schema
    constraints: tuple[Any, ...] = ()
    if is_create_table(operation):
        table = operation.target(schema)
        inline = tuple(c for column in operation.columns for c in column.constraints)
        constraints = (*inline, *operation.constraints)
    elif is_add_column(operation) and operation.relation is not None:
        table = schema.resolve(operation.relation)
        constraints = operation.definition.constraints
    elif is_add_constraint(operation) and operation.relation is not None:
        table = schema.resolve(operation.relation)
        constraints = (operation.constraint,)
    return [
        (table, c.columns, schema.resolve(c.ref_table))
        for c in constraints
        if c.kind == "foreign_key" and c.columns
    ]


def table_without_key(case: Case) -> Mapping[str, Any] | None:
    """A new table that is published and has no primary key when the migration is over."""
    operation = case.operation
    if not is_create_table(operation) or operation.persistence != "permanent":
        return None
    if operation.foreign or operation.partition_of is not None:
        return None
    name = operation.target(case.schema)
    if name in case.schema.tables:
        return None

    def still(schema: Schema) -> bool:
        table = schema.tables.get(name)
        return table is not None and table.primary_key is None

    published = [p.name for p in case.schema.publications.values() if p.all_tables]
    return {"still": still, "published": published[0]} if published else None


def published_without_key(case: Case) -> Mapping[str, Any] | None:
    """A publication takes in a table whose changed rows it cannot name."""
    operation, schema = case.operation, case.schema
    named = {schema.resolve(name) for name in getattr(operation, "tables", ())}
    schemas = getattr(operation, "schemas", ())
    keyless = [
        str(table.name)
        for table in schema.tables.values()
        if table.kind == "table"
        and table.persistence == "permanent"
        and table.primary_key is None
        and table.replica_identity == "DEFAULT"
        and (
            getattr(operation, "all_tables", False)
            or table.name in named
            or table.name.schema in schemas
        )
    ]
    return {"keyless": ", ".join(sorted(keyless))} if keyless else None


_LIMITS = {"smallint": "32,767", "integer": "2,147,483,647"}


def key_may_overflow(case: Case) -> Mapping[str, Any] | None:
    """A numbered primary key of two or four bytes."""
    operation = case.operation
    if not is_create_table(operation):
        return None
    name = operation.target(case.schema)
    keys = [c.columns for c in operation.constraints if c.kind == "primary_key"]
    for column in operation.columns:
        inline = any(c.kind == "primary_key" for c in column.constraints)
        if not inline and (column.name,) not in keys:
            continue
        if not (column.serial or column.identity is not None):
            continue
        limit = _LIMITS.get(parse_type(column.column(name).type).base)
        if limit is not None:
            return {"column": column.name, "limit": limit, "relation": str(name)}
    return None


_SURPRISES = {
    "character": "pads with blanks that count in some comparisons and not in others: text",
    "money": "depends on the server's lc_monetary for how it is read and shown: numeric",
    "timestamp without time zone": "does not say which moment it means: timestamptz",
    "time with time zone": "has an offset but no date, so it means no moment: timestamptz",
}


def type_surprises(case: Case) -> Mapping[str, Any] | None:
    """A column type that does not do what its name promises."""
    operation = case.operation
    if is_create_table(operation):
        definitions: Sequence[Any] = operation.columns
    elif is_add_column(operation):
        definitions = (operation.definition,)
    else:
        return None
    for definition in definitions:
        type_ = parse_type(definition.column(QName(None, "t")).type).base
        if type_ in _SURPRISES:
            what, _, instead = _SURPRISES[type_].rpartition(": ")
            return {"column": definition.name, "type": type_, "what": what, "instead": instead}
    return None


def constraint_unnamed(case: Case) -> Mapping[str, Any] | None:
    """A constraint whose name Postgres chooses."""
    constraint = getattr(case.operation, "constraint", None)
    return {} if constraint is not None and constraint.name is None else None


def domain_with_condition(case: Case) -> Mapping[str, Any] | None:
    """CREATE DOMAIN with NOT NULL or a CHECK."""
    operation = case.operation
    return {} if getattr(operation, "not_null", False) or getattr(operation, "checks", ()) else None


CHECKS = (
    published_without_key,
    domain_with_condition,
    foreign_key_not_indexed,
    table_without_key,
    key_may_overflow,
    type_surprises,
    constraint_unnamed,
)
