"""Labels of our operations, in the words of `theirs`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.grammar.oracle import trees
from tests.grammar.oracle.theirs import Fact
from tests.grammar.oracle.trees import Value, expression
from zdd_migrate.grammar.constraints import ColumnDefinition, ConstraintDefinition
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import parse_query
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.operations import NotUnderstood, Operation


def pair(name: QName | None) -> Value:
    """A QName as (schema, name)."""
    return tuple(name) if name is not None else None


def constraint(c: ConstraintDefinition) -> Fact:
    """A constraint as `theirs.constraint` says it."""
    return {
        "kind": c.kind,
        "name": c.name,
        "columns": c.columns,
        "expression": trees.exclusions(c.method, c.expression)
        if c.kind == "exclude"
        else expression(c.expression),
        "ref_table": pair(c.ref_table),
        "ref_columns": c.ref_columns,
        "on_delete": c.on_delete,
        "on_update": c.on_update,
        "match": c.match,
        "deferrable": c.deferrable,
        "initially_deferred": c.initially_deferred,
        "valid": c.valid,
        "enforced": c.enforced,
        "no_inherit": c.no_inherit,
        "include": c.include,
        "nulls_not_distinct": c.nulls_not_distinct,
        "without_overlaps": c.without_overlaps,
        "using_index": c.using_index,
        "method": c.method,
        "where": expression(c.where),
    }


def column(c: ColumnDefinition) -> Fact:
    """A column as `theirs.column` says it."""
    return {
        "name": c.name,
        "type": trees.type_(c.type) if c.type else None,
        "type_name": normalise_type(c.type) if c.type else None,
        "collation": trees.collation(c.collation),
        "storage": c.storage.lower() if c.storage else None,
        "compression": c.compression,
        "not_null": c.not_null,
        "not_null_name": c.not_null_name,
        "default": expression(c.default),
        "generated": c.generated,
        "generation": expression(c.generation),
        "identity": c.identity,
        "identity_options": trees.sequence_options(c.identity_options),
        "constraints": tuple(constraint(each) for each in c.constraints),
    }


def _create_table(o: Any) -> Fact:
    return {
        "columns": tuple(column(c) for c in o.columns),
        "constraints": tuple(constraint(c) for c in o.constraints),
        "like": tuple((pair(t), tuple(sorted(options))) for t, options in o.like),
        "inherits": tuple(pair(p) for p in o.inherits),
        "partition_of": pair(o.partition_of),
        "bound": trees.bound(o.bound),
        "strategy": o.partition_strategy,
        "key": trees.partition_key(o.partition_strategy, o.partition_key),
        "of_type": pair(o.of_type),
        "query": trees.query(o.query) if o.query is not None else None,
        "if_not_exists": o.if_not_exists,
        "persistence": o.persistence,
        "foreign": o.foreign,
    }


def _create_index(o: Any) -> Fact:
    return {
        "index": o.index, "keys": o.keys, "unique": o.unique, "concurrently": o.concurrently,
        "if_not_exists": o.if_not_exists, "only": o.only, "method": o.method,
        "include": o.include, "nulls_not_distinct": o.nulls_not_distinct,
        "where": expression(o.where),
    }  # fmt: skip


def _create_view(o: Any) -> Fact:
    return {
        "columns": o.columns, "query": trees.query(o.query), "materialized": o.materialized,
        "or_replace": o.or_replace, "if_not_exists": o.if_not_exists, "with_data": o.with_data,
        "temporary": o.temporary,
    }  # fmt: skip


def _retype(o: Any) -> Fact:
    return {
        "column": o.column, "type": trees.type_(o.type), "type_name": normalise_type(o.type),
        "using": expression(o.using), "collation": trees.collation(o.collation), "only": o.only,
    }  # fmt: skip


def _attribute(o: Any) -> Fact:
    to = o.to if o.act in ("rename", "drop") else trees.type_(o.to)
    return {"act": o.act, "attribute": o.attribute, "to": to, "cascade": o.cascade,
            "if_exists": o.if_exists}  # fmt: skip


def _identity(o: Any) -> Fact:
    return {"column": o.column, "act": o.act, "identity": o.identity, "if_exists": o.if_exists,
            "action": trees.action(o.text) if o.act != "drop" else None}  # fmt: skip


def _object(kind: str, relation: QName | None, name: str) -> Fact:
    """An object's parts as `theirs_rest.object_` says them."""
    if kind == "OPERATOR":
        return {"object": kind, "on": None, "name": _symbol(name), "arguments": None}
    if kind in ("FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"):
        assert relation is not None
        return {"object": kind, "on": pair(relation), "name": relation.name,
                "arguments": trees.named(kind, name)}  # fmt: skip
    if relation is not None and kind not in ("TRIGGER", "POLICY", "RULE", "CONSTRAINT"):
        return {"object": kind, "on": pair(relation), "name": relation.name, "arguments": None}
    return {"object": kind, "on": pair(relation), "name": name, "arguments": None}


def _symbol(name: str) -> str:
    """An operator without its schema; Postgres stores `!=` as `<>`."""
    symbol = name.rpartition(".")[2]
    return "<>" if symbol == "!=" else symbol


def _domain(o: Any) -> Fact:
    made = o.definition
    return {
        "act": o.act, "constraint": o.constraint, "default": expression(o.default),
        "expression": expression(made.expression) if made is not None else None,
        "valid": made.valid if made is not None else None,
        "if_exists": o.if_exists, "cascade": o.cascade,
    }  # fmt: skip


def _made(o: Any) -> Fact:
    name = pair(o.relation) if o.relation is not None else (None, o.name)
    return {"relation": name, "object": o.object, "base": o.base, "not_null": o.not_null,
            "default": expression(o.default), "checks": tuple((n, expression(c)) for n, c in o.checks),
            "if_not_exists": o.if_not_exists}  # fmt: skip


def _trigger(o: Any) -> Fact:
    t = o.trigger
    return {"name": t.name, "timing": t.timing, "events": tuple(sorted(t.events)),
            "columns": t.columns, "row": t.row, "function": pair(t.function),
            "constraint": t.constraint, "or_replace": o.or_replace}  # fmt: skip


def _policy(o: Any) -> Fact:
    p = o.policy
    return {"name": p.name, "alter": o.alter, "permissive": p.permissive, "command": p.command,
            "roles": p.roles, "using": expression(p.using),
            "with_check": expression(p.with_check)}  # fmt: skip


def _data(o: Any) -> Fact:
    found = parse_query(o.text)
    if found is None:
        return {"verb": "unparsed"}
    out: Fact = {
        "verb": o.verb,
        "written": frozenset((pair(name), verb) for name, verb in found.written),
        "read": frozenset(pair(n) for n in found.reads),
        "where": None,
        "assignments": None,
    }
    if not o.text.upper().lstrip().startswith("WITH"):
        out["where"] = expression(o.where)
        if o.verb == "update":
            out["assignments"] = tuple((Cursor(c).name(), expression(e)) for c, e in o.assignments)
    return out


def _with(*names: str) -> Callable[[Any], Fact]:
    def label(o: Any) -> Fact:
        out: Fact = {}
        for name in names:
            value = getattr(o, name)
            if isinstance(value, QName):
                value = pair(value)
            out[name] = value
        return out

    return label


_FIELDS: dict[str, Callable[[Any], Fact]] = {
    "create_table": _create_table,
    "create_index": _create_index,
    "create_view": _create_view,
    "add_column": lambda o: {
        "if_not_exists": o.if_not_exists, "column": column(o.definition), "only": o.only,
    },
    "drop_column": _with("column", "if_exists", "cascade", "only"),
    "set_default": lambda o: {
        "column": o.column, "default": expression(o.default), "only": o.only,
    },
    "set_not_null": _with("column", "only"),
    "drop_not_null": _with("column", "only"),
    "alter_column_type": _retype,
    "alter_expression": lambda o: {
        "column": o.column, "expression": expression(o.expression), "if_exists": o.if_exists,
        "only": o.only,
    },
    "alter_identity": _identity,
    "add_constraint": lambda o: {"constraint": constraint(o.constraint), "only": o.only},
    "alter_constraint": _with("constraint", "deferrable", "initially_deferred", "enforced",
                              "inherit", "only"),
    "validate_constraint": _with("constraint", "only"),
    "drop_constraint": _with("constraint", "if_exists", "cascade", "only"),
    "attach_partition": lambda o: {"partition": pair(o.partition), "bound": trees.bound(o.bound)},
    "attach_index": lambda o: {"is": "attach_partition", "partition": pair(o.index), "bound": None},
    "detach_partition": _with("partition", "how"),
    "inherit": _with("parent", "joins"),
    "set_of": _with("type"),
    "move_table": _with("what", "to"),
    "switch_table": lambda o: {"action": trees.action(o.text), "only": o.only},
    "alter_attribute": _attribute,
    "drop_table": _with("if_exists", "cascade"),
    "drop_index": _with("if_exists", "cascade", "concurrently"),
    "drop_object": lambda o: {
        **_object(o.object, o.relation, o.name), "if_exists": o.if_exists, "cascade": o.cascade,
    },
    "rename_column": _with("column", "to", "only"),
    "rename_table": _with("to"),
    "rename_object": lambda o: {
        "object": "ROLE" if o.object in ("USER", "GROUP") else o.object, "on": pair(o.relation),
        "name": o.name, "to": o.to,
    },
    "add_enum_value": _with("label", "side", "neighbour", "if_not_exists"),
    "alter_domain": _domain,
    "create_object": _made,
    "alter_sequence": lambda o: {
        "owned": (*o.owned_by, o.owned_column) if o.owned_by is not None else None
    },
    "create_type": lambda o: {
        "form": o.form, "labels": o.labels, "subtype": o.subtype,
        "attributes": tuple((n, trees.type_(t)) for n, t in o.attributes),
    },
    "define_object": lambda o: {
        "object": o.object, "name": _symbol(o.name) if o.object == "OPERATOR" else o.name.rpartition(".")[2],
    },
    "create_function": lambda o: {
        "arguments": trees.arguments(o.arguments), "language": o.language, "body": o.body,
        "volatility": o.volatility, "procedure": o.procedure, "or_replace": o.or_replace,
    },
    "create_trigger": _trigger,
    "create_policy": _policy,
    "create_rule": _with("rule", "event", "instead", "or_replace"),
    "create_statistics": _with("statistics", "expressions", "if_not_exists"),
    "publish": lambda o: {
        "publication": o.publication, "act": o.act, "tables": tuple(pair(t) for t in o.tables),
        "schemas": o.schemas, "all_tables": o.all_tables,
    },
    "transaction": _with("verb", "chain", "name"),
    "set_parameter": _with("parameter", "local", "value"),
    "truncate": _with("cascade", "only"),
    "lock_table": _with("mode", "only"),
    "maintain": _with("verb", "concurrently", "full"),
    "grant": lambda o: {"give": o.give, "relations": tuple(pair(r) for r in o.relations)},
    "copy": lambda o: {
        "into": o.into, "columns": o.columns,
        "query": trees.query(o.query) if o.query is not None else None,
    },
    "comment": _with("object", "column", "text"),
    "set_schema": _with("to"),
    "alter_object": lambda o: {
        "object": o.object, "on": pair(o.relation), "change": o.change, "to": o.to,
        "name": _symbol(o.name) if o.object == "OPERATOR" else o.name,
    },
    "explain": lambda o: {"inner": tuple(facts(o.inner))},
    "do_block": _with("language", "body"),
    "call": _with("calls"),
    "data_statement": _data,
}  # fmt: skip


def facts(operations: Iterable[Operation]) -> list[Fact]:
    """The labels of a statement's operations; what a block or body holds is left out."""
    out: list[Fact] = []
    for operation in operations:
        if isinstance(operation, NotUnderstood):
            out.append({"is": "not_understood"})
            continue
        label = _FIELDS.get(operation.kind)
        fields = label(operation) if label is not None else {}
        out.append({"is": operation.kind, "relation": pair(operation.relation),
                    "absent_ok": operation.absent_ok, **fields})  # fmt: skip
        if operation.kind == "do_block":
            break
    return out
