"""Adding a constraint without blocking: NOT VALID then VALIDATE, or an index built first.

Whatever restricts what old code may write waits for contract.
"""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.twin import make_not_null
from zdd_migrate.grammar.constraints import ConstraintDefinition
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Constraint


def plan_added_constraint(
    draft: Draft,
    table: QName,
    written: ConstraintDefinition,
    made: Constraint,
    *,
    phase: Phase = Phase.CONTRACT,
) -> None:
    """Steps for `ADD CONSTRAINT`. `made` has its final name and resolved reference.

    `phase` is contract unless no old code writes the column at all.
    """
    if draft.is_new(table):
        draft.sql(
            Phase.EXPAND, draft.statement, undo=(), why=f"a constraint of the new table {table}"
        )
        return
    draft.restricts_old = draft.restricts_old or written.enforced
    known = draft.table(table)
    partitioned = known is not None and known.kind == "partitioned"
    if written.kind == "exclude":
        draft.refuse(
            f"an exclusion constraint on {table} can neither be NOT VALID nor take an existing "
            "index: adding it reads the whole table under ACCESS EXCLUSIVE",
            "build it on a new table and move the rows, or add it in a window without traffic",
        )
    elif written.kind in ("unique", "primary_key"):
        if partitioned:
            draft.refuse(
                f"{table} is partitioned: a unique index cannot be built concurrently in one go",
                "build one per partition CONCURRENTLY, create it ON ONLY the parent, attach each",
            )
        else:
            _unique(draft, table, written, made, phase)
    elif partitioned and written.kind == "foreign_key" and draft.pg < 18:
        draft.refuse(
            f"{table} is partitioned: before Postgres 18 its foreign keys cannot be NOT VALID",
            "add the foreign key NOT VALID on each partition, validate each, then on the parent",
        )
    else:
        _not_valid(draft, table, written, made, phase)


def _not_valid(
    draft: Draft,
    table: QName,
    written: ConstraintDefinition,
    made: Constraint,
    phase: Phase,
) -> None:
    name, constraint = draft.sql_name(table), quote_ident(made.name)
    fk = written.kind == "foreign_key"
    body = written.text if not written.valid else f"{written.text} NOT VALID"
    if fk and made.ref_table is not None:
        draft.resolve(made.ref_table)
        _orphan_gate(draft, table, made, phase)
    elif written.kind == "check":
        draft.gate(
            phase,
            f"SELECT 1 FROM {name} WHERE NOT ({written.expression}) LIMIT 1",
            message=f"rows of {table} break CHECK ({written.expression}): correct them first",
            why=f"existing rows must satisfy {made.name} before it is asked of them",
        )
    draft.sql(
        phase,
        f"ALTER TABLE {name} ADD CONSTRAINT {constraint} {body}",
        undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}",
        why=f"ask {made.name} of new rows; old code, which may break it, is gone by now",
        lock=LockMode.SHARE_ROW_EXCLUSIVE if fk else LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
    if written.valid and written.enforced:
        draft.validate(
            table,
            constraint,
            why="check existing rows under a weak lock: reads and writes go on",
            phase=phase,
        )


def _orphan_gate(draft: Draft, table: QName, made: Constraint, phase: Phase) -> None:
    assert made.ref_table is not None
    ref_columns = made.ref_columns
    referenced = draft.start.tables.get(draft.present(made.ref_table))
    if not ref_columns and referenced is not None and referenced.primary_key is not None:
        ref_columns = referenced.primary_key.columns
    if not ref_columns or made.match == "FULL":
        return
    joined = " AND ".join(
        f"r.{quote_ident(r)} = c.{quote_ident(c)}"
        for c, r in zip(made.columns, ref_columns, strict=False)
    )
    given = " AND ".join(f"c.{quote_ident(c)} IS NOT NULL" for c in made.columns)
    draft.gate(
        phase,
        f"SELECT 1 FROM {draft.sql_name(table)} c WHERE {given} AND NOT EXISTS "
        f"(SELECT 1 FROM {draft.sql_name(made.ref_table)} r WHERE {joined}) LIMIT 1",
        message=f"rows of {table} refer to rows of {made.ref_table} that do not exist: "
        "delete or correct them first",
        why="no orphan may be left before the foreign key is validated",
    )


def _unique(
    draft: Draft,
    table: QName,
    written: ConstraintDefinition,
    made: Constraint,
    phase: Phase,
) -> None:
    name = draft.sql_name(table)
    known = draft.table(table)
    if phase is Phase.CONTRACT:
        draft.note(
            f"new code must not count on {made.name} (ON CONFLICT, or that values differ) before "
            "contract is done: old code may still write duplicates until then"
        )
    if written.kind == "primary_key":
        for column in made.columns:
            found = known.column(column) if known is not None else None
            if found is None or not found.not_null:
                make_not_null(draft, table, column, phase=phase)
    kind = "UNIQUE" if written.kind == "unique" else "PRIMARY KEY"
    index = written.using_index
    if index is None:
        index = own(made.name)
        distinct = " NULLS NOT DISTINCT" if written.nulls_not_distinct else ""
        include = (
            f" INCLUDE ({', '.join(quote_ident(c) for c in written.include)})"
            if written.include
            else ""
        )
        columns = ", ".join(quote_ident(draft.column(table, c)) for c in made.columns)
        draft.gate(
            phase,
            f"SELECT {columns} FROM {name} WHERE "
            + " AND ".join(
                f"{quote_ident(draft.column(table, c))} IS NOT NULL" for c in made.columns
            )
            + f" GROUP BY {columns} HAVING count(*) > 1 LIMIT 1",
            message=f"rows of {table} share a value of ({columns}): make them differ first",
            why=f"{made.name} cannot be built over duplicates",
        )
        draft.sql(
            phase,
            f"CREATE UNIQUE INDEX CONCURRENTLY {quote_ident(index)} ON {name} ({columns})"
            f"{include}{distinct}",
            undo=f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qname(table.sibling(index))}",
            why=f"build the index of {made.name} while everyone goes on",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=table,
            transactional=False,
        )
    deferrable = " DEFERRABLE" if made.deferrable else ""
    deferred = " INITIALLY DEFERRED" if made.initially_deferred else ""
    constraint = quote_ident(made.name if written.name or written.using_index is None else index)
    draft.sql(
        phase,
        f"ALTER TABLE {name} ADD CONSTRAINT {constraint} {kind} USING INDEX "
        f"{quote_ident(index)}{deferrable}{deferred}",
        undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}",
        why="the constraint takes over the index just built: an instant under its lock",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
