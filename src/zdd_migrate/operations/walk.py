"""Walking statements in order: the schema before each, its effects, and the schema after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from zdd_migrate.model.effects import Effects, merge
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration, Statement
from zdd_migrate.operations import read_statement
from zdd_migrate.operations.base import (
    DEFAULT_PG,
    Hidden,
    NotUnderstood,
    Operation,
    Situation,
)
from zdd_migrate.operations.bodies import with_calls
from zdd_migrate.operations.refusals import refusal
from zdd_migrate.operations.set_parameter import SetParameter
from zdd_migrate.operations.waiting import blocked_indirectly

#: kinds of operations that add a type of the user's
_MAKE_TYPES = frozenset({"create_type", "create_object"})


class Explained(NamedTuple):
    """A statement with what it does.

    `parts` pairs each operation with its own effects, `effects` is all of them merged, without
    locks on relations that the same migration created (`created`, resolved). `held` are the locks
    that earlier statements of the same transaction hold when this one starts. `schema` is the
    schema before the statement: valid only until the walk goes on.
    """

    statement: Statement
    parts: tuple[tuple[Operation, Effects], ...]
    effects: Effects
    schema: Schema
    created: frozenset[QName]
    held: dict[QName, LockMode]
    pg: int = DEFAULT_PG

    @property
    def understood(self) -> bool:
        """Whether every operation of the statement was understood."""
        return self.statement.understood and not any(
            isinstance(operation, NotUnderstood) for operation, _ in self.parts
        )


def replay(statements: Iterable[Statement], schema: Schema) -> None:
    """Apply one migration's statements to `schema` in place, without asking for effects.

    What was not understood leaves a gap: from there on the schema is not the whole truth.
    """
    schema.new_session()
    for statement in statements:
        for operation in with_calls(statement.operations, schema, read_statement):
            if isinstance(operation, NotUnderstood):
                at = f"{statement.span.path}:{statement.span.line}"
                schema.gaps.append(f"{at}: {operation.reason}")
                schema.complete = False
            operation.apply(schema)


def walk(
    migration: Migration, schema: Schema, *, pg: int = DEFAULT_PG, waiting: bool = True
) -> Iterator[Explained]:
    """Explain each statement of a migration; `schema` is changed in place as the walk goes on.

    Who waits without being locked is searched for where `waiting` asks for it.
    """
    created: set[QName] = set()
    created_types: set[QName] = set()
    held: dict[QName, LockMode] = {}
    enum_values: set[tuple[QName, str]] = set()
    transaction: int | None = None
    schema.new_session()
    session = (schema.search_path, dict(schema.settings))
    for statement in migration.statements:
        if statement.transaction != transaction or statement.transaction is None:
            transaction = statement.transaction
            held, enum_values = {}, set()
            schema.search_path, schema.settings = session[0], dict(session[1])
        operations = with_calls(statement.operations, schema, read_statement)
        kinds = {operation.kind for operation in operations}
        types_before = set(schema.types) if not kinds.isdisjoint(_MAKE_TYPES) else None
        situation = Situation(
            schema=schema,
            pg=pg,
            in_transaction=statement.in_transaction,
            created=created,
            held=dict(held),
            siblings=operations,
            enum_values_added=enum_values,
            created_types=created_types,
        )
        before = schema.copy() if len(operations) > 1 else None
        parts: list[tuple[Operation, Effects]] = []
        pending_created: set[QName] = set()
        last = len(operations) - 1
        failed = skipped = False
        for i, operation in enumerate(operations):
            hidden = operation.hidden
            uncertain = hidden is not None and not hidden.certain
            if hidden is not None:
                _enter_body(situation, parts, created | pending_created)
            effects = _effects_of(operation, situation)
            skipped = uncertain and _is_about_being_there(effects)
            if skipped:  # the condition it stands under is there for just that
                parts.append((operation, Effects()))
                continue
            parts.append((operation, effects))
            failed = failed or (effects.error is not None and not effects.error.rows_decide)
            if schema.complete or not uncertain:
                pending_created.update(operation.created(schema))
            if i != last and not failed:
                operation.apply(schema)
        merged = merge(effects for _, effects in parts)
        known = frozenset(created)
        merged = _without(merged, created | pending_created if pending_created else created)
        merged = _failed(merged)
        if waiting:
            merged = _with_waiting(merged, schema)
        yield Explained(
            statement=statement,
            parts=tuple(parts),
            effects=merged,
            schema=before if before is not None else schema,
            created=known,
            held=dict(held),
            pg=pg,
        )
        renamed = _renamed(statement, schema) if "rename_table" in kinds else []
        if operations and not failed and not skipped:
            operations[last].apply(schema)
        if SetParameter.kind in kinds:
            session = _beyond_transaction(statement, schema, session)
        created |= pending_created
        created |= {new for old, new in renamed if old in created}
        if types_before is not None:
            created_types |= set(schema.types) - types_before
        if statement.in_transaction:
            _hold(held, merged)
            held.update({new: held.pop(old) for old, new in renamed if old in held})
            if "add_enum_value" in kinds:
                added = (getattr(operation, "enum_value", None) for operation in operations)
                enum_values |= {label for label in added if label is not None}


def _effects_of(operation: Operation, situation: Situation) -> Effects:
    """The operation's own effects, and what it took for granted; or the error it meets before."""
    situation.assumed = []
    if operation.absent_ok and _is_absent(operation, situation.schema):
        return Effects()
    refused = refusal(operation, situation)
    if refused is not None and not refused.rows_decide:
        return Effects(error=refused)
    effects = operation.effects(situation)
    if refused is None and not situation.assumed:
        return effects
    return replace(
        effects,
        error=effects.error or refused,
        assumed=(*effects.assumed, *situation.assumed),
    )


def _is_absent(operation: Operation, schema: Schema) -> bool:
    """Whether what the operation is about is known not to be there."""
    if operation.relation is None or not schema.complete:
        return False
    name = schema.resolve(operation.relation)
    those = (schema.tables, schema.views, schema.sequences, schema.indexes)
    return not any(name in kind for kind in those)


def _renamed(statement: Statement, schema: Schema) -> list[tuple[QName, QName]]:
    """Tables that have another name from this statement on; `schema` is as before its last part."""
    found = []
    for operation in statement.operations:
        to = getattr(operation, "to", None)
        if operation.kind == "rename_table" and operation.relation is not None and to is not None:
            old = schema.resolve(operation.relation)
            found.append((old, old.sibling(to)))
    return found


def _beyond_transaction(
    statement: Statement, schema: Schema, session: tuple[tuple[str, ...], dict[str, str]]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The session's settings with what the statement SET for longer than its transaction."""
    path, settings = session
    parameters = [o for o in statement.operations if isinstance(o, SetParameter)]
    for operation in () if any(p.local for p in parameters) else parameters:
        if operation.parameter == "search_path":
            path = schema.search_path
        elif operation.parameter in schema.settings:
            settings = {**settings, operation.parameter: schema.settings[operation.parameter]}
        else:
            settings = {k: v for k, v in settings.items() if k != operation.parameter}
    return path, settings


def _enter_body(
    situation: Situation, parts: Sequence[tuple[Operation, Effects]], created: set[QName]
) -> None:
    """A body runs inside a transaction, holding what its own statements locked and made so far."""
    situation.in_transaction = True
    situation.created = created
    for _, effects in parts:
        _hold(situation.held, effects)


#: duplicate and undefined tables, columns, objects, schemas, functions
_BEING_THERE = frozenset("42P07 42701 42710 42P06 42723 42P01 42703 42704 3F000 42883".split())


def _is_about_being_there(effects: Effects) -> bool:
    """Whether a statement fails because something is there already, or is not."""
    return effects.error is not None and effects.error.sqlstate in _BEING_THERE


def _hold(held: dict[QName, LockMode], effects: Effects) -> None:
    for relation, mode in effects.locks.items():
        before = held.get(relation)
        if before is None or before.strength < mode.strength:
            held[relation] = mode


def unfold(explained: Explained) -> Iterator[Explained]:
    """A statement, and each statement of the bodies it runs as if that stood alone."""
    if all(operation.hidden is None for operation, _ in explained.parts):
        yield explained
        return
    held, created = dict(explained.held), set(explained.created)
    for place, group in groupby(explained.parts, key=lambda part: part[0].hidden):
        parts = tuple(group)
        if place is None:
            yield explained._replace(parts=parts)
            continue
        statement = inner_statement(explained.statement, place, tuple(o for o, _ in parts))
        yield explained._replace(
            statement=statement, parts=parts, held=dict(held), created=frozenset(created)
        )
        for operation, effects in parts:
            _hold(held, effects)
            created.update(operation.created(explained.schema))


def inner_statement(
    statement: Statement, place: Hidden, operations: tuple[Operation, ...]
) -> Statement:
    """A statement of a body, with its own text and lines where these are in the same file."""
    span = statement.span
    if place.offset is not None and span.end - span.start >= len(statement.sql):
        span = span.inner(statement.sql, place.offset, place.offset + len(place.sql))
    return replace(
        statement,
        sql=place.sql or statement.sql,
        span=span,
        operations=operations,
        in_transaction=True,
        source="do_block" if place.offset is not None else "function",
        understood=not any(isinstance(o, NotUnderstood) for o in operations),
    )


def _failed(effects: Effects) -> Effects:
    """A statement that fails for certain leaves nothing behind: no lock, no work, nobody broken.

    Where it only fails if the rows say so, it may as well succeed: everything stands.
    """
    if effects.error is None or effects.error.rows_decide:
        return effects
    return Effects(
        transactional=effects.transactional, error=effects.error, assumed=effects.assumed
    )


def _with_waiting(effects: Effects, schema: Schema) -> Effects:
    """The effects with who waits without being locked."""
    waiting = blocked_indirectly({**effects.index_locks, **effects.locks}, schema)
    return replace(effects, blocked_indirectly={**waiting, **effects.blocked_indirectly})


def _without(effects: Effects, created: set[QName]) -> Effects:
    named = (
        effects.locks,
        effects.index_locks,
        effects.rewrites,
        effects.scans,
        effects.index_rebuilds,
        effects.blocked_indirectly,
        (b.relation for b in effects.breaks),
    )
    if not created or all(created.isdisjoint(those) for those in named):
        return effects
    return replace(
        effects,
        locks={r: m for r, m in effects.locks.items() if r not in created},
        index_locks={r: m for r, m in effects.index_locks.items() if r not in created},
        rewrites=tuple(r for r in effects.rewrites if r not in created),
        scans={r: w for r, w in effects.scans.items() if r not in created},
        index_rebuilds=tuple(r for r in effects.index_rebuilds if r not in created),
        blocked_indirectly={
            r: b for r, b in effects.blocked_indirectly.items() if r not in created
        },
        breaks=tuple(b for b in effects.breaks if b.relation not in created),
    )
