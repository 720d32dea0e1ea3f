"""What a query reads and writes, by libpg_query's tree, names of WITH queries left out."""

from __future__ import annotations

from typing import Any

from tests.grammar.oracle.theirs import Fact, table_of_query
from tests.grammar.oracle.trees import Value, canon, given, relation, unwrap

_WRITES = {
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}


Written = set[tuple[tuple[str | None, str], str]]


def data(stmt: Any) -> list[Fact]:
    """The label of a SELECT or DML statement."""
    name = stmt.DESCRIPTOR.name
    into = _into(stmt)
    if into is not None:
        made = type(stmt)()
        made.CopyFrom(stmt)
        _leftmost(made).ClearField("into_clause")
        return [table_of_query(into, canon(made))]
    found: set[tuple[str | None, str]] = set()
    written: Written = set()
    _scan(stmt, frozenset(), found, written)
    verb = _WRITES.get(name, "select")
    fact: Fact = {
        "is": "data_statement",
        "verb": verb,
        "relation": relation(stmt.relation) if name in _WRITES else None,
        "written": frozenset(written),
        "read": frozenset(found),
        "where": None,
        "assignments": None,
    }
    if verb in ("update", "delete") and not stmt.HasField("with_clause"):
        fact["where"] = canon(given(stmt, "where_clause"))
    if verb == "update" and not stmt.HasField("with_clause"):
        fact["assignments"] = _assignments(stmt)
    return [fact]


def _into(stmt: Any) -> Any:
    if stmt.DESCRIPTOR.name != "SelectStmt":
        return None
    one = _leftmost(stmt)
    return one.into_clause if one.HasField("into_clause") else None


def _leftmost(stmt: Any) -> Any:
    """The SELECT that may have an INTO: in any other it is an error."""
    return _leftmost(stmt.larg) if stmt.HasField("larg") else stmt


def _assignments(stmt: Any) -> Value:
    """(column, value) pairs; None where columns are set together or in part."""
    out = []
    for node in stmt.target_list:
        target = node.res_target
        if target.indirection or target.val.WhichOneof("node") == "multi_assign_ref":
            return None
        out.append((target.name, canon(unwrap(target.val))))
    return tuple(out)


def _scan(
    message: Any,
    ctes: frozenset[str],
    found: set[tuple[str | None, str]],
    written: Written,
) -> None:
    name = message.DESCRIPTOR.name
    if name == "Node":
        which = message.WhichOneof("node")
        if which:
            _scan(getattr(message, which), ctes, found, written)
        return
    if name == "RangeVar":
        if message.schemaname or message.relname not in ctes:
            found.add(relation(message))
        return
    skip = set()
    if "with_clause" in message.DESCRIPTOR.fields_by_name and message.HasField("with_clause"):
        skip.add("with_clause")
        ctes = _with(message.with_clause, ctes, found, written)
    if name in _WRITES:
        skip.add("relation")
        written.add((relation(message.relation), _WRITES[name]))
    for field, value in message.ListFields():
        if field.message_type is None or field.name in skip:
            continue
        for part in value if field.is_repeated else (value,):
            _scan(part, ctes, found, written)


def _with(clause: Any, ctes: frozenset[str], found: Any, written: Any) -> frozenset[str]:
    names = [n.common_table_expr.ctename for n in clause.ctes]
    inner = ctes | frozenset(names) if clause.recursive else ctes
    for node in clause.ctes:
        each = node.common_table_expr
        _scan(each.ctequery, inner, found, written)
        if not clause.recursive:
            inner = inner | {each.ctename}
    return ctes | frozenset(names)
