"""The four phases of a plan."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """The four phases, in order.

    expand adds what new code needs; migrate fills and validates data; switch releases the new
    code; contract removes and restricts what only old code could live with.
    """

    EXPAND = "expand"
    MIGRATE = "migrate"
    SWITCH = "switch"
    CONTRACT = "contract"

    @property
    def number(self) -> int:
        """1 for expand to 4 for contract."""
        return list(Phase).index(self) + 1
