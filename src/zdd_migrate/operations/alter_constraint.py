"""ALTER CONSTRAINT: deferrability, and since Postgres 18 whether it is enforced or inherited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Constraint, Schema
from zdd_migrate.operations.base import Operation, Situation, Target

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConstraint(Operation):
    """Change a constraint's attributes. None means: as it was. `text` is the action's source."""

    kind: ClassVar[str] = "alter_constraint"
    constraint: str
    deferrable: bool | None = None
    initially_deferred: bool | None = None
    enforced: bool | None = None
    inherit: bool | None = None
    only: bool = False
    text: str = ""

    def _known(self, schema: Schema) -> Constraint | None:
        assert self.relation is not None
        table = schema.table(self.relation)
        return table.constraint(self.constraint) if table is not None else None

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the table; enforcing a foreign key reads both tables."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        known = self._known(at.schema)
        locks: dict[QName, LockMode] = {relation: _M.ACCESS_EXCLUSIVE}
        error, scans = None, {}
        breaks: tuple[Break, ...] = ()
        referenced = known.ref_table if known is not None else None
        if referenced is not None:
            referenced = at.schema.resolve(referenced)
            if self.enforced is not None:
                locks[referenced] = _M.SHARE_ROW_EXCLUSIVE if self.enforced else _M.ACCESS_EXCLUSIVE
        elif known is None:
            at.assume(f"constraint {self.constraint} is a foreign key of {relation}")
        if self.enforced is not None and (
            at.pg < 18 or (known is not None and known.kind != "foreign_key")
        ):
            message = f'cannot alter enforceability of constraint "{self.constraint}"'
            error = PgError("42809" if at.pg >= 18 else "42601", message)
        if self.enforced:
            scans = {relation: "every row is read to see that it has its referenced row"}
            if referenced is not None:
                scans[referenced] = "its keys are looked up for every row"
            what = f"writes to {relation.name} that break {self.constraint}"
            breaks = (Break("old", "restriction", what, "23503", relation),)
        return Effects(locks=locks, scans=scans, error=error, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Keep what is known of it in step."""
        assert self.relation is not None
        table, known = schema.table(self.relation), self._known(schema)
        if table is None or known is None:
            return
        changed = known
        if self.deferrable is not None:
            changed = replace(changed, deferrable=self.deferrable)
        if self.initially_deferred is not None:
            changed = replace(changed, initially_deferred=self.initially_deferred)
        if self.enforced is not None:
            changed = replace(changed, enforced=self.enforced, valid=self.enforced)
        if self.inherit is not None:
            changed = replace(changed, no_inherit=not self.inherit)
        kept = tuple(changed if c is known else c for c in table.constraints)
        schema.put_table(replace(table, constraints=kept))

    def plan(self, draft: Draft) -> None:
        """When the check happens changes at contract; enforcing is done with a new constraint."""
        relation = draft.resolve(self.relation)
        known = self._known(draft.schema)
        if known is None or self.enforced is not None or self.inherit is not None:
            draft.refuse(
                f"changing {self.constraint} reads {relation} while nobody else can use it, or what "
                "it was is not known",
                "add a second constraint NOT VALID, VALIDATE it, and drop this one",
            )
            return
        name, table = quote_ident(self.constraint), draft.sql_name(relation)
        was = "DEFERRABLE" if known.deferrable else "NOT DEFERRABLE"
        if known.deferrable:
            was += " INITIALLY DEFERRED" if known.initially_deferred else " INITIALLY IMMEDIATE"
        draft.restricts_old = True
        draft.sql(
            Phase.CONTRACT,
            f"ALTER TABLE {table} {self.text}",
            undo=f"ALTER TABLE {table} ALTER CONSTRAINT {name} {was}",
            why=f"change when {self.constraint} is checked",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )


def _read(cursor: Cursor, target: Target) -> AlterConstraint:
    start = cursor.i
    cursor.expect("ALTER", "CONSTRAINT")
    found = AlterConstraint(relation=target.relation, constraint=cursor.name(), only=target.only)
    first = True
    while first or not (cursor.done or cursor.at(",") or cursor.at(";")):
        found = _attribute(cursor, found)
        first = False
    if found.deferrable is not None or found.initially_deferred is not None:
        # one of them given, the other falls back to what it is by default
        found = replace(
            found,
            deferrable=bool(found.deferrable),
            initially_deferred=bool(found.initially_deferred),
        )
    return replace(found, text=cursor.slice(start))


def _attribute(cursor: Cursor, found: AlterConstraint) -> AlterConstraint:
    if cursor.accept("NOT", "DEFERRABLE"):
        return replace(found, deferrable=False, initially_deferred=False)
    if cursor.accept("DEFERRABLE"):
        return replace(found, deferrable=True)
    if cursor.accept("INITIALLY", "DEFERRED"):
        return replace(found, deferrable=True, initially_deferred=True)
    if cursor.accept("INITIALLY", "IMMEDIATE"):
        return replace(found, initially_deferred=False)
    if cursor.accept("NOT", "ENFORCED"):
        return replace(found, enforced=False)
    if cursor.accept("ENFORCED"):
        return replace(found, enforced=True)
    if cursor.accept("NO", "INHERIT"):
        return replace(found, inherit=False)
    if cursor.accept("INHERIT"):
        return replace(found, inherit=True)
    raise cursor.unread("a constraint attribute was expected")


TABLE_ACTIONS = {"ALTER CONSTRAINT": _read}
