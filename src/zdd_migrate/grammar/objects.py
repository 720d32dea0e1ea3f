"""The names of objects, as COMMENT, DROP, ALTER, SECURITY LABEL and ALTER EXTENSION spell them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.tokens import OP
from zdd_migrate.model.names import QName


@dataclass(frozen=True, slots=True)
class ObjectName:
    """One object. `kind` is its kind in upper case words: `TABLE`, `TEXT SEARCH PARSER`, `CAST`.

    `name` is its own name (without schema or arguments); `label` the source's text for people.
    `relation` is what to look it up by: the object itself where it lives in a schema, the table
    for what stands on one (trigger, policy, rule, constraint, column), else None. `arguments` are
    a function's, as written, None where none were given.
    """

    kind: str
    name: str
    label: str
    relation: QName | None = None
    arguments: str | None = None


#: kinds whose objects are relations
RELATIONS = ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "INDEX", "SEQUENCE")
#: kinds that live in a schema and are named by a path
_IN_SCHEMA = (
    "TYPE",
    "DOMAIN",
    "COLLATION",
    "CONVERSION",
    "STATISTICS",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH CONFIGURATION",
)
#: kinds that live beside schemas
_ALONE = (
    "ACCESS METHOD",
    "DATABASE",
    "EVENT TRIGGER",
    "EXTENSION",
    "FOREIGN DATA WRAPPER",
    "GROUP",
    "LANGUAGE",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION",
    "ROLE",
    "SCHEMA",
    "SERVER",
    "SUBSCRIPTION",
    "TABLESPACE",
    "USER",
)
CALLABLES = ("FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE")
ON_TABLE = ("TRIGGER", "POLICY", "RULE")


def read_object(cursor: Cursor) -> ObjectName:
    """Read an object's kind and name. Raises UnreadError for a kind that Postgres does not have."""
    kind = read_kind(cursor)
    return read_name(cursor, kind)


def read_kind(cursor: Cursor) -> str:
    """Read the words that say what kind of object follows."""
    for count in (3, 2, 1):
        words = " ".join(cursor.up(i) for i in range(count))
        if words in _NAMES:
            cursor.i += count
            return words
    raise cursor.unread("a kind of object was expected")


def read_name(cursor: Cursor, kind: str) -> ObjectName:
    """Read one object's name in the way of its kind."""
    start = cursor.i
    name, relation, arguments = _NAMES[kind](cursor)
    kind = "LANGUAGE" if kind == "PROCEDURAL LANGUAGE" else kind
    return ObjectName(kind, name, cursor.slice(start), relation, arguments)


_Named = tuple[str, QName | None, str | None]


def _path(cursor: Cursor) -> _Named:
    name = cursor.qname()
    return name.name, name, None


def _alone(cursor: Cursor) -> _Named:
    return cursor.name(), None, None


def _callable(cursor: Cursor) -> _Named:
    name = cursor.qname()
    return name.name, name, cursor.group_text() if cursor.at("(") else None


def _on_table(cursor: Cursor) -> _Named:
    name = cursor.name()
    cursor.expect("ON")
    return name, cursor.qname(), None


def _constraint(cursor: Cursor) -> _Named:
    name = cursor.name()
    cursor.expect("ON")
    if cursor.at("DOMAIN") and cursor.up(1) not in ("IS", "."):  # else a table of that name
        cursor.next()
        cursor.qname()
        return name, None, None
    return name, cursor.qname(), None


def _column(cursor: Cursor) -> _Named:
    parts = cursor.path()
    if len(parts) < 2:
        raise cursor.unread("table.column was expected")
    return parts[-1], QName(parts[-3] if len(parts) > 2 else None, parts[-2]), None


def _operator(cursor: Cursor) -> _Named:
    symbol = read_operator(cursor)
    return symbol, None, cursor.group_text()


def read_options(cursor: Cursor) -> dict[str, bool]:
    """Read `(name [value], …)`; whether each option is on."""
    cursor.expect("(")
    found: dict[str, bool] = {}
    while True:
        name = cursor.next().text.strip('"').upper()
        value = ""
        if not (cursor.at(",") or cursor.at(")")):
            cursor.accept("=")
            value = cursor.next().text.strip("'\"").lower()
        found[name] = value not in ("off", "false", "0", "no", "none")
        if not cursor.accept(","):
            cursor.expect(")")
            return found


def read_operator(cursor: Cursor) -> str:
    """Read an operator's name, with its schema if it has one: `pg_catalog.@@`."""
    start = cursor.i
    while (token := cursor.token(1)) is not None and token.up == ".":
        cursor.name()
        cursor.expect(".")
    if (token := cursor.token()) is None or token.kind != OP:
        raise cursor.unread("an operator was expected")
    while (token := cursor.token()) is not None and token.kind == OP and token.up not in "(),;":
        before = cursor.tokens[cursor.i - 1]
        if cursor.i > start and before.kind == OP and before.end != token.start:
            break
        cursor.next()
    return cursor.slice(start)


def _method_member(cursor: Cursor) -> _Named:
    """An operator class or family: `name USING btree`."""
    name = cursor.qname()
    cursor.expect("USING")
    cursor.name()
    return name.name, None, None


def _cast(cursor: Cursor) -> _Named:
    return cursor.group_text(), None, None


def _transform(cursor: Cursor) -> _Named:
    cursor.expect("FOR")
    type_ = cursor.type_text()
    cursor.expect("LANGUAGE")
    cursor.name()
    return type_, None, None


def _large_object(cursor: Cursor) -> _Named:
    return str(cursor.integer()), None, None


_NAMES: dict[str, Callable[[Cursor], _Named]] = {
    **dict.fromkeys((*RELATIONS, *_IN_SCHEMA), _path),
    **dict.fromkeys(_ALONE, _alone),
    **dict.fromkeys(CALLABLES, _callable),
    **dict.fromkeys(ON_TABLE, _on_table),
    "CAST": _cast,
    "COLUMN": _column,
    "CONSTRAINT": _constraint,
    "LARGE OBJECT": _large_object,
    "OPERATOR": _operator,
    "OPERATOR CLASS": _method_member,
    "OPERATOR FAMILY": _method_member,
    "TRANSFORM": _transform,
}
KINDS = tuple(sorted(_NAMES))
