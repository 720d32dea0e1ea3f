"""ALTER TABLE … RENAME TO: instant, and every statement with the old name fails.

Safe: a view under the new name while old code lives (reads and writes go through it), then, at
contract, the table takes the new name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.alternative import Alternative
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.rename_object import RenameObject
from zdd_migrate.operations.renaming import move_relation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameTable(Operation):
    """Give a table another name. Its indexes, constraints and sequences keep theirs."""

    kind: ClassVar[str] = "rename_table"
    to: str
    if_exists: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant; old code loses the name."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        known = any(
            relation in those
            for those in (
                at.schema.tables,
                at.schema.views,
                at.schema.indexes,
                at.schema.sequences,
            )
        )
        error = None
        if not known and at.schema.complete:
            if self.if_exists:
                return Effects()
            error = PgError("42P01", f'relation "{relation.name}" does not exist')
        elif at.schema.resolve(relation.sibling(self.to)) in at.schema.tables:
            error = PgError("42P07", f'relation "{self.to}" already exists')
        old = f"every statement that names {relation.name}"
        new = f"every statement that names {self.to}, until the table has that name"
        held = {relation: LockMode.ACCESS_EXCLUSIVE}
        return Effects(
            locks={} if relation in at.schema.indexes else held,
            index_locks=held if relation in at.schema.indexes else {},
            error=error,
            breaks=(
                Break("old", "renamed", old, "42P01", relation),
                Break("new", "missing", new, "42P01", relation),
            ),
        )

    def apply(self, schema: Schema) -> None:
        """Rename it wherever it is named."""
        assert self.relation is not None
        name = schema.resolve(self.relation)
        move_relation(schema, name, name.sibling(self.to))

    def plan(self, draft: Draft) -> None:
        """A view under the new name in expand; the table takes the name at contract."""
        from zdd_migrate.blocks.shim import plan_view_shim
        from zdd_migrate.blocks.table_copy import plan_table_copy, why_no_copy

        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if table is None:
            draft.refuse(
                f"{relation} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        new = relation.sibling(self.to)
        if draft.via == "copy":
            refused = why_no_copy(draft, relation)
            if refused is not None:
                draft.refuse(*refused)
                draft.present_tables[new] = draft.present(relation)
                return
            _offer(draft, relation, new)
            plan_table_copy(draft, relation, new)
            draft.takes_name[new] = relation
            return
        if table.row_security and draft.pg < 15:
            draft.refuse(
                f"{relation} has row security, which a view goes round before Postgres 15",
                "rename it in a window without traffic, or upgrade first",
            )
            return
        _offer(draft, relation, new)
        kind = "FOREIGN TABLE" if table.kind == "foreign" else "TABLE"
        plan_view_shim(draft, kind, draft.present(relation), new, [c.name for c in table.columns])
        draft.present_tables[new] = draft.present(relation)


def _offer(draft: Draft, table: QName, new: QName) -> None:
    """The ways there are to the new name, each with what it costs on this table."""
    from zdd_migrate.blocks.costs import copying
    from zdd_migrate.blocks.table_copy import why_no_copy

    about, copy = f"{table} → {new.name}", draft.via == "copy"
    draft.alternatives.append(
        Alternative(
            about=about,
            via="view",
            option="--via view",
            what="new code reads and writes through a view; COPY … FROM, TRUNCATE and ON CONFLICT ON "
            "CONSTRAINT do not work through it",
            chosen=not copy,
        )
    )
    if why_no_copy(draft, table) is None:
        draft.alternatives.append(
            copying(
                draft,
                table,
                (),
                about=about,
                via="copy",
                option="--via copy",
                what="a second table kept in step by triggers both ways: whatever works with a table, works "
                "with either; the disk holds both",
                chosen=copy,
                each_write="the row written twice, a trigger on each side",
                whole=True,
            )
        )


def _read(cursor: Cursor, target: Target) -> RenameTable | RenameObject:
    cursor.expect("RENAME", "TO")
    if target.object not in ("TABLE", "FOREIGN TABLE"):
        relation = target.relation
        return RenameObject(
            relation=relation, object=target.object, name=relation.name, to=cursor.name()
        )
    return RenameTable(relation=target.relation, to=cursor.name(), if_exists=target.if_exists)


TABLE_ACTIONS = {"RENAME TO": _read}
