"""TRUNCATE, LOCK, REFRESH, REINDEX, VACUUM, CLUSTER, ANALYZE, and GRANT and REVOKE."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.objects import read_options
from zdd_migrate.model.effects import Break, Effects, PgError, merge
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Index, Schema
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.facts import leaves, owned_sequences, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Operation):
    """Empty a table. `cascade` takes the tables that reference it along."""

    kind: ClassVar[str] = "truncate"
    cascade: bool = False
    restart: bool = False
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE and new, empty files, of the indexes too."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        emptied = list(tree(at.schema, relation, only=self.only))
        together = {
            at.schema.resolve(o.relation)
            for o in at.siblings
            if isinstance(o, Truncate) and o.relation is not None
        }
        error = None
        for name in emptied:  # those that CASCADE adds are gone through as well
            for other, fk in at.schema.foreign_keys_to(name):
                if other.name in emptied or other.name in together:
                    continue
                if self.cascade:
                    emptied += tree(at.schema, other.name)
                else:
                    message = f"cannot truncate a table referenced in foreign key {fk.name}"
                    error = PgError("0A000", message)
        locks = dict.fromkeys(emptied, _M.ACCESS_EXCLUSIVE)
        if self.restart:
            for name in emptied:
                owned = owned_sequences(at.schema, name)
                locks.update(dict.fromkeys(owned, _M.ACCESS_EXCLUSIVE))
        heaps = leaves(at.schema, emptied)
        return Effects(
            locks=locks,
            rewrites=tuple(heaps),
            index_rebuilds=_indexes(at.schema, heaps),
            error=error,
            loses=tuple(f"all rows of {name}" for name in emptied),
        )

    def plan(self, draft: Draft) -> None:
        """Refused: nothing brings the rows back."""
        relation = draft.resolve(self.relation)
        draft.refuse(
            f"TRUNCATE of {relation} takes rows that running code works with, for good",
            "delete the rows that must go in batches, when no code needs them",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTable(Operation):
    """Lock a table until the transaction ends."""

    kind: ClassVar[str] = "lock_table"
    mode: str = "ACCESS EXCLUSIVE"
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """The mode that is asked for."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        mode = next(m for m in LockMode if m.sql == self.mode)
        members = [relation] if self.only else _below(at.schema, relation)
        return Effects(locks=dict.fromkeys(members, mode))

    def plan(self, draft: Draft) -> None:
        """Plans take the locks they need."""
        draft.note(
            f"the migration's LOCK TABLE {self.relation} is left out: steps lock by themselves"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintain(Operation):
    """REFRESH, REINDEX, VACUUM, CLUSTER or ANALYZE of an object (all of them when None)."""

    kind: ClassVar[str] = "maintain"
    verb: str
    object: str = "TABLE"
    concurrently: bool = False
    full: bool = False
    only: bool = False
    #: of REINDEX SCHEMA and the like, what is named
    name: str | None = None
    #: the index that CLUSTER names
    using: str | None = None
    with_data: bool = True

    def effects(self, at: Situation) -> Effects:
        """By verb; FULL, CLUSTER and a plain REINDEX or REFRESH keep others out while they work."""
        relation = at.schema.resolve(self.relation) if self.relation is not None else None
        transactional = self._transactional(at, relation)
        error = self._refused(at, relation)
        if error is None and not transactional and at.in_transaction:
            error = PgError("25001", f"{self.verb} cannot run inside a transaction block")
        if relation is None:
            done = self._everything(at)
        elif self.verb == "REFRESH":
            done = self._refresh(at, relation)
        elif self.verb == "REINDEX":
            done = self._reindex(at, relation)
        elif self.verb == "CLUSTER" or self.full:
            done = _written_anew(at.schema, relation)
        else:
            done = self._vacuum(at, relation)
        return replace(done, transactional=transactional, error=error)

    def _transactional(self, at: Situation, relation: QName | None) -> bool:
        """Several tables, or a partitioned one, are done in a transaction each."""
        if self.verb == "VACUUM" or (self.verb == "REINDEX" and self.concurrently):
            return False
        if self.verb not in ("REINDEX", "CLUSTER"):
            return True
        if relation is None:
            return False
        index = at.schema.indexes.get(relation)
        table = at.schema.tables.get(index.table if index is not None else relation)
        if self.verb == "CLUSTER" and at.pg < 15:
            return True
        return table is None or table.kind != "partitioned"

    def _refused(self, at: Situation, relation: QName | None) -> PgError | None:
        schema = at.schema
        if relation is None:
            return None
        table = schema.tables.get(relation)
        if self.only and at.pg < 18 and self.verb in ("VACUUM", "ANALYZE"):
            return PgError("42601", f"{self.verb} ONLY needs Postgres 18")
        if self.verb == "CLUSTER" and table is not None:
            if table.kind == "partitioned" and at.pg < 15:
                return PgError("0A000", "cannot cluster a partitioned table")
            if self.using is None and schema.complete and not schema.clustered.get(relation):
                message = f'there is no previously clustered index for table "{relation.name}"'
                return PgError("42704", message)
        if self.verb == "REFRESH" and self.concurrently and relation in schema.views:
            unique = [
                i
                for i in schema.indexes_of(relation)
                if i.unique and i.predicate is None and i.valid
            ]
            if not unique and schema.complete:
                message = f'cannot refresh materialized view "{relation}" concurrently'
                return PgError("55000", message)
        if self.verb == "REINDEX" and self.concurrently:
            index = schema.indexes.get(relation)
            if index is not None and index.constraint is not None and not index.unique:
                return PgError(
                    "0A000",
                    "concurrent index creation for exclusion constraints is not supported",
                )
        return None

    def _everything(self, at: Situation) -> Effects:
        """REINDEX SCHEMA and the verbs without a name: all tables there are, one after another."""
        at.assume(f"{self.verb} works on every table")
        schema = at.schema
        if self.verb == "REINDEX":
            names = [*schema.tables, *(v.name for v in schema.views.values() if v.materialized)]
            if self.object == "SCHEMA":
                names = [name for name in names if name.schema == self.name]
            return merge(self._reindex(at, name) for name in leaves(schema, names))
        if self.verb == "CLUSTER":
            return merge(_written_anew(schema, name) for name in schema.clustered)
        return Effects()

    def _refresh(self, at: Situation, relation: QName) -> Effects:
        locks = {relation: _M.EXCLUSIVE if self.concurrently else _M.ACCESS_EXCLUSIVE}
        scans = {relation: "it is read to see what changed"} if self.concurrently else {}
        view = at.schema.views.get(relation)
        for read in sorted(view.depends_on) if view is not None and self.with_data else ():
            for member in tree(at.schema, read):
                locks[member] = _M.ACCESS_SHARE
                if member not in at.schema.views:
                    scans[member] = "the view's query reads it"
        if self.concurrently:
            return Effects(locks=locks, scans=scans)
        return Effects(
            locks=locks,
            scans={**scans, **({relation: "it is filled anew"} if self.with_data else {})},
            rewrites=(relation,),
            index_rebuilds=_indexes(at.schema, [relation]),
        )

    def _reindex(self, at: Situation, relation: QName) -> Effects:
        schema = at.schema
        index = schema.indexes.get(relation)
        mode = _M.SHARE_UPDATE_EXCLUSIVE if self.concurrently else _M.SHARE
        rebuilt = (
            _parts(schema, index)
            if index is not None
            else [i for t in leaves(schema, tree(schema, relation)) for i in schema.indexes_of(t)]
        )
        tables = dict.fromkeys(i.table for i in rebuilt)
        if index is None and not rebuilt:
            tables = dict.fromkeys(leaves(schema, [relation]))
        scanned = {i.table for i in rebuilt}
        locks: dict[QName, LockMode] = dict.fromkeys(tables, mode)
        above = schema.tables.get(index.table if index is not None else relation)
        if above is not None and above.kind == "partitioned":
            # its partitions are locked once in SHARE mode to be listed, even concurrently
            locks = {**dict.fromkeys(tables, _M.SHARE), above.name: mode}
        index_locks: dict[QName, LockMode] = {}
        if not self.concurrently:
            index_locks = dict.fromkeys((i.name for i in rebuilt), _M.ACCESS_EXCLUSIVE)
        return Effects(
            locks=locks,
            index_locks=index_locks,
            scans={t: "every row is read to build the index" for t in tables if t in scanned},
            index_rebuilds=tuple(i.name for i in rebuilt),
        )

    def _vacuum(self, at: Situation, relation: QName) -> Effects:
        """VACUUM reads the pages that changed, ANALYZE a sample: nobody waits for either."""
        table = at.schema.tables.get(relation)
        members = [relation] if self.only else tree(at.schema, relation)
        partitioned = table is not None and table.kind == "partitioned"
        sampled = self.verb == "ANALYZE" and not partitioned
        locks: dict[QName, LockMode] = dict.fromkeys(members, _M.SHARE_UPDATE_EXCLUSIVE)
        if self.only and self.verb == "ANALYZE":
            locks.update(dict.fromkeys(tree(at.schema, relation)[1:], _M.ACCESS_SHARE))
        return Effects(
            locks=locks,
            scans={relation: "a sample of it is read"} if sampled else {},
        )

    def apply(self, schema: Schema) -> None:
        """Keep whether a materialized view is filled."""
        view = schema.view(self.relation) if self.relation is not None else None
        if self.verb == "REFRESH" and view is not None:
            schema.views[view.name] = replace(view, populated=self.with_data)

    def plan(self, draft: Draft) -> None:
        """Harmless ones in migrate, as they are; those that keep others out are refused."""
        gentle = self.concurrently or (self.verb in ("ANALYZE", "VACUUM") and not self.full)
        if not gentle:
            instead = {
                "REFRESH": "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on it",
                "REINDEX": "REINDEX … CONCURRENTLY",
            }.get(self.verb, "pg_repack or pg_squeeze, which rewrite a table while it is used")
            draft.refuse(f"{self.verb} of {self.relation} keeps others out while it works", instead)
            return
        draft.as_written(
            Phase.MIGRATE,
            undo=(),
            why=f"{self.verb.lower()} while everyone goes on",
            transactional=self.verb == "ANALYZE" or self.verb == "REFRESH",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Operation):
    """GRANT (`give`) or REVOKE. `relations` are the tables and sequences named, if any are.

    `relation` is the first of them.
    """

    kind: ClassVar[str] = "grant"
    give: bool
    text: str
    relations: tuple[QName, ...] = ()

    def effects(self, at: Situation) -> Effects:
        """No table lock before Postgres 18, ACCESS SHARE since; revoking breaks who relied on it."""
        privileges = self.text.upper().split(" ON ")[0]
        if at.pg < 17 and re.search(r"\bMAINTAIN\b", privileges):
            return Effects(error=PgError("42601", 'unrecognized privilege type "maintain"'))
        locks: dict[QName, LockMode] = {}
        if at.pg >= 18 and self.relation is not None:
            locks = dict.fromkeys(map(at.schema.resolve, self.relations), _M.ACCESS_SHARE)
        if self.give:
            return Effects(locks=locks)
        what = f"statements of roles that lose a privilege ({self.text})"
        return Effects(
            locks=locks, breaks=(Break("old", "privilege", what, "42501", self.relation),)
        )

    def apply(self, schema: Schema) -> None:
        """Remember which role has something, for it cannot be dropped then, and where columns are
        granted by themselves."""
        if self.give and "(" in re.split(r"\bON\b", self.text, maxsplit=1, flags=re.IGNORECASE)[0]:
            for relation in map(schema.resolve, self.relations):
                schema.others["grants of columns", relation] = ""
        for role in _roles(self.text) if self.relation is not None else ():
            about = str(schema.resolve(self.relation)) if self.relation is not None else ""
            if self.give:
                schema.granted.setdefault(role, set()).add(about)
            else:
                schema.granted.get(role, set()).discard(about)

    def plan(self, draft: Draft) -> None:
        """Granting in expand, revoking at contract; undone by the opposite."""
        words = draft.statement.split(None, 1)
        rest = words[1] if len(words) > 1 else ""
        if self.give:
            opposite = "REVOKE " + _swap(rest, " TO ", " FROM ").replace(" WITH GRANT OPTION", "")
        else:
            opposite = "GRANT " + _swap(rest, " FROM ", " TO ").replace(" CASCADE", "")
        draft.restricts_old = draft.restricts_old or not self.give
        draft.as_written(
            Phase.EXPAND if self.give else Phase.CONTRACT,
            undo=opposite,
            why=f"{'grant' if self.give else 'revoke'} privileges",
        )


def _roles(text: str) -> list[str]:
    """The roles that a GRANT or REVOKE names after TO or FROM."""
    found = re.search(r"\b(?:TO|FROM)\s+([\w\s\",]+?)(?:\s+(?:WITH|CASCADE|GRANTED)\b.*)?;?$", text)
    return [role.strip().strip('"') for role in found[1].split(",")] if found else []


def _indexes(schema: Schema, tables: Iterable[QName]) -> tuple[QName, ...]:
    return tuple(i.name for table in tables for i in schema.indexes_of(table))


def _below(schema: Schema, relation: QName) -> list[QName]:
    """A relation, its children, and what a view reads: LOCK goes all the way down."""
    view = schema.views.get(relation)
    if view is None or view.materialized:
        return tree(schema, relation)
    found = [relation]
    for name in sorted(view.depends_on):
        found += _below(schema, name)
    return found


def _written_anew(schema: Schema, relation: QName) -> Effects:
    """ACCESS EXCLUSIVE while the table, or each of its partitions, is copied with its indexes."""
    heaps = leaves(schema, tree(schema, relation))
    return Effects(
        locks=dict.fromkeys((relation, *heaps), _M.ACCESS_EXCLUSIVE),
        rewrites=tuple(heaps),
        scans=dict.fromkeys(heaps, "every row is written anew"),
        index_rebuilds=_indexes(schema, heaps),
    )


def _parts(schema: Schema, index: Index) -> list[Index]:
    """The index itself, or those of the partitions that make up a partitioned one."""
    table = schema.tables.get(index.table)
    if table is None or table.kind != "partitioned":
        return [index]
    found = []
    for partition in schema.partitions_of(index.table):
        for mine in schema.indexes_of(partition.name):
            if mine.parent == index.name:
                found += _parts(schema, mine)
    return found


def _swap(text: str, old: str, new: str) -> str:
    at = text.upper().rfind(old)
    return text if at < 0 else text[:at] + new + text[at + len(old) :]


def _read_truncate(cursor: Cursor) -> list[Truncate]:
    cursor.expect("TRUNCATE")
    cursor.accept("TABLE")
    names = [_only(cursor)]
    while cursor.accept(","):
        names.append(_only(cursor))
    restart = cursor.accept("RESTART", "IDENTITY")
    if not restart:
        cursor.accept("CONTINUE", "IDENTITY")
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return [Truncate(relation=n, cascade=cascade, restart=restart, only=o) for n, o in names]


def _only(cursor: Cursor) -> tuple[QName, bool]:
    """Read `[ONLY] name [*]`, or `ONLY (name)`; True with ONLY."""
    only = cursor.accept("ONLY")
    bracket = only and cursor.accept("(")
    name = cursor.qname()
    if bracket:
        cursor.expect(")")
    cursor.accept("*")
    return name, only


def _read_lock(cursor: Cursor) -> list[LockTable]:
    cursor.expect("LOCK")
    cursor.accept("TABLE")
    names = [_only(cursor)]
    while cursor.accept(","):
        names.append(_only(cursor))
    mode = "ACCESS EXCLUSIVE"
    if cursor.accept("IN"):
        words = []
        while not cursor.at("MODE"):
            words.append(cursor.next().up)
        cursor.expect("MODE")
        mode = " ".join(words)
        if mode not in {m.sql for m in LockMode}:
            raise cursor.unread("a lock mode was expected")
    cursor.accept("NOWAIT")
    return [LockTable(relation=name, mode=mode, only=only) for name, only in names]


def _read_maintain(cursor: Cursor) -> Maintain | list[Maintain]:
    verb = cursor.next().up.replace("ANALYSE", "ANALYZE")
    options = read_options(cursor) if cursor.at("(") else {}
    full = options.get("FULL", False)
    concurrently = options.get("CONCURRENTLY", False)
    while word := cursor.accept_one(("FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE")):
        full = full or word == "FULL"
    object_ = "TABLE"
    if verb == "REFRESH":
        cursor.expect("MATERIALIZED", "VIEW")
        object_ = "MATERIALIZED VIEW"
    elif verb == "REINDEX":
        object_ = cursor.accept_one(("INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM")) or "TABLE"
    concurrently = cursor.accept("CONCURRENTLY") or concurrently
    if cursor.done or cursor.at(";") or object_ in ("SCHEMA", "DATABASE", "SYSTEM"):
        named = cursor.name() if not (cursor.done or cursor.at(";")) else None
        return Maintain(verb=verb, object=object_, concurrently=concurrently, full=full, name=named)
    if verb in ("VACUUM", "ANALYZE"):
        names = cursor.list_of(lambda: _with_columns(cursor))
        return [Maintain(relation=name, verb=verb, full=full, only=only) for name, only in names]
    relation = cursor.qname()
    using: str | None = None
    if verb == "CLUSTER" and cursor.accept("ON"):  # CLUSTER index ON table, as it once was
        using, relation = relation.name, cursor.qname()
    if cursor.accept("USING"):
        using = cursor.name()
    with_data = not cursor.accept("WITH", "NO", "DATA")
    if with_data:
        cursor.accept("WITH", "DATA")
    return Maintain(
        relation=relation,
        verb=verb,
        object=object_,
        concurrently=concurrently,
        full=full,
        using=using,
        with_data=with_data,
    )


def _with_columns(cursor: Cursor) -> tuple[QName, bool]:
    name, only = _only(cursor)
    if cursor.at("("):
        cursor.skip_group()
    return name, only


def _read_grant(cursor: Cursor) -> Grant:
    give = cursor.next().up == "GRANT"
    start = cursor.i
    relations: tuple[QName, ...] = ()
    while not (cursor.done or cursor.at(";") or cursor.at("ON")):  # the privileges
        if cursor.at("("):
            cursor.skip_group()
        else:
            cursor.next()
    if cursor.accept("ON") and not (
        cursor.up() in _NOT_RELATIONS and cursor.up(1) not in ("TO", "FROM", ",", ".")
    ):
        if not cursor.accept("TABLE"):
            cursor.accept("SEQUENCE")
        relations = cursor.list_of(cursor.qname)
        if cursor.up() != ("TO" if give else "FROM"):
            raise cursor.unread("a role was expected")
    cursor.rest()
    return Grant(
        relation=relations[0] if relations else None,
        relations=relations,
        give=give,
        text=cursor.slice(start),
    )


#: what follows ON where the objects are no relations
_NOT_RELATIONS = frozenset(
    "ALL SCHEMA FUNCTION PROCEDURE ROUTINE TYPE DOMAIN DATABASE LANGUAGE FOREIGN TABLESPACE "
    "PARAMETER LARGE".split()
)

READS = {
    "TRUNCATE": _read_truncate,
    "LOCK": _read_lock,
    "REFRESH": _read_maintain,
    "REINDEX": _read_maintain,
    "VACUUM": _read_maintain,
    "CLUSTER": _read_maintain,
    "ANALYZE": _read_maintain,
    "ANALYSE": _read_maintain,
    "GRANT": _read_grant,
    "REVOKE": _read_grant,
}
