"""What running code loses: objects, guarantees, room to write what it always wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zdd_migrate.checks.case import Case
from zdd_migrate.checks.rooms import (
    is_add_column,
    is_add_constraint,
    is_alter_column_type,
    is_create_index,
    is_create_table,
    is_drop_constraint,
)
from zdd_migrate.grammar.conversions import lossless
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.finding import Severity
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.facts import implied_not_null

if TYPE_CHECKING:
    from zdd_migrate.operations.drop_constraint import DropConstraint


def new_restriction(case: Case) -> Mapping[str, Any] | None:
    """Something that old code may do is forbidden, and was not before.

    Old code does not write columns that this migration adds; and a constraint that takes the place
    of one that asked the same asks nothing new.
    """
    operation = case.operation
    if is_create_index(operation):
        columns = operation.keys
        restriction: object = ("unique", frozenset(columns))
    elif is_add_constraint(operation):
        columns = operation.constraint.columns
        restriction = _restriction(operation.constraint, case.schema)
    else:
        return {}
    own = case.relation
    if own is None:
        return {}
    added = case.story.columns | {
        (own, o.column) for o in case.explained.statement.operations if is_add_column(o)
    }
    if columns and all((own, column) in added for column in columns):
        return None
    if is_create_index(operation) and any(
        i.unique and i.valid and i.predicate is None and set(i.keys) <= set(columns)
        for i in case.schema.indexes_of(own)
    ):
        return None  # unique already, by fewer columns
    gone = [
        o
        for o in case.explained.statement.operations
        if is_drop_constraint(o) and o.relation == operation.relation
    ]
    replaced = {found for o in gone if (found := dropped(o, case.schema)) is not None}
    return None if (own, restriction) in replaced | case.story.replaced else {}


def dropped(operation: DropConstraint, schema: Schema) -> tuple[QName, object] | None:
    """(table, what the dropped constraint asked), where that is known."""
    assert operation.relation is not None
    name = schema.resolve(operation.relation)
    table = schema.tables.get(name)
    known = table.constraint(operation.constraint) if table is not None else None
    return (name, _restriction(known, schema)) if known is not None else None


def _restriction(constraint: Any, schema: Schema) -> object:
    """What a constraint asks of writers, for comparing: not how it is called or enforced."""
    if constraint.kind == "foreign_key":
        referenced = schema.resolve(constraint.ref_table)
        return ("foreign_key", constraint.columns, referenced)
    if constraint.kind in ("unique", "primary_key"):
        return ("unique", frozenset(constraint.columns))
    return (constraint.kind, constraint.expression or constraint.columns)


def column_required(case: Case) -> Mapping[str, Any] | None:
    """A CHECK that the column is not NULL, validated or not, asked the same of writers before."""
    table = case.table
    if case.operation.kind != "set_not_null" or table is None:
        return {}
    bound = replace(
        table, constraints=tuple(replace(c, valid=c.enforced) for c in table.constraints)
    )
    column = getattr(case.operation, "column", "")
    return None if implied_not_null(bound, column) else {}


def upsert_target_gone(case: Case) -> Mapping[str, Any] | None:
    """ON CONFLICT (columns) infers unique indexes, never an exclusion constraint's."""
    table, named = case.table, getattr(case.operation, "constraint", None)
    known = table.constraint(named) if table is not None and named is not None else None
    return None if known is not None and known.kind == "exclude" else {}


def cached_plan_stale(case: Case) -> Mapping[str, Any] | None:
    """Said once for each table of a file."""
    stale = [b for b in case.effects.breaks if b.kind == "cached_plan"]
    return {"once": stale[0].relation} if stale else None


def cascade_takes_more(case: Case) -> Mapping[str, Any] | None:
    """CASCADE drops views and foreign keys that the statement does not name."""
    own = case.relation
    if own is None or not getattr(case.operation, "cascade", False):
        return None
    taken = list(dict.fromkeys(_dependents(case, own)))
    return {"taken": ", ".join(taken)} if taken else None


def _dependents(case: Case, own: QName) -> Iterable[str]:
    schema, kind = case.schema, case.operation.kind
    column = getattr(case.operation, "column", None)
    if kind in ("drop_table", "drop_column", "drop_object"):
        todo = [v.name for v in schema.views_on(own, column)]
        while todo:
            view = todo.pop(0)
            yield f"view {view}"
            todo += [v.name for v in schema.views_on(view)]
    constraint = getattr(case.operation, "constraint", None)
    table = case.table
    for other, key in schema.foreign_keys_to(own):
        if other.name == own:
            continue
        target = key.ref_columns or (
            table.primary_key.columns if table is not None and table.primary_key else ()
        )
        known = table.constraint(constraint) if table is not None and constraint else None
        if (
            kind == "drop_table"
            or (kind == "drop_column" and column in target)
            or (known is not None and set(known.columns) == set(target))
        ):
            yield f"foreign key {key.name} of {other.name}"
    if kind == "drop_column" and table is not None and column is not None:
        for other_column in table.columns:
            if column in names_in(other_column.generation):
                yield f"column {other_column.name}"


def names_in(expression: str | None) -> frozenset[str]:
    """The column names in an expression."""
    return frozenset(analyse(expression).names) if expression else frozenset()


def index_lost_with_column(case: Case) -> Mapping[str, Any] | None:
    """An index on other columns too goes with the dropped one."""
    column = getattr(case.operation, "column", "")
    own = case.relation
    lost = [
        i
        for i in (case.schema.indexes_of(own) if own is not None else ())
        if column in i.columns and len(i.columns) > 1
    ]
    if not lost:
        return None
    others = sorted({c for i in lost for c in i.columns} - {column})
    return {
        "indexes": ", ".join(i.name.name for i in lost),
        "other_columns": ", ".join(others),
    }


def foreign_key_types_differ(case: Case) -> Mapping[str, Any] | None:
    """A key that cannot hold every value of what it refers to."""
    for own, column, type_, referenced, target in _references(case):
        table = case.schema.tables.get(referenced)
        if table is None:
            continue
        if not target:
            target = table.primary_key.columns[0] if table.primary_key else ""
        known = table.column(target)
        if known is None or type_ is None:
            continue
        mine, other = parse_type(type_).base, parse_type(known.type).base
        if mine != other and {mine, other} <= _INTEGERS | _TEXTS:
            return {
                "column": column,
                "type": mine,
                "referenced": f"{referenced}.{target}",
                "referenced_type": other,
                "relation": str(own),
            }
    return None


_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying", "character", "uuid"})


def _references(case: Case) -> Iterable[tuple[QName, str, str | None, QName, str]]:
    """(table, column, its type, referenced table, referenced column or "") of single-column keys."""
    operation, schema = case.operation, case.schema
    types: dict[str, str] = {}
    constraints: tuple[Any, ...] = ()
    if is_create_table(operation):
        inline = tuple(c for column in operation.columns for c in column.constraints)
        constraints = tuple(c for c in (*inline, *operation.constraints) if c.kind == "foreign_key")
        own = operation.target(schema)
        referring = {column for c in constraints for column in c.columns}
        types = {c.name: c.column(own).type for c in operation.columns if c.name in referring}
    elif is_add_column(operation) and operation.definition.constraints:
        assert operation.relation is not None
        own = schema.resolve(operation.relation)
        types = {operation.column: operation.definition.column(own).type}
        constraints = operation.definition.constraints
    elif is_add_constraint(operation):
        assert operation.relation is not None
        own = schema.resolve(operation.relation)
        table = schema.tables.get(own)
        types = {c.name: c.type for c in table.columns} if table is not None else {}
        constraints = (operation.constraint,)
    for constraint in constraints:
        if constraint.kind == "foreign_key" and len(constraint.columns) == 1:
            column = constraint.columns[0]
            target = constraint.ref_columns[0] if constraint.ref_columns else ""
            yield own, column, types.get(column), schema.resolve(constraint.ref_table), target


def default_changed(case: Case) -> Mapping[str, Any] | None:
    """SET DEFAULT that is not the first one: inserts of running code get another value."""
    column = getattr(case.operation, "column", "")
    known = case.table.column(column) if case.table is not None else None
    default = getattr(case.operation, "default", None)
    own = case.relation
    if default is None or (own is not None and (own, column) in case.story.columns):
        return None
    if known is not None and known.default == default:
        return None
    was = f"instead of {known.default}" if known is not None and known.default else ""
    return {"was": was}


def type_changed(case: Case) -> Mapping[str, Any] | None:
    """Where the bytes stay as they are, code mostly reads them as before: for the curious then."""
    effects = case.effects
    alike = not (effects.rewrites or effects.index_rebuilds)
    known = case.table is not None and not effects.assumed
    return {"severity": Severity.INFO} if alike and known else {}


def type_narrowed(case: Case) -> Mapping[str, Any] | None:
    """The same kind of type with less room in it."""
    operation = case.operation
    table = case.table
    if not is_alter_column_type(operation) or table is None:
        return None
    known = table.column(operation.column)
    if known is None:
        return None
    old, new = parse_type(known.type), parse_type(operation.type)
    state = "22001" if {old.base, new.base} <= _TEXTS else "22003"
    return (
        {"old_type": known.type, "narrow_state": state}
        if _kind(old.base) == _kind(new.base) and not lossless(known.type, operation.type)
        else None
    )


def _kind(base: str) -> str:
    if base in ("text", "character varying", "character"):
        return "text"
    return "integer" if base in _INTEGERS else base


def guarantee_dropped(case: Case) -> Mapping[str, Any] | None:
    """What a constraint asked is asked no more; unless the same statement asks it again."""
    operation = case.operation
    table = case.table
    if not is_drop_constraint(operation) or table is None:
        return None
    known = table.constraint(operation.constraint)
    if known is None or not known.enforced:
        return None
    asked = {
        "check": f"CHECK ({known.expression})",
        "foreign_key": f"rows of {known.ref_table} that ({', '.join(known.columns)}) refers to",
        "not_null": f"a value in {', '.join(known.columns)}",
    }.get(known.kind, f"one row for each ({', '.join(known.columns)})")
    again = any(
        is_add_constraint(o) and o.constraint.kind == known.kind
        for o in case.explained.statement.operations
    )
    proof = known.kind == "check" and (known.expression or "").upper().endswith("IS NOT NULL")
    return None if again or proof else {"asked": asked}


def primary_key_dropped(case: Case) -> Mapping[str, Any] | None:
    """The primary key goes, and the same statement makes no other."""
    operation, table = case.operation, case.table
    if not is_drop_constraint(operation) or table is None:
        return None
    known = table.constraint(operation.constraint)
    again = any(
        is_add_constraint(o) and o.constraint.kind == "primary_key"
        for o in case.explained.statement.operations
    )
    return {} if known is not None and known.kind == "primary_key" and not again else None


def constraint_timing_changed(case: Case) -> Mapping[str, Any] | None:
    """ALTER CONSTRAINT that says something of DEFERRABLE."""
    said = (
        getattr(case.operation, "deferrable", None),
        getattr(case.operation, "initially_deferred", None),
    )
    return {} if any(each is not None for each in said) else None


def owner_changed(case: Case) -> Mapping[str, Any] | None:
    """OWNER TO, of a relation or of anything else."""
    operation = case.operation
    change = getattr(operation, "switch", None) or getattr(operation, "change", None)
    if change != "owner":
        return None
    return {"owned": case.facts.get("relation") or case.facts.get("name", "")}


def truncate_cascades(case: Case) -> Mapping[str, Any] | None:
    """Other tables than the named ones are emptied."""
    named = {case.schema.resolve(o.relation) for o in _operations(case) if o.relation is not None}
    family = {t.name for name in named for t in case.schema.descendants_of(name)}
    return {} if set(case.effects.rewrites or case.effects.locks) - named - family else None


def _operations(case: Case) -> Iterable[Operation]:
    return case.explained.statement.operations


def object_renamed(case: Case) -> Mapping[str, Any] | None:
    """Few programs name a constraint (in ON CONFLICT ON CONSTRAINT, or to read an error)."""
    rare = getattr(case.operation, "object", "") in ("CONSTRAINT", "DOMAIN CONSTRAINT")
    return {"severity": Severity.INFO} if rare else {}


def rows_hidden(case: Case) -> Mapping[str, Any] | None:
    """Row security without a policy that admits anybody when the migration is over."""
    own = case.relation
    if case.operation.kind != "switch_table" or own is None:
        return {}

    def still(schema: Schema) -> bool:
        table = schema.tables.get(own)
        return table is None or not any(p.permissive for p in table.policies)

    return {"still": still}


CHECKS = (
    column_required,
    upsert_target_gone,
    object_renamed,
    rows_hidden,
    type_changed,
    type_narrowed,
    guarantee_dropped,
    primary_key_dropped,
    constraint_timing_changed,
    owner_changed,
    truncate_cascades,
    new_restriction,
    cached_plan_stale,
    cascade_takes_more,
    index_lost_with_column,
    foreign_key_types_differ,
    default_changed,
)
