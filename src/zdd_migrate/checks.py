"""The few rules that a comparison of facts cannot say. Each returns more facts, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.walk import Explained


def lock_timeout_missing(
    explained: Explained, operation: Operation, effects: Effects
) -> Mapping[str, Any] | None:
    """A lock that stops readers is asked for while nothing bounds the queue behind it."""
    strong = [
        r
        for r, m in effects.locks.items()
        if m is LockMode.ACCESS_EXCLUSIVE and r not in explained.created
    ]
    if not strong or explained.schema.settings.get("lock_timeout", "0") not in ("0", "0ms", ""):
        return None
    if any(explained.held.get(r) is LockMode.ACCESS_EXCLUSIVE for r in strong):
        return None  # the wait is already over
    return {"locked": ", ".join(str(r) for r in strong)}


def work_under_lock(
    explained: Explained, operation: Operation, effects: Effects
) -> Mapping[str, Any] | None:
    """A statement works through rows while the transaction still holds a blocking lock."""
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
    written = [r for r, m in effects.locks.items() if m is LockMode.ROW_EXCLUSIVE]
    on_new = bool(written) and all(r in explained.created for r in written)
    if not held or not (busy or (long_data and not on_new)):
        return None
    strongest = max(held.values(), key=lambda m: m.strength)
    return {
        "locked": ", ".join(str(r) for r in held),
        "held_lock": str(strongest),
        "who": "reads and writes" if strongest.blocks_reads else "writes",
    }


def fails_here(
    explained: Explained, operation: Operation, effects: Effects
) -> Mapping[str, Any] | None:
    """The statement ends with an error on this schema and this major."""
    if effects.error is None or effects.error.sqlstate == "25001":
        return None
    return {"sqlstate": effects.error.sqlstate}


def concurrently_in_transaction(
    explained: Explained, operation: Operation, effects: Effects
) -> Mapping[str, Any] | None:
    """CONCURRENTLY (or another such statement) where the tool opens a transaction block."""
    if effects.error is None or effects.error.sqlstate != "25001":
        return None
    return {}


CHECKS = {
    function.__name__.replace("_", "-"): function
    for function in (
        lock_timeout_missing,
        work_under_lock,
        fails_here,
        concurrently_in_transaction,
    )
}
