"""A database's schema and sizes in a file that a repository can keep: no rows, no literals.

The file is JSON in a fixed order, one object of the schema to a line, sizes rounded to two digits:
two snapshots differ where the database does. Left out or blotted out is whatever may carry data:
literals in defaults, checks, predicates, bounds, policies and views, bodies of functions, comments,
statistics. What is left is enough to check a migration, and not enough to build the schema again.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from zdd_migrate.errors import InputError
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.tokens import NUMBER, STRING, tokenise
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import (
    Column,
    Constraint,
    Function,
    Index,
    Policy,
    Publication,
    Schema,
    Sequence,
    Table,
    Trigger,
    UserType,
    View,
)

KIND = "zdd-migrate snapshot"
#: a call that nothing is known of: no proof can be built on what it returns
_UNKNOWN = "literal()"
#: a value of no matter
_BLANK = "'?'"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A schema with sizes, and the major of the server it was read from."""

    schema: Schema
    pg: int


def load(path: Path) -> Snapshot:
    """The snapshot in a file. InputError names it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("kind") != KIND or found.get("version") != 1:
            raise InputError(f"{path}: not a snapshot that this version of zdd-migrate reads")
        return Snapshot(_schema(found), int(found["pg_version"]))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: the snapshot is damaged ({said}); take it again with zdd-migrate snapshot"
        ) from None


def write(snapshot: Snapshot) -> str:
    """The snapshot's text; equal schemas give equal texts."""
    schema = snapshot.schema
    head: dict[str, Any] = {
        "kind": KIND,
        "version": 1,
        "pg_version": snapshot.pg,
        "search_path": list(schema.session_path),
        "timezone": schema.session_settings.get("timezone", ""),
        "schemas": sorted(schema.schemas),
        "extensions": sorted(schema.extensions),
        "others": sorted([kind, *name] for kind, name in schema.others),
    }
    lines = [f' "{key}": {_json(value)},' for key, value in head.items()]
    for key, (cls, every, bare) in _PARTS.items():
        objects = sorted((bare(o) for o in every(schema)), key=_by_name)
        listed = ",\n".join(_object(_plain(o, cls), "  ") for o in objects)
        lines.append(f' "{key}": [\n{listed}\n ],' if listed else f' "{key}": [],')
    return "{\n" + "\n".join(lines).rstrip(",") + "\n}\n"


# -- what is kept ------------------------------------------------------------------------------


def blotted(sql: str | None, instead: str) -> str | None:
    """SQL with every literal replaced; names in `'…'::regclass` stay."""
    if sql is None:
        return None
    try:
        tokens = tokenise(sql)
    except UnreadError:
        return instead
    out, at = [], 0
    for i, token in enumerate(tokens):
        if token.kind not in (STRING, NUMBER):
            continue
        after = [t.up for t in tokens[i + 1 : i + 3]]
        if after == ["::", "REGCLASS"]:
            continue
        out += [sql[at : token.start], instead]
        at = token.end
    return "".join([*out, sql[at:]])


def _column(column: Column) -> Column:
    return replace(
        column,
        default=blotted(column.default, _BLANK),
        generation=blotted(column.generation, _BLANK),
        comment=None,
        statistics=None,
    )


def _constraint(constraint: Constraint) -> Constraint:
    return replace(
        constraint,
        definition=blotted(constraint.definition, _UNKNOWN) or "",
        expression=blotted(constraint.expression, _UNKNOWN),
        comment=None,
    )


def _trigger(trigger: Trigger) -> Trigger:
    return replace(trigger, definition="")


def _policy(policy: Policy) -> Policy:
    return replace(
        policy,
        using=blotted(policy.using, _UNKNOWN),
        with_check=blotted(policy.with_check, _UNKNOWN),
    )


def _table(table: Table) -> Table:
    return replace(
        table,
        columns=tuple(map(_column, table.columns)),
        constraints=tuple(sorted(map(_constraint, table.constraints), key=_by_name)),
        triggers=tuple(sorted(map(_trigger, table.triggers), key=_by_name)),
        policies=tuple(sorted(map(_policy, table.policies), key=_by_name)),
        bound=table.bound if table.bound == "DEFAULT" else blotted(table.bound, _UNKNOWN),
        partition_key=blotted(table.partition_key, _UNKNOWN),
        comment=None,
        rows=_two_digits(table.rows),
        bytes=_two_digits(table.bytes),
        writes_per_second=_rate(table.writes_per_second),
    )


def _index(index: Index) -> Index:
    return replace(
        index,
        keys=tuple(blotted(key, _UNKNOWN) or key for key in index.keys),
        predicate=blotted(index.predicate, _UNKNOWN),
        definition="",
        comment=None,
    )


def _view(view: View) -> View:
    return replace(
        view,
        query=blotted(view.query, _BLANK) or "",
        triggers=tuple(map(_trigger, view.triggers)),
        comment=None,
    )


def _sequence(sequence: Sequence) -> Sequence:
    return replace(sequence, options=())


def _type(type_: UserType) -> UserType:
    return replace(
        type_,
        default=blotted(type_.default, _BLANK),
        constraints=tuple(sorted(map(_constraint, type_.constraints), key=_by_name)),
        attributes=tuple(map(_column, type_.attributes)),
    )


def _function(function: Function) -> Function:
    arguments = blotted(function.arguments, _BLANK) or ""
    return replace(function, body="", definition="", arguments=arguments)


def _publication(publication: Publication) -> Publication:
    return replace(publication, tables=tuple(sorted(publication.tables)), definition="")


def _two_digits(value: int | None) -> int | None:
    """So that a table that grows by a row does not change the file."""
    return int(float(f"{value:.1e}")) if value is not None else None


def _rate(value: float | None) -> float | None:
    """The nearest of 0, 0.01, 0.03, 0.1, 0.3, 1, 3 …: rates waver more than sizes do."""
    if value is None or value < 0.005:
        return None if value is None else 0.0
    halves = round(math.log10(value) * 2)
    return float(f"{10 ** (halves / 2):.0e}")


def _by_name(each: Any) -> tuple[str, ...]:
    name = each.name
    own = (name.schema or "", name.name) if isinstance(name, QName) else ("", name)
    return (*own, getattr(each, "arguments", ""))


_Bare = Callable[[Any], Any]
_PARTS: Mapping[str, tuple[type, Callable[[Schema], Iterable[Any]], _Bare]] = {
    "tables": (Table, lambda s: s.tables.values(), _table),
    "indexes": (Index, lambda s: s.indexes.values(), _index),
    "views": (View, lambda s: s.views.values(), _view),
    "sequences": (Sequence, lambda s: s.sequences.values(), _sequence),
    "types": (UserType, lambda s: s.types.values(), _type),
    "functions": (
        Function,
        lambda s: (f for all_ in s.functions.values() for f in all_),
        _function,
    ),
    "publications": (Publication, lambda s: s.publications.values(), _publication),
}


# -- JSON --------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object(found: dict[str, Any], indent: str) -> str:
    """One line, or one for each part of an object that has many."""
    lists = {k: v for k, v in found.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    if not lists:
        return indent + _json(found)
    plain = _json({k: v for k, v in found.items() if k not in lists})[:-1]
    parts = [
        f'\n{indent} "{k}": [\n' + ",\n".join(f"{indent}  {_json(e)}" for e in v) + "]"
        for k, v in lists.items()
    ]
    return f"{indent}{plain}," + ",".join(parts) + "}"


def _plain(value: Any, hint: Any) -> Any:
    """A dataclass as a dictionary of what differs from its defaults."""
    if isinstance(value, QName):
        return [value.schema, value.name]
    if is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return {
            spec.name: _plain(getattr(value, spec.name), hints[spec.name])
            for spec in fields(value)
            if getattr(value, spec.name) != spec.default
        }
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v, None) for v in value), key=str)
    if isinstance(value, (tuple, list)):
        return [_plain(v, None) for v in value]
    return value


@lru_cache(maxsize=32)
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _made(value: Any, hint: Any) -> Any:
    """The value that `_plain` made plain, by its type."""
    origin = get_origin(hint)
    if value is None or hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _made(value, next(a for a in get_args(hint) if a is not type(None)))
    if hint is QName:
        return QName(*value)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(**{key: _made(each, hints[key]) for key, each in value.items()})
    if origin is tuple:
        inner = get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_made(each, inner[0]) for each in value)
        return tuple(_made(each, of) for each, of in zip(value, inner, strict=True))
    if origin is frozenset:
        return frozenset(_made(each, get_args(hint)[0]) for each in value)
    if origin is typing.Literal and value not in get_args(hint):
        raise ValueError(f"{value!r} is none of {get_args(hint)}")
    return value


def _schema(found: dict[str, Any]) -> Schema:
    schema = Schema(complete=True)
    schema.session_path = tuple(found["search_path"])
    schema.session_settings = {"timezone": found["timezone"]} if found["timezone"] else {}
    schema.schemas = set(found["schemas"])
    schema.extensions = set(found["extensions"])
    schema.others = {(kind, QName(*name)): "" for kind, *name in found["others"]}
    schema.new_session()
    for table in _each(found, "tables"):
        schema.put_table(table)
    for index in _each(found, "indexes"):
        schema.put_index(index)
    schema.views = {view.name: view for view in _each(found, "views")}
    schema.sequences = {sequence.name: sequence for sequence in _each(found, "sequences")}
    schema.types = {type_.name: type_ for type_ in _each(found, "types")}
    for function in _each(found, "functions"):
        schema.functions[function.name] = (*schema.functions.get(function.name, ()), function)
    schema.publications = {p.name: p for p in _each(found, "publications")}
    return schema


def _each(found: dict[str, Any], key: str) -> Iterable[Any]:
    cls = _PARTS[key][0]
    return (_made(each, cls) for each in found[key])
