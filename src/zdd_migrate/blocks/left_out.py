"""Whether an INSERT named a column: the column's default tells the trigger of the same row.

Postgres evaluates a default for exactly those rows that do not name the column, row by row, right
before their BEFORE triggers: INSERT, COPY, MERGE, upserts and applied replication alike. A default
that is NULL and leaves a mark tells a column that was left out from a NULL that somebody gave, for
every type, and no value stands in the row that users' triggers could stumble over. The mark is gone
with the transaction at the latest, so poolers do not matter; and each depth of triggers has its
own, for a user's trigger may write the same table in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.model.names import QName


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one column; `table` is its present name, `type` SQL."""

    table: QName
    column: str
    type: str

    @property
    def default(self) -> str:
        """SQL of the default: always NULL, and the mark is set."""
        put = f"set_config({self._setting} || pg_trigger_depth(), 'yes', true)"
        return f"nullif({put}, 'yes')::{self.type}"

    @property
    def variable(self) -> str:
        """The trigger's variable that tells whether the row came without the column."""
        return quote_ident(own("left_out", self.column))

    @property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self.table}.{self.column}".encode()).hexdigest()[:10]

    @property
    def _setting(self) -> str:
        return f"'zdd.left_out_{self._digest}_'"

    def declared(self) -> str:
        """The declaration of the variable."""
        mark = f"current_setting({self._setting} || (pg_trigger_depth() - 1), true)"
        return f"  {self.variable} boolean := {mark} IS NOT DISTINCT FROM 'yes';\n"

    def taken(self) -> str:
        """The statement that takes the mark away: it is for this row alone."""
        put = f"set_config({self._setting} || (pg_trigger_depth() - 1), '', true)"
        return f"  IF {self.variable} THEN PERFORM {put}; END IF;\n"

    def put(self, table_sql: str) -> str:
        """ALTER TABLE that makes it the column's default."""
        return f"ALTER TABLE {table_sql} ALTER COLUMN {quote_ident(self.column)} SET DEFAULT {self.default}"


def opening(marks: Sequence[Mark]) -> str:
    """The head of a trigger function's body, up to BEGIN and what comes before all else."""
    declared = "DECLARE\n" + "".join(m.declared() for m in marks) if marks else ""
    return f"{declared}BEGIN\n" + "".join(m.taken() for m in marks)
