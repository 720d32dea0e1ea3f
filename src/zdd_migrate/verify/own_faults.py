"""Failures that code has where nothing was changed: its own, and no fault of the plan. Pure.

A fault belongs to a code version and to a kind of statement on a table: that an UPDATE of orders
breaks a CHECK by itself says nothing about an INSERT that does, nor about another table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zdd_migrate.model.verdict import StatementError

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_TABLE = rf"(?:{_NAME}\.)*(?P<table>{_NAME})"
_KINDS = (
    ("upsert into", re.compile(rf"INSERT INTO {_TABLE}.* ON CONFLICT\b", re.IGNORECASE)),
    ("INSERT INTO", re.compile(rf"INSERT INTO {_TABLE}", re.IGNORECASE)),
    ("UPDATE", re.compile(rf"UPDATE (?:ONLY )?{_TABLE}", re.IGNORECASE)),
    ("DELETE FROM", re.compile(rf"DELETE FROM (?:ONLY )?{_TABLE}", re.IGNORECASE)),
    ("COPY into", re.compile(rf"COPY {_TABLE}.* FROM\b", re.IGNORECASE)),
    ("SELECT from", re.compile(rf"(?:COPY \()?SELECT .*? FROM {_TABLE}", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True, order=True)
class OwnFault:
    """A failure, and which statements have it: all of a kind on a table, whichever columns they
    name, for those are drawn anew each time."""

    of: str
    sqlstate: str
    message: str


def own_fault(error: StatementError) -> OwnFault:
    """The fault that a failed statement shows."""
    return OwnFault(_kind(error.statement), error.sqlstate, error.message)


def own_faults(errors: Iterable[StatementError]) -> frozenset[OwnFault]:
    """Those of all failures."""
    return frozenset(map(own_fault, errors))


def told(faults: Iterable[OwnFault], whose: str) -> list[str]:
    """Notes of what is left out of a verdict."""
    return [
        f"{fault.of[:60]} of {whose} fails by itself with {fault.sqlstate} "
        f"({fault.message[:80]}): left out"
        for fault in sorted(faults)[:3]
    ]


def _kind(statement: str) -> str:
    for kind, pattern in _KINDS:
        found = pattern.match(statement)
        if found is not None:
            # the schema is left out: a view in the search path may stand for the table
            name = found["table"]
            name = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
            return f"{kind} {name}"
    return statement
