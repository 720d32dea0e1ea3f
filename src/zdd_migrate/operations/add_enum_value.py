"""ALTER TYPE … ADD VALUE: no lock on any table, and no way back.

The new label cannot be used before the transaction that adds it commits, and code that does not
know it may choke on reading it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_literal, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AddEnumValue(Operation):
    """Add a label to an enum. `relation` is the type; `side` places it beside `neighbour`."""

    kind: ClassVar[str] = "add_enum_value"
    label: str
    side: Literal["before", "after"] | None = None
    neighbour: str | None = None
    if_not_exists: bool = False

    @property
    def enum_value(self) -> tuple[QName, str]:
        """The type as written, and the label: not usable until the transaction commits."""
        assert self.relation is not None
        return self.relation, self.label

    def effects(self, at: Situation) -> Effects:
        """No table is locked; old code may meet a label it does not know."""
        assert self.relation is not None
        known = at.schema.user_type(self.relation)
        if known is not None and self.label in known.labels:
            if self.if_not_exists:
                return Effects()
            return Effects(error=PgError("42710", f'enum label "{self.label}" already exists'))
        if known is not None and self.neighbour is not None and self.neighbour not in known.labels:
            return Effects(
                error=PgError("22023", f'"{self.neighbour}" is not an existing enum label')
            )
        return Effects(
            breaks=(
                Break(
                    "old",
                    "values",
                    f"code that knows {self.relation.name} by its labels meets '{self.label}' once "
                    "new code writes it",
                ),
                Break(
                    "new",
                    "missing",
                    f"writing '{self.label}' before the label is there",
                    "22P02",
                ),
            )
        )

    def apply(self, schema: Schema) -> None:
        """Add the label in its place."""
        assert self.relation is not None
        name = schema.resolve_type(self.relation)
        known = schema.types.get(name)
        if known is None or self.label in known.labels:
            return
        labels = list(known.labels)
        at = len(labels)
        if self.neighbour in labels:
            at = labels.index(self.neighbour) + (1 if self.side == "after" else 0)
        labels.insert(at, self.label)
        schema.types[name] = replace(known, labels=tuple(labels))

    def plan(self, draft: Draft) -> None:
        """In expand, by itself. It stays when the rest is undone: nothing minds an unused label."""
        assert self.relation is not None
        type_ = draft.schema.resolve_type(self.relation)
        place = ""
        if self.side is not None and self.neighbour is not None:
            place = f" {self.side.upper()} {quote_literal(self.neighbour)}"
        # IF NOT EXISTS: an undo leaves the label, and the plan may be run again after it
        statement = (
            f"ALTER TYPE {quote_qname(type_)} ADD VALUE IF NOT EXISTS "
            f"{quote_literal(self.label)}{place}"
        )
        draft.sql(
            Phase.EXPAND,
            statement,
            undo=(),
            transactional=False,
            why=f"add the label '{self.label}'; write it only once no old code runs. Postgres cannot "
            "take a label back; an unused one hurts nobody",
        )
        draft.needs_release = True
        known = draft.schema.types.get(type_)
        if known is None or self.label not in known.labels:
            draft.leave(
                f"type {type_}",
                f"the label '{self.label}' of {type_}: Postgres cannot take a label back, and an "
                "unused one hurts nobody",
            )


def read_add_value(cursor: Cursor) -> AddEnumValue:
    cursor.expect("ALTER", "TYPE")
    name = cursor.qname()
    cursor.expect("ADD", "VALUE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    label = cursor.string()
    side: Literal["before", "after"] | None = None
    neighbour = None
    if cursor.accept("BEFORE"):
        side, neighbour = "before", cursor.string()
    elif cursor.accept("AFTER"):
        side, neighbour = "after", cursor.string()
    return AddEnumValue(
        relation=name, label=label, side=side, neighbour=neighbour, if_not_exists=if_not_exists
    )
