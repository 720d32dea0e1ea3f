"""CREATE TYPE: enum, composite, range, base and shell types. Nobody uses them yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Schema, UserType
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateType(Operation):
    """Make a type. `relation` is the type's name; `labels` an enum's, in order."""

    kind: ClassVar[str] = "create_type"
    form: Literal["enum", "composite", "range", "base", "shell"]
    labels: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    subtype: str | None = None

    def target(self, schema: Schema) -> QName:
        """The type's resolved name."""
        assert self.relation is not None
        return QName(self.relation.schema or schema.default_schema, self.relation.name)

    def effects(self, at: Situation) -> Effects:
        """None on any relation."""
        if self.target(at.schema) in at.schema.types:
            name = self.target(at.schema).name
            return Effects(error=PgError("42710", f'type "{name}" already exists'))
        return Effects()

    def apply(self, schema: Schema) -> None:
        """Add it."""
        name = self.target(schema)
        schema.types[name] = UserType(
            name=name,
            kind=self.form,
            labels=self.labels,
            base=self.subtype,
            attributes=tuple(Column(n, normalise_type(t)) for n, t in self.attributes),
        )

    def plan(self, draft: Draft) -> None:
        """As it is, in expand."""
        name = self.target(draft.schema)
        draft.as_written(
            Phase.EXPAND,
            undo=f"DROP TYPE IF EXISTS {quote_qname(name)}",
            why=f"create the type {name}, which no code uses yet",
        )


def _read(cursor: Cursor) -> CreateType:
    cursor.expect("CREATE", "TYPE")
    name = cursor.qname()
    if cursor.done or cursor.at(";"):
        return CreateType(relation=name, form="shell")
    if not cursor.accept("AS"):
        cursor.skip_group()
        return CreateType(relation=name, form="base")
    if cursor.accept("ENUM"):
        cursor.expect("(")
        labels = () if cursor.at(")") else cursor.list_of(cursor.string)
        cursor.expect(")")
        return CreateType(relation=name, form="enum", labels=labels)
    if cursor.accept("RANGE"):
        options = cursor.group_text()
        subtype = None
        for part in options.split(","):
            key, _, value = part.partition("=")
            if key.strip().lower() == "subtype":
                subtype = normalise_type(value.strip())
        return CreateType(relation=name, form="range", subtype=subtype)
    cursor.expect("(")
    attributes = () if cursor.at(")") else cursor.list_of(lambda: _attribute(cursor))
    cursor.expect(")")
    return CreateType(relation=name, form="composite", attributes=attributes)


def _attribute(cursor: Cursor) -> tuple[str, str]:
    name, type_ = cursor.name(), cursor.type_text()
    if cursor.accept("COLLATE"):
        cursor.qname()
    return name, type_


READS = {"CREATE TYPE": _read}
