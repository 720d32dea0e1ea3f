"""Errors that many operations share: what Postgres refuses before it asks for any lock's sake.

A room knows the errors of its own operation. Here stand those that depend on what kind of thing the
statement names, on inheritance, and on what the same transaction did before.
"""

from __future__ import annotations

import re

from zdd_migrate.model.effects import PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.base import Operation, Situation

#: operations of ALTER TABLE that only tables (and foreign tables) have, by kind: what they do
_ON_TABLES = {
    "add_column": "ADD COLUMN",
    "drop_column": "DROP COLUMN",
    "alter_column_type": "ALTER COLUMN ... TYPE",
    "set_not_null": "ALTER COLUMN ... SET NOT NULL",
    "drop_not_null": "ALTER COLUMN ... DROP NOT NULL",
    "add_constraint": "ADD CONSTRAINT",
    "validate_constraint": "VALIDATE CONSTRAINT",
    "attach_partition": "ATTACH PARTITION",
    "detach_partition": "DETACH PARTITION",
}


_OF_RELATIONS = (*_ON_TABLES, "set_default", "switch_table", "set_of", "truncate", "move_table")


def refusal(operation: Operation, at: Situation) -> PgError | None:
    """The error Postgres gives whatever the operation's own room says; None when there is none."""
    if operation.relation is None:
        return _uses_new_label(operation, at)
    relation = at.schema.resolve(operation.relation)
    return (
        _absent(operation, relation, at.schema)
        or _wrong_kind(operation, relation, at)
        or _only_parent(operation, relation, at.schema)
        or _inherited(operation, relation, at)
        or _uses_new_label(operation, at)
        or _pending(operation, relation, at)
    )


def _absent(operation: Operation, relation: QName, schema: Schema) -> PgError | None:
    """A relation that is not there, in a schema that is known whole."""
    if operation.kind not in _OF_RELATIONS or operation.absent_ok or not schema.complete:
        return None
    if any(
        relation in those
        for those in (schema.tables, schema.views, schema.sequences, schema.indexes)
    ):
        return None
    return PgError("42P01", f'relation "{relation.name}" does not exist')


def _wrong_kind(operation: Operation, relation: QName, at: Situation) -> PgError | None:
    schema = at.schema
    view = schema.views.get(relation)
    kind = operation.kind
    if kind in _ON_TABLES and (view is not None or relation in schema.sequences):
        what = _ON_TABLES[kind]
        message = f'ALTER action {what} cannot be performed on relation "{relation.name}"'
        return PgError("42809", message)
    if kind in ("drop_table", "truncate") and view is not None:
        return PgError("42809", f'"{relation.name}" is not a table')
    if kind == "lock_table" and relation in schema.sequences:
        return PgError("42809", f'cannot lock relation "{relation.name}"')
    if kind == "drop_object" and view is not None:
        word = getattr(operation, "object", "")
        if word == "VIEW" and view.materialized:
            return PgError("42809", f'"{relation.name}" is not a view')
        if word == "MATERIALIZED VIEW" and not view.materialized:
            return PgError("42809", f'"{relation.name}" is not a materialized view')
    if kind == "move_table" and relation in schema.sequences and at.pg < 15:
        return PgError("42809", f'"{relation.name}" is not a table')
    return None


def _only_parent(operation: Operation, relation: QName, schema: Schema) -> PgError | None:
    """ONLY a parent: its children would not have what it promises."""
    if not getattr(operation, "only", False):
        return None
    if operation.kind == "rename_column" and schema.children_of(relation):
        column = getattr(operation, "column", "")
        message = f'inherited column "{column}" must be renamed in child tables too'
        return PgError("42P16", message)
    table = schema.tables.get(relation)
    if table is None or table.kind != "partitioned":
        if operation.kind in ("add_column", "alter_column_type") and schema.children_of(relation):
            return PgError("42P16", "column must be changed in child tables too")
        return None
    if not schema.partitions_of(relation):
        return None
    if operation.kind == "add_column":
        return PgError("42P16", "column must be added to child tables too")
    if operation.kind == "set_not_null":
        column = table.column(getattr(operation, "column", ""))
        if column is None or not column.not_null:
            return PgError("42P16", "constraint must be added to child tables too")
    if operation.kind in ("drop_column", "alter_column_type"):
        return PgError("42P16", "cannot change the column of only the partitioned table")
    return None


def _inherited(operation: Operation, relation: QName, at: Situation) -> PgError | None:
    """A partition's or child's columns and constraints come from its parent."""
    table = at.schema.tables.get(relation)
    if table is None:
        return None
    if operation.kind == "add_column" and table.parent is not None:
        return PgError("42809", "cannot add column to a partition")
    column = getattr(operation, "column", None)
    if operation.kind in ("drop_column", "alter_column_type", "rename_column") and column:
        verb = {"drop_column": "drop", "rename_column": "rename"}.get(operation.kind, "alter")
        if _from_above(at.schema, table, column):
            return PgError("42P16", f'cannot {verb} inherited column "{column}"')
        if operation.kind != "rename_column" and _partitioned_by(at.schema, table, column):
            return PgError(
                "42P16",
                f'cannot {verb} column "{column}" because it is part of the partition key of '
                f'relation "{relation.name}"',
            )
    return None


def _pending(operation: Operation, relation: QName, at: Situation) -> PgError | None:
    """A table with rows whose deferred checks wait for the commit cannot be altered before it."""
    table = at.schema.tables.get(relation)
    if table is None or operation.kind not in _ALTERING:
        return None
    if at.held.get(relation) is not LockMode.ROW_EXCLUSIVE:
        return None
    deferred = [c for c in table.constraints if c.initially_deferred]
    deferred += [c for _, c in at.schema.foreign_keys_to(relation) if c.initially_deferred]
    if not deferred:
        return None
    message = f'cannot ALTER TABLE "{relation.name}" because it has pending trigger events'
    return PgError("55006", message, rows_decide=True)


_ALTERING = (*_ON_TABLES, "set_default", "rename_column", "drop_constraint", "switch_table")


def _from_above(schema: Schema, table: Table, column: str) -> bool:
    parents = (*((table.parent,) if table.parent is not None else ()), *table.inherits)
    return any(
        (above := schema.tables.get(parent)) is not None and above.column(column) is not None
        for parent in parents
    )


def _partitioned_by(schema: Schema, table: Table, column: str) -> bool:
    key = table.partition_key
    if table.kind != "partitioned" or key is None:
        return False
    return re.search(rf'(?<![\w$])"?{re.escape(column)}"?(?![\w$])', key) is not None


def _uses_new_label(operation: Operation, at: Situation) -> PgError | None:
    """An enum label cannot be used before the transaction that added it commits."""
    if not at.enum_values_added or operation.kind in ("add_enum_value", "create_function"):
        return None
    texts = [
        value
        for name in ("text", "default", "query", "where", "using", "body")
        if isinstance(value := getattr(operation, name, None), str)
    ]
    definition = getattr(operation, "definition", None)
    texts += [t for t in (getattr(definition, "text", None),) if isinstance(t, str)]
    constraint = getattr(operation, "constraint", None)
    texts += [t for t in (getattr(constraint, "text", None),) if isinstance(t, str)]
    for type_, label in at.enum_values_added:
        if at.schema.resolve_type(type_) in at.created_types:
            continue
        literal = "'" + label.replace("'", "''") + "'"
        if any(literal in text for text in texts):
            return PgError("55P04", f'unsafe use of new value "{label}" of enum type {type_.name}')
    return None
