"""Objects under another name: what the schema holds of them, and of whatever names them."""

from __future__ import annotations

from dataclasses import replace

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.types import parse_type, type_name
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Schema


def move_relation(schema: Schema, name: QName, new: QName) -> None:
    """Give a relation another name, in another schema perhaps, wherever it is named.

    The indexes and owned sequences of a table go into its schema with it.
    """
    view = schema.views.pop(name, None)
    if view is not None:
        schema.views[new] = replace(view, name=new)
        return
    if (index := schema.drop_index(name)) is not None:
        schema.put_index(replace(index, name=new))
        return
    if (sequence := schema.drop_sequence(name)) is not None:
        schema.put_sequence(replace(sequence, name=new))
        return
    table = schema.tables.get(name)
    if table is None:
        return
    indexes = schema.indexes_of(name)
    children = schema.children_of(name)
    references = list(schema.foreign_keys_to(name))
    owned = schema.sequences_of(name)
    schema.drop_table(name)
    schema.put_table(replace(table, name=new))
    for index in indexes:
        moved = QName(new.schema, index.name.name)
        schema.put_index(replace(index, name=moved, table=new))
    for child in children:
        schema.put_table(
            replace(
                child,
                parent=new if child.parent == name else child.parent,
                inherits=tuple(new if p == name else p for p in child.inherits),
            )
        )
    for other, fk in references:
        current = schema.tables[new if other.name == name else other.name]
        schema.put_table(current.with_constraint(replace(fk, ref_table=new)))
    for sequence in owned:
        assert sequence.owned_by is not None
        moved = QName(new.schema, sequence.name.name)
        schema.put_sequence(replace(sequence, name=moved, owned_by=(new, sequence.owned_by[1])))
    for dependent in list(schema.views.values()):
        if name in dependent.depends_on:
            schema.views[dependent.name] = replace(
                dependent,
                depends_on=frozenset(new if r == name else r for r in dependent.depends_on),
                depends_on_columns=frozenset(
                    (new if r == name else r, c) for r, c in dependent.depends_on_columns
                ),
            )


def move_type(schema: Schema, name: QName, new: QName) -> None:
    """Give a type another name, also where columns, attributes and domains are of it."""
    known = schema.types.get(name)
    if known is None:
        return
    spelt = quote_ident(new.name) if new.schema in schema.search_path else quote_qname(new)

    def moved(text: str) -> str:
        parsed = parse_type(text)
        if parsed.builtin or schema.resolve_type(type_name(text)) != name:
            return text
        return str(replace(parsed, base=spelt))

    def of(columns: tuple[Column, ...]) -> tuple[Column, ...]:
        types = [moved(column.type) for column in columns]
        return tuple(
            c if type_ == c.type else replace(c, type=type_)
            for c, type_ in zip(columns, types, strict=True)
        )

    for table in list(schema.tables.values()):
        columns = of(table.columns)
        of_type = new if table.of_type == name else table.of_type
        if columns != table.columns or of_type != table.of_type:
            schema.put_table(replace(table, columns=columns, of_type=of_type))
    for other in list(schema.types.values()):
        attributes = of(other.attributes)
        base = moved(other.base) if other.base is not None else None
        if attributes != other.attributes or base != other.base:
            schema.types[other.name] = replace(other, attributes=attributes, base=base)
    del schema.types[name]
    schema.types[new] = replace(known, name=new)
