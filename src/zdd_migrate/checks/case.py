"""What a rule's function is asked about: one operation where it stands in its migration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zdd_migrate.model.effects import Effects
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.walk import Explained


@dataclass(slots=True)
class Story:
    """What the migration did before the statement at hand.

    `columns` it added to tables that were there, `worked` the relations it read or rewrote in full
    under a lock that blocks (with the line), `replaced` what constraints that it dropped asked of
    writers, by table; `labels` are enum labels it added, with the transaction that did; `said`
    what is said once a file.
    """

    columns: set[tuple[QName, str]] = field(default_factory=set)
    worked: dict[QName, int] = field(default_factory=dict)
    replaced: set[tuple[QName, object]] = field(default_factory=set)
    labels: dict[str, int | None] = field(default_factory=dict)
    said: set[tuple[str, object]] = field(default_factory=set)

    def has_said(self, rule: str, about: object) -> bool:
        """Whether the rule spoke about this before; from now on it has. None is never said before."""
        if about is None:
            return False
        if (rule, about) in self.said:
            return True
        self.said.add((rule, about))
        return False


class Case(NamedTuple):
    """One operation: what it is, what Postgres does, and the facts that rules may name.

    `explained` is its statement, with the schema before it; `effects` are the operation's own.
    """

    explained: Explained
    operation: Operation
    effects: Effects
    facts: Mapping[str, Any]
    story: Story

    @property
    def schema(self) -> Schema:
        """The schema before the statement."""
        return self.explained.schema

    @property
    def relation(self) -> QName | None:
        """The relation the operation is about, resolved."""
        named = self.operation.relation
        return self.schema.resolve(named) if named is not None else None

    @property
    def table(self) -> Table | None:
        """The table the operation is about, where it is known."""
        return self.schema.tables.get(self.relation) if self.relation is not None else None


#: a rule's function: more facts for its message when it finds something, None when not. The fact
#: `still` may be a function of the schema after the whole migration that must then hold as well.
Check = Callable[[Case], "Mapping[str, Any] | None"]
#: a condition on the schema that the whole migration leaves behind
Still = Callable[[Schema], bool]
