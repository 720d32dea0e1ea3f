"""SET LOGGED, UNLOGGED, TABLESPACE and ACCESS METHOD: the whole table is written anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.base import Operation, Situation, Target

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode
What = Literal["persistence", "tablespace", "access method"]
#: what a table has when nothing was said
_DEFAULTS = {"tablespace": ("pg_default",), "access method": ("heap", "default")}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTable(Operation):
    """Write a relation anew elsewhere. `to` is the name, `logged` or `unlogged`."""

    kind: ClassVar[str] = "move_table"
    what: What
    to: str
    object: str = "TABLE"

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE while all of it is copied; nothing where it is there already."""
        assert self.relation is not None
        schema, relation = at.schema, at.schema.resolve(self.relation)
        if self.what == "persistence" and self.to == "unlogged":
            for other, fk in schema.foreign_keys_to(relation):
                if other.name != relation and other.persistence == "permanent":
                    message = (
                        f'could not change table "{relation.name}" to unlogged because it is '
                        f'referenced by logged table "{other.name.name}" ({fk.name})'
                    )
                    return Effects(error=PgError("42P16", message))
        if self.what == "access method":
            refused = self._refused(at, schema.tables.get(relation))
            if refused is not None:
                return Effects(error=refused)
        if self.object == "INDEX":
            return self._index(at, relation)
        locks: dict[QName, LockMode] = {relation: _M.ACCESS_EXCLUSIVE}
        table = schema.tables.get(relation)
        if self.what == "persistence":
            for sequence in schema.sequences_of(relation) if at.pg >= 15 else ():
                locks[sequence.name] = _M.ACCESS_EXCLUSIVE
        if self.object == "SEQUENCE" or (table is not None and table.kind == "partitioned"):
            return Effects(locks=locks)
        if table is not None and self._is_there(table):
            return Effects(locks=locks)
        if self.what == "tablespace":  # its pages are copied as they are
            return Effects(locks=locks, rewrites=(relation,))
        return Effects(
            locks=locks,
            rewrites=(relation,),
            scans={relation: "every row is copied"},
            index_rebuilds=tuple(i.name for i in schema.indexes_of(relation)),
        )

    def _refused(self, at: Situation, table: Table | None) -> PgError | None:
        if at.pg < 15:
            return PgError("42601", "SET ACCESS METHOD needs Postgres 15")
        if at.pg < 17 and self.to == "default":
            return PgError("42601", "SET ACCESS METHOD DEFAULT needs Postgres 17")
        if at.pg < 17 and table is not None and table.kind == "partitioned":
            return PgError("42809", "cannot change access method of a partitioned table")
        return None

    def _is_there(self, table: Table) -> bool:
        if self.what == "persistence":
            return table.persistence == ("unlogged" if self.to == "unlogged" else "permanent")
        now = getattr(table, self.what.replace(" ", "_"))
        return self.to == now or (now is None and self.to in _DEFAULTS[self.what])

    def _index(self, at: Situation, name: QName) -> Effects:
        index = at.schema.indexes.get(name)
        if index is None:
            at.assume(f"{name} exists; its table is not known")
        return Effects(index_locks={name: _M.ACCESS_EXCLUSIVE}, index_rebuilds=(name,))

    def apply(self, schema: Schema) -> None:
        """Remember where it is."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if table is None:
            return
        if self.what == "persistence":
            to: Literal["permanent", "unlogged"] = (
                "unlogged" if self.to == "unlogged" else "permanent"
            )
            schema.put_table(replace(table, persistence=to))
        elif self.what == "tablespace":
            schema.put_table(replace(table, tablespace=self.to))
        else:
            schema.put_table(replace(table, access_method=self.to))

    def plan(self, draft: Draft) -> None:
        """Refused: nothing of it can be done beside running code."""
        draft.refuse(
            f"{self.relation} is written anew while nobody else can use it",
            "pg_repack moves a table while it is used; or move it in a maintenance window",
        )


def _read_persistence(cursor: Cursor, target: Target) -> MoveTable:
    cursor.expect("SET")
    to = cursor.next().up.lower()
    return MoveTable(relation=target.relation, what="persistence", to=to, object=target.object)


def _read_tablespace(cursor: Cursor, target: Target) -> MoveTable:
    cursor.expect("SET", "TABLESPACE")
    to = cursor.name()
    return MoveTable(relation=target.relation, what="tablespace", to=to, object=target.object)


def _read_access_method(cursor: Cursor, target: Target) -> MoveTable:
    cursor.expect("SET", "ACCESS", "METHOD")
    to = cursor.name()
    return MoveTable(relation=target.relation, what="access method", to=to, object=target.object)


TABLE_ACTIONS = {
    "SET LOGGED": _read_persistence,
    "SET UNLOGGED": _read_persistence,
    "SET TABLESPACE": _read_tablespace,
    "SET ACCESS METHOD": _read_access_method,
}
