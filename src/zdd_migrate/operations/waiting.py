"""Who waits without being locked: views, partitions, referencing and referenced rows, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table

_M = LockMode
_ACTING = ("CASCADE", "SET NULL", "SET DEFAULT")


def blocked_indirectly(
    locks: Mapping[QName, LockMode], schema: Schema
) -> dict[QName, tuple[bool, bool]]:
    """Who waits without being locked that hard: relation → (reads, writes).

    `locks` are of tables, views, sequences and indexes. A locked index stops whoever plans a
    statement on its table. A view waits where a relation it reads is locked against reading (or,
    for writes through it, writing). A partition that is locked stops its parent, and a parent that
    nobody may read stops writes to its partitions. A row that references a locked table waits for
    the referenced row's key share, a row that is referenced by a locked one waits when it is
    deleted, and an insert waits for the sequence that numbers it.
    """
    waiting = _Waiting(schema, locks)
    tables: dict[QName, LockMode] = {}
    for relation, mode in locks.items():
        index = schema.indexes.get(relation)
        if index is None:
            tables.setdefault(relation, mode)
        elif mode is _M.ACCESS_EXCLUSIVE:
            waiting.add([index.table], reads=True, writes=True)
            tables[index.table] = _M.ACCESS_EXCLUSIVE
    for relation, mode in tables.items():
        if mode.blocks_reads or mode.blocks_writes:
            waiting.behind(relation, mode)
    return waiting.found


class _Waiting:
    """Collects who waits behind one lock after another."""

    def __init__(self, schema: Schema, locks: Mapping[QName, LockMode]) -> None:
        self.schema = schema
        self.locks = locks
        self.found: dict[QName, tuple[bool, bool]] = {}

    def add(self, relations: Iterable[QName], *, reads: bool, writes: bool) -> None:
        """Note who waits, unless its own lock says as much."""
        for relation in relations:
            own = self.locks.get(relation)
            if own is not None and own.blocks_reads >= reads and own.blocks_writes >= writes:
                continue
            before = self.found.get(relation, (False, False))
            self.found[relation] = (before[0] or reads, before[1] or writes)

    def behind(self, relation: QName, mode: LockMode) -> None:
        """Everyone who waits because `relation` is locked in `mode`."""
        schema = self.schema
        if relation in schema.sequences:
            self.add(_numbered_by(schema, relation), reads=False, writes=True)
            return
        reads, writes = mode.blocks_reads, mode.blocks_writes
        for name in (relation, *_ancestors(schema, relation)):
            if name != relation:
                self.add([name], reads=reads, writes=writes)
            self.add(_views_over(schema, name), reads=reads, writes=writes)
        if mode is _M.ACCESS_EXCLUSIVE:
            children = (child.name for child in schema.partitions_of(relation))
            self.add(children, reads=False, writes=True)
        for name in self._by_keys(relation, mode):
            self.add([name, *_views_over(schema, name)], reads=False, writes=True)

    def _by_keys(self, relation: QName, mode: LockMode) -> Iterable[QName]:
        """Tables at the other end of foreign keys."""
        if mode.conflicts_with(_M.ROW_SHARE):
            for referencing, fk in self.schema.foreign_keys_to(relation):
                if fk.enforced:
                    yield referencing.name
        table: Table | None = self.schema.tables.get(relation)
        for fk in table.constraints if table is not None else ():
            if fk.kind == "foreign_key" and fk.ref_table is not None and fk.enforced:
                asked = _M.ROW_EXCLUSIVE if fk.on_delete in _ACTING else _M.ROW_SHARE
                if mode.conflicts_with(asked):
                    yield fk.ref_table


def _views_over(schema: Schema, relation: QName) -> list[QName]:
    found: dict[QName, None] = {}
    todo = [relation]
    while todo:
        for view in schema.views_on(todo.pop()):
            if view.name not in found and not view.materialized:
                found[view.name] = None
                todo.append(view.name)
    return list(found)


def _numbered_by(schema: Schema, sequence: QName) -> list[QName]:
    """Tables whose rows take a number from the sequence when they are inserted."""
    known = schema.sequences[sequence]
    found = [known.owned_by[0]] if known.owned_by is not None else []
    called = re.compile(rf"nextval\('(\w+\.)?\"?{re.escape(sequence.name)}\"?'", re.IGNORECASE)
    for table in schema.tables.values():
        if any(c.default is not None and called.search(c.default) for c in table.columns):
            found.append(table.name)
    return list(dict.fromkeys(found))


def _ancestors(schema: Schema, table: QName) -> list[QName]:
    """Partitioned parents and those a table inherits from, at every height."""
    known = schema.tables.get(table)
    if known is None:
        return []
    found: list[QName] = []
    for parent in (*((known.parent,) if known.parent is not None else ()), *known.inherits):
        found += [parent, *_ancestors(schema, parent)]
    return found
