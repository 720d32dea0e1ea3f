"""What a statement over rows locks and reads: INSERT, UPDATE, DELETE, MERGE, SELECT and their like.

Rows that reference others, or are referenced, bring the other table's lock in; a default that takes
a number brings the sequence's. Partitions count as if nothing were pruned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from zdd_migrate.grammar.queries import parse_query, relations_read
from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.facts import leaves, sequences_read, tree

_M = LockMode
_FOR_UPDATE = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY\s+SHARE)\b", re.IGNORECASE)
_INSERTED = re.compile(r"\bINSERT\s+INTO\s+[\w.\"]+(?:\s+AS\s+\w+)?\s*\(([^()]*)\)", re.IGNORECASE)
_ACTING = ("CASCADE", "SET NULL", "SET DEFAULT")


def read_by(schema: Schema, query: str) -> list[QName]:
    """Relations a query reads when it runs: through views, partitions and children too."""
    found: dict[QName, None] = {}
    todo = [schema.resolve(name) for name in relations_read(query)]
    while todo:
        name = todo.pop(0)
        if name in found:
            continue
        found[name] = None
        view = schema.views.get(name)
        if view is not None and not view.materialized:
            todo += sorted(view.depends_on)
        elif name in schema.tables:
            todo += tree(schema, name)[1:]
    return list(found)


def row_locks(schema: Schema, text: str) -> dict[QName, LockMode]:
    """Table-level locks of a statement over rows."""
    query = parse_query(text)
    locks: dict[QName, LockMode] = {}

    def add(names: Iterable[QName], mode: LockMode) -> None:
        for name in names:
            held = strongest(locks.get(name), mode)
            assert held is not None
            locks[name] = held

    add(read_by(schema, text), _M.ROW_SHARE if _FOR_UPDATE.search(text) else _M.ACCESS_SHARE)
    for name, mode in sequences_read(schema, text).items():
        add([name], mode)
    for written in query.writes if query is not None else ():
        relation = schema.resolve(written)
        kind = query.kind if query is not None else "other"
        table = schema.tables.get(relation)
        verbs = set(re.findall(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", text.upper()))
        partitioned = table is not None and table.kind == "partitioned"
        alone = verbs == {"INSERT"} and not partitioned
        add([relation] if alone else tree(schema, relation), _M.ROW_EXCLUSIVE)
        view = schema.views.get(relation)
        if view is not None and not view.materialized:  # written through to what it reads
            add(_base_tables(schema, relation), _M.ROW_EXCLUSIVE)
        if table is None:
            continue
        if kind in ("insert", "merge"):
            for name, mode in _numbers(schema, table, text).items():
                add([name], mode)
        for name, mode in _keys(schema, table, text, verbs).items():
            add([name], mode)
    return locks


def _base_tables(schema: Schema, view: QName) -> list[QName]:
    known = schema.views.get(view)
    if known is None or known.materialized:
        return tree(schema, view)
    return [name for read in sorted(known.depends_on) for name in _base_tables(schema, read)]


def _numbers(schema: Schema, table: Table, text: str) -> dict[QName, LockMode]:
    """Sequences that an INSERT takes numbers from, for columns it does not give."""
    listed = _INSERTED.search(text)
    given = {c.strip().strip('"').lower() for c in listed[1].split(",")} if listed else None
    found: dict[QName, LockMode] = {}
    for column in table.columns:
        if given is None or column.name in given:
            continue
        if column.identity is not None:
            names = [s.name for s in schema.sequences_of(table.name, column.name)]
            found.update(dict.fromkeys(names, _M.ROW_EXCLUSIVE))
        elif column.default is not None:
            found.update(sequences_read(schema, column.default))
    return found


def _keys(schema: Schema, table: Table, text: str, verbs: set[str]) -> dict[QName, LockMode]:
    """Tables at the other end of foreign keys."""
    found: dict[QName, LockMode] = {}
    words = set(re.findall(r"[\w$]+", text.lower()))
    for fk in table.constraints:
        if fk.kind != "foreign_key" or fk.ref_table is None or not fk.enforced:
            continue
        if verbs & {"INSERT", "UPDATE", "MERGE"} and words & set(fk.columns):
            found[fk.ref_table] = _M.ROW_SHARE
    for other, fk in schema.foreign_keys_to(table.name):
        if not fk.enforced or not verbs & {"DELETE", "MERGE"}:
            continue
        mode = _M.ROW_EXCLUSIVE if fk.on_delete in _ACTING else _M.ROW_SHARE
        found.update(dict.fromkeys(tree(schema, other.name), mode))
    return found


def scanned(schema: Schema, text: str, *, where: str | None = None) -> list[QName]:
    """Tables whose every row is read, as far as no index is seen to find the rows."""
    tables = [
        name
        for name in leaves(schema, read_by(schema, text))
        if name not in schema.views or schema.views[name].materialized
    ]
    query = parse_query(text)
    written = [schema.resolve(name) for name in query.writes] if query is not None else []
    if query is not None and query.kind == "insert":
        tables = [name for name in tables if name not in written or name in _reads(schema, text)]
    deleted = written if query is not None and query.kind in ("delete", "merge") else []
    unindexed = [t for name in deleted for t in _without_index(schema, name) if t not in tables]
    condition = where if where is not None else _condition(text)
    if condition is None:
        return [*tables, *unindexed]
    looked = [name for name in tables if not _found_by_index(schema, name, condition)]
    return [*looked, *unindexed]


def _reads(schema: Schema, text: str) -> set[QName]:
    query = parse_query(text)
    return {schema.resolve(name) for name in query.reads} if query is not None else set()


def _without_index(schema: Schema, table: QName) -> list[QName]:
    """Tables whose rows refer to the table without an index to find them by: each deleted row has
    all of theirs read."""
    return [
        other.name
        for other, fk in schema.foreign_keys_to(table)
        if fk.enforced
        and not any(index.keys[:1] == fk.columns[:1] for index in schema.indexes_of(other.name))
    ]


def _condition(text: str) -> str | None:
    found = re.search(r"\bWHERE\b(.*)", text, re.IGNORECASE | re.DOTALL)
    return found[1] if found else None


def _found_by_index(schema: Schema, table: QName, condition: str) -> bool:
    """Whether the condition compares the first column of one of the table's indexes with a value."""
    for index in schema.indexes_of(table):
        if not index.keys or index.keys[0] not in condition:
            continue
        if not re.fullmatch(r"[\w$]+", index.keys[0]):
            continue
        column = re.escape(index.keys[0])
        if re.search(rf'(?<![\w$])"?{column}"?\s*=\s*(\d|\'|\$|ANY)', condition):
            return True
    return False
