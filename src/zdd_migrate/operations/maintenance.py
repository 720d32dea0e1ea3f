"""TRUNCATE, LOCK, REFRESH, REINDEX, VACUUM, CLUSTER, ANALYZE, and GRANT and REVOKE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.operations.base import Operation, Situation

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Operation):
    """Empty a table. `cascade` takes the tables that reference it along."""

    kind: ClassVar[str] = "truncate"
    cascade: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE and new, empty files."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        emptied = [relation, *(t.name for t in at.schema.descendants_of(relation))]
        error = None
        for other, fk in at.schema.foreign_keys_to(relation):
            if other.name in emptied:
                continue
            if self.cascade:
                emptied.append(other.name)
            else:
                message = f"cannot truncate a table referenced in foreign key {fk.name}"
                error = PgError("0A000", message)
        return Effects(
            locks=dict.fromkeys(emptied, _M.ACCESS_EXCLUSIVE),
            rewrites=tuple(emptied),
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

    def effects(self, at: Situation) -> Effects:
        """The mode that is asked for."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        mode = next(m for m in LockMode if m.sql == self.mode)
        members = [relation, *(t.name for t in at.schema.descendants_of(relation))]
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

    def effects(self, at: Situation) -> Effects:
        """By verb; FULL, CLUSTER and a plain REINDEX or REFRESH keep others out while they work."""
        transactional = not (
            self.verb == "VACUUM" or (self.verb == "REINDEX" and self.concurrently)
        )
        error = None
        if not transactional and at.in_transaction:
            error = PgError("25001", f"{self.verb} cannot run inside a transaction block")
        if self.relation is None:
            at.assume(f"{self.verb} works on every table")
            return Effects(transactional=transactional, error=error)
        relation = at.schema.resolve(self.relation)
        locks: dict[QName, LockMode] = {}
        scans = {relation: f"{self.verb} reads it"}
        rewrites: tuple[QName, ...] = ()
        rebuilds: tuple[QName, ...] = ()
        if self.verb == "REFRESH":
            locks[relation] = _M.EXCLUSIVE if self.concurrently else _M.ACCESS_EXCLUSIVE
            view = at.schema.views.get(relation)
            for read in sorted(view.depends_on) if view is not None else ():
                locks[read] = _M.ACCESS_SHARE
                scans[read] = "the view's query reads it"
            rewrites = () if self.concurrently else (relation,)
        elif self.verb == "REINDEX":
            index = at.schema.indexes.get(relation)
            table = index.table if index is not None else relation
            mode = _M.SHARE_UPDATE_EXCLUSIVE if self.concurrently else _M.SHARE
            locks[table] = mode
            scans = {table: "every row is read to build the index"}
            rebuilds = (
                (relation,)
                if index is not None
                else tuple(i.name for i in at.schema.indexes_of(table))
            )
        elif self.verb == "CLUSTER" or self.full:
            locks[relation] = _M.ACCESS_EXCLUSIVE
            rewrites = (relation,)
            rebuilds = tuple(i.name for i in at.schema.indexes_of(relation))
        else:
            locks[relation] = _M.SHARE_UPDATE_EXCLUSIVE
        return Effects(
            locks=locks,
            rewrites=rewrites,
            scans=scans,
            index_rebuilds=rebuilds,
            transactional=transactional,
            error=error,
        )

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
        draft.sql(
            Phase.MIGRATE,
            draft.statement,
            undo=(),
            why=f"{self.verb.lower()} while everyone goes on",
            transactional=self.verb == "ANALYZE" or self.verb == "REFRESH",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Operation):
    """GRANT (`give`) or REVOKE. `relation` is the first object named, where it is a relation."""

    kind: ClassVar[str] = "grant"
    give: bool
    text: str

    def effects(self, at: Situation) -> Effects:
        """No table lock before Postgres 18, ACCESS SHARE since; revoking breaks who relied on it."""
        locks: dict[QName, LockMode] = {}
        if at.pg >= 18 and self.relation is not None:
            locks = {at.schema.resolve(self.relation): _M.ACCESS_SHARE}
        if self.give:
            return Effects(locks=locks)
        what = f"statements of roles that lose a privilege ({self.text})"
        return Effects(
            locks=locks, breaks=(Break("old", "privilege", what, "42501", self.relation),)
        )

    def plan(self, draft: Draft) -> None:
        """Granting in expand, revoking at contract; undone by the opposite."""
        words = draft.statement.split(None, 1)
        rest = words[1] if len(words) > 1 else ""
        if self.give:
            opposite = "REVOKE " + _swap(rest, " TO ", " FROM ").replace(" WITH GRANT OPTION", "")
        else:
            opposite = "GRANT " + _swap(rest, " FROM ", " TO ").replace(" CASCADE", "")
        draft.restricts_old = draft.restricts_old or not self.give
        draft.sql(
            Phase.EXPAND if self.give else Phase.CONTRACT,
            draft.statement,
            undo=opposite,
            why=f"{'grant' if self.give else 'revoke'} privileges",
        )


def _swap(text: str, old: str, new: str) -> str:
    at = text.upper().rfind(old)
    return text if at < 0 else text[:at] + new + text[at + len(old) :]


def _read_truncate(cursor: Cursor) -> list[Truncate]:
    cursor.expect("TRUNCATE")
    cursor.accept("TABLE")
    names = [_only(cursor)]
    while cursor.accept(","):
        names.append(_only(cursor))
    if not cursor.accept("RESTART", "IDENTITY"):
        cursor.accept("CONTINUE", "IDENTITY")
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return [Truncate(relation=name, cascade=cascade) for name in names]


def _only(cursor: Cursor) -> QName:
    cursor.accept("ONLY")
    name = cursor.qname()
    cursor.accept("*")
    return name


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
    return [LockTable(relation=name, mode=mode) for name in names]


def _read_maintain(cursor: Cursor) -> Maintain | list[Maintain]:
    verb = cursor.next().up.replace("ANALYSE", "ANALYZE")
    options = cursor.group_text().upper() if cursor.at("(") else ""
    full = "FULL" in options
    concurrently = "CONCURRENTLY" in options
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
        cursor.rest()
        return Maintain(verb=verb, object=object_, concurrently=concurrently, full=full)
    if verb in ("VACUUM", "ANALYZE"):
        names = cursor.list_of(lambda: _with_columns(cursor))
        return [Maintain(relation=name, verb=verb, full=full) for name in names]
    relation = cursor.qname()
    if verb == "CLUSTER" and cursor.accept("ON"):  # CLUSTER index ON table, as it once was
        relation = cursor.qname()
    if cursor.accept("USING"):
        cursor.name()
    if not cursor.accept("WITH", "DATA"):
        cursor.accept("WITH", "NO", "DATA")
    return Maintain(
        relation=relation, verb=verb, object=object_, concurrently=concurrently, full=full
    )


def _with_columns(cursor: Cursor) -> QName:
    name = _only(cursor)
    if cursor.at("("):
        cursor.skip_group()
    return name


def _read_grant(cursor: Cursor) -> Grant:
    give = cursor.next().up == "GRANT"
    start = cursor.i
    relation = None
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("ON"):
            kind = cursor.up()
            cursor.accept("TABLE")
            if kind not in _NOT_RELATIONS:
                relation = cursor.qname()
        elif cursor.at("("):
            cursor.skip_group()
        else:
            cursor.next()
    return Grant(relation=relation, give=give, text=cursor.slice(start))


_NOT_RELATIONS = frozenset(
    [
        "ALL",
        "SCHEMA",
        "FUNCTION",
        "PROCEDURE",
        "ROUTINE",
        "TYPE",
        "DOMAIN",
        "DATABASE",
        "SEQUENCE",
        "LANGUAGE",
        "FOREIGN",
        "TABLESPACE",
        "PARAMETER",
        "LARGE",
    ]
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
