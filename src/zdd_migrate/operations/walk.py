"""Walking statements in order: the schema before each, its effects, and the schema after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from zdd_migrate.model.effects import Effects, merge
from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration, Statement
from zdd_migrate.operations.base import DEFAULT_PG, NotUnderstood, Operation, Situation
from zdd_migrate.operations.refusals import refusal
from zdd_migrate.operations.set_parameter import SetParameter
from zdd_migrate.operations.waiting import blocked_indirectly


@dataclass(frozen=True, slots=True)
class Explained:
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
    held: dict[QName, LockMode] = field(default_factory=dict)
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
        for operation in statement.operations:
            if isinstance(operation, NotUnderstood):
                at = f"{statement.span.path}:{statement.span.line}"
                schema.gaps.append(f"{at}: {operation.reason}")
                schema.complete = False
            operation.apply(schema)


def walk(migration: Migration, schema: Schema, *, pg: int = DEFAULT_PG) -> Iterator[Explained]:
    """Explain each statement of a migration; `schema` is changed in place as the walk goes on."""
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
        types_before = set(schema.types) if _makes_type(statement) else None
        situation = Situation(
            schema=schema,
            pg=pg,
            in_transaction=statement.in_transaction,
            created=created,
            held=dict(held),
            siblings=statement.operations,
            enum_values_added=enum_values,
            created_types=created_types,
        )
        before = schema.copy() if len(statement.operations) > 1 else None
        parts: list[tuple[Operation, Effects]] = []
        pending_created: set[QName] = set()
        last = len(statement.operations) - 1
        failed = False
        for i, operation in enumerate(statement.operations):
            situation.assumed = []
            refused = refusal(operation, situation)
            if refused is not None and not refused.rows_decide:
                effects = Effects(error=refused)
            else:
                effects = operation.effects(situation)
                effects = replace(effects, error=effects.error or refused)
            if situation.assumed:
                effects = replace(effects, assumed=(*effects.assumed, *situation.assumed))
            parts.append((operation, effects))
            failed = failed or effects.error is not None
            pending_created.update(operation.created(schema))
            if i != last and not failed:
                operation.apply(schema)
        merged = merge(effects for _, effects in parts)
        known = frozenset(created)
        merged = _without(merged, created | pending_created)
        merged = _with_waiting(_failed(merged), schema)
        yield Explained(
            statement=statement,
            parts=tuple(parts),
            effects=merged,
            schema=before if before is not None else schema,
            created=known,
            held=dict(held),
            pg=pg,
        )
        if statement.operations and not failed:
            statement.operations[last].apply(schema)
        if not any(isinstance(o, SetParameter) and o.local for o in statement.operations):
            session = _beyond_transaction(statement, schema, session)
        created |= pending_created
        if types_before is not None:
            created_types |= set(schema.types) - types_before
        if statement.in_transaction:
            for relation, mode in merged.locks.items():
                stronger = strongest(held.get(relation), mode)
                assert stronger is not None
                held[relation] = stronger
            enum_values |= {
                added
                for operation in statement.operations
                if (added := getattr(operation, "enum_value", None)) is not None
            }


def _beyond_transaction(
    statement: Statement, schema: Schema, session: tuple[tuple[str, ...], dict[str, str]]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The session's settings with what the statement SET for longer than its transaction."""
    path, settings = session
    for operation in statement.operations:
        if not isinstance(operation, SetParameter):
            continue
        if operation.parameter == "search_path":
            path = schema.search_path
        elif operation.parameter in schema.settings:
            settings = {**settings, operation.parameter: schema.settings[operation.parameter]}
        else:
            settings = {k: v for k, v in settings.items() if k != operation.parameter}
    return path, settings


def _makes_type(statement: Statement) -> bool:
    return any(operation.kind.startswith("create_") for operation in statement.operations)


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
    if not created:
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
