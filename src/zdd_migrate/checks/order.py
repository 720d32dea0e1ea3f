"""Transactions, order and retries: what a statement means where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zdd_migrate.checks.case import Case
from zdd_migrate.checks.rooms import is_create_index, is_create_table
from zdd_migrate.model.finding import Severity
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Index, Schema
from zdd_migrate.model.statement import Migration

if TYPE_CHECKING:
    from zdd_migrate.operations.create_index import CreateIndex

#: lock_timeout beyond which a queue behind a waiting ALTER is an outage, in milliseconds
_LONG_TIMEOUT = 10_000
#: Postgres cuts names after this many bytes
_NAME_BYTES = 63
_WORD = re.compile(r"[\w$]+")
_LONG_WORD = re.compile(rf"[\w$]{{{_NAME_BYTES - 2}}}")


def work_under_lock(case: Case) -> Mapping[str, Any] | None:
    """A statement works through rows while the transaction still holds a blocking lock."""
    explained, effects, operation = case.explained, case.effects, case.operation
    if not explained.held:
        return None
    held = {
        r: m for r, m in explained.held.items() if m.blocks_writes and r not in explained.created
    }
    working = (*effects.rewrites, *effects.scans, *effects.index_builds, *effects.index_rebuilds)
    busy = [r for r in working if r not in explained.created]
    long_data = operation.kind == "data_statement" and getattr(operation, "verb", "") in (
        "insert",
        "update",
        "delete",
        "merge",
    )
    written = [r for r, m in effects.locks.items() if not m.blocks_writes]
    on_new = bool(written) and all(r in explained.created for r in written)
    if not held or not (busy or (long_data and not on_new)):
        return None
    strongest = max(held.values(), key=lambda m: m.strength)
    return {
        "locked": ", ".join(str(r) for r in held),
        "held_lock": str(strongest),
        "who": "reads and writes" if strongest.blocks_reads else "writes",
    }


def fails_here(case: Case) -> Mapping[str, Any] | None:
    """The statement ends with an error on this schema and this major."""
    error = case.effects.error
    if error is None or error.sqlstate == "25001":
        return None
    return {"sqlstate": error.sqlstate}


def concurrently_in_transaction(case: Case) -> Mapping[str, Any] | None:
    """CONCURRENTLY (or another such statement) where the tool opens a transaction block."""
    error = case.effects.error
    return {} if error is not None and error.sqlstate == "25001" else None


def enum_value_used_too_soon(case: Case) -> Mapping[str, Any] | None:
    """A label is used by the transaction that added it."""
    error = case.effects.error
    if error is not None and error.sqlstate == "55P04":
        return {}
    statement = case.explained.statement
    if not statement.in_transaction or case.operation.kind == "add_enum_value":
        return None
    for label, transaction in case.story.labels.items():
        quoted = "'" + label.replace("'", "''") + "'"
        if transaction == statement.transaction and quoted in statement.sql:
            return {}
    return None


def several_tables_locked(case: Case) -> Mapping[str, Any] | None:
    """The transaction holds one table while it waits for another: half of a deadlock."""
    explained = case.explained
    if not explained.held or not explained.statement.in_transaction:
        return None
    wanted = {
        r
        for r, m in case.effects.locks.items()
        if m.blocks_writes and r not in explained.created and r not in explained.held
    }
    if not wanted:
        return None
    held = {r for r, m in explained.held.items() if m.blocks_writes and r not in explained.created}
    family = {t.name for r in held for t in case.schema.descendants_of(r)}
    wanted -= family | {r for r in wanted if case.schema.tables.get(r) is None and held == {r}}
    if not held or not wanted:
        return None
    return {
        "first_table": ", ".join(sorted(map(str, held))),
        "second_table": ", ".join(sorted(map(str, wanted))),
        "once": "file",
    }


def invalid_index_kept(case: Case) -> Mapping[str, Any] | None:
    """IF NOT EXISTS looks at the name alone: a broken or different index satisfies it."""
    operation, own = case.operation, case.relation
    if not is_create_index(operation) or not operation.if_not_exists:
        return None
    if operation.index is None or own is None:
        return None
    there = case.schema.indexes.get(own.sibling(operation.index))
    if there is None:
        if not operation.concurrently:
            return None
        what = "a build that failed before leaves an INVALID index of that name, which is then kept"
        return {"what": what, "severity": Severity.INFO}
    if not there.valid:
        return {"what": f"{there.name} is there and INVALID, and stays so", "severity": None}
    if _alike(there, operation, own):
        return None
    on = f"{there.table} ({', '.join(there.keys)})"
    what = f"{there.name} is there already, on {on}, and is kept as it is"
    return {"what": what, "severity": Severity.WARNING}


def _alike(there: Index, operation: CreateIndex, table: QName) -> bool:
    return (
        there.table == table
        and there.keys == operation.keys
        and there.method == operation.method
        and there.unique == operation.unique
        and (there.predicate is None) == (operation.where is None)
    )


def index_unnamed(case: Case) -> Mapping[str, Any] | None:
    """Postgres chooses the name."""
    return {} if is_create_index(case.operation) and case.operation.index is None else None


def index_already_there(case: Case) -> Mapping[str, Any] | None:
    """Another index of the table has the same keys."""
    operation, own = case.operation, case.relation
    if not is_create_index(operation) or own is None:
        return None
    for there in case.schema.indexes_of(own):
        same = _alike(there, operation, own) and there.predicate is None
        if same and there.name.name != operation.index:
            return {"there": there.name.name, "columns": ", ".join(there.keys)}
    return None


def index_gone_before_replacement(case: Case) -> Mapping[str, Any] | None:
    """The index is dropped first and its replacement is built afterwards."""
    index = case.schema.index(case.operation.relation) if case.operation.relation else None
    if index is None or not index.keys:
        return None
    table, first = index.table, index.keys[0]
    before = {i.name for i in case.schema.indexes_of(table)}

    def replaced_later(schema: Schema) -> bool:
        return any(
            i.keys[:1] == (first,) and (i.name not in before or i.name == index.name)
            for i in schema.indexes_of(table)
        )

    return {"table": str(table), "first_column": first, "still": replaced_later}


def identifier_truncated(case: Case) -> Mapping[str, Any] | None:
    """A name that Postgres cuts, with a notice that nobody reads.

    The reader cuts names as Postgres does: the whole one stands in the statement's text.
    """
    sql = case.explained.statement.sql
    if not case.operation.kind.startswith(("create", "add", "rename")):
        return None
    for name in _names_made(case):
        if (
            len(name) > _NAME_BYTES // 4 - 1 and len(name.encode()) > _NAME_BYTES - 4
        ):  # a letter of four bytes is not cut in two
            if name.isascii() and _WORD.fullmatch(name) and not _LONG_WORD.search(sql):
                continue
            whole = re.search(re.escape(name) + r"[\w$]+", sql, re.IGNORECASE)
            if whole is not None and len(whole[0].encode()) > _NAME_BYTES:
                return {"long_name": whole[0], "cut_name": name}
    return None


def _names_made(case: Case) -> Iterator[str]:
    operation = case.operation
    kind = operation.kind
    if is_create_table(operation):
        yield from (c.name for c in operation.columns)
        yield from (c.name for c in operation.constraints if c.name)
    if kind.startswith("create_") and operation.relation is not None:
        yield operation.relation.name
    for field in ("index", "to", "column"):
        named = getattr(operation, field, None)
        if isinstance(named, str):
            yield named
    constraint = getattr(operation, "constraint", None)
    if kind == "add_constraint" and constraint is not None and constraint.name:
        yield constraint.name


def lock_timeout_too_long(case: Case) -> Mapping[str, Any] | None:
    """A bound that is none, or that lets the queue grow for long."""
    operation = case.operation
    if getattr(operation, "parameter", "") != "lock_timeout":
        return None
    value = str(getattr(operation, "value", None) or "0").strip("'\" ")
    milliseconds = _milliseconds(value)
    if milliseconds == 0:
        return {"how": "takes the bound away"}
    if milliseconds is not None and milliseconds > _LONG_TIMEOUT:
        return {"how": f"lets everybody wait behind a waiting ALTER for up to {value}"}
    return None


def _milliseconds(value: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?", value)
    if match is None:
        return 0 if value.lower() == "default" else None
    unit = {"us": 0.001, "ms": 1, "s": 1e3, "min": 6e4, "h": 3.6e6, "d": 8.64e7}
    return float(match[1]) * unit[match[2] or "ms"]


def retry_fails(case: Case) -> Mapping[str, Any] | None:
    """Outside a transaction a second run meets what the first one made."""
    operation = case.operation
    if case.explained.statement.in_transaction:
        return None
    guarded = getattr(operation, "if_not_exists", None) or getattr(operation, "if_exists", None)
    return None if guarded or getattr(operation, "or_replace", False) else {}


def at_the_end(migration: Migration) -> Iterator[tuple[str, int, str]]:
    """(rule, line, what) of transactions that are opened twice, split or left open."""
    wrapped = next((s.transaction == 0 for s in migration.statements[:1]), False)
    opened: int | None = None
    for statement in migration.statements:
        for operation in statement.operations:
            if operation.kind != "transaction":
                continue
            verb, line = getattr(operation, "verb", ""), statement.span.line
            if verb == "begin" and (opened is not None or wrapped):
                yield "ZDD411", line, "BEGIN inside a transaction is only a warning and opens none"
            elif verb == "begin":
                opened = line
            elif verb in ("commit", "rollback"):
                if opened is None and wrapped:
                    what = f"{verb.upper()} ends the transaction that the migration tool opened"
                    yield "ZDD411", line, what
                wrapped, opened = False, line if getattr(operation, "chain", False) else None
    if opened is not None:
        yield "ZDD412", opened, "the transaction that BEGIN opens here is never committed"


CHECKS = (
    work_under_lock,
    fails_here,
    concurrently_in_transaction,
    several_tables_locked,
    enum_value_used_too_soon,
    invalid_index_kept,
    index_already_there,
    index_unnamed,
    index_gone_before_replacement,
    identifier_truncated,
    lock_timeout_too_long,
    retry_fails,
)
