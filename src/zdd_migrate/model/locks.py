"""Table-level lock modes, spelled as in `pg_locks.mode`, and what each one blocks.

Source: PostgreSQL documentation, "Explicit Locking", table of conflicting lock modes.
"""

from __future__ import annotations

from enum import Enum


class LockMode(Enum):
    """One of the eight table-level modes, weakest first. `str(mode)` is `pg_locks.mode`."""

    ACCESS_SHARE = "AccessShareLock"
    ROW_SHARE = "RowShareLock"
    ROW_EXCLUSIVE = "RowExclusiveLock"
    SHARE_UPDATE_EXCLUSIVE = "ShareUpdateExclusiveLock"
    SHARE = "ShareLock"
    SHARE_ROW_EXCLUSIVE = "ShareRowExclusiveLock"
    EXCLUSIVE = "ExclusiveLock"
    ACCESS_EXCLUSIVE = "AccessExclusiveLock"

    #: position in the list of modes, 1 (weakest) to 8 (strongest)
    strength: int
    #: whether a plain SELECT waits behind this mode
    blocks_reads: bool
    #: whether INSERT, UPDATE and DELETE wait behind this mode
    blocks_writes: bool

    def __hash__(self) -> int:
        """There is one object of each mode."""
        return id(self)

    def __str__(self) -> str:
        return str(self.value)

    @property
    def sql(self) -> str:
        """As `LOCK TABLE … IN <sql> MODE` wants it: `ACCESS EXCLUSIVE`."""
        return self.name.replace("_", " ")

    def conflicts_with(self, other: LockMode) -> bool:
        """Whether a session holding `self` makes one that asks for `other` wait."""
        return other in _CONFLICTS[self]


_M = LockMode
_CONFLICTS: dict[LockMode, frozenset[LockMode]] = {
    _M.ACCESS_SHARE: frozenset({_M.ACCESS_EXCLUSIVE}),
    _M.ROW_SHARE: frozenset({_M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}),
    _M.ROW_EXCLUSIVE: frozenset(
        {_M.SHARE, _M.SHARE_ROW_EXCLUSIVE, _M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}
    ),
    _M.SHARE_UPDATE_EXCLUSIVE: frozenset(
        {
            _M.SHARE_UPDATE_EXCLUSIVE,
            _M.SHARE,
            _M.SHARE_ROW_EXCLUSIVE,
            _M.EXCLUSIVE,
            _M.ACCESS_EXCLUSIVE,
        }
    ),
    _M.SHARE: frozenset(
        {
            _M.ROW_EXCLUSIVE,
            _M.SHARE_UPDATE_EXCLUSIVE,
            _M.SHARE_ROW_EXCLUSIVE,
            _M.EXCLUSIVE,
            _M.ACCESS_EXCLUSIVE,
        }
    ),
    _M.SHARE_ROW_EXCLUSIVE: frozenset(set(LockMode) - {_M.ACCESS_SHARE, _M.ROW_SHARE}),
    _M.EXCLUSIVE: frozenset(set(LockMode) - {_M.ACCESS_SHARE}),
    _M.ACCESS_EXCLUSIVE: frozenset(LockMode),
}
for _i, _mode in enumerate(LockMode, start=1):
    _mode.strength = _i
    _mode.blocks_reads = _mode.conflicts_with(_M.ACCESS_SHARE)
    _mode.blocks_writes = _mode.conflicts_with(_M.ROW_EXCLUSIVE)


def strongest(*modes: LockMode | None) -> LockMode | None:
    """The strongest of the given modes; None when there is none."""
    found: LockMode | None = None
    for mode in modes:
        if mode is not None and (found is None or found.strength < mode.strength):
            found = mode
    return found
