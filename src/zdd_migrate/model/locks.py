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

    def __str__(self) -> str:
        return self.value

    @property
    def strength(self) -> int:
        """Position in the list of modes, 1 (weakest) to 8 (strongest)."""
        return _STRENGTH[self]

    @property
    def sql(self) -> str:
        """As `LOCK TABLE … IN <sql> MODE` wants it: `ACCESS EXCLUSIVE`."""
        return self.name.replace("_", " ")

    def conflicts_with(self, other: LockMode) -> bool:
        """Whether a session holding `self` makes one that asks for `other` wait."""
        return other in _CONFLICTS[self]

    @property
    def blocks_reads(self) -> bool:
        """Whether a plain SELECT waits behind this mode."""
        return self.conflicts_with(LockMode.ACCESS_SHARE)

    @property
    def blocks_writes(self) -> bool:
        """Whether INSERT, UPDATE and DELETE wait behind this mode."""
        return self.conflicts_with(LockMode.ROW_EXCLUSIVE)


_M = LockMode
_STRENGTH = {mode: i for i, mode in enumerate(LockMode, start=1)}
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


def strongest(*modes: LockMode | None) -> LockMode | None:
    """The strongest of the given modes; None when there is none."""
    held = [mode for mode in modes if mode is not None]
    return max(held, key=lambda mode: mode.strength) if held else None
