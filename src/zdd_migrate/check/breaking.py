"""Which of the users' queries a migration breaks, by what each touches. Pure, and no server needed.

A query that cannot be analysed is never passed over: where its text holds a name that the migration
takes away, it counts as broken, and otherwise it is named as not analysed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zdd_migrate.grammar.usage import analyse
from zdd_migrate.model.effects import Break
from zdd_migrate.model.names import QName
from zdd_migrate.model.query import Query, Usage
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import Explained

#: how much of a statement is quoted in the message about another
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Used:
    """A query and what it touches in the schema that the migration starts from."""

    query: Query
    usage: Usage


@dataclass(frozen=True, slots=True)
class Affected:
    """A query with what becomes of it: the rule that says so, and the words for it.

    `cause` is the migration's statement, shortened; `sqlstate` what the query then fails with.
    """

    query: Query
    rule: str
    cause: str
    why: str
    sqlstate: str = ""
    relation: str | None = None


@dataclass(slots=True)
class Watch:
    """Queries, and a migration that goes by."""

    used: list[Used]
    _found: dict[tuple[str, int, str], Affected] = field(default_factory=dict)

    @classmethod
    def of(cls, queries: Iterable[Query], schema: Schema) -> Watch:
        """Trace queries in the schema that the code was written for."""
        return cls([Used(query, analyse(query.prepared, schema)) for query in queries])

    def see(self, explained: Explained) -> None:
        """One statement of the migration: which queries does it break?"""
        if not self.used:
            return
        sql = " ".join(explained.statement.sql.split())
        cause = sql if len(sql) <= _SHOWN else f"{sql[:_SHOWN]}…"
        if not explained.understood:
            for one in self.used:
                why = "the statement was not understood"
                self._add(one.query, Affected(one.query, "ZDD242", cause, why))
        for broken in explained.effects.breaks:
            if broken.code != "old" or broken.relation is None:
                continue
            for one in self.used:
                found = _impact(one.usage, broken, explained.schema)
                if found is None:
                    continue
                certain, why = found
                state = f", and fails with {broken.sqlstate}" if broken.sqlstate else ""
                rule = "ZDD240" if certain else "ZDD241"
                self._add(
                    one.query,
                    Affected(one.query, rule, cause, why, state, str(broken.relation)),
                )

    def _add(self, query: Query, affected: Affected) -> None:
        """The worst of it, once for each statement of the migration."""
        key = (query.path, query.line, affected.cause)
        known = self._found.get(key)
        if known is None or affected.rule < known.rule:
            self._found[key] = affected

    def affected(self) -> list[Affected]:
        """Every query that breaks or may, and every one that could not be analysed."""
        found = list(self._found.values())
        named = {(one.query.path, one.query.line) for one in found}
        for one in self.used:
            if one.usage.problem and (one.query.path, one.query.line) not in named:
                found.append(Affected(one.query, "ZDD242", "", one.usage.problem))
        return sorted(found, key=lambda a: (a.query.path, a.query.line, a.rule))


def _impact(usage: Usage, cause: Break, schema: Schema) -> tuple[bool, str] | None:
    """(certain, why) when the break concerns what a query touches."""
    relation = cause.relation
    assert relation is not None
    if usage.problem:
        return _by_words(usage, cause) if cause.kind != "cached_plan" else None
    if relation not in usage.relations:
        return _through_function(usage, cause, schema)
    if cause.kind in ("renamed", "removed"):
        return _gone(usage, cause, relation)
    if cause.kind == "obligation":
        return _obliged(usage, cause, relation, schema)
    if cause.kind == "restriction":
        return (False, f"it writes to {relation}") if relation in usage.written else None
    if cause.kind == "on_conflict":
        named = [" ".join(keys) for table, keys in usage.conflicts if table == relation]
        return (False, f"its ON CONFLICT names {', '.join(named)}") if named else None
    if cause.kind == "cached_plan":
        return None  # said once for the table: prepared SELECT *, prepared again by most drivers
    return _meaning(usage, cause, relation)


def _gone(usage: Usage, cause: Break, relation: QName) -> tuple[bool, str] | None:
    if cause.column is None:
        return True, f"it names {relation}"
    if (relation, cause.column) in usage.columns:
        return True, f"it names {relation}.{cause.column}"
    if relation in usage.stars:
        return False, f"it reads or writes all columns of {relation}, {cause.column} among them"
    return None


def _obliged(
    usage: Usage, cause: Break, relation: QName, schema: Schema
) -> tuple[bool, str] | None:
    """A column that must now be given. An INSERT that leaves it out fails for sure when it is NULL."""
    column = cause.column
    if relation not in usage.written or column is None:
        return None
    table = schema.tables.get(relation)
    known = table.column(column) if table is not None else None
    filled = known is not None and (known.default is not None or known.identity is not None)
    for insertion in usage.insertions:
        if insertion.table != relation:
            continue
        if insertion.columns is not None and column not in insertion.columns and not filled:
            return True, f"it inserts into {relation} without {column}"
        if insertion.columns is None or column in insertion.columns:
            return False, f"it inserts into {relation}.{column} what may be NULL"
    if (relation, column) in usage.assigned:
        return False, f"it sets {relation}.{column} to what may be NULL"
    return None


def _meaning(usage: Usage, cause: Break, relation: QName) -> tuple[bool, str] | None:
    """Types and values that are not what they were."""
    if cause.column is None:
        return False, f"it uses {relation}"
    if (relation, cause.column) in usage.columns:
        return False, f"it uses {relation}.{cause.column}"
    if relation in usage.stars:
        return False, f"it reads or writes all columns of {relation}, {cause.column} among them"
    return None


def _by_words(usage: Usage, cause: Break) -> tuple[bool, str] | None:
    assert cause.relation is not None
    if cause.relation.name not in usage.words:
        return None
    if cause.column is not None and cause.column not in usage.words:
        return False, f"{usage.problem}, and it names {cause.relation}"
    return True, f"{usage.problem}, and it names {cause.column or cause.relation}"


def _through_function(usage: Usage, cause: Break, schema: Schema) -> tuple[bool, str] | None:
    """A function that the query calls, whose body holds the names."""
    assert cause.relation is not None
    for name, overloads in schema.functions.items():
        if name.name not in usage.functions:
            continue
        for function in overloads:
            words = analyse(f"DO {function.body}", schema).words
            if cause.relation.name in words and (cause.column is None or cause.column in words):
                return False, f"it calls {name}, whose body names {cause.column or cause.relation}"
    return None
