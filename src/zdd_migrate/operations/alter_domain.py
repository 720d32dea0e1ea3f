"""ALTER DOMAIN: what values a type may have; every table with a column of it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.constraints import ConstraintDefinition, read_table_constraint
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Constraint, Schema, UserType
from zdd_migrate.operations.alter_object import read_change
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.rename_object import RenameObject

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

Act = Literal[
    "set default", "drop default", "set not null", "drop not null", "add", "drop", "validate"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterDomain(Operation):
    """Change a domain. `relation` is its name; `constraint` which one, `definition` a new one."""

    kind: ClassVar[str] = "alter_domain"
    act: Act
    constraint: str | None = None
    definition: ConstraintDefinition | None = None
    default: str | None = None
    if_exists: bool = False
    cascade: bool = False

    @property
    def _reads_rows(self) -> bool:
        added = self.definition is not None and self.definition.valid
        return self.act in ("set not null", "validate") or (self.act == "add" and added)

    def effects(self, at: Situation) -> Effects:
        """SHARE on every table with such a column while its rows are read; writes wait."""
        assert self.relation is not None
        name = at.schema.resolve_type(self.relation)
        kind = self.definition.kind if self.definition is not None else None
        if self.act == "add" and kind == "not_null" and at.pg < 17:
            message = "NOT NULL as a constraint of a domain needs Postgres 17"
            return Effects(error=PgError("42601", message))
        if not self._reads_rows:
            return Effects(breaks=self._breaks(name))
        users = _tables_with(at.schema, name)
        for table, column in _columns_within(at.schema, name):
            message = f'cannot alter type "{name.name}" because column "{table}.{column}" uses it'
            return Effects(error=PgError("0A000", message))
        if not at.schema.complete:
            at.assume(f"no other table has a column of {name}")
        mode = LockMode.SHARE_UPDATE_EXCLUSIVE if self._weak(at) else LockMode.SHARE
        return Effects(
            locks=dict.fromkeys(users, mode),
            scans=dict.fromkeys(users, f"every value of the domain {name.name} is checked"),
            breaks=self._breaks(name),
        )

    def _weak(self, at: Situation) -> bool:
        return self.act == "validate" and at.pg >= 19

    def _breaks(self, name: QName) -> tuple[Break, ...]:
        if self.act == "set not null":
            what = f"writes of NULL into columns of the domain {name.name}"
            return (Break("old", "restriction", what, "23502", name),)
        if self.act == "add":
            what = f"writes that the new check of {name.name} refuses"
            return (Break("old", "restriction", what, "23514", name),)
        return ()

    def apply(self, schema: Schema) -> None:
        """Keep the domain in step."""
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        known = schema.types.get(name)
        if known is not None:
            schema.types[name] = self._changed(known)

    def _changed(self, known: UserType) -> UserType:
        if self.act in ("set default", "drop default"):
            return replace(known, default=self.default)
        if self.act in ("set not null", "drop not null"):
            return replace(known, not_null=self.act == "set not null")
        if self.act == "drop":
            kept = tuple(c for c in known.constraints if c.name != self.constraint)
            return replace(known, constraints=kept)
        if self.act == "validate":
            valid = tuple(
                replace(c, valid=True) if c.name == self.constraint else c
                for c in known.constraints
            )
            return replace(known, constraints=valid)
        assert self.definition is not None
        if self.definition.kind == "not_null":
            return replace(known, not_null=True)
        added = Constraint(
            name=self.constraint or f"{known.name.name}_check",
            kind="check",
            expression=self.definition.expression,
            valid=self.definition.valid,
        )
        return replace(known, constraints=(*known.constraints, added))

    def plan(self, draft: Draft) -> None:
        """What relaxes comes in expand, what restricts at contract; what reads every value of the
        domain keeps writers out meanwhile, and is refused."""
        assert self.relation is not None
        name = draft.schema.resolve_type(self.relation)
        known = draft.schema.types.get(name)
        if known is None:
            draft.refuse(
                f"the domain {name} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        users = _tables_with(draft.schema, name)
        if self._reads_rows and users:
            what = {"set not null": "NOT NULL", "validate": self.constraint}.get(self.act, "it")
            draft.refuse(
                f"every value of the domain {name.name} in {', '.join(map(str, users[:3]))} would be "
                "read under ShareLock: writes wait until that ends",
                f"ask {what} of new values only, by a CHECK added NOT VALID, which is planned (and stays "
                "unvalidated); or of the columns themselves: ADD CONSTRAINT … CHECK on each table, or SET "
                "NOT NULL of the column, which are validated without keeping anyone out",
            )
            return
        head = f"ALTER DOMAIN {quote_qname(name)}"
        back, left = self._back(head, known, in_use=bool(users))
        if left:
            draft.leave(f"type {name}", left)
        restricts = self.act in ("add", "set not null", "validate", "drop default")
        if restricts:
            draft.restricts_old = draft.needs_release = True
        draft.as_written(
            Phase.CONTRACT if restricts else Phase.EXPAND,
            undo=back,
            why=f"change the domain {name}: {self.act}"
            + (f" {self.constraint}" if self.constraint else "")
            + (", which code that knows nothing of it may break" if restricts else ""),
        )

    def _back(self, head: str, known: UserType, *, in_use: bool) -> tuple[tuple[str, ...], str]:
        """The undo, and what it leaves: nothing that reads every value under a lock is undone so."""
        if self.act in ("set default", "drop default"):
            was = f"SET DEFAULT {known.default}" if known.default is not None else "DROP DEFAULT"
            return (f"{head} {was}",), ""
        if self.act == "drop not null" and known.not_null:
            if not in_use:
                return (f"{head} SET NOT NULL",), ""
            return (
                (),
                f"the domain {known.name} without NOT NULL: to ask it again reads every value",
            )
        if self.act == "set not null" and not known.not_null:
            return (f"{head} DROP NOT NULL",), ""
        if self.act == "add":
            taken = {c.name for c in known.constraints}
            added = next(iter({c.name for c in self._changed(known).constraints} - taken), None)
            if added is None:
                return (f"{head} DROP NOT NULL",), ""
            return (f"{head} DROP CONSTRAINT IF EXISTS {quote_ident(added)}",), ""
        gone = next((c for c in known.constraints if c.name == self.constraint), None)
        if self.act != "drop" or gone is None or gone.expression is None:
            return (), ""
        valid = gone.valid and not in_use
        add = f"{head} ADD CONSTRAINT {quote_ident(gone.name)} CHECK ({gone.expression})"
        left = f"the constraint {gone.name} of the domain {known.name} NOT VALID: new values are held to it"
        return (f"{add}{'' if valid else ' NOT VALID'}",), left if gone.valid and in_use else ""


def _is(schema: Schema, type_: str, domain: QName) -> bool:
    """Whether a type's text names the domain, or a domain over it."""
    if type_ == str(domain) or schema.resolve_type(_path(type_)) == domain:
        return True
    known = schema.types.get(schema.resolve_type(_path(type_)))
    return known is not None and known.base is not None and _is(schema, known.base, domain)


def _tables_with(schema: Schema, domain: QName) -> list[QName]:
    found = [
        relation.name
        for relation in schema.tables.values()
        if relation.kind != "partitioned"
        and any(_is(schema, column.type, domain) for column in relation.columns)
    ]
    return sorted(found)


def _columns_within(schema: Schema, domain: QName) -> list[tuple[str, str]]:
    """Columns that hold the domain inside another type: an array, or a composite type."""
    composites = {
        str(t.name)
        for t in schema.types.values()
        if t.kind == "composite" and any(_is(schema, a.type, domain) for a in t.attributes)
    }
    return [
        (table.name.name, column.name)
        for table in schema.tables.values()
        for column in table.columns
        if (column.type.endswith("[]") and _is(schema, column.type.rstrip("[]"), domain))
        or column.type in composites
        or str(schema.resolve_type(_path(column.type))) in composites
    ]


def _path(text: str) -> QName:
    schema, _, name = text.rpartition(".")
    return QName(schema or None, name)


def _read(cursor: Cursor) -> Operation:
    cursor.expect("ALTER", "DOMAIN")
    name = cursor.qname()
    if cursor.accept("SET", "DEFAULT"):
        default = squeeze(cursor.expression())
        return AlterDomain(relation=name, act="set default", default=default)
    if cursor.accept("DROP", "DEFAULT"):
        return AlterDomain(relation=name, act="drop default")
    if cursor.accept("SET", "NOT", "NULL"):
        return AlterDomain(relation=name, act="set not null")
    if cursor.accept("DROP", "NOT", "NULL"):
        return AlterDomain(relation=name, act="drop not null")
    if cursor.accept("ADD"):
        return _read_add(cursor, name)
    if cursor.accept("DROP", "CONSTRAINT"):
        if_exists = cursor.accept("IF", "EXISTS")
        constraint = cursor.name()
        cascade = cursor.accept("CASCADE")
        if not cascade:
            cursor.accept("RESTRICT")
        return AlterDomain(
            relation=name, act="drop", constraint=constraint, if_exists=if_exists, cascade=cascade
        )
    if cursor.accept("VALIDATE", "CONSTRAINT"):
        return AlterDomain(relation=name, act="validate", constraint=cursor.name())
    if cursor.accept("RENAME", "CONSTRAINT"):
        old = cursor.name()
        cursor.expect("TO")
        return RenameObject(relation=name, object="DOMAIN CONSTRAINT", name=old, to=cursor.name())
    return read_change(cursor, "DOMAIN", name.name, name)


def _read_add(cursor: Cursor, name: QName) -> AlterDomain:
    mark = cursor.i
    constraint = cursor.name() if cursor.accept("CONSTRAINT") else None
    if cursor.accept("NOT", "NULL"):
        return AlterDomain(
            relation=name,
            act="add",
            constraint=constraint,
            definition=ConstraintDefinition("not_null", name=constraint),
        )
    cursor.i = mark
    definition = read_table_constraint(cursor)
    return AlterDomain(relation=name, act="add", constraint=constraint, definition=definition)


READS = {"ALTER DOMAIN": _read}
