"""The grammar of columns and constraints that CREATE TABLE and ALTER TABLE share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, squeeze
from zdd_migrate.grammar.types import SERIALS, normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Constraint, ConstraintKind

_ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")


@dataclass(frozen=True, slots=True)
class ConstraintDefinition:
    """One constraint as written. `text` is its source from the kind's keyword on, without name.

    `columns` are those it names (for an inline constraint, the column it stands at).
    `elements` of an exclusion constraint are its text; `using_index` names an existing index.
    """

    kind: ConstraintKind
    name: str | None = None
    columns: tuple[str, ...] = ()
    expression: str | None = None
    ref_table: QName | None = None
    ref_columns: tuple[str, ...] = ()
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    match: str = "SIMPLE"
    deferrable: bool = False
    initially_deferred: bool = False
    valid: bool = True
    enforced: bool = True
    no_inherit: bool = False
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    without_overlaps: bool = False
    using_index: str | None = None
    method: str | None = None
    where: str | None = None
    text: str = ""

    def constraint(self, table: QName, taken: Collection[str]) -> Constraint:
        """The model's constraint, with the name Postgres would choose where none is given."""
        name = self.name or default_name(table.name, self, taken)
        index = self.using_index or name
        return Constraint(
            name=name,
            kind=self.kind,
            columns=self.columns,
            definition=self.text,
            expression=self.expression,
            ref_table=self.ref_table,
            ref_columns=self.ref_columns,
            on_delete=self.on_delete,
            on_update=self.on_update,
            match=self.match,
            deferrable=self.deferrable,
            initially_deferred=self.initially_deferred,
            valid=self.valid,
            enforced=self.enforced,
            no_inherit=self.no_inherit,
            include=self.include,
            nulls_not_distinct=self.nulls_not_distinct,
            index=index if self.kind in ("unique", "primary_key", "exclude") else None,
        )


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """One column as written. `type` is its source text; `constraints` are the inline ones.

    `not_null` is None where nothing was said. NOT NULL, DEFAULT, GENERATED and IDENTITY are
    fields; CHECK, UNIQUE, PRIMARY KEY and REFERENCES are in `constraints`.
    """

    name: str
    type: str
    not_null: bool | None = None
    not_null_name: str | None = None
    default: str | None = None
    generated: Literal["stored", "virtual"] | None = None
    generation: str | None = None
    identity: Literal["always", "by default"] | None = None
    identity_options: str = ""
    collation: str | None = None
    storage: str | None = None
    compression: str | None = None
    constraints: tuple[ConstraintDefinition, ...] = ()
    text: str = field(default="", compare=False)

    @property
    def serial(self) -> bool:
        """Whether the type is serial, bigserial or smallserial: a type with a sequence."""
        return self.type.lower() in SERIALS

    def column(self, table: QName) -> Column:
        """The model's column: serial becomes an integer with its default and NOT NULL."""
        default = self.default
        serial = self.serial
        not_null = bool(self.not_null) or serial or self.identity is not None
        if serial:
            default = f"nextval('{_as_regclass(f'{table.name}_{self.name}_seq')}'::regclass)"
        if any(c.kind == "primary_key" for c in self.constraints):
            not_null = True
        return Column(
            name=self.name,
            type=normalise_type(self.type),
            not_null=not_null,
            default=default,
            generated=self.generated,
            generation=self.generation,
            identity=self.identity,
            collation=self.collation,
            storage=self.storage,
            compression=self.compression,
        )


def default_name(table: str, definition: ConstraintDefinition, taken: Collection[str]) -> str:
    """The name Postgres gives an unnamed constraint: `users_email_key`, numbered when taken."""
    suffix = {
        "check": "check",
        "foreign_key": "fkey",
        "unique": "key",
        "primary_key": "pkey",
        "exclude": "excl",
        "not_null": "not_null",
    }[definition.kind]
    columns: Iterable[str] = definition.columns
    if definition.kind == "primary_key" or (
        definition.kind == "check" and len(definition.columns) != 1
    ):
        columns = ()
    middle = "_".join(columns)
    base = composed_name(table, middle, suffix)
    name, n = base, 0
    while name in taken:
        n += 1
        name = composed_name(table, middle, f"{suffix}{n}")
    return name


def composed_name(first: str, second: str, suffix: str) -> str:
    """`first_second_suffix` in 63 bytes, the longer part cut first (makeObjectName)."""
    overhead = len(suffix) + 1 + (1 if second else 0)
    room = 63 - overhead
    one, two = len(first.encode()), len(second.encode())
    while one + two > room:
        if one > two:
            one -= 1
        else:
            two -= 1
    head = first.encode()[:one].decode(errors="ignore")
    tail = second.encode()[:two].decode(errors="ignore")
    return "_".join(part for part in (head, tail, suffix) if part)


def read_column_definition(cursor: Cursor) -> ColumnDefinition:
    """Read `name type [constraints…]`."""
    start = cursor.i
    name = cursor.name()
    return read_column_constraints(cursor, name, cursor.type_text(), start)


def read_column_constraints(cursor: Cursor, name: str, type_: str, start: int) -> ColumnDefinition:
    """Read what may follow a column's type, in any order; the column began at token `start`."""
    said: dict[str, Any] = {}
    constraints: list[ConstraintDefinition] = []
    while not cursor.done and cursor.up() not in _AFTER_COLUMN:
        given = cursor.name() if cursor.accept("CONSTRAINT") else None
        up = cursor.up()
        clause = _CLAUSES.get(up)
        inline = _INLINE.get(up)
        if clause is not None and clause(cursor, said, given):
            continue
        if inline is not None:
            begins = cursor.i
            read = inline(cursor, (name,))
            constraints.append(replace(read, name=given, text=cursor.slice(begins)))
        elif constraints:
            constraints[-1] = _with_attribute(cursor, constraints[-1])
        else:
            raise cursor.unread("a column constraint was expected")
    return ColumnDefinition(
        name=name, type=type_, constraints=tuple(constraints), text=cursor.slice(start), **said
    )


_AFTER_COLUMN = (",", ")", ";")
#: reads a clause of a column into what was said of it; False where the words are another clause's
Clause = Callable[[Cursor, dict[str, Any], str | None], bool]


def _not_null_clause(cursor: Cursor, said: dict[str, Any], name: str | None) -> bool:
    if not cursor.accept("NOT", "NULL"):
        return False
    cursor.accept("NO", "INHERIT")
    said.update(not_null=True, not_null_name=name)
    return True


def _null_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("NULL")
    said["not_null"] = False
    return True


def _default_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("DEFAULT")
    said["default"] = cursor.expression()
    return True


def _collate_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("COLLATE")
    start = cursor.i
    cursor.qname()
    said["collation"] = cursor.slice(start)
    return True


def _options_clause(cursor: Cursor, _said: dict[str, Any], _: str | None) -> bool:
    """A foreign table's column, for the other server."""
    cursor.expect("OPTIONS")
    cursor.skip_group()
    return True


def _storage_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("STORAGE")
    said["storage"] = cursor.name().upper()
    return True


def _compression_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("COMPRESSION")
    said["compression"] = cursor.name()
    return True


def _generated_clause(cursor: Cursor, said: dict[str, Any], _: str | None) -> bool:
    cursor.expect("GENERATED")
    kind = "by default" if cursor.accept("BY", "DEFAULT") else "always"
    if kind == "always":
        cursor.expect("ALWAYS")
    cursor.expect("AS")
    if cursor.accept("IDENTITY"):
        options = cursor.group_text() if cursor.at("(") else ""
        said.update(identity=kind, identity_options=options, not_null=True)
        return True
    if kind == "by default":
        raise cursor.unread("IDENTITY was expected")
    said["generation"] = cursor.group_text()
    stored = cursor.accept("STORED")
    if not stored:
        cursor.accept("VIRTUAL")
    said["generated"] = "stored" if stored else "virtual"
    return True


_CLAUSES: dict[str, Clause] = {
    "NOT": _not_null_clause,
    "NULL": _null_clause,
    "DEFAULT": _default_clause,
    "GENERATED": _generated_clause,
    "COLLATE": _collate_clause,
    "OPTIONS": _options_clause,
    "STORAGE": _storage_clause,
    "COMPRESSION": _compression_clause,
}


def _inline_check(cursor: Cursor, columns: tuple[str, ...]) -> ConstraintDefinition:
    cursor.expect("CHECK")
    expression = cursor.group_text()
    no_inherit = cursor.accept("NO", "INHERIT")
    return ConstraintDefinition(
        "check", columns=columns, expression=expression, no_inherit=no_inherit
    )


def _inline_unique(cursor: Cursor, columns: tuple[str, ...]) -> ConstraintDefinition:
    cursor.expect("UNIQUE")
    nulls = _nulls_not_distinct(cursor)
    include = _index_parameters(cursor)
    return ConstraintDefinition(
        "unique", columns=columns, include=include, nulls_not_distinct=nulls
    )


def _inline_primary_key(cursor: Cursor, columns: tuple[str, ...]) -> ConstraintDefinition:
    cursor.expect("PRIMARY", "KEY")
    return ConstraintDefinition("primary_key", columns=columns, include=_index_parameters(cursor))


def _references(cursor: Cursor, columns: tuple[str, ...]) -> ConstraintDefinition:
    cursor.expect("REFERENCES")
    table = cursor.qname()
    ref_columns: tuple[str, ...] = ()
    if cursor.accept("("):
        names = [cursor.name()]
        while cursor.accept(","):
            cursor.accept("PERIOD")
            names.append(cursor.name())
        cursor.expect(")")
        ref_columns = tuple(names)
    match, on_delete, on_update = "SIMPLE", "NO ACTION", "NO ACTION"
    while True:
        if cursor.accept("MATCH"):
            match = cursor.name().upper()
        elif cursor.accept("ON", "DELETE"):
            on_delete = _action(cursor)
        elif cursor.accept("ON", "UPDATE"):
            on_update = _action(cursor)
        else:
            break
    return ConstraintDefinition(
        "foreign_key",
        columns=columns,
        ref_table=table,
        ref_columns=ref_columns,
        match=match,
        on_delete=on_delete,
        on_update=on_update,
    )


def _action(cursor: Cursor) -> str:
    for action in _ACTIONS:
        if cursor.accept(*action.split()):
            if action.startswith("SET") and cursor.at("("):
                return f"{action} ({', '.join(cursor.names())})"
            return action
    raise cursor.unread("a referential action was expected")


def _nulls_not_distinct(cursor: Cursor) -> bool:
    if cursor.accept("NULLS", "NOT", "DISTINCT"):
        return True
    cursor.accept("NULLS", "DISTINCT")
    return False


def _index_parameters(cursor: Cursor) -> tuple[str, ...]:
    include = cursor.names() if cursor.accept("INCLUDE") else ()
    if cursor.accept("WITH"):
        cursor.skip_group()
    if cursor.accept("USING", "INDEX", "TABLESPACE"):
        cursor.name()
    return include


_INLINE: dict[str, Callable[[Cursor, tuple[str, ...]], ConstraintDefinition]] = {
    "CHECK": _inline_check,
    "UNIQUE": _inline_unique,
    "PRIMARY": _inline_primary_key,
    "REFERENCES": _references,
}


def read_table_constraint(cursor: Cursor) -> ConstraintDefinition:
    """Read `[CONSTRAINT name] CHECK|UNIQUE|PRIMARY KEY|EXCLUDE|FOREIGN KEY|NOT NULL …`."""
    name = cursor.name() if cursor.accept("CONSTRAINT") else None
    start = cursor.i
    reader = _TABLE_LEVEL.get(cursor.up())
    if reader is None:
        raise cursor.unread("a table constraint was expected")
    read = reader(cursor)
    while cursor.up() in _ATTRIBUTE_WORDS:
        read = _with_attribute(cursor, read)
    return replace(read, name=name, text=cursor.slice(start))


def at_table_constraint(cursor: Cursor) -> bool:
    """Whether a table constraint (not a column) comes next."""
    up, after = cursor.up(), cursor.up(1)
    return (
        up == "CONSTRAINT"
        or (up in ("CHECK", "UNIQUE") and after in ("(", "USING", "NULLS"))
        or (up, after) in (("PRIMARY", "KEY"), ("FOREIGN", "KEY"), ("NOT", "NULL"))
        or (up == "EXCLUDE" and after in ("USING", "("))
    )


_ATTRIBUTE_WORDS = frozenset({"NOT", "NO", "DEFERRABLE", "INITIALLY", "ENFORCED"})


def _with_attribute(cursor: Cursor, definition: ConstraintDefinition) -> ConstraintDefinition:
    """Read one of the attributes that may follow a constraint."""
    if cursor.accept("NOT", "VALID"):
        return replace(definition, valid=False)
    if cursor.accept("NOT", "DEFERRABLE"):
        return replace(definition, deferrable=False)
    if cursor.accept("NOT", "ENFORCED"):
        return replace(definition, enforced=False, valid=False)
    if cursor.accept("ENFORCED"):
        return definition
    if cursor.accept("DEFERRABLE"):
        return replace(definition, deferrable=True)
    if cursor.accept("INITIALLY", "DEFERRED"):
        return replace(definition, deferrable=True, initially_deferred=True)
    if cursor.accept("INITIALLY", "IMMEDIATE"):
        return definition
    if cursor.accept("NO", "INHERIT"):
        return replace(definition, no_inherit=True)
    raise cursor.unread("a constraint attribute was expected")


def _check(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("CHECK")
    expression = cursor.group_text()
    return ConstraintDefinition(
        "check",
        columns=tuple(sorted(analyse(expression).names)),
        expression=expression,
        no_inherit=cursor.accept("NO", "INHERIT"),
    )


def _unique(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("UNIQUE")
    return _unique_or_key(cursor, "unique")


def _primary_key(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("PRIMARY", "KEY")
    return _unique_or_key(cursor, "primary_key")


def _unique_or_key(cursor: Cursor, kind: Literal["unique", "primary_key"]) -> ConstraintDefinition:
    if cursor.accept("USING", "INDEX"):
        return ConstraintDefinition(kind, using_index=cursor.name())
    nulls = _nulls_not_distinct(cursor)
    cursor.expect("(")
    names = [cursor.name()]
    while cursor.accept(","):
        names.append(cursor.name())
    without_overlaps = cursor.accept("WITHOUT", "OVERLAPS")
    cursor.expect(")")
    return ConstraintDefinition(
        kind,
        columns=tuple(names),
        nulls_not_distinct=nulls,
        without_overlaps=without_overlaps,
        include=_index_parameters(cursor),
    )


def _foreign_key(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("FOREIGN", "KEY", "(")
    names = [cursor.name()]
    while cursor.accept(","):
        if cursor.at("PERIOD") and cursor.up(1) not in (",", ")"):
            cursor.next()
        names.append(cursor.name())
    cursor.expect(")")
    return _references(cursor, tuple(names))


def _exclude(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("EXCLUDE")
    method = cursor.name() if cursor.accept("USING") else "btree"
    start = cursor.i
    names = _exclusions(cursor)
    elements = squeeze(cursor.sql[cursor.tokens[start].end : cursor.tokens[cursor.i - 1].start])
    include = _index_parameters(cursor)
    where = cursor.group_text() if cursor.accept("WHERE") else None
    return ConstraintDefinition(
        "exclude",
        columns=names,
        expression=elements,
        method=method,
        include=include,
        where=where,
    )


def _exclusions(cursor: Cursor) -> tuple[str, ...]:
    """Read `(key WITH operator, …)`; gives the keys that are columns, in order."""
    names: dict[str, None] = {}
    cursor.expect("(")
    while True:
        bare = cursor.up(1) not in ("(", ".") and not cursor.at("(")
        key = read_index_key(cursor)
        if bare:
            names[key] = None
        cursor.expect("WITH")
        cursor.until()
        if not cursor.accept(","):
            cursor.expect(")")
            return tuple(names)


def read_index_key(cursor: Cursor) -> str:
    """Read one key of an index; gives its column or expression, without what says how to sort it."""
    if cursor.at("("):
        key = cursor.group_text()
    else:
        start = cursor.i
        name = cursor.qname()
        if cursor.at("("):  # a function call needs no parentheses of its own
            cursor.skip_group()
            key = squeeze(cursor.slice(start))
        else:
            key = name.name
    if cursor.accept("COLLATE"):
        cursor.qname()
    while not cursor.done and cursor.up() not in (",", ")", "WITH"):
        if cursor.at("("):
            cursor.skip_group()
        else:
            cursor.next()
    return key


def _not_null(cursor: Cursor) -> ConstraintDefinition:
    cursor.expect("NOT", "NULL")
    return ConstraintDefinition("not_null", columns=(cursor.name(),))


_TABLE_LEVEL: dict[str, Callable[[Cursor], ConstraintDefinition]] = {
    "CHECK": _check,
    "UNIQUE": _unique,
    "PRIMARY": _primary_key,
    "FOREIGN": _foreign_key,
    "EXCLUDE": _exclude,
    "NOT": _not_null,
}


def _as_regclass(name: str) -> str:
    """A relation's name as it stands in a literal: in double quotes where folding would change it."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""').replace("'", "''") + '"'


__all__ = [
    "ColumnDefinition",
    "ConstraintDefinition",
    "at_table_constraint",
    "default_name",
    "read_column_constraints",
    "read_column_definition",
    "read_index_key",
    "read_table_constraint",
]
