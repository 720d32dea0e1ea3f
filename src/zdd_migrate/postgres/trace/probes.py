"""Real statements of another session, to see which of them wait. What they do is rolled back.

A probe that ends in an error of its own has not waited: only lock_not_available (55P03) counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from zdd_migrate.model.effects import Break
from zdd_migrate.model.names import QName
from zdd_migrate.postgres.trace.relations import Relation, Snapshot

#: SELECT, INSERT, UPDATE, DELETE, SELECT … FOR UPDATE, nextval
KINDS = "siudln"
_WAIT_MS = 40


@dataclass(frozen=True, slots=True)
class Probes:
    """Statements by relation and kind."""

    statements: dict[QName, dict[str, sql.Composed]] = field(default_factory=dict)

    def blocked(
        self, session: psycopg.Connection, relations: Iterable[QName] | None = None
    ) -> dict[QName, str]:
        """The kinds that wait now, by relation (`siudl`); relations where none does left out.

        A SELECT that waits is one that cannot be planned: whatever else names the relation waits
        as well, and is not tried.
        """
        found: dict[QName, str] = {}
        for relation in self.statements if relations is None else relations:
            mine = self.statements.get(relation, {})
            if "s" in mine and _waits(session, mine["s"]):
                found[relation] = "".join(kind for kind in KINDS if kind in mine)
                continue
            waiting = [k for k in KINDS if k in mine and k != "s" and _waits(session, mine[k])]
            if waiting:
                found[relation] = "".join(waiting)
        return found


def prepare(session: psycopg.Connection, snapshot: Snapshot) -> Probes:
    """Probes for every table, view and sequence."""
    session.execute(f"SET lock_timeout = {_WAIT_MS}".encode())
    columns = _columns(session)
    return Probes(
        {
            relation.name: _statements(relation, columns.get(relation.oid, []))
            for relation in snapshot.of_kind("rpvmS")
        }
    )


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: str
    given: bool  # whether an INSERT names it: it does not number itself
    unique: bool


def _columns(session: psycopg.Connection) -> dict[int, list[_Column]]:
    rows = session.execute(
        "SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, NULL), "
        "a.attgenerated = '' AND a.attidentity = '' "
        "AND coalesce(pg_get_expr(d.adbin, d.adrelid), '') !~ 'nextval', "
        "EXISTS (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisunique "
        "AND a.attnum = ANY (x.indkey::int2[])) "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
        "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm') "
        "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY a.attnum"
    ).fetchall()
    found: dict[int, list[_Column]] = {}
    for oid, *rest in rows:
        found.setdefault(oid, []).append(_Column(*rest))
    return found


def _statements(relation: Relation, columns: list[_Column]) -> dict[str, sql.Composed]:
    name = sql.Identifier(*[p for p in relation.name if p is not None])
    if relation.kind == "S":
        return {"n": sql.SQL("SELECT nextval({}::regclass)").format(_regclass(relation.name))}
    found = {"s": sql.SQL("SELECT * FROM {} LIMIT 1").format(name)}
    if relation.kind == "m" or not columns:
        return found
    given = [c for c in columns if c.given]
    if given:
        one = sql.Identifier(given[-1].name)
        key: sql.Composable = sql.SQL("ctid = (SELECT ctid FROM {} LIMIT 1)").format(name)
        if relation.kind != "r":  # rows of views have no ctid, and partitions share theirs
            key = sql.SQL("true")
        found["u"] = sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(name, one, one, key)
        found["i"] = _insert(name, given)
        found["d"] = sql.SQL("DELETE FROM {} WHERE {}").format(name, key)
    if relation.kind != "v":
        found["l"] = sql.SQL("SELECT 1 FROM {} LIMIT 1 FOR UPDATE").format(name)
    return found


def _insert(name: sql.Identifier, columns: list[_Column]) -> sql.Composed:
    """A row like one that is there, with keys of its own where their type is known."""
    values: list[sql.Composable] = []
    for column in columns:
        read: sql.Composable = sql.Identifier(column.name)
        change = _FRESH.get(column.type) if column.unique else None
        values.append(sql.SQL(change).format(read) if change is not None else read)
    return sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} LIMIT 1").format(
        name,
        sql.SQL(", ").join(sql.Identifier(c.name) for c in columns),
        sql.SQL(", ").join(values),
        name,
    )


_FRESH: dict[str, LiteralString] = {
    "smallint": "({} + 20000)::smallint",
    "integer": "{} + 2000000",
    "bigint": "{} + 2000000",
    "numeric": "{} + 2000000",
    "text": "'~' || {}",
    "character varying": "'~' || {}",
    "citext": "'~' || {}",
    "uuid": "gen_random_uuid()",
}


def _regclass(name: QName) -> sql.Literal:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name if part is not None)
    return sql.Literal(quoted)


def _waits(session: psycopg.Connection, statement: sql.Composed) -> bool:
    try:
        with session.transaction(force_rollback=True):
            session.execute(statement)
    except psycopg.Error as error:
        # a row that another transaction wrote is waited for as well, but not the relation
        row = re.search(r"^while (locking|updating|deleting|inserting)", error.diag.context or "")
        return error.sqlstate == "55P03" and row is None
    return False


@dataclass(frozen=True, slots=True)
class Plans:
    """Reads that a session had prepared before: `SELECT *`, and every column by its name."""

    prepared: tuple[tuple[QName, str, str], ...] = ()  # relation, statement's name, what it is

    def broken(self, session: psycopg.Connection) -> tuple[Break, ...]:
        """Those that fail now, as code that was running before would."""
        found = []
        for relation, name, what in self.prepared:
            try:
                with session.transaction(force_rollback=True):
                    session.execute(f"EXECUTE {name}".encode())
            except psycopg.Error as error:
                if error.sqlstate != "55P03":
                    kind = "cached_plan" if error.sqlstate == "0A000" else "removed"
                    found.append(Break("old", kind, what, error.sqlstate, relation))
        session.execute("DEALLOCATE ALL")
        return tuple(found)


def plan(session: psycopg.Connection, snapshot: Snapshot) -> Plans:
    """Prepare reads of every table and view, and run each once, as code that runs all day has."""
    columns = _columns(session)
    prepared: list[tuple[QName, str, str]] = []
    for relation in snapshot.of_kind("rpvm"):
        named = columns.get(relation.oid, [])
        name = sql.Identifier(*[p for p in relation.name if p is not None])
        listed = sql.SQL(", ").join(sql.Identifier(c.name) for c in named)
        for words, target in (("prepared SELECT *", sql.SQL("*")), ("SELECT by name", listed)):
            if not named:
                continue
            label = f"zdd_{len(prepared)}"
            query = sql.SQL("PREPARE {} AS SELECT {} FROM {} LIMIT 1").format(
                sql.Identifier(label), target, name
            )
            try:
                session.execute(query)
                session.execute(f"EXECUTE {label}".encode())
            except psycopg.Error:
                continue
            prepared.append((relation.name, label, f"{words} from {relation.name}"))
    return Plans(tuple(prepared))
