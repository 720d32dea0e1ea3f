"""CREATE [UNIQUE] INDEX [CONCURRENTLY].

A plain build holds SHARE on the table for as long as it takes: nobody writes meanwhile. A
concurrent one blocks nobody, cannot run in a transaction, and leaves an INVALID index behind when
it fails, which IF NOT EXISTS later takes for a good one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.constraints import read_index_key
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, squeeze, volatility
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Index, Schema, Table
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.facts import (
    built_on,
    index_copies,
    index_default_name,
    leaves,
    partition_columns,
    tree,
)

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: a key that is a column without quotes
_PLAIN = re.compile(r"[\w$]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex(Operation):
    """Build an index. `keys` are column names (folded) or expressions' text, in order.

    `relation` is the table. `index` is None when Postgres is to choose the name. `tail` is the
    source text from USING or the opening parenthesis on, for quoting it in a plan.
    """

    kind: ClassVar[str] = "create_index"
    index: str | None
    keys: tuple[str, ...]
    unique: bool = False
    concurrently: bool = False
    if_not_exists: bool = False
    only: bool = False
    method: str = "btree"
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    where: str | None = None
    tail: str = ""

    def index_name(self, schema: Schema) -> QName:
        """The index's name (resolved): its own, or the one Postgres would choose."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        if self.index is not None:
            return relation.sibling(self.index)
        return index_default_name(schema, relation, (*self.keys, *self.include))

    @property
    def columns(self) -> frozenset[str]:
        """Every column the index depends on."""
        found: set[str] = set(self.include)
        for key in self.keys:
            found |= {key} if _PLAIN.fullmatch(key) else analyse(key).names
        if self.where is not None:
            found |= analyse(self.where).names
        return frozenset(found)

    def effects(self, at: Situation) -> Effects:
        """SHARE (or SHARE UPDATE EXCLUSIVE, concurrently) with a scan of the table."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        name = self.index_name(at.schema)
        if self.if_not_exists and name in at.schema.indexes:
            existing = at.schema.indexes[name]
            if not existing.valid:
                at.assume(f"the INVALID index {name} is kept: IF NOT EXISTS does not rebuild it")
            mode = LockMode.SHARE_UPDATE_EXCLUSIVE if self.concurrently else LockMode.SHARE
            return Effects(locks={relation: mode}, transactional=not self.concurrently)
        partitioned = table is not None and table.kind == "partitioned"
        view = at.schema.views.get(relation)
        error = None
        if self.nulls_not_distinct and at.pg < 15:
            error = PgError("42601", "NULLS NOT DISTINCT needs Postgres 15")
        elif view is not None and not view.materialized:
            error = PgError("42809", f'cannot create index on relation "{relation.name}"')
        elif (changing := self._not_immutable(at.schema)) is not None:
            error = PgError(
                "42P17",
                f"functions in index {changing} must be marked IMMUTABLE",
            )
        elif self.unique and not self.only and not _holds_key(table, self.keys):
            error = PgError(
                "0A000",
                "unique constraint on partitioned table must include all partitioning columns",
            )
        elif name in at.schema.indexes:
            error = PgError("42P07", f'relation "{name.name}" already exists')
        elif self.concurrently and partitioned:
            error = PgError(
                "0A000",
                f'cannot create index on partitioned table "{relation.name}" concurrently',
            )
        elif self.concurrently and at.in_transaction:
            error = PgError(
                "25001", "CREATE INDEX CONCURRENTLY cannot run inside a transaction block"
            )
        if self.concurrently:
            locks = {relation: LockMode.SHARE_UPDATE_EXCLUSIVE}
            touched = [relation]
        else:
            touched = tree(at.schema, relation, only=self.only or not partitioned)
            locks = dict.fromkeys(touched, LockMode.SHARE)
        heaps = [heap for heap in leaves(at.schema, touched) if heap not in at.created]
        why = f"every row is read to build {name.name}"
        made = self._made(at.schema, name)
        copies = [made]
        if partitioned and not self.only:
            copies += index_copies(at.schema, made)
            building = {copy.table for copy in copies}
            heaps = [heap for heap in heaps if heap in building]
        return Effects(
            locks=locks,
            scans=dict.fromkeys(heaps, why),
            index_builds=built_on(at.schema, heaps, copies),
            transactional=not self.concurrently,
            error=error,
            breaks=self._breaks(relation),
        )

    def _not_immutable(self, schema: Schema) -> str | None:
        """Where a function stands that may change its answer: `expression` or `predicate`."""
        for key in self.keys:
            if not _PLAIN.fullmatch(key):
                kind, unknown = volatility(key, schema)
                if kind != "immutable" and unknown is None and analyse(key).understood:
                    return "expression"
        if self.where is not None:
            kind, unknown = volatility(self.where, schema)
            if kind != "immutable" and unknown is None and analyse(self.where).understood:
                return "predicate"
        return None

    def _made(self, schema: Schema, name: QName) -> Index:
        assert self.relation is not None
        return Index(
            name=name,
            table=schema.resolve(self.relation),
            keys=self.keys,
            unique=self.unique,
            method=self.method,
            include=self.include,
            predicate=self.where,
            columns=self.columns,
            on_only=self.only,
            nulls_not_distinct=self.nulls_not_distinct,
            definition=self._definition,
        )

    def _breaks(self, relation: QName) -> tuple[Break, ...]:
        if not self.unique:
            return ()
        columns = ", ".join(self.keys)
        return (
            Break(
                "old",
                "restriction",
                f"writes that repeat a value of ({columns}) in {relation.name}",
                "23505",
                relation,
            ),
        )

    def apply(self, schema: Schema) -> None:
        """Add the index, valid, and its copies on partitions."""
        assert self.relation is not None
        name = self.index_name(schema)
        if name in schema.indexes:
            return
        made = self._made(schema, name)
        copies = [] if self.only else index_copies(schema, made)
        for index in (made, *copies):
            schema.put_index(index)

    @property
    def _definition(self) -> str:
        if not self.tail:
            return ""
        method = "" if self.tail[:5].upper() == "USING" else f"USING {self.method} "
        return f"CREATE INDEX ON t {method}{self.tail}"

    def created(self, schema: Schema) -> tuple[QName, ...]:
        """The index itself."""
        return (self.index_name(schema),)

    def plan(self, draft: Draft) -> None:
        """Built CONCURRENTLY: in expand, or for a unique one in contract, which binds old code."""
        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="index of a new table")
            return
        if table is not None and table.kind == "partitioned":
            self._plan_partitioned(draft, relation)
            return
        name = self.index_name(draft.schema)
        was = draft.start.indexes.get(name)
        if was is not None and set(self.makes(draft.schema)) & draft.replaced:
            self._replace(draft, relation, name, was)
            return
        if self.if_not_exists and name in draft.schema.indexes:
            draft.note(f"index {name} is there already")
            return
        unique = "UNIQUE " if self.unique else ""
        waits = self.unique or draft.copied(relation, self.columns)
        phase = Phase.CONTRACT if waits else Phase.EXPAND
        draft.restricts_old = draft.restricts_old or self.unique
        self._gate(draft, relation, name.name)
        draft.sql(
            phase,
            f"CREATE {unique}INDEX CONCURRENTLY {quote_qname(QName(None, name.name))} "
            f"ON {draft.sql_name(relation)} {self.tail}",
            undo=f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qname(name)}",
            why=f"build {name.name} while everyone goes on reading and writing",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=relation,
            transactional=False,
        )

    def _plan_partitioned(self, draft: Draft, relation: QName) -> None:
        """Put together of indexes on the partitions; on ONLY the parent, as it stands."""
        from zdd_migrate.blocks.partitioned import IndexShape, index_words, plan_partitioned_index

        name = self.index_name(draft.schema)
        if self.only:
            draft.as_written(
                Phase.EXPAND,
                undo=f"DROP INDEX IF EXISTS {quote_qname(name)}",
                why=f"{name.name} on the parent alone, which holds no rows",
                lock=LockMode.SHARE,
                relation=relation,
            )
            return
        draft.restricts_old = draft.restricts_old or self.unique
        self._gate(draft, relation, name.name)
        shape = IndexShape(
            name=name.name,
            tail=self.tail,
            words=index_words(self.keys, self.include),
            unique=self.unique,
        )
        plan_partitioned_index(
            draft, relation, shape, Phase.CONTRACT if self.unique else Phase.EXPAND
        )

    def _gate(self, draft: Draft, relation: QName, name: str) -> None:
        """No two rows may share what is to be unique; a build over duplicates leaves a wreck."""
        if not self.unique:
            return
        keys = [
            quote_ident(draft.column(relation, k, Phase.CONTRACT))
            if re.fullmatch(r"[\w$]+", k)
            else f"({k})"
            for k in self.keys
        ]
        conditions = [] if self.nulls_not_distinct else [f"{k} IS NOT NULL" for k in keys]
        if self.where is not None:
            conditions.append(f"({self.where})")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        shared = ", ".join(keys)
        draft.gate(
            Phase.CONTRACT,
            f"SELECT {shared} FROM {draft.sql_name(relation)}{where} GROUP BY {shared} "
            "HAVING count(*) > 1 LIMIT 1",
            message=f"rows of {relation} share a value of ({shared}): make them differ first",
            why=f"{name} cannot be built over duplicates",
        )

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The index."""
        return (("index", self.index_name(schema), ""),)

    def _replace(self, draft: Draft, relation: QName, name: QName, was: Index) -> None:
        """The new one beside the old one; then it takes the name; then the old one goes."""
        from zdd_migrate.blocks.copies import index_copy_sql
        from zdd_migrate.blocks.naming import own

        unique = "UNIQUE " if self.unique else ""
        phase = Phase.CONTRACT if self.unique else Phase.EXPAND
        draft.restricts_old = draft.restricts_old or self.unique or was.unique
        self._gate(draft, relation, name.name)
        working, aside = name.sibling(own("new", name.name)), name.sibling(own("old", name.name))
        draft.sql(
            phase,
            f"CREATE {unique}INDEX CONCURRENTLY {quote_ident(working.name)} "
            f"ON {draft.sql_name(relation)} {self.tail}",
            undo=f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qname(working)}",
            why=f"build the new {name.name} beside the old one",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=relation,
            transactional=False,
        )
        rename = [(name, aside), (working, name)]
        draft.sql(
            Phase.CONTRACT,
            [f"ALTER INDEX {quote_qname(a)} RENAME TO {quote_ident(b.name)}" for a, b in rename],
            undo=[
                f"ALTER INDEX {quote_qname(b)} RENAME TO {quote_ident(a.name)}"
                for a, b in reversed(rename)
            ],
            why=f"the new index takes the name {name.name}",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=relation,
        )
        draft.sql(
            Phase.CONTRACT,
            f"DROP INDEX CONCURRENTLY {quote_qname(aside)}",
            undo=index_copy_sql(was, aside.name, draft.sql_name(relation), {}),
            why="drop the old index once no old code needs it",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=relation,
            transactional=False,
        )


def _holds_key(table: Table | None, keys: tuple[str, ...]) -> bool:
    """Whether a unique index of a partitioned table holds the columns it is partitioned by."""
    if table is None or table.kind != "partitioned" or table.partition_key is None:
        return True
    return set(partition_columns(table)) <= set(keys)


def _read(cursor: Cursor) -> CreateIndex:
    cursor.expect("CREATE")
    unique = cursor.accept("UNIQUE")
    cursor.expect("INDEX")
    concurrently = cursor.accept("CONCURRENTLY")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    index = None if cursor.at("ON") else cursor.name()
    cursor.expect("ON")
    only = cursor.accept("ONLY")
    relation = cursor.qname()
    tail_from = cursor.i
    method = cursor.name() if cursor.accept("USING") else "btree"
    cursor.expect("(")
    keys = cursor.list_of(lambda: read_index_key(cursor))
    cursor.expect(")")
    include = cursor.names() if cursor.accept("INCLUDE") else ()
    nulls_not_distinct = cursor.accept("NULLS", "NOT", "DISTINCT")
    if not nulls_not_distinct:
        cursor.accept("NULLS", "DISTINCT")
    if cursor.accept("WITH"):
        cursor.skip_group()
    if cursor.accept("TABLESPACE"):
        cursor.name()
    where = cursor.until(comma=False) if cursor.accept("WHERE") else None
    return CreateIndex(
        relation=relation,
        index=index,
        keys=keys,
        unique=unique,
        concurrently=concurrently,
        if_not_exists=if_not_exists,
        only=only,
        method=method,
        include=include,
        nulls_not_distinct=nulls_not_distinct,
        where=squeeze(where) if where is not None else None,
        tail=cursor.slice(tail_from),
    )


READS = {"CREATE INDEX": _read, "CREATE UNIQUE INDEX": _read}
