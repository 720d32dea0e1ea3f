"""Creating what nobody uses yet and what locks no table: extensions, schemas, sequences, domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.grammar.tokens import NUMBER
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Constraint, Schema, Sequence, UserType
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateObject(Operation):
    """Make an extension, schema, sequence or domain. `relation` is its name where it has a schema."""

    kind: ClassVar[str] = "create_object"
    object: str
    name: str
    if_not_exists: bool = False
    base: str | None = None
    not_null: bool = False
    default: str | None = None
    #: a domain's checks: the name, where one is given, and the expression
    checks: tuple[tuple[str | None, str], ...] = ()

    def _target(self, schema: Schema) -> QName:
        assert self.relation is not None
        return QName(self.relation.schema or schema.default_schema, self.relation.name)

    def effects(self, at: Situation) -> Effects:
        """None on any relation."""
        return Effects()

    def apply(self, schema: Schema) -> None:
        """Add it."""
        if self.object == "EXTENSION":
            schema.extensions.add(self.name)
        elif self.object == "SCHEMA":
            schema.schemas.add(self.name)
        elif self.object == "SEQUENCE":
            if self._target(schema) not in schema.sequences:
                schema.put_sequence(Sequence(self._target(schema)))
        else:
            name = self._target(schema)
            schema.types[name] = UserType(
                name=name,
                kind="domain",
                base=self.base,
                not_null=self.not_null,
                default=self.default,
                constraints=self._constraints(name),
            )

    def _constraints(self, domain: QName) -> tuple[Constraint, ...]:
        """A domain's checks, named as Postgres names them where no name is given."""
        taken = {name for name, _ in self.checks if name is not None}
        made = []
        for given, expression in self.checks:
            name, number = given or f"{domain.name}_check", 0
            while given is None and name in taken:
                number += 1
                name = f"{domain.name}_check{number}"
            taken.add(name)
            made.append(Constraint(name, "check", expression=expression))
        return tuple(made)

    def created(self, schema: Schema) -> tuple[QName, ...]:
        """A sequence is a relation."""
        if self.object != "SEQUENCE" or self._target(schema) in schema.sequences:
            return ()
        return (self._target(schema),)

    def plan(self, draft: Draft) -> None:
        """As it is, in expand; undone unless it may have been there before."""
        undo: tuple[str, ...] = ()
        if not self.if_not_exists:
            name = (
                quote_qname(self._target(draft.schema)) if self.relation is not None else self.name
            )
            undo = (f"DROP {self.object} IF EXISTS {name}",)
        draft.as_written(
            Phase.EXPAND,
            undo=undo,
            why=f"create {self.object.lower()} {self.name}, which no code uses yet",
        )


def _read_extension(cursor: Cursor) -> CreateObject:
    cursor.expect("CREATE", "EXTENSION")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.name()
    cursor.accept("WITH")
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("SCHEMA"):
            cursor.name()
        elif cursor.accept("VERSION"):
            cursor.next()
        else:
            cursor.expect("CASCADE")
    return CreateObject(object="EXTENSION", name=name, if_not_exists=if_not_exists)


def _read_schema(cursor: Cursor) -> list[Operation]:
    cursor.expect("CREATE", "SCHEMA")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = None if cursor.at("AUTHORIZATION") else cursor.name()
    if cursor.accept("AUTHORIZATION"):
        owner = cursor.name()
        name = name or owner
    assert name is not None
    found: list[Operation] = [CreateObject(object="SCHEMA", name=name, if_not_exists=if_not_exists)]
    if not cursor.done and not cursor.at(";"):
        inner = f"the objects that CREATE SCHEMA {name} makes along are not followed"
        found.append(NotUnderstood(reason=inner, offset=cursor.offset))
        cursor.rest()
    return found


def _read_sequence(cursor: Cursor) -> CreateObject:
    cursor.expect("CREATE")
    cursor.accept("LOCAL")
    cursor.accept_one(("TEMP", "TEMPORARY", "UNLOGGED"))
    cursor.expect("SEQUENCE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.qname()
    read_sequence_options(cursor)
    return CreateObject(
        relation=name, object="SEQUENCE", name=name.name, if_not_exists=if_not_exists
    )


def read_sequence_options(cursor: Cursor) -> None:
    """Read any of a sequence's options."""
    while not cursor.done and not cursor.at(";"):
        read_sequence_option(cursor)


def read_sequence_option(cursor: Cursor) -> tuple[QName, str] | None:
    """Read one option; gives the table and column that it is now OWNED BY, if it says so."""
    if cursor.accept("AS"):
        cursor.type_text()
    elif cursor.accept("INCREMENT"):
        cursor.accept("BY")
        cursor.integer()
    elif cursor.accept("START") or cursor.accept("RESTART"):
        given = cursor.accept("WITH")
        token = cursor.token()
        if given or (token is not None and (token.kind == NUMBER or token.up in ("-", "+"))):
            cursor.integer()
    elif cursor.accept_one(("MINVALUE", "MAXVALUE", "CACHE")) is not None:
        cursor.integer()
    elif cursor.accept("NO"):
        if cursor.accept_one(("MINVALUE", "MAXVALUE", "CYCLE")) is None:
            raise cursor.unread("MINVALUE, MAXVALUE or CYCLE was expected")
    elif cursor.accept("OWNED", "BY"):
        path = cursor.path()
        if len(path) > 1:
            return QName(path[-3] if len(path) > 2 else None, path[-2]), path[-1]
    elif cursor.accept("SEQUENCE", "NAME"):
        cursor.qname()
    elif cursor.accept_one(("CYCLE", "LOGGED", "UNLOGGED")) is None:
        raise cursor.unread("a sequence option was expected")
    return None


def _read_domain(cursor: Cursor) -> CreateObject:
    cursor.expect("CREATE", "DOMAIN")
    name = cursor.qname()
    cursor.accept("AS")
    base = normalise_type(cursor.type_text())
    not_null, default, named = False, None, None
    checks: list[tuple[str | None, str]] = []
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("CONSTRAINT"):
            named = cursor.name()
            continue
        if cursor.accept("NOT", "NULL"):
            not_null = True
        elif cursor.accept("NULL"):
            pass
        elif cursor.accept("COLLATE"):
            cursor.qname()
        elif cursor.accept("DEFAULT"):
            default = squeeze(cursor.expression())
        else:
            cursor.expect("CHECK")
            checks.append((named, cursor.group_text()))
        named = None
    return CreateObject(
        relation=name,
        object="DOMAIN",
        name=name.name,
        base=base,
        not_null=not_null,
        default=default,
        checks=tuple(checks),
    )


READS = {
    "CREATE EXTENSION": _read_extension,
    "CREATE SCHEMA": _read_schema,
    "CREATE SEQUENCE": _read_sequence,
    "CREATE TEMP SEQUENCE": _read_sequence,
    "CREATE TEMPORARY SEQUENCE": _read_sequence,
    "CREATE LOCAL TEMP SEQUENCE": _read_sequence,
    "CREATE LOCAL TEMPORARY SEQUENCE": _read_sequence,
    "CREATE UNLOGGED SEQUENCE": _read_sequence,
    "CREATE DOMAIN": _read_domain,
}
