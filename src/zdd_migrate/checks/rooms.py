"""What an operation is, told by its kind: a room is not imported for being asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from zdd_migrate.operations.base import Operation

if TYPE_CHECKING:
    from zdd_migrate.operations.add_column import AddColumn
    from zdd_migrate.operations.add_constraint import AddConstraint
    from zdd_migrate.operations.add_enum_value import AddEnumValue
    from zdd_migrate.operations.alter_column_type import AlterColumnType
    from zdd_migrate.operations.create_index import CreateIndex
    from zdd_migrate.operations.create_table import CreateTable
    from zdd_migrate.operations.drop_constraint import DropConstraint


def is_add_column(operation: Operation) -> TypeGuard[AddColumn]:
    """ADD COLUMN."""
    return operation.kind == "add_column"


def is_add_constraint(operation: Operation) -> TypeGuard[AddConstraint]:
    """ADD CONSTRAINT."""
    return operation.kind == "add_constraint"


def is_add_enum_value(operation: Operation) -> TypeGuard[AddEnumValue]:
    """ALTER TYPE … ADD VALUE."""
    return operation.kind == "add_enum_value"


def is_alter_column_type(operation: Operation) -> TypeGuard[AlterColumnType]:
    """ALTER COLUMN … TYPE."""
    return operation.kind == "alter_column_type"


def is_create_index(operation: Operation) -> TypeGuard[CreateIndex]:
    """CREATE INDEX."""
    return operation.kind == "create_index"


def is_create_table(operation: Operation) -> TypeGuard[CreateTable]:
    """CREATE TABLE."""
    return operation.kind == "create_table"


def is_drop_constraint(operation: Operation) -> TypeGuard[DropConstraint]:
    """DROP CONSTRAINT."""
    return operation.kind == "drop_constraint"
