"""DROP INDEX [CONCURRENTLY]: plain takes ACCESS EXCLUSIVE on the table, for an instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Index, Schema
from zdd_migrate.operations.base import Key, Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex(Operation):
    """Remove an index. `relation` is the index itself."""

    kind: ClassVar[str] = "drop_index"
    concurrently: bool = False
    if_exists: bool = False
    cascade: bool = False

    def effects(self, at: Situation) -> Effects:
        """On table and index: ACCESS EXCLUSIVE, or SHARE UPDATE EXCLUSIVE concurrently."""
        assert self.relation is not None
        name = at.schema.resolve(self.relation)
        index = at.schema.indexes.get(name)
        mode = _M.SHARE_UPDATE_EXCLUSIVE if self.concurrently else _M.ACCESS_EXCLUSIVE
        if index is None:
            if self.if_exists and at.schema.complete:
                return Effects(transactional=not self.concurrently)
            error = None
            if at.schema.complete:
                error = PgError("42704", f'index "{name.name}" does not exist')
            at.assume(f"{name} exists; its table is not known")
            return Effects(locks={name: mode}, transactional=not self.concurrently, error=error)
        error = None
        if index.constraint is not None:
            error = PgError(
                "2BP01",
                f"cannot drop index {name.name} because constraint {index.constraint} on table "
                f"{index.table.name} requires it",
            )
        elif index.parent is not None:
            error = PgError(
                "2BP01",
                f"cannot drop index {name.name} because index {index.parent.name} requires it",
            )
        elif self.concurrently and at.schema.partitions_of(index.table):
            message = f'cannot drop partitioned index "{name.name}" concurrently'
            error = PgError("0A000", message)
        elif self.concurrently and at.in_transaction:
            error = PgError(
                "25001", "DROP INDEX CONCURRENTLY cannot run inside a transaction block"
            )
        breaks: tuple[Break, ...] = ()
        if index.unique:
            what = f"INSERT … ON CONFLICT ({', '.join(index.keys)}) into {index.table.name}"
            breaks = (Break("old", "on_conflict", what, "42P10", index.table),)
        locks = {index.table: mode}
        for table in at.schema.descendants_of(index.table):
            if not self.concurrently:
                locks[table.name] = mode
        return Effects(locks=locks, transactional=not self.concurrently, error=error, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Forget it."""
        assert self.relation is not None
        name = schema.resolve(self.relation)
        for part in schema.parts_of(name):
            schema.drop_index(part.name)
        schema.drop_index(name)

    def plan(self, draft: Draft) -> None:
        """CONCURRENTLY, in contract: old code's queries may count on it. Undone by building it."""
        assert self.relation is not None
        name = draft.schema.resolve(self.relation)
        index = draft.schema.indexes.get(name)
        if index is None:
            if self.if_exists:
                draft.note(f"index {name} is not there: nothing to drop")
                return
            draft.refuse(
                f"index {name} is not known, so it could not be built again on the way back",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if draft.is_new(index.table):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        if set(self.drops(draft.schema)) & draft.replaced:
            return  # what takes its place takes it away
        table = draft.schema.tables.get(index.table)
        if table is not None and table.kind == "partitioned":
            self._plan_partitioned(draft, name, index)
            return
        if draft.dual_write:  # the old column has its name until the end
            index = draft.start.indexes.get(name, index)
        draft.touches.setdefault(index.table)
        draft.restricts_old = draft.restricts_old or index.unique
        draft.sql(
            Phase.CONTRACT,
            f"DROP INDEX CONCURRENTLY {quote_qname(name)}",
            undo=create_again(index, draft.sql_name(index.table)),
            why=f"drop {name.name} once no old code needs it",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=index.table,
            transactional=False,
        )

    def _plan_partitioned(self, draft: Draft, name: QName, index: Index) -> None:
        """It cannot be dropped concurrently, but at once; the way back builds it piece by piece."""
        from zdd_migrate.blocks.copies import index_copy_sql
        from zdd_migrate.blocks.partitioned import IndexShape, index_words, rebuild

        draft.touches.setdefault(index.table)
        draft.restricts_old = draft.restricts_old or index.unique
        copy = index_copy_sql(index, name.name, "t", {})
        shape = IndexShape(
            name=name.name,
            tail=copy[copy.index(" ON t ") + len(" ON t ") :],
            words=index_words(index.keys, index.include),
            unique=index.unique,
        )
        draft.sql(
            Phase.CONTRACT,
            f"DROP INDEX {quote_qname(name)}",
            undo=rebuild(draft.start, draft.present(index.table), shape),
            undo_transactional=False,
            why=f"drop {name.name} with its parts on the partitions, once no old code needs it",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=index.table,
        )

    def drops(self, schema: Schema) -> tuple[Key, ...]:
        """The index."""
        assert self.relation is not None
        return (("index", schema.resolve(self.relation), ""),)


def create_again(index: Index, table_sql: str) -> str:
    """CREATE INDEX CONCURRENTLY that builds the index as it was."""
    from zdd_migrate.blocks.copies import index_copy_sql

    return index_copy_sql(index, index.name.name, table_sql, {}).replace(
        "INDEX CONCURRENTLY ", "INDEX CONCURRENTLY IF NOT EXISTS ", 1
    )


def _read(cursor: Cursor) -> list[DropIndex]:
    cursor.expect("DROP", "INDEX")
    concurrently = cursor.accept("CONCURRENTLY")
    if_exists = cursor.accept("IF", "EXISTS")
    names: tuple[QName, ...] = cursor.list_of(cursor.qname)
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return [
        DropIndex(relation=n, concurrently=concurrently, if_exists=if_exists, cascade=cascade)
        for n in names
    ]


READS = {"DROP INDEX": _read}
