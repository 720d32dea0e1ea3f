"""ALTER SEQUENCE: its own options; nextval waits for an instant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.create_object import read_sequence_option

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterSequence(Operation):
    """Change a sequence's options. `owned_by` is the table it is tied to, `owned_column` its column."""

    kind: ClassVar[str] = "alter_sequence"
    owned_by: QName | None = None
    owned_column: str | None = None

    def effects(self, at: Situation) -> Effects:
        """SHARE ROW EXCLUSIVE on the sequence alone."""
        assert self.relation is not None
        locks = {at.schema.resolve(self.relation): LockMode.SHARE_ROW_EXCLUSIVE}
        if self.owned_by is not None:
            locks[at.schema.resolve(self.owned_by)] = LockMode.ACCESS_SHARE
        return Effects(locks=locks)

    def apply(self, schema: Schema) -> None:
        """Keep what it is tied to."""
        assert self.relation is not None
        name = schema.resolve(self.relation)
        sequence = schema.sequences.get(name)
        if sequence is not None and self.owned_by is not None and self.owned_column is not None:
            owner = (schema.resolve(self.owned_by), self.owned_column)
            schema.put_sequence(replace(sequence, owned_by=owner))

    def plan(self, draft: Draft) -> None:
        """As it is, in expand."""
        assert self.relation is not None
        name = draft.schema.resolve(self.relation)
        draft.leave(f"sequence {name}", f"the settings of the sequence {name} as they are now")
        # of a new sequence it is put back: its column may be one that it can be tied to only at contract
        free = self.owned_by is not None and name not in draft.start.sequences
        draft.as_written(
            Phase.EXPAND,
            undo=f"ALTER SEQUENCE {quote_qname(name)} OWNED BY NONE" if free else (),
            why=f"change the sequence {name}; what it was is not put back by undo",
        )


def at_sequence_option(cursor: Cursor) -> bool:
    """Whether a sequence's own option comes next, not an action that all relations share."""
    return not (cursor.at("RENAME") or cursor.at("OWNER", "TO") or cursor.at("SET"))


def read_alter_sequence(cursor: Cursor, target: Target) -> AlterSequence:
    """Read the options of ALTER SEQUENCE."""
    found = AlterSequence(relation=target.relation)
    while not cursor.done and not cursor.at(";"):
        owner = read_sequence_option(cursor)
        if owner is not None:
            found = replace(found, owned_by=owner[0], owned_column=owner[1])
    return found
