"""INSERT, UPDATE, DELETE, MERGE and SELECT inside a migration.

They lock rows, not tables, but a whole-table UPDATE or DELETE holds its row locks, and whatever
the transaction locked before, until it commits; and it leaves a dead copy of every row behind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.expressions import analyse, squeeze, volatility
from zdd_migrate.grammar.queries import follow_query, parse_query, relations_read
from zdd_migrate.grammar.rows import plain_name
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Table
from zdd_migrate.operations.base import NotUnderstood, Operation, Situation
from zdd_migrate.operations.bodies import with_calls
from zdd_migrate.operations.create_table import CreateTable, Persistence
from zdd_migrate.operations.rows import row_locks, scanned

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

Verb = Literal["insert", "update", "delete", "merge", "select"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStatement(Operation):
    """A statement over rows. `relation` is the table written (None for SELECT).

    `where` is an UPDATE's or DELETE's condition, `assignments` an UPDATE's (column, expression)
    pairs when it has one table and no FROM; `calls` are functions a SELECT calls.
    """

    kind: ClassVar[str] = "data_statement"
    verb: Verb
    where: str | None = None
    assignments: tuple[tuple[str, str], ...] = ()
    simple: bool = False
    #: an UPDATE or DELETE without a WHERE
    whole: bool = False
    calls: tuple[str, ...] = ()
    text: str = ""

    @property
    def doing(self) -> DataStatement:
        """The statement as what it does to rows: a SELECT whose WITH writes is such a write."""
        if self.verb != "select" or _WRITES.search(self.text) is None:
            return self
        query = parse_query(self.text)
        if query is None or not query.written:
            return self
        relation, verb = query.written[0]
        return replace(self, relation=relation, verb=verb)  # type: ignore[arg-type]  # one of its kinds

    def effects(self, at: Situation) -> Effects:
        """ROW EXCLUSIVE on what is written, ACCESS SHARE on what is read."""
        if self.verb == "merge" and at.pg < 15:
            return Effects(error=PgError("42601", "MERGE needs Postgres 15"))
        unfilled = self._unfilled(at)
        if unfilled is not None:
            return Effects(error=unfilled)
        locks = row_locks(at.schema, self.text)
        scans = dict.fromkeys(
            scanned(at.schema, self.text, where=self.where), "no index is seen to find the rows"
        )
        if self.verb == "insert" and not re.search(r"\bSELECT\b", self.text, re.IGNORECASE):
            scans = {}
        loses: tuple[str, ...] = ()
        doing = self.doing
        if doing.relation is not None:
            relation = at.schema.resolve(doing.relation)
            if doing.verb == "delete":
                every = self.where is None and doing is self
                what = "all rows" if every else "the rows that match"
                loses = (f"{what} of {relation}",)
        return Effects(locks=locks, scans=scans, loses=loses)

    def _unfilled(self, at: Situation) -> PgError | None:
        """A materialized view WITH NO DATA cannot be read."""
        for name in relations_read(self.text):
            view = at.schema.views.get(at.schema.resolve(name))
            if view is not None and view.materialized and not view.populated:
                message = f'materialized view "{view.name.name}" has not been populated'
                return PgError("55000", message)
        return None

    def plan(self, draft: Draft) -> None:
        """A simple UPDATE becomes a batched backfill; anything else runs as it is, in migrate."""
        from zdd_migrate.blocks.inserted import take_back

        if self.doing is not self:
            self.doing.plan(draft)
            return
        if self.verb == "select":
            if self.calls and (parent := _partitioned_by_call(self, draft)) is not None:
                why = f"its function makes partitions of the new table {parent}, and nothing else"
                draft.as_written(Phase.EXPAND, undo=(), why=why)
                return
            if (doing := _done_by_calls(self, draft)) is not None:
                draft.refuse(*doing)
                return
            draft.note("a SELECT of the migration is left out of the plan: it changes nothing")
            return
        relation = draft.resolve(self.relation)
        if self.refuse_stale(draft):
            return
        if self._again and (stale := self._stale(draft)):
            self._plan_again(draft, relation, stale[0])
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why=f"rows of the new table {relation}")
            return
        draft.rows_written.add(relation)
        if self.verb == "update" and self.simple and self._repeatable(draft):
            known = draft.table(relation)
            todo = " OR ".join(
                f"{c} IS DISTINCT FROM {_comparable(known, c, e)}" for c, e in self.assignments
            )
            where = f"({self.where}) AND ({todo})" if self.where else todo
            draft.backfill(
                relation,
                [(c.strip('"'), e) for c, e in self.assignments],
                where,
                why="the migration's own UPDATE, in batches",
            )
            draft.note(f"what the UPDATE of {relation} overwrites is not kept for the way back")
            return
        back = take_back(draft, relation, self.text) if self.verb == "insert" else []
        draft.as_written(
            Phase.MIGRATE,
            undo=back,
            why="the migration's own data statement, as it is",
            lock=LockMode.ROW_EXCLUSIVE,
            relation=relation,
        )
        if back:
            draft.note(
                f"undo takes the rows that the INSERT writes to {relation} back, except those that "
                "somebody has changed since"
            )
            return
        draft.note(
            f"the {self.verb.upper()} on {relation} is not taken back by undo: its rows stay as it "
            "leaves them"
        )

    @property
    def _again(self) -> bool:
        """Whether it adds what is missing only, so that it may run once more."""
        return self.verb == "insert" and bool(_ONLY_MISSING.search(self.text))

    def _stale(self, draft: Draft) -> list[QName]:
        """Tables that its rows come from and that old code goes on writing."""
        relation = draft.resolve(self.relation)
        return [t for t in self._read_from(draft) if t != relation]

    def refuse_stale(self, draft: Draft) -> bool:
        """Refuse where what old code writes after the copy would be missing to new code."""
        stale = self._stale(draft)
        if not stale or id(self) in draft.accounted or self._again or not self._counted_on(draft):
            return False
        draft.refuse(
            f"the rows of {draft.resolve(self.relation)} come from {stale[0]}, where old code goes on "
            "writing: what it writes after they were copied would be missing",
            f"let new code write both first and copy in the release after; or, where columns of "
            f"{stale[0]} move, copy its key with them into the new table (INSERT … SELECT) and "
            "drop them in the same migration",
        )
        return True

    def _plan_again(self, draft: Draft, relation: QName, source: QName) -> None:
        """An INSERT that adds only what is missing runs once more when no old code is left."""
        draft.needs_release = True
        draft.note(
            f"rows that old code writes to {source} after expand come to {relation} only at contract"
        )
        draft.sql(
            Phase.CONTRACT,
            draft.statement,
            undo=(),
            why=f"the rows of {relation} for what old code wrote to {source} since",
            lock=LockMode.ROW_EXCLUSIVE,
            relation=relation,
        )

    def _counted_on(self, draft: Draft) -> bool:
        """Whether new code counts on what this writes for rows that old code writes afterwards.

        Values of columns that were there before are corrected once, in the plain migration too.
        """
        if self.verb in ("insert", "merge"):
            return True
        if self.verb != "update" or self.relation is None:
            return False
        start = draft.start.table(self.relation)
        now = draft.table(self.relation)
        if start is None or now is None:
            return True
        added = {c.name for c in now.columns} - {c.name for c in start.columns}
        return bool(added & self.written)

    @property
    def written(self) -> set[str]:
        """The columns that an UPDATE or MERGE writes; all its words where they are not told apart."""
        if self.verb not in ("update", "merge"):
            return set()
        return {plain_name(column) for column, _ in self.assignments} or set(
            re.findall(r"\w+", self.text.lower())
        ) | set(re.findall(r'"([^"]+)"', self.text))

    def _read_from(self, draft: Draft) -> list[QName]:
        """Tables that were there before, and hold the values this writes."""
        read = [draft.schema.resolve(name) for name in relations_read(self.text)]
        if self.verb == "update" and self.simple:
            return []
        return [name for name in read if name in draft.start.tables and not draft.is_new(name)]

    def _repeatable(self, draft: Draft) -> bool:
        """Whether writing a row twice is the same as once, as batches that are resumed need it."""
        return bool(self.assignments) and not any(
            analyse(text).names & self.written or volatility(text, draft.schema)[0] == "volatile"
            for _, text in self.assignments
        )


_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_ONLY_MISSING = re.compile(
    r"\bON\s+CONFLICT\b(?!.*\bDO\s+UPDATE\b)|\bNOT\s+EXISTS\b(?!.*\bDO\s+UPDATE\b)",
    re.IGNORECASE | re.DOTALL,
)


def _comparable(table: Table | None, column: str, value: str) -> str:
    """A value as what the column makes of it: an UPDATE casts what a comparison does not."""
    target = table.column(plain_name(column)) if table is not None else None
    source = table.column(plain_name(value)) if table is not None else None
    if target is None or source is None:
        return f"({value})"
    alike = parse_type(target.type).base == parse_type(source.type).base
    return f"({value})" if alike else f"({value})::{target.type}"


def _partitioned_by_call(operation: DataStatement, draft: Draft) -> QName | None:
    """A table of this migration that a SELECT only makes partitions of, if it is such a SELECT."""
    from zdd_migrate.operations.partition_makers import parent_of_partitions

    name = operation.calls[0]
    made = {
        (q, f.arguments)
        for s in (draft.start, draft.schema)
        for q, found in s.functions.items()
        for f in found
        if q.name == name
    }
    if len(made) != 1:  # one that is dropped is there until contract: the call may not be unique
        return None
    parent = parent_of_partitions(operation.text, draft.schema)
    return parent if parent is not None and draft.is_new(parent) else None


def _done_by_calls(operation: DataStatement, draft: Draft) -> tuple[str, str] | None:
    """Why a SELECT cannot be left out: the functions it calls change something, or may."""
    from zdd_migrate.operations import read_statement  # the dispatch table holds this room

    for found in with_calls((operation,), draft.schema, read_statement)[1:]:
        if isinstance(found, NotUnderstood):
            return f"not understood: {found.reason}", "write its statements out"
        if not isinstance(found, DataStatement) or found.doing.verb != "select":
            where = found.hidden.where if found.hidden is not None else "a function"
            reason = f"the SELECT calls {where}, which does {found.kind.replace('_', ' ')}"
            return reason, "write its statements out, so that each can be planned"
    return None


def _read(cursor: Cursor) -> DataStatement | CreateTable:
    first = cursor.up()
    mark = cursor.i
    text = cursor.rest()
    cursor.i = mark
    if (made := _into(cursor)) is not None:
        return made
    cursor.i = mark
    query = follow_query(cursor, text)
    if first in ("UPDATE", "DELETE"):
        return _read_change(cursor, text)
    cursor.rest()
    verb: Verb = query.kind if query.kind in _VERBS else "select"  # type: ignore[assignment]
    if verb != "select" and not query.writes:
        raise UnreadError("the table that is written was expected")
    return DataStatement(
        relation=query.writes[0] if verb != "select" else None,
        verb=verb,
        calls=query.functions,
        text=text,
    )


def _into(cursor: Cursor) -> CreateTable | None:
    """Read SELECT … INTO name …, which makes a table; None where nothing is made."""
    before = first = cursor.up()
    #: whether this is a part of the query that cannot have an INTO
    elsewhere = first in ("INSERT", "UPDATE", "DELETE", "MERGE")
    depth = 0
    while not cursor.done and not (cursor.at("INTO") and before not in _BEFORE_INTO):
        before = cursor.next().up
        if before == "RETURNING":  # INTO after it names variables of a body of code
            return None
        depth += (before == "(") - (before == ")")
        elsewhere = elsewhere or before in ("UNION", "INTERSECT", "EXCEPT")
    start = cursor.i
    if not cursor.accept("INTO"):
        return None
    if elsewhere or (depth and first != "("):
        raise cursor.unread("INTO stands in the first SELECT only")
    persistence: Persistence = "permanent"
    cursor.accept_one(("LOCAL", "GLOBAL"))
    if cursor.accept_one(("TEMP", "TEMPORARY")):
        persistence = "temporary"
    elif cursor.accept("UNLOGGED"):
        persistence = "unlogged"
    cursor.accept("TABLE")
    name = cursor.qname()
    end = cursor.offset
    cursor.rest()
    query = cursor.sql[cursor.tokens[0].start : cursor.tokens[start].start]
    query += cursor.sql[end : cursor.tokens[-1].end]
    return CreateTable(
        relation=name, persistence=persistence, query=query.rstrip().rstrip(";").rstrip()
    )


#: INTO after these words makes nothing
_BEFORE_INTO = ("INSERT", "MERGE", "AS", ".")
_VERBS = ("insert", "update", "delete", "merge", "select")


def _read_change(cursor: Cursor, text: str) -> DataStatement:
    verb: Verb = "update" if cursor.accept("UPDATE") else "delete"
    if verb == "delete":
        cursor.expect("DELETE", "FROM")
    cursor.accept("ONLY")
    relation = cursor.qname()
    cursor.accept("*")
    aliased = False
    if cursor.accept("AS") or (
        not cursor.done and cursor.up() not in ("SET", "WHERE", "USING", "RETURNING", ";")
    ):
        cursor.name()
        aliased = True
    assignments: list[tuple[str, str]] = []
    plain = not aliased
    if verb == "update":
        cursor.expect("SET")
        while True:
            if cursor.at("("):
                plain = False
                cursor.skip_group()
                cursor.expect("=")
                cursor.until(_AFTER_SET)
            else:
                start = cursor.i
                cursor.name()
                if cursor.at("[") or cursor.at("."):
                    plain = False
                    while not cursor.at("="):
                        cursor.next()
                column = cursor.slice(start)
                cursor.expect("=")
                assignments.append((column, squeeze(cursor.until(_AFTER_SET))))
            if not cursor.accept(","):
                break
    if cursor.up() in ("FROM", "USING"):
        plain = False
        cursor.next()
        cursor.until(("WHERE", "RETURNING"), comma=False)
    where = None
    if cursor.accept("WHERE"):
        where = squeeze(cursor.until(("RETURNING",), comma=False))
    if cursor.accept("RETURNING"):
        plain = False
        cursor.rest()
    if where is not None and re.search(r"\bSELECT\b|\bCURRENT\s+OF\b", where, re.IGNORECASE):
        plain = plain and "CURRENT OF" not in where.upper()
    return DataStatement(
        relation=relation,
        verb=verb,
        where=where,
        assignments=tuple(assignments),
        simple=plain,
        whole=where is None,
        text=text,
    )


_AFTER_SET = ("FROM", "WHERE", "RETURNING")

READS = dict.fromkeys(
    ("INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "WITH", "VALUES", "TABLE", "("), _read
)
