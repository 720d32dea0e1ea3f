"""What a migration drops and makes again under the same name: one change, not two.

Dropped at contract and made in expand, the new one would meet the old one's name. The rooms ask
`draft.replaced` and plan the two statements as one replacement, where the new one is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.base import Key


def replaced(
    start: Schema, statements: Sequence[Statement]
) -> tuple[frozenset[Key], frozenset[Key]]:
    """Keys of all that is dropped, and of what of it is made again later."""
    dropped: set[Key] = set()
    again: set[Key] = set()
    for statement in statements:
        for operation in statement.operations:
            dropped.update(operation.drops(start))
            again.update(key for key in operation.makes(start) if key in dropped)
    return frozenset(dropped), frozenset(again)
