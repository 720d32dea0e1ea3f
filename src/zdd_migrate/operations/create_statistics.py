"""CREATE STATISTICS: what ANALYZE counts of several columns together. Nobody waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateStatistics(Operation):
    """Make a statistics object on `relation`. `statistics` is its name, if it was given one."""

    kind: ClassVar[str] = "create_statistics"
    statistics: QName | None
    expressions: tuple[str, ...] = ()
    if_not_exists: bool = False

    def effects(self, at: Situation) -> Effects:
        """SHARE UPDATE EXCLUSIVE on the table."""
        assert self.relation is not None
        return Effects(locks={at.schema.resolve(self.relation): LockMode.SHARE_UPDATE_EXCLUSIVE})

    def apply(self, schema: Schema) -> None:
        """Remember whose they are."""
        assert self.relation is not None
        if self.statistics is not None:
            name = schema.resolve(self.statistics)
            schema.others["statistics", name] = str(schema.resolve(self.relation))

    def plan(self, draft: Draft) -> None:
        """As it is, in expand."""
        undo: tuple[str, ...] = ()
        if self.statistics is not None and not self.if_not_exists:
            undo = (f"DROP STATISTICS IF EXISTS {quote_qname(self.statistics)}",)
        draft.as_written(
            Phase.EXPAND,
            undo=undo,
            why=f"statistics of {self.relation}; filled by the next ANALYZE",
        )


def _read(cursor: Cursor) -> CreateStatistics:
    cursor.expect("CREATE", "STATISTICS")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = None if cursor.at("ON") or cursor.at("(") else cursor.qname()
    if cursor.at("("):
        cursor.skip_group()
    cursor.expect("ON")
    expressions = cursor.list_of(lambda: cursor.until(("FROM",)))
    cursor.expect("FROM")
    return CreateStatistics(
        relation=cursor.qname(),
        statistics=name,
        expressions=expressions,
        if_not_exists=if_not_exists,
    )


READS = {"CREATE STATISTICS": _read}
