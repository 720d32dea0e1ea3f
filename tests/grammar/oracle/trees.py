"""Parts of libpg_query's trees as plain values that can be compared."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import postgast

Value = Any
_PLACES = frozenset(
    ["location", "stmt_location", "stmt_len", "name_location", "list_start", "list_end",
     "rexpr_list_start", "rexpr_list_end", "elements_start", "elements_end", "jumble_args"]
)  # fmt: skip


class UnparsedError(Exception):
    """libpg_query does not accept the text."""


def statement(sql: str) -> Any:
    """The one statement's node, unwrapped."""
    return unwrap(raw(sql))


def raw(sql: str) -> Any:
    """The one statement's Node message."""
    try:
        tree = postgast.parse(sql)
    except (postgast.PgQueryError, UnicodeDecodeError) as error:
        raise UnparsedError(str(error)) from None
    if len(tree.stmts) != 1:
        raise UnparsedError(f"{len(tree.stmts)} statements")
    return tree.stmts[0].stmt


def unwrap(node: Any) -> Any:
    """The message in a Node; None in an empty one."""
    which = node.WhichOneof("node")
    return getattr(node, which) if which else None


def given(message: Any, name: str) -> Any:
    """A sub-message, unwrapped where it is a Node, or None where it is not set."""
    if not message.HasField(name):
        return None
    part = getattr(message, name)
    return unwrap(part) if part.DESCRIPTOR.name == "Node" else part


def canon(message: Any) -> Value:
    """A message without its places in the text, as nested tuples."""
    if message is None:
        return None
    if message.DESCRIPTOR.name == "Node":
        return canon(unwrap(message))
    out: list[Value] = [message.DESCRIPTOR.name]
    for field, value in message.ListFields():
        if field.name in _PLACES:
            continue
        if field.is_repeated:
            out.append((field.name, tuple(canon(v) if field.message_type else v for v in value)))
        else:
            out.append((field.name, canon(value) if field.message_type else value))
    return tuple(out)


def walk(message: Any) -> list[Any]:
    """The message and all messages in it."""
    out, todo = [], [message]
    while todo:
        one = todo.pop()
        out.append(one)
        for field, value in one.ListFields():
            if field.message_type is not None:
                todo.extend(value if field.is_repeated else (value,))
    return out


def strings(nodes: Any) -> tuple[str, ...]:
    """The values of a list of String nodes."""
    return tuple(n.string.sval for n in nodes)


def path(nodes: Any) -> tuple[str | None, str]:
    """A dotted name as (schema, name)."""
    parts = strings(nodes)
    return (parts[-2] if len(parts) > 1 else None, parts[-1])


def relation(var: Any) -> tuple[str | None, str]:
    """A RangeVar as (schema, name)."""
    return (var.schemaname or None, var.relname)


# -- text of ours, parsed ----------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _within(sql: str) -> Any:
    try:
        return statement(sql)
    except UnparsedError:
        return None


def expression(text: str | None) -> Value:
    """An expression's text, parsed."""
    if text is None:
        return None
    select = _within(f"SELECT ({text}\n)")
    if select is None or len(select.target_list) != 1:
        return ("unparsed", text)
    return canon(unwrap(select.target_list[0].res_target.val))


def type_(text: str) -> Value:
    """A type's text, parsed."""
    function = _within(f"CREATE FUNCTION f() RETURNS {text} LANGUAGE sql")
    return ("unparsed", text) if function is None else canon(function.return_type)


def query(text: str) -> Value:
    """A query's text, parsed."""
    try:
        return canon(statement(text))
    except UnparsedError:
        return ("unparsed", text)


def action(text: str) -> Value:
    """An action of ALTER TABLE, parsed."""
    if text.upper().startswith(("DEPENDS", "NO")) and "EXTENSION" in text.upper():
        return query(f"ALTER INDEX i {text}")
    found = _within(f"ALTER TABLE t {text}")
    return ("unparsed", text) if found is None else canon(found.cmds[0])


def bound(text: str | None) -> Value:
    """A partition's bound, parsed."""
    if text is None:
        return None
    found = _within(f"CREATE TABLE t PARTITION OF p {text}")
    return ("unparsed", text) if found is None else canon(found.partbound)


def partition_key(strategy: str | None, text: str | None) -> Value:
    """PARTITION BY, parsed."""
    if strategy is None:
        return None
    found = _within(f"CREATE TABLE t () PARTITION BY {strategy} ({text})")
    return ("unparsed", text) if found is None else canon(found.partspec)


def exclusions(method: str | None, text: str | None) -> Value:
    """What stands in EXCLUDE (…), parsed."""
    found = _within(f"CREATE TABLE t (EXCLUDE USING {method} ({text}))")
    if found is None:
        return ("unparsed", text)
    return tuple(canon(n) for n in found.table_elts[0].constraint.exclusions)


def sequence_options(text: str) -> Value:
    """Options of an identity, parsed."""
    if not text.strip():
        return ()
    found = _within(f"CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY ({text}))")
    if found is None:
        return ("unparsed", text)
    return tuple(canon(n) for n in found.table_elts[0].column_def.constraints[0].constraint.options)


def arguments(text: str) -> Value:
    """A function's parameters, parsed."""
    found = _within(f"CREATE FUNCTION f({text}\n) RETURNS int LANGUAGE sql")
    if found is None:
        found = _within(f"CREATE FUNCTION f({text}\n) LANGUAGE sql")
    return ("unparsed", text) if found is None else tuple(canon(p) for p in found.parameters)


def collation(text: str | None) -> Value:
    """A collation's text as (schema, name)."""
    if text is None:
        return None
    select = _within(f"SELECT a COLLATE {text}")
    if select is None:
        return ("unparsed", text)
    return path(unwrap(select.target_list[0].res_target.val).collname)


def named(kind: str, text: str) -> Value:
    """An object's name as COMMENT spells it, parsed."""
    found = _within(f"COMMENT ON {kind} {text} IS NULL")
    return ("unparsed", text) if found is None else canon(given(found, "object"))
