"""An enum made anew under its own name: how a label is dropped, for Postgres cannot drop one.
Where none is dropped and their order stays, the labels are added to the type that is there.

Migrations write it in two ways: make the new type, move the columns over, give it the old one's
name; or give the old one another name first. Either way a type ends and another begins under the
same name. The plan moves the column to a twin of the new type under a working name; at contract
column and type take their names in one transaction. Until then code knows the type by its name,
with all labels of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from zdd_migrate.blocks.bridge import (
    begin_comparing,
    drop_casts,
    end_comparing,
    forget_moment,
    keep_moment,
    make_casts,
    still_connected,
)
from zdd_migrate.blocks.copies import make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.dual import refuse_dual
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.blocks.twin import Twin, plan_twin
from zdd_migrate.grammar.expressions import analyse, squeeze
from zdd_migrate.grammar.types import parse_type, type_name
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column, Schema, UserType
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.alter_column_type import AlterColumnType
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.create_type import CreateType
from zdd_migrate.operations.drop_object import DropObject
from zdd_migrate.operations.rename_object import RenameObject
from zdd_migrate.operations.set_default import SetDefault


@dataclass(slots=True)
class Rebuilt:
    """One enum that ends and begins again. `covered` are the operations that do it.

    `moves` pairs table and column with the text of USING, `default` is the column's in the end.
    """

    name: QName
    old: UserType
    labels: tuple[str, ...]
    moves: list[tuple[QName, str, str | None]] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    planned: bool = False


@dataclass(slots=True)
class _Type:
    """A type by what it is, whatever it is called at the moment."""

    started_as: QName | None
    labels: tuple[str, ...] = ()
    dropped: bool = False
    by: list[Operation] = field(default_factory=list)
    moves: list[tuple[QName, str, str | None]] = field(default_factory=list)


def rebuilt_enums(start: Schema, statements: Sequence[Statement]) -> list[Rebuilt]:
    """The enums that a migration makes anew under their own names."""
    by_name = {
        name: _Type(name, known.labels)
        for name, known in start.types.items()
        if known.kind == "enum"
    }
    everything = list(by_name.values())
    defaults: list[SetDefault] = []
    texts: list[AlterColumnType] = []
    for statement in statements:
        for operation in statement.operations:
            if isinstance(operation, CreateType) and operation.form == "enum":
                made = _Type(None, operation.labels, by=[operation])
                by_name[operation.target(start)] = made
                everything.append(made)
            elif isinstance(operation, SetDefault):
                defaults.append(operation)
            elif _to_text(operation):
                texts.append(operation)
            else:
                _follow(start, operation, by_name)
    out = []
    for old in everything:
        new = by_name.get(old.started_as) if old.started_as is not None else None
        if new is None or new is old or new.started_as is not None or not old.dropped:
            continue
        assert old.started_as is not None
        rebuilt = Rebuilt(old.started_as, start.types[old.started_as], new.labels, new.moves)
        moved = {(table, column) for table, column, _ in new.moves}
        covered = [*old.by, *new.by]
        on_the_way: tuple[SetDefault | AlterColumnType, ...] = (*defaults, *texts)
        covered += [o for o in on_the_way if (start.resolve(_relation(o)), o.column) in moved]
        rebuilt.covered = {id(operation) for operation in covered}
        out.append(rebuilt)
    return out


def _to_text(operation: Operation) -> TypeGuard[AlterColumnType]:
    """A column made text for the time between two types, by a plain cast."""
    return (
        isinstance(operation, AlterColumnType)
        and parse_type(operation.type).base in ("text", "character varying")
        and squeeze(operation.using or "").replace('"', "").lower()
        in ("", f"{operation.column}::text")
    )


def _relation(operation: Operation) -> QName:
    assert operation.relation is not None
    return operation.relation


def _follow(start: Schema, operation: Operation, by_name: dict[QName, _Type]) -> None:
    if isinstance(operation, RenameObject) and operation.object == "TYPE":
        name = start.resolve_type(_relation(operation))
        known = by_name.pop(name, None)
        if known is not None:
            known.by.append(operation)
            by_name[name.sibling(operation.to)] = known
    elif isinstance(operation, DropObject) and operation.object == "TYPE":
        known = by_name.pop(start.resolve_type(_relation(operation)), None)
        if known is not None:
            known.by.append(operation)
            known.dropped = True
    elif isinstance(operation, AlterColumnType):
        known = by_name.get(start.resolve_type(type_name(operation.type)))
        if known is not None:
            known.by.append(operation)
            table = start.resolve(_relation(operation))
            known.moves.append((table, operation.column, operation.using))


def plan_rebuilt(draft: Draft, rebuilt: Rebuilt, final: Schema) -> None:
    """All of it, where the first of its operations stands. `final` is the schema in the end."""
    if rebuilt.planned:
        return
    rebuilt.planned = True
    if _only_grows(rebuilt):
        _plan_grown(draft, rebuilt, final)
        return
    if refuse_dual(draft, f"the values of {rebuilt.name} under the old type and the new"):
        return
    tables = {table for table, _, _ in rebuilt.moves}
    users = [
        (table.name, column.name)
        for table in draft.start.tables.values()
        for column in table.columns
        if draft.start.resolve_type(type_name(column.type)) == rebuilt.name
    ]
    odd = [
        using
        for _, column, using in rebuilt.moves
        if using is not None and analyse(using).names != {column}
    ]
    if len(tables) != 1 or odd or set(users) != {(t, c) for t, c, _ in rebuilt.moves}:
        draft.refuse(
            f"the type {rebuilt.name} is made anew for "
            + (f"{len(tables)} tables" if len(tables) != 1 else "columns in a way not followed")
            + ": they cannot all change in one instant",
            "make the new type under a name of its own and move one table after the other to it",
        )
        return
    draft.note(
        f"what new code has prepared with a value of {rebuilt.name} goes on when the type is exchanged "
        "at contract, and when that is undone, but for < and >, and COALESCE or CASE, with a bare "
        "parameter: they fail with 42883 or 42846 until they are prepared anew. Write "
        f"$1::{rebuilt.name.name} in them, or let connections be renewed at that step. The old type "
        "goes once all connections of before are closed"
    )
    _plan_types(draft, rebuilt)
    moves = rebuilt.moves
    for table, column, _ in moves:
        _plan_before(draft, rebuilt, table, column)
    for position, (table, column, _) in enumerate(moves):
        _plan_column(draft, rebuilt, table, column, final, last=position == len(moves) - 1)
    aside = _aside(rebuilt.name)
    draft.gate(
        Phase.CONTRACT,
        still_connected(rebuilt.name),
        message=f"connections of before {rebuilt.name} was exchanged are still open, and what they "
        "have prepared with its values fails once the old type is gone: restart what holds them, or "
        "wait until pools have renewed them. Of other roles' connections only pg_read_all_stats tells "
        "when they began",
        why=f"nobody has a statement prepared with the old {rebuilt.name.name} any more",
        hard=True,
    )
    draft.sql(
        Phase.CONTRACT,
        (
            forget_moment(rebuilt.name),
            *end_comparing("new", rebuilt.name, aside),
            *drop_casts(rebuilt.name, aside),
            f"DROP TYPE {quote_qname(aside)}",
        ),
        undo=None,
        why=f"drop the old type {rebuilt.name.name}; after this there is no way back",
    )


def _only_grows(rebuilt: Rebuilt) -> bool:
    """Whether the new type has all labels of the old one, in the same order, and nothing but casts
    lead to it: then the old type with labels added is the new one."""
    kept = [label for label in rebuilt.labels if label in rebuilt.old.labels]
    return kept == list(rebuilt.old.labels) and all(
        re.fullmatch(
            rf"\(*{re.escape(column.lower())}\)*(::[\w.]+(\[\])?\)*)*",
            re.sub(r"[\s\"]", "", using or column).lower(),
        )
        for _, column, using in rebuilt.moves
    )


def _plan_grown(draft: Draft, rebuilt: Rebuilt, final: Schema) -> None:
    """Labels are added where they stand in the new type: no column changes, no statement breaks."""
    name = quote_qname(rebuilt.name)
    draft.note(
        f"{rebuilt.name} is made anew with labels added and none taken away: the plan adds them to "
        "the type that is there"
    )
    there = list(rebuilt.old.labels)
    for position, label in enumerate(rebuilt.labels):
        if label in there:
            continue
        before = rebuilt.labels[position - 1] if position else None
        where = (
            f" AFTER {quote_literal(before)}" if before else f" BEFORE {quote_literal(there[0])}"
        )
        draft.leave(
            f"type {rebuilt.name}",
            f"labels that {rebuilt.name} gets for the new code: Postgres cannot take one back",
        )
        draft.sql(
            Phase.EXPAND,
            f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {quote_literal(label)}{where}",
            undo=(),
            why=f"new code may write '{label}'; old code must be able to read it",
            transactional=False,
        )
        there.append(label)
    for table, column in dict.fromkeys((t, c) for t, c, _ in rebuilt.moves):
        _plan_default(draft, table, column, final)


def _plan_default(draft: Draft, table: QName, column: str, final: Schema) -> None:
    """The default that the migration leaves the column with, where that is another one."""

    def of(schema: Schema) -> str | None:
        known = schema.tables.get(table)
        found = known.column(column) if known is not None else None
        return found.default if found is not None else None

    def bare(default: str | None) -> str:
        return re.sub(r"::[\w.\"]+(\[\])?", "", default or "").strip()

    was, now = of(draft.start), of(final)
    if bare(was) == bare(now):
        return
    head = f"ALTER TABLE {draft.sql_name(table)} ALTER COLUMN {quote_ident(column)}"

    def clause(default: str | None) -> str:
        return f"{head} SET DEFAULT {default}" if default is not None else f"{head} DROP DEFAULT"

    draft.sql(
        Phase.EXPAND,
        clause(now),
        undo=clause(was),
        why=f"change what a row gets that leaves {column} out",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _working(name: QName) -> QName:
    return name.sibling(own("new", name.name))


def _aside(name: QName) -> QName:
    return name.sibling(own("old", name.name))


def _plan_types(draft: Draft, rebuilt: Rebuilt) -> None:
    working = quote_qname(_working(rebuilt.name))
    labels = ", ".join(quote_literal(label) for label in rebuilt.labels)
    draft.prelude(
        (
            f"CREATE TYPE {working} AS ENUM ({labels})",
            *make_casts(rebuilt.name, _working(rebuilt.name)),
        ),
        undo=(
            *end_comparing("old", rebuilt.name, _working(rebuilt.name)),
            *drop_casts(rebuilt.name, _working(rebuilt.name)),
            f"DROP TYPE IF EXISTS {working}",
        ),
        why=f"the new {rebuilt.name.name} under a working name",
    )
    for label in rebuilt.labels:
        if label in rebuilt.old.labels:
            continue
        draft.leave(
            f"type {rebuilt.name}",
            f"labels that {rebuilt.name} gets for the new code: Postgres cannot take one back",
        )
        draft.sql(
            Phase.EXPAND,
            f"ALTER TYPE {quote_qname(rebuilt.name)} ADD VALUE IF NOT EXISTS {quote_literal(label)}",
            undo=(),
            why=f"new code writes '{label}' before the type is exchanged",
            transactional=False,
        )


def _gone(rebuilt: Rebuilt) -> list[str]:
    return [label for label in rebuilt.old.labels if label not in rebuilt.labels]


def _plan_before(draft: Draft, rebuilt: Rebuilt, table: QName, name: str) -> None:
    """What must be so before any column changes names: no dropped label, no NULL."""
    column = draft.start.tables[table].column(name)
    assert column is not None
    gone, mine, sql = _gone(rebuilt), quote_ident(name), draft.sql_name(table)
    if gone:
        array = column.type.endswith("[]")
        shown = ", ".join(quote_literal(label) for label in gone)
        draft.restricts_old = True
        draft.gate(
            Phase.CONTRACT,
            f"SELECT 1 FROM {sql} WHERE {mine}::text[] && ARRAY[{shown}] LIMIT 1"
            if array
            else f"SELECT 1 FROM {sql} WHERE {mine}::text IN ({shown}) LIMIT 1",
            message=f"rows of {table} still have {shown} in {name}: give them another label first",
            why=f"the new type of {name} has no {shown}",
        )
    if column.not_null:
        make_not_null(draft, table, own("new", name), phase=Phase.CONTRACT)


def _plan_column(
    draft: Draft, rebuilt: Rebuilt, table: QName, name: str, final: Schema, *, last: bool
) -> None:
    known = draft.start.tables[table]
    column = known.column(name)
    assert column is not None
    if _bound_to_type(draft, table, column, rebuilt.name.name):
        draft.refuse(
            f"an index, check or view of {table} has a value of the type {rebuilt.name} in it",
            f"drop what names {name} first, and make it again in a later migration",
        )
        return
    new, old_type = own("new", name), quote_qname(rebuilt.name)
    working = quote_qname(_working(rebuilt.name))
    labels = ", ".join(quote_literal(label) for label in rebuilt.labels)
    mine, theirs = quote_ident(name), quote_ident(new)
    many = "[]" if column.type.endswith("[]") else ""
    fits = f"{mine}::text IN ({labels})"
    if many:  # an element that is NULL is in no list
        fits = f"array_remove({mine}::text[], NULL) <@ ARRAY[{labels}]"
    up = f"CASE WHEN {fits} THEN {mine}::text{many}::{working}{many} END"
    plan_twin(
        draft,
        Twin(
            table=table,
            old=column,
            new=new,
            final=name,
            type=f"{working}{many}",
            up=up,
            down=f"{theirs}::text{many}::{old_type}{many}",
            lossless=not _gone(rebuilt),
            not_null=False,
            why=f"a second {name} of the new type beside the first, kept in step",
            renamed_types=(
                (rebuilt.name, _aside(rebuilt.name)),
                (_working(rebuilt.name), rebuilt.name),
            )
            if last
            else (),
            at_swap=tuple(_exchanged(rebuilt.name)) if last else (),
            at_swap_back=tuple(_exchanged_back(rebuilt.name)) if last else (),
        ),
    )


def _exchanged(name: QName) -> Iterator[str]:
    """What has been prepared with the old type goes on."""
    yield from end_comparing("old", name, name)
    yield from begin_comparing("new", name, name, _aside(name))
    yield keep_moment(name)


def _exchanged_back(name: QName) -> Iterator[str]:
    """What has been prepared with the new type since goes on."""
    yield forget_moment(name)
    yield from end_comparing("new", name, name)
    yield from begin_comparing("old", name, name, _working(name))


def _bound_to_type(draft: Draft, table: QName, column: Column, type_name: str) -> bool:
    """Whether something that would be copied names the old type, or cannot be copied."""
    texts = [
        f"{index.predicate or ''} {' '.join(k for k in index.keys if k != column.name)}"
        for index in draft.start.indexes_of(table)
        if column.name in index.columns
    ]
    texts += [
        c.expression or "" for c in draft.start.tables[table].constraints if c.kind == "check"
    ]
    named = any(
        f"::{type_name.lower()}" in squeeze(t).lower().replace('"', "").replace("public.", "")
        or column.name in analyse(t).names
        for t in texts
        if t.strip()
    )
    return named or bool(draft.start.views_on(table, column.name))
