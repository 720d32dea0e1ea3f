"""Functions that make partitions of the table whose name they are given.

Their SQL is put together while they run, so that nobody can read it as such. But where each text is
a template that is written out, and all the templates ever do is make a table, set its storage and
attach it, a call can touch nothing but the table that is named and what is made there and then.
"""

from __future__ import annotations

import re

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import STRING, WORD, tokenise
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Function, Schema
from zdd_migrate.operations.base import NotUnderstood, Operation
from zdd_migrate.operations.bodies import hidden_operations, is_harmless
from zdd_migrate.operations.create_function import argument_names
from zdd_migrate.operations.data_statement import DataStatement

_BOUND = r"(?:FOR VALUES [^;]*|DEFAULT)"
_INCLUDING = r"(?: (?:INCLUDING|EXCLUDING) \w+)*"
#: what a template may say, and which of its places are the new table (n) and its parent (p)
_TEMPLATES = {
    "make": (
        (re.compile(rf"CREATE TABLE %[sI] \( ?LIKE %[sI]{_INCLUDING} ?\)", re.IGNORECASE), "np"),
        (re.compile(rf"CREATE TABLE %[sI] PARTITION OF %[sI] {_BOUND}", re.IGNORECASE), "np"),
    ),
    "use": (
        (re.compile(r"ALTER TABLE %[sI] SET \([^;()]*\)", re.IGNORECASE), "n"),
        (re.compile(rf"ALTER TABLE %[sI] ATTACH PARTITION %[sI] {_BOUND}", re.IGNORECASE), "pn"),
    ),
}
_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?")


def parent_of_partitions(text: str, schema: Schema) -> QName | None:
    """The table that `SELECT f('table', …)` makes partitions of; None where it may do anything else."""
    try:
        name, arguments, calls = _call(text)
    except UnreadError:
        return None
    made = [f for q, found in schema.functions.items() if q.name == name.name for f in found]
    places = {_parent_argument(function) for function in made}
    if len(places) != 1 or None in places or not all(map(is_harmless, calls)):
        return None
    place = places.pop()
    assert place is not None
    literal = arguments[place] if place < len(arguments) else None
    if literal is None or _NAME.fullmatch(literal) is None:
        return None
    table = QName(*literal.split(".")) if "." in literal else QName(None, literal)
    return schema.resolve(table)


def _call(text: str) -> tuple[QName, list[str | None], set[str]]:
    """The function, its arguments that are written out (None for others), and what those call."""
    cursor = Cursor(text)
    cursor.expect("SELECT")
    name = cursor.qname()
    cursor.expect("(")
    arguments: list[str | None] = []
    calls: set[str] = set()
    while not cursor.accept(")"):
        token = cursor.token()
        argument = cursor.until()
        read = analyse(argument)
        if not read.understood or read.has_subquery:
            raise cursor.unread("a plain argument was expected")
        calls |= read.functions
        literal = token is not None and token.kind == STRING
        cast = re.sub(r"\s*::\s*(text|varchar|regclass)\s*$", "", argument, flags=re.IGNORECASE)
        whole = literal and token is not None and cast == token.text
        arguments.append(string_value(cast) if whole else None)
        cursor.accept(",")
    cursor.expect_done()
    return name, arguments, calls


def _parent_argument(function: Function) -> int | None:
    """Which argument names the table that a function makes partitions of, if it does only that."""
    names = argument_names(function.arguments)
    if function.language != "plpgsql":
        return None
    templates: list[tuple[int, int, str, list[str]]] = []
    read = hidden_operations(function.language, function.body, _read, f"{function.name}()")
    for operation in read:
        at = operation.hidden
        if not isinstance(operation, NotUnderstood):
            if (
                not isinstance(operation, DataStatement)
                or operation.doing.verb != "select"
                or not all(map(is_harmless, operation.calls))
            ):
                return None
        elif at is None or at.offset is None or (put := _template(at.sql)) is None:
            return None
        else:
            templates.append((at.offset, at.offset + len(at.sql), *put))
    parents = {name for name in names if _only_partitions(function.body, templates, name)}
    return names.index(parents.pop()) if len(parents) == 1 else None


def _read(text: str) -> tuple[Operation, ...]:
    from zdd_migrate.operations import read_statement  # the dispatch table holds the rooms

    return read_statement(text)


def _template(sql: str) -> tuple[str, list[str]] | None:
    """`EXECUTE format('template', name, …)` as its template and names; None for any other text."""
    tokens = tokenise(sql)
    if [t.up for t in tokens[:3]] != ["EXECUTE", "FORMAT", "("] or tokens[-1].up != ")":
        return None
    first, rest = tokens[3], tokens[4:-1]
    if first.kind != STRING or len(rest) % 2:
        return None
    if any(t.up != "," if n % 2 == 0 else t.kind != WORD for n, t in enumerate(rest)):
        return None
    return " ".join(string_value(first.text).split()), [t.name for t in rest[1::2]]


def _only_partitions(
    body: str, templates: list[tuple[int, int, str, list[str]]], parent: str
) -> bool:
    """Whether each text makes a table like `parent`, or follows on one that made the table it names.

    Only a table that the statement before has made is known to be new: nothing may stand between.
    """
    if not parent or _assigned(body, parent):
        return False
    new: str | None = None
    last = 0
    for start, end, template, names in templates:
        follows = new is not None and not tokenise(body[last:start].strip(" \t\r\n;") or "")
        if (made := _fits("make", template, names, parent)) is not None:
            new = made
        elif not follows or _fits("use", template, names, parent) != new:
            return False
        last = end
    return bool(templates)


def _fits(kind: str, template: str, names: list[str], parent: str) -> str | None:
    """The new table's variable, where a template of this kind is about it and the parent alone."""
    for pattern, places in _TEMPLATES[kind]:
        if pattern.fullmatch(template) is None or len(names) < len(places):
            continue
        named = dict(zip(places, names, strict=False))
        if named["n"] != parent and named.get("p", parent) == parent:
            return named["n"]
    return None


def _assigned(body: str, name: str) -> bool:
    """Whether a body may give a variable another value."""
    tokens = [t.up for t in tokenise(body)]
    up = name.upper()
    into = False
    for n, word in enumerate(tokens):
        if word == "INTO":
            into = True
        elif (
            into
            and word not in (",", up, "STRICT")
            and tokens[n - 1] not in (",", "INTO", "STRICT")
        ):
            into = False
        if word != up:
            continue
        before = tokens[n - 1] if n else ""
        after = tokens[n + 1] if n + 1 < len(tokens) else ""
        if (
            into
            or after == ":="
            or (after == "=" and before in (";", "THEN", "ELSE", "LOOP", "BEGIN"))
        ):
            return True
    return False
