"""What Postgres does when a statement runs. Facts, never opinions: rules judge them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName

Code = Literal["old", "new"]


@dataclass(frozen=True, slots=True)
class PgError:
    """The error a statement will end with here: SQLSTATE and what the server would say.

    `rows_decide` is whether it comes only if some row asks for it (a NULL where none may be):
    the statement may then as well succeed.
    """

    sqlstate: str
    message: str
    rows_decide: bool = False


@dataclass(frozen=True, slots=True)
class Break:
    """Something a code version does that stops working.

    `code` is whose: old code running after the change, or new code arriving before it. `what` is
    plain words naming the object; `sqlstate` what its statements then fail with, None when they
    run but mean something else (a silent break). `kind` groups: removed, renamed, obligation,
    restriction, result_type, cached_plan, on_conflict, privilege, row_security, values.
    """

    code: Code
    kind: str
    what: str
    sqlstate: str | None = None
    relation: QName | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What one operation, or a whole statement, does.

    `locks` holds the strongest table-level mode per existing relation (relations created by the
    same migration are left out by whoever merges). `rewrites`, `scans`, `index_builds` and
    `index_rebuilds` name relations; `scans` says why. `blocked_indirectly` are relations that are
    not locked but whose readers or writers wait all the same (views over a locked table, inserts
    that check a locked referenced table): relation → (reads, writes).
    """

    locks: Mapping[QName, LockMode] = field(default_factory=dict)
    #: of indexes, where they matter: whoever plans a statement on the table opens its indexes
    index_locks: Mapping[QName, LockMode] = field(default_factory=dict)
    rewrites: tuple[QName, ...] = ()
    scans: Mapping[QName, str] = field(default_factory=dict)
    index_builds: tuple[QName, ...] = ()
    index_rebuilds: tuple[QName, ...] = ()
    blocked_indirectly: Mapping[QName, tuple[bool, bool]] = field(default_factory=dict)
    transactional: bool = True
    error: PgError | None = None
    breaks: tuple[Break, ...] = ()
    #: what data is gone afterwards, in plain words; empty when none is
    loses: tuple[str, ...] = ()
    #: what had to be assumed because the schema does not say, in plain words
    assumed: tuple[str, ...] = ()

    @property
    def blocks(self) -> dict[QName, tuple[bool, bool]]:
        """Per relation, whether (reads, writes) wait; relations that block neither left out."""
        out: dict[QName, tuple[bool, bool]] = {}
        for relation, mode in self.locks.items():
            if mode.blocks_reads or mode.blocks_writes:
                out[relation] = (mode.blocks_reads, mode.blocks_writes)
        for relation, (reads, writes) in self.blocked_indirectly.items():
            r, w = out.get(relation, (False, False))
            out[relation] = (r or reads, w or writes)
        return out

    def long_blocking(self) -> dict[QName, LockMode]:
        """Relations blocked (writes at least) while rows are rewritten, scanned or indexed."""
        if not (self.rewrites or self.scans or self.index_builds or self.index_rebuilds):
            return {}
        return {r: m for r, m in self.locks.items() if m.blocks_writes}


def merge(parts: Iterable[Effects]) -> Effects:
    """The effects of several operations that run one after another in one statement."""
    locks: dict[QName, LockMode] = {}
    index_locks: dict[QName, LockMode] = {}
    scans: dict[QName, str] = {}
    indirect: dict[QName, tuple[bool, bool]] = {}
    rewrites: dict[QName, None] = {}
    builds: dict[QName, None] = {}
    rebuilds: dict[QName, None] = {}
    breaks: dict[Break, None] = {}
    loses: dict[str, None] = {}
    assumed: dict[str, None] = {}
    transactional = True
    error: PgError | None = None
    several = tuple(parts)
    if len(several) == 1:
        return several[0]
    for part in several:
        for relation, mode in part.locks.items():
            held = strongest(locks.get(relation), mode)
            assert held is not None
            locks[relation] = held
        for relation, mode in part.index_locks.items():
            held = strongest(index_locks.get(relation), mode)
            assert held is not None
            index_locks[relation] = held
        for relation, why in part.scans.items():
            scans.setdefault(relation, why)
        for relation, (r, w) in part.blocked_indirectly.items():
            r0, w0 = indirect.get(relation, (False, False))
            indirect[relation] = (r or r0, w or w0)
        rewrites.update(dict.fromkeys(part.rewrites))
        builds.update(dict.fromkeys(part.index_builds))
        rebuilds.update(dict.fromkeys(part.index_rebuilds))
        breaks.update(dict.fromkeys(part.breaks))
        loses.update(dict.fromkeys(part.loses))
        assumed.update(dict.fromkeys(part.assumed))
        transactional = transactional and part.transactional
        error = error or part.error
    return Effects(
        locks=locks,
        index_locks=index_locks,
        rewrites=tuple(rewrites),
        scans=scans,
        index_builds=tuple(builds),
        index_rebuilds=tuple(rebuilds),
        blocked_indirectly=indirect,
        transactional=transactional,
        error=error,
        breaks=tuple(breaks),
        loses=tuple(loses),
        assumed=tuple(assumed),
    )
