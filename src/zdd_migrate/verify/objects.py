"""What a made-up code version asks of objects that are no tables: views, functions, sequences, types.

Statements without parameters, each complete in itself. An object is asked for where the two schemas
differ in it, and a view also where it reads a table that they differ in. A sequence that a column
owns is reached through its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Function, Schema, UserType

#: types whose values nobody can name in a call
_NOT_PASSED = ("trigger", "event_trigger", "internal", "any")


def asked_of(schema: Schema, other: Schema, changed: Iterable[QName]) -> tuple[str, ...]:
    """Statements of code for `schema` about what `other`, the other version's, has otherwise.

    `changed` are the tables that differ between the two.
    """
    return (
        *_of_views(schema, other, frozenset(changed)),
        *_of_functions(schema, other),
        *(
            f"SELECT nextval({quote_literal(quote_qname(name))}::regclass)"
            for name, sequence in schema.sequences.items()
            if other.sequences.get(name) != sequence and sequence.owned_by is None
        ),
        *(
            statement
            for name, type_ in schema.types.items()
            if other.types.get(name) != type_
            for statement in _of_type(type_)
        ),
    )


def _of_views(schema: Schema, other: Schema, changed: frozenset[QName]) -> Iterator[str]:
    for name, view in schema.views.items():
        if other.views.get(name) == view and changed.isdisjoint(view.depends_on):
            continue
        yield f"SELECT * FROM {quote_qname(name)} LIMIT 5"
        if view.columns:
            named = ", ".join(map(quote_ident, view.columns))
            yield f"SELECT {named} FROM {quote_qname(name)} LIMIT 5"


def _of_functions(schema: Schema, other: Schema) -> Iterator[str]:
    for name, overloads in schema.functions.items():
        there = {f.argument_types: f for f in other.functions.get(name, ())}
        for function in overloads:
            if there.get(function.argument_types) != function and _can_be_called(function):
                yield _call(function)


def _can_be_called(function: Function) -> bool:
    types = (*function.argument_types, function.returns or "")
    return not any(t.lower().startswith(_NOT_PASSED) for t in types)


def _call(function: Function) -> str:
    """A call with NULLs; only planned where it could write, only looked up where it is no function."""
    name = quote_qname(function.name)
    if function.kind != "function":
        signature = f"{name}({', '.join(function.argument_types)})"
        return f"SELECT {quote_literal(signature)}::regprocedure"
    call = f"SELECT {name}({', '.join(f'NULL::{t}' for t in function.argument_types)})"
    return f"EXPLAIN {call}" if function.volatility == "volatile" else call


def _of_type(type_: UserType) -> Iterator[str]:
    name = quote_qname(type_.name)
    if type_.kind == "enum":
        yield from (f"SELECT {quote_literal(label)}::{name}" for label in type_.labels)
    else:
        yield f"SELECT NULL::{name}"
    yield from (
        f"SELECT (NULL::{name}).{quote_ident(attribute.name)}" for attribute in type_.attributes
    )
