"""Indexes, keys and foreign keys of a partitioned table, one partition at a time.

Postgres builds no index concurrently on a partitioned table. It takes one that is put together: on
the parent alone (not valid yet), then on each partition without blocking, then attached, from the
leaves up. With the last one attached the parent's becomes valid. Before version 18 a foreign key
cannot be NOT VALID there either; it takes over those of its partitions, already validated.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.constraints import composed_name
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Schema

_FUNCTION = re.compile(r"([\w$]+)\s*\(")


@dataclass(frozen=True, slots=True)
class IndexShape:
    """An index or key to put together. `tail` is what follows the table in CREATE INDEX.

    `words` are the words that Postgres makes partitions' index names of, `label` their last one.
    `key` is `UNIQUE (a, b)` or `PRIMARY KEY (a)` where a constraint is to own it, `ending` its
    DEFERRABLE and so on.
    """

    name: str
    tail: str
    words: tuple[str, ...]
    unique: bool = False
    label: str = "idx"
    key: str | None = None
    ending: str = ""

    @property
    def kind(self) -> str:
        """UNIQUE or PRIMARY KEY."""
        return "PRIMARY KEY" if (self.key or "").startswith("PRIMARY") else "UNIQUE"


@dataclass(frozen=True, slots=True)
class _Piece:
    """One statement of the building: forwards, backwards, and how it runs."""

    table: QName
    statement: str
    undo: str
    concurrent: bool
    attaches: bool = False


def index_words(keys: Collection[str], include: Collection[str] = ()) -> tuple[str, ...]:
    """What Postgres calls the columns of an index: their names, a function's, else `expr`."""
    out: list[str] = []
    for key in (*keys, *include):
        called = _FUNCTION.match(key)
        base = key if re.fullmatch(r"[\w$]+", key) else called[1].lower() if called else "expr"
        word, n = base, 0
        while word in out:
            n += 1
            word = f"{base}{n}"
        out.append(word)
    return tuple(out)


def plan_partitioned_index(draft: Draft, table: QName, shape: IndexShape, phase: Phase) -> None:
    """Steps that put an index or key of a partitioned table together without blocking."""
    attached: list[_Piece] = []
    for piece in _pieces(draft.start, draft.present(table), shape):
        draft.touches.setdefault(piece.table)
        if piece.attaches:
            attached.append(piece)
            continue
        draft.sql(
            phase,
            piece.statement,
            undo=piece.undo,
            why=f"build {shape.name} on {piece.table.name} while everyone goes on"
            if piece.concurrent
            else f"{shape.name} on {piece.table.name} itself, which holds no rows: an instant",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE if piece.concurrent else LockMode.SHARE,
            relation=piece.table,
            transactional=not piece.concurrent,
        )
    index = quote_qname(table.sibling(shape.name))
    if attached:
        draft.sql(
            phase,
            [piece.statement for piece in attached],
            undo=_drop(table, shape),
            why=f"put {shape.name} together of its partitions' indexes; with the last it is valid",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=table,
        )
    draft.gate(
        phase,
        f"SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid = {quote_literal(index)}::regclass "
        "AND NOT indisvalid",
        message=f"{shape.name} is not valid: a partition without it has come since the plan was "
        "made; plan anew",
        why=f"{shape.name} counts only once every partition has its part",
    )


def rebuild(schema: Schema, table: QName, shape: IndexShape) -> list[str]:
    """The same as statements, each outside a transaction: the way back from a drop."""
    return [piece.statement for piece in _pieces(schema, table, shape)]


def _pieces(schema: Schema, table: QName, shape: IndexShape) -> Iterator[_Piece]:
    """The parent first, partitions next, attaching last and from the leaves up."""
    taken = {*schema.indexes, *schema.tables}
    yield _on_parent(table, shape.name, shape)
    last: list[_Piece] = []
    yield from _children(schema, table, shape.name, shape, taken, last)
    yield from last


def _children(
    schema: Schema,
    parent: QName,
    parent_index: str,
    shape: IndexShape,
    taken: set[QName],
    last: list[_Piece],
) -> Iterator[_Piece]:
    for child in schema.partitions_of(parent):
        had = parent.sibling(parent_index)
        known = (i.name.name for i in schema.indexes_of(child.name) if i.parent == had)
        name = next(known, None) or _child_name(child.name, shape, taken)
        taken.add(child.name.sibling(name))
        if child.kind == "partitioned":
            yield _on_parent(child.name, name, shape)
            yield from _children(schema, child.name, name, shape, taken, last)
        else:
            yield from _on_leaf(child.name, name, shape)
        attach = (
            f"ALTER INDEX {quote_qname(parent.sibling(parent_index))} "
            f"ATTACH PARTITION {quote_qname(child.name.sibling(name))}"
        )
        last.append(_Piece(parent, attach, "", concurrent=False, attaches=True))


def _on_parent(table: QName, name: str, shape: IndexShape) -> _Piece:
    sql = quote_qname(table)
    if shape.key is not None:
        make = (
            f"ALTER TABLE ONLY {sql} ADD CONSTRAINT {quote_ident(name)} {shape.key}{shape.ending}"
        )
        return _Piece(
            table,
            make,
            f"ALTER TABLE {sql} DROP CONSTRAINT IF EXISTS {quote_ident(name)}",
            concurrent=False,
        )
    unique = "UNIQUE " if shape.unique else ""
    make = f"CREATE {unique}INDEX {quote_ident(name)} ON ONLY {sql} {shape.tail}"
    drop = f"DROP INDEX IF EXISTS {quote_qname(table.sibling(name))}"
    return _Piece(table, make, drop, concurrent=False)


def _on_leaf(table: QName, name: str, shape: IndexShape) -> Iterator[_Piece]:
    sql, index = quote_qname(table), quote_ident(name)
    unique = "UNIQUE " if shape.unique else ""
    yield _Piece(
        table,
        f"CREATE {unique}INDEX CONCURRENTLY {index} ON {sql} {shape.tail}",
        f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qname(table.sibling(name))}",
        concurrent=True,
    )
    if shape.key is not None:
        yield _Piece(
            table,
            f"ALTER TABLE {sql} ADD CONSTRAINT {index} {shape.kind} USING INDEX {index}{shape.ending}",
            f"ALTER TABLE {sql} DROP CONSTRAINT IF EXISTS {index}",
            concurrent=False,
        )


def _child_name(table: QName, shape: IndexShape, taken: Collection[QName]) -> str:
    words = "" if shape.kind == "PRIMARY KEY" and shape.key else "_".join(shape.words)
    name, n = composed_name(table.name, words, shape.label), 0
    while table.sibling(name) in taken:
        n += 1
        name = composed_name(table.name, words, f"{shape.label}{n}")
    return name


def _drop(table: QName, shape: IndexShape) -> str:
    if shape.key is not None:
        return (
            f"ALTER TABLE {quote_qname(table)} DROP CONSTRAINT IF EXISTS {quote_ident(shape.name)}"
        )
    return f"DROP INDEX IF EXISTS {quote_qname(table.sibling(shape.name))}"


def plan_partitioned_foreign_key(
    draft: Draft, table: QName, name: str, definition: str, phase: Phase
) -> None:
    """NOT VALID and validated on each partition, then on the parent, which takes them over."""
    constraint = quote_ident(name)
    leaves = [t for t in draft.start.descendants_of(draft.present(table)) if t.kind == "table"]
    for leaf in leaves:
        draft.touches.setdefault(leaf.name)
        sql = quote_qname(leaf.name)
        draft.sql(
            phase,
            f"ALTER TABLE {sql} ADD CONSTRAINT {constraint} {definition} NOT VALID",
            undo=f"ALTER TABLE {sql} DROP CONSTRAINT IF EXISTS {constraint}",
            why=f"ask {name} of new rows of {leaf.name.name}",
            lock=LockMode.SHARE_ROW_EXCLUSIVE,
            relation=leaf.name,
        )
        draft.validate(
            leaf.name,
            constraint,
            why=f"check the rows of {leaf.name.name} under a weak lock",
            phase=phase,
        )
    parent = draft.sql_name(table)
    draft.sql(
        phase,
        f"ALTER TABLE {parent} ADD CONSTRAINT {constraint} {definition}",
        undo=f"ALTER TABLE {parent} DROP CONSTRAINT IF EXISTS {constraint}",
        why=f"{table.name} takes the partitions' {name} over, without reading a row again",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=table,
    )
