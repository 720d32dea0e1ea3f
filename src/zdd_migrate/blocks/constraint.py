"""Adding a constraint without blocking: NOT VALID then VALIDATE, or an index built first.

Whatever restricts what old code may write waits for contract.
"""

from __future__ import annotations

from dataclasses import replace

from zdd_migrate.blocks.copies import make_not_null
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.partitioned import (
    IndexShape,
    index_words,
    plan_partitioned_foreign_key,
    plan_partitioned_index,
    rebuild,
)
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.constraints import ConstraintDefinition
from zdd_migrate.grammar.expressions import rename_names
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
    replacing: Constraint | None = None,
) -> None:
    """Steps for `ADD CONSTRAINT`. `made` has its final name and resolved reference.

    `phase` is contract unless no old code writes the column at all. `replacing` is the constraint
    that the migration dropped for this one: it stands until the new one can take its place.
    """
    if draft.is_new(table):
        _on_new_table(draft, table, made)
        return
    draft.restricts_old = draft.restricts_old or written.enforced
    if made.ref_table is not None and draft.present(made.ref_table) != made.ref_table:
        # what it refers to has its first name until the end, and a view the new one
        here = definition_of(replace(made, ref_table=draft.present(made.ref_table)))
        written = replace(written, text=here if written.valid else f"{here} NOT VALID")
    known = draft.table(table)
    partitioned = known is not None and known.kind == "partitioned"
    if written.kind == "exclude":
        draft.refuse(
            f"an exclusion constraint on {table} can neither be NOT VALID nor take an existing "
            "index: adding it reads the whole table under ACCESS EXCLUSIVE",
            "make the table anew with it, which is planned: CREATE TABLE new (…, EXCLUDE …), INSERT INTO new "
            "SELECT * FROM the old, DROP the old, RENAME new; or add it in a window without traffic",
        )
    elif written.kind in ("unique", "primary_key"):
        if partitioned:
            _partitioned_key(draft, table, written, made, phase, replacing)
        else:
            _unique(draft, table, written, made, phase, replacing)
    elif written.kind == "foreign_key" and replacing is not None and not partitioned:
        _replace_foreign_key(draft, table, written, made, replacing)
    elif partitioned and written.kind == "foreign_key" and draft.pg < 18:
        if made.ref_table is not None:
            draft.resolve(made.ref_table)
            _orphan_gate(draft, table, made, phase)
        plan_partitioned_foreign_key(draft, table, made.name, written.text, phase)
    else:
        _not_valid(draft, table, written, made, phase)


def _on_new_table(draft: Draft, table: QName, made: Constraint) -> None:
    """Nobody uses it yet. What references another table goes first on the way back."""
    undo: tuple[str, ...] = ()
    lock, relation = None, None
    if made.kind == "foreign_key" and made.ref_table is not None:
        there = f"ALTER TABLE IF EXISTS {draft.sql_name(table)}"
        undo = (f"{there} DROP CONSTRAINT IF EXISTS {quote_ident(made.name)}",)
        if not draft.is_new(made.ref_table):
            lock, relation = LockMode.SHARE_ROW_EXCLUSIVE, draft.resolve(made.ref_table)
    draft.as_written(
        Phase.EXPAND,
        undo=undo,
        why=f"a constraint of the new table {table}",
        lock=lock,
        relation=relation,
    )


def _replace_foreign_key(
    draft: Draft, table: QName, written: ConstraintDefinition, made: Constraint, old: Constraint
) -> None:
    """The new one beside the old one, validated; then it takes the name. Never without either."""
    name, constraint = draft.sql_name(table), quote_ident(made.name)
    working = quote_ident(own("new", made.name))
    aside = quote_ident(own("old", old.name))
    eases = made.on_delete in ("CASCADE", "SET NULL", "SET DEFAULT")
    phase = Phase.EXPAND if eases else Phase.CONTRACT
    draft.restricts_old = draft.restricts_old or not eases
    assert made.ref_table is not None
    referenced = draft.resolve(made.ref_table)
    if (made.columns, referenced) != (old.columns, old.ref_table):
        _orphan_gate(draft, table, made, phase)
    body = written.text if not written.valid else f"{written.text} NOT VALID"
    draft.sql(
        phase,
        f"ALTER TABLE {name} ADD CONSTRAINT {working} {body}",
        undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {working}",
        why=f"the new {made.name} beside the old one",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=table,
    )
    if written.valid:
        draft.validate(table, working, why="check existing rows under a weak lock", phase=phase)
    draft.sql(
        phase,
        (
            f"ALTER TABLE {name} DROP CONSTRAINT {quote_ident(old.name)}",
            f"ALTER TABLE {name} RENAME CONSTRAINT {working} TO {constraint}",
        ),
        undo=(
            f"ALTER TABLE {name} ADD CONSTRAINT {aside} {definition_of(old)} NOT VALID",
            *((f"ALTER TABLE {name} VALIDATE CONSTRAINT {aside}",) if old.valid else ()),
            f"ALTER TABLE {name} RENAME CONSTRAINT {constraint} TO {working}",
            f"ALTER TABLE {name} RENAME CONSTRAINT {aside} TO {quote_ident(old.name)}",
        ),
        undo_transactional=False,
        why=f"the new {made.name} takes the old one's place: rows are never without one of them",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


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
    replacing: Constraint | None,
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
        columns = _duplicates_gate(draft, table, made, phase)
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
    takes = (
        f"ALTER TABLE {name} ADD CONSTRAINT {constraint} {kind} USING INDEX "
        f"{quote_ident(index)}{deferrable}{deferred}"
    )
    gives_back: tuple[str, ...]
    if written.using_index is None:
        gives_back = (f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}",)
    else:  # the index was there before: it comes back under its own name
        gives_back = _index_again(
            draft, table, index, f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}"
        )
    old = () if replacing is None else (replacing,)
    undo = gives_back
    if replacing is not None:
        gone = constraint if written.using_index is None else None
        undo = (
            *(gives_back if gone is None else ()),
            *add_again(draft, table, replacing, phase, instead_of=gone),
        )
        draft.note(
            f"until contract new code must keep ({', '.join(replacing.columns)}) unique too, and "
            f"({', '.join(made.columns)}) is not unique yet"
        )
    draft.sql(
        phase,
        (*(f"ALTER TABLE {name} DROP CONSTRAINT {quote_ident(o.name)}" for o in old), takes),
        undo=undo,
        undo_transactional=False if old or written.using_index is not None else None,
        why="the constraint takes over the index just built: an instant under its lock"
        if replacing is None
        else f"it takes the place of {replacing.name}, in one step",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _duplicates_gate(draft: Draft, table: QName, made: Constraint, phase: Phase) -> str:
    """No two rows may share the key's value; gives its columns as SQL."""
    names = [quote_ident(draft.column(table, c, phase)) for c in made.columns]
    columns = ", ".join(names)
    given = " AND ".join(f"{n} IS NOT NULL" for n in names)
    where = "" if made.nulls_not_distinct else f"WHERE {given} "
    draft.gate(
        phase,
        f"SELECT {columns} FROM {draft.sql_name(table)} {where}"
        f"GROUP BY {columns} HAVING count(*) > 1 LIMIT 1",
        message=f"rows of {table} share a value of ({columns}): make them differ first",
        why=f"{made.name} cannot be built over duplicates",
    )
    return columns


def _partitioned_key(
    draft: Draft,
    table: QName,
    written: ConstraintDefinition,
    made: Constraint,
    phase: Phase,
    replacing: Constraint | None,
) -> None:
    if written.using_index is not None or replacing is not None:
        draft.refuse(
            f"the key of the partitioned table {table} cannot change hands in one step",
            "add the new key under another name, and drop the old one in a later migration",
        )
        return
    known = draft.table(table)
    if written.kind == "primary_key":
        for column in made.columns:
            found = known.column(column) if known is not None else None
            if found is None or not found.not_null:
                make_not_null(draft, table, column, phase=phase)
    _duplicates_gate(draft, table, made, phase)
    plan_partitioned_index(draft, table, key_shape(made), phase)


def key_shape(made: Constraint) -> IndexShape:
    """A unique or primary key as something to put together of partitions' keys."""
    columns = ", ".join(quote_ident(c) for c in made.columns)
    include = ", ".join(quote_ident(c) for c in made.include)
    include = f" INCLUDE ({include})" if include else ""
    distinct = " NULLS NOT DISTINCT" if made.nulls_not_distinct else ""
    late = " DEFERRABLE" if made.deferrable else ""
    late += " INITIALLY DEFERRED" if made.initially_deferred else ""
    primary = made.kind == "primary_key"
    return IndexShape(
        name=made.name,
        tail=f"({columns}){include}{distinct}",
        words=index_words(made.columns, made.include),
        unique=True,
        label="pkey" if primary else "key",
        key=f"{'PRIMARY KEY' if primary else f'UNIQUE{distinct}'} ({columns}){include}",
        ending=late,
    )


def _index_again(draft: Draft, table: QName, index: str, drop: str) -> tuple[str, ...]:
    """The index that a constraint took over: built anew before dropping the constraint drops it."""
    from zdd_migrate.blocks.copies import index_copy_sql

    home = draft.present(table)
    known = draft.start.indexes.get(home.sibling(index))
    if known is None:
        return (drop,)
    working = own("again", index)
    return (
        index_copy_sql(known, working, draft.sql_name(table), {}),
        drop,
        f"ALTER INDEX {quote_qname(home.sibling(working))} RENAME TO {quote_ident(index)}",
    )


def drop_constraint_step(draft: Draft, table: QName, known: Constraint, *, cascade: bool) -> None:
    """Stop asking a constraint: in expand, or in contract where ON CONFLICT may name its index."""
    keyed = known.kind in ("unique", "primary_key", "exclude")
    draft.restricts_old = draft.restricts_old or keyed
    if known.kind in ("check", "foreign_key") and known.valid:
        draft.note(
            f"putting {known.name} back fails while rows break it: written since it was dropped"
        )
    if keyed:
        draft.note(
            f"until contract new code cannot write what {known.name} forbids: old code's ON CONFLICT "
            "needs it; and the way back from contract needs rows that keep to it"
        )
    phase = Phase.CONTRACT if keyed else Phase.EXPAND
    draft.sql(
        phase,
        f"ALTER TABLE {draft.sql_name(table)} DROP CONSTRAINT {quote_ident(known.name)}"
        f"{' CASCADE' if cascade else ''}",
        undo=add_again(draft, table, known, phase),
        undo_transactional=False,
        why=f"stop asking {known.name} of {table}",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


def _as_named(draft: Draft, table: QName, known: Constraint, phase: Phase) -> Constraint:
    """The constraint with the names that columns have around a step of a phase: a column that is
    renamed has its old one until the swap in contract, and until the end where code writes both."""

    def names(of: QName) -> dict[str, str]:
        twins = [twin for (owner, _), twin in draft.twins.items() if owner == of]
        if phase is Phase.CONTRACT and not draft.dual_write:
            aside = {column: put for (owner, column), put in draft.aside.items() if owner == of}
            return {**{twin.old.name: twin.final for twin in twins}, **aside}
        return {twin.final: twin.old.name for twin in twins}

    here = names(table)
    there = names(known.ref_table) if known.ref_table is not None else {}
    quoted = {was: quote_ident(now) for was, now in here.items()}
    return replace(
        known,
        ref_table=draft.present(known.ref_table) if known.ref_table is not None else None,
        columns=tuple(here.get(c, c) for c in known.columns),
        include=tuple(here.get(c, c) for c in known.include),
        ref_columns=tuple(there.get(c, c) for c in known.ref_columns),
        expression=rename_names(known.expression, quoted) if known.expression else None,
    )


def add_again(
    draft: Draft, table: QName, known: Constraint, phase: Phase, *, instead_of: str | None = None
) -> list[str]:
    """Statements, each outside a transaction, that put a constraint back without blocking, as the
    undo of a step of `phase`. `instead_of` (quoted) goes in the same instant, where its place is
    taken by a key: ON CONFLICT is to find one of them at any time."""
    known = _as_named(draft, table, known, phase)
    name, constraint = draft.sql_name(table), quote_ident(known.name)
    add = f"ALTER TABLE {name} ADD CONSTRAINT {constraint}"
    definition = definition_of(known)
    held = draft.start.tables.get(draft.present(table))
    partitioned = held is not None and held.kind == "partitioned"
    first = [f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {instead_of}"] if instead_of else []
    if known.kind in ("check", "foreign_key"):
        if not known.valid or (partitioned and known.kind == "foreign_key" and draft.pg < 18):
            return [*first, f"{add} {definition}{'' if known.valid else ' NOT VALID'}"]
        return [
            *first,
            f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}",
            f"{add} {definition} NOT VALID",
            f"ALTER TABLE {name} VALIDATE CONSTRAINT {constraint}",
        ]
    if known.kind in ("unique", "primary_key") and not partitioned:
        columns = ", ".join(quote_ident(c) for c in known.columns)
        include = ", ".join(quote_ident(c) for c in known.include)
        distinct = " NULLS NOT DISTINCT" if known.nulls_not_distinct else ""
        kind = "UNIQUE" if known.kind == "unique" else "PRIMARY KEY"
        late = " DEFERRABLE" if known.deferrable else ""
        late += " INITIALLY DEFERRED" if known.initially_deferred else ""
        tail = f"{f' INCLUDE ({include})' if include else ''}{distinct}"
        build = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS"
        # the other may have the name until then
        index = constraint if instead_of is None else quote_ident(own("again", known.name))
        goes = "" if instead_of is None else f"DROP CONSTRAINT IF EXISTS {instead_of}, "
        return [
            f"{build} {index} ON {name} ({columns}){tail}",
            f"ALTER TABLE {name} {goes}ADD CONSTRAINT {constraint} {kind} USING INDEX {index}{late}",
        ]
    if partitioned and known.kind in ("unique", "primary_key"):
        return first + rebuild(draft.start, draft.present(table), key_shape(known))
    return [*first, f"{add} {definition}"]


def definition_of(constraint: Constraint) -> str:
    """SQL that defines a constraint again, without its name and NOT VALID."""
    columns = ", ".join(quote_ident(c) for c in constraint.columns)
    late = " DEFERRABLE" if constraint.deferrable else ""
    late += " INITIALLY DEFERRED" if constraint.initially_deferred else ""
    if constraint.kind == "check":
        inherit = " NO INHERIT" if constraint.no_inherit else ""
        return f"CHECK ({constraint.expression}){inherit}"
    if constraint.kind in ("unique", "primary_key"):
        word = "UNIQUE" if constraint.kind == "unique" else "PRIMARY KEY"
        distinct = " NULLS NOT DISTINCT" if constraint.nulls_not_distinct else ""
        include = ", ".join(quote_ident(c) for c in constraint.include)
        return f"{word}{distinct} ({columns}){f' INCLUDE ({include})' if include else ''}{late}"
    if constraint.kind == "foreign_key" and constraint.ref_table is not None:
        ref = ", ".join(quote_ident(c) for c in constraint.ref_columns)
        return (
            f"FOREIGN KEY ({columns}) REFERENCES {quote_qname(constraint.ref_table)}"
            f"{f' ({ref})' if ref else ''}"
            f"{f' MATCH {constraint.match}' if constraint.match != 'SIMPLE' else ''}"
            f"{f' ON UPDATE {constraint.on_update}' if constraint.on_update != 'NO ACTION' else ''}"
            f"{f' ON DELETE {constraint.on_delete}' if constraint.on_delete != 'NO ACTION' else ''}"
            f"{late}"
        )
    return constraint.definition
