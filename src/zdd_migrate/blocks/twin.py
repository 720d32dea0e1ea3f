"""A second column beside the first, with everything that hangs on it: the heart of a rename or
retype while both code versions run.

Expand adds the twin and the trigger, and builds its indexes without blocking; migrate fills it,
validates its checks and makes it NOT NULL under weak locks; contract swaps the names, reversibly,
and at last drops the old column and gives indexes and constraints their final names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import fit, own
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.blocks.sync import Side, Sync, differs
from zdd_migrate.grammar.expressions import analyse, rename_names
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column, Constraint, Index, Table


@dataclass(frozen=True, slots=True)
class Twin:
    """What to copy: `old` of `table` becomes `final`, of type `type`, by way of column `new`.

    `up` and `down` are SQL over the row (the quoted other column for identity). `lossless` says
    that `down(up(x)) = x`, which becomes a law. `not_null` overrides the old column's.
    `renamed_types` are types that get other names in the moment the columns do.
    """

    table: QName
    old: Column
    new: str
    final: str
    type: str
    up: str
    down: str
    why: str
    lossless: bool = True
    not_null: bool | None = None
    collation: str | None = None
    default: str | None = None
    renamed_types: tuple[tuple[QName, QName], ...] = ()


def plan_twin(draft: Draft, twin: Twin) -> None:
    """Add every step of a column's copy to the draft."""
    table = draft.schema.tables[twin.table]
    tombstone = own("old", twin.old.name)
    finally_: list[str] = []
    copies = _Copies(draft, twin, table, finally_)
    copies.indexes_and_uniques()
    copies.checks()
    copies.foreign_keys()
    if twin.default is not None:
        finally_.append(
            f"ALTER TABLE {draft.sql_name(twin.table)} ALTER COLUMN {quote_ident(twin.final)} "
            f"SET DEFAULT {twin.default}"
        )
    final = ((twin.old.name, tombstone),)
    if twin.new != twin.final:
        final = (*final, (twin.new, twin.final))  # type: ignore[assignment]
    collate = f" COLLATE {twin.collation}" if twin.collation else ""
    draft.sync(
        Sync(
            table=twin.table,
            old=(Side(twin.old.name, twin.old.type, twin.down),),
            new=(Side(twin.new, twin.type, twin.up),),
            add=(f"ADD COLUMN {quote_ident(twin.new)} {twin.type}{collate}",),
            after_add=tuple(_column_settings(draft, twin)),
            final=final,
            finally_=tuple(finally_),
            why=twin.why,
            renamed_types=twin.renamed_types,
        )
    )
    _fill(draft, twin)
    copies.emit()
    if twin.old.not_null if twin.not_null is None else twin.not_null:
        make_not_null(draft, twin.table, twin.new)


def _fill(draft: Draft, twin: Twin) -> None:
    todo = differs(quote_ident(twin.new), f"({twin.up})", twin.type)
    shown = f"{twin.table.name}.{twin.final}"
    draft.backfill(
        twin.table,
        [(twin.new, twin.up)],
        todo,
        why=f"fill {twin.table.name}.{twin.new} from {twin.old.name}, in batches",
    )
    name = draft.sql_name(twin.table)
    draft.law(f"{shown} = up({twin.old.name})", f"SELECT * FROM {name} WHERE {todo}")
    if twin.lossless:
        back = differs(quote_ident(twin.old.name), f"({twin.down})", twin.old.type)
        draft.law(f"{twin.old.name} = down({shown})", f"SELECT * FROM {name} WHERE {back}")


def _column_settings(draft: Draft, twin: Twin) -> list[str]:
    """What ADD COLUMN does not carry over: comment, statistics target."""
    name, column = draft.sql_name(twin.table), quote_ident(twin.new)
    out = []
    if twin.old.comment is not None:
        out.append(f"COMMENT ON COLUMN {name}.{column} IS {quote_literal(twin.old.comment)}")
    if twin.old.statistics is not None:
        out.append(f"ALTER TABLE {name} ALTER COLUMN {column} SET STATISTICS {twin.old.statistics}")
    return out


def make_not_null(draft: Draft, table: QName, column: str, *, phase: Phase = Phase.MIGRATE) -> None:
    """NOT NULL without scanning under a strong lock: a check, validated, stands as the proof."""
    name, check = draft.sql_name(table), quote_ident(own(table.name, column, "not_null"))
    col = quote_ident(column)
    draft.sql(
        phase,
        f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({col} IS NOT NULL) NOT VALID",
        undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}",
        why=f"ask {column} of new rows; old rows are checked next, without blocking anyone",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )
    draft.validate(table, check, why=f"check that no row lacks {column}", phase=phase)
    draft.sql(
        phase,
        (
            f"ALTER TABLE {name} ALTER COLUMN {col} SET NOT NULL",
            f"ALTER TABLE {name} DROP CONSTRAINT {check}",
        ),
        undo=(
            f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({col} IS NOT NULL) NOT VALID",
            f"ALTER TABLE {name} ALTER COLUMN {col} DROP NOT NULL",
            *(
                # a partition whose key was added by itself keeps NOT NULL of its own
                f"ALTER TABLE {quote_qname(child.name)} ALTER COLUMN {col} DROP NOT NULL"
                for child in draft.start.descendants_of(draft.present(table))
                if (known := child.column(column)) is not None and not known.not_null
            ),
        ),
        why=f"{column} becomes NOT NULL without a scan: the validated check proves it",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=table,
    )


class _Copies:
    """Indexes and constraints of the old column, made again for the twin under working names."""

    def __init__(self, draft: Draft, twin: Twin, table: Table, finally_: list[str]) -> None:
        self.draft = draft
        self.twin = twin
        self.table = table
        self.finally_ = finally_
        self.name = draft.sql_name(twin.table)
        self.map = {twin.old.name: quote_ident(twin.new)}
        self.indexes: list[tuple[Index, str, Constraint | None]] = []
        self.check_list: list[tuple[Constraint, str]] = []
        self.fk_list: list[tuple[Constraint, str]] = []

    def indexes_and_uniques(self) -> None:
        """Plain and unique indexes; those behind a constraint become the constraint's at the end."""
        old = self.twin.old.name
        for index in self.draft.schema.indexes_of(self.table.name):
            if old not in index.columns and old not in index.keys and old not in index.include:
                continue
            backing = self.table.constraint(index.constraint) if index.constraint else None
            working = own(index.name.name, self.twin.new)
            self.indexes.append((index, working, backing))
            self._rename_index(index, working, backing)

    def _rename_index(self, index: Index, working: str, backing: Constraint | None) -> None:
        if backing is not None:
            self.finally_.append(
                f"ALTER TABLE {self.name} RENAME CONSTRAINT {quote_ident(working)} "
                f"TO {quote_ident(backing.name)}"
            )
            return
        working_sql = quote_qname(QName(self.table.name.schema, working))
        self.finally_.append(f"ALTER INDEX {working_sql} RENAME TO {quote_ident(index.name.name)}")

    def checks(self) -> None:
        """CHECK constraints that name the old column."""
        for check in self.table.constraints:
            if check.kind != "check" or check.expression is None:
                continue
            if self.twin.old.name not in analyse(check.expression).names:
                continue
            working = own(check.name, self.twin.new)
            self.check_list.append((check, working))
            self.finally_.append(
                f"ALTER TABLE {self.name} RENAME CONSTRAINT {quote_ident(working)} "
                f"TO {quote_ident(check.name)}"
            )
            if len(check.columns) > 1:  # the drop of one column leaves a check over several
                self.finally_.insert(
                    0,
                    f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(check.name)}",
                )

    def foreign_keys(self) -> None:
        """Foreign keys from the old column to other tables."""
        for fk in self.table.constraints:
            if fk.kind != "foreign_key" or self.twin.old.name not in fk.columns:
                continue
            working = own(fk.name, self.twin.new)
            self.fk_list.append((fk, working))
            self.finally_.append(
                f"ALTER TABLE {self.name} RENAME CONSTRAINT {quote_ident(working)} "
                f"TO {quote_ident(fk.name)}"
            )

    def emit(self) -> None:
        """The steps, after the backfill: built and validated without blocking anyone."""
        for check, working in self.check_list:
            self._add_not_valid(
                working,
                f"CHECK ({rename_names(check.expression or '', self.map)})"
                f"{' NO INHERIT' if check.no_inherit else ''}",
                check.valid,
            )
        for index, working, backing in self.indexes:
            self._build(index, working, backing)
        for fk, working in self.fk_list:
            self._add_not_valid(working, self._fk_definition(fk), fk.valid)

    def _add_not_valid(self, working: str, definition: str, valid: bool) -> None:
        fk = definition.startswith("FOREIGN KEY")
        self.draft.sql(
            Phase.MIGRATE,
            f"ALTER TABLE {self.name} ADD CONSTRAINT {quote_ident(working)} {definition} NOT VALID",
            undo=f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(working)}",
            why=f"the constraint of {self.twin.old.name} again, on {self.twin.new}",
            lock=LockMode.SHARE_ROW_EXCLUSIVE if fk else LockMode.ACCESS_EXCLUSIVE,
            relation=self.twin.table,
        )
        if valid:
            self.draft.validate(
                self.twin.table, quote_ident(working), why="check existing rows under a weak lock"
            )

    def _fk_definition(self, fk: Constraint) -> str:
        columns = ", ".join(self.map.get(c, quote_ident(c)) for c in fk.columns)
        target = quote_qname(fk.ref_table) if fk.ref_table is not None else ""
        ref = f" ({', '.join(quote_ident(c) for c in fk.ref_columns)})" if fk.ref_columns else ""
        tail = "".join(
            [
                f" MATCH {fk.match}" if fk.match != "SIMPLE" else "",
                f" ON UPDATE {fk.on_update}" if fk.on_update != "NO ACTION" else "",
                f" ON DELETE {fk.on_delete}" if fk.on_delete != "NO ACTION" else "",
                " DEFERRABLE" if fk.deferrable else "",
                " INITIALLY DEFERRED" if fk.initially_deferred else "",
            ]
        )
        return f"FOREIGN KEY ({columns}) REFERENCES {target}{ref}{tail}"

    def _build(self, index: Index, working: str, backing: Constraint | None) -> None:
        built = quote_qname(QName(self.table.name.schema, working))
        self.draft.sql(
            Phase.MIGRATE,
            index_copy_sql(index, working, self.name, self.map),
            undo=f"DROP INDEX CONCURRENTLY IF EXISTS {built}",
            why=f"the index {index.name.name} again, on {self.twin.new}, while everyone goes on",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=self.twin.table,
            transactional=False,
        )
        if backing is None or backing.kind not in ("unique", "primary_key"):
            return
        kind = "UNIQUE" if backing.kind == "unique" else "PRIMARY KEY"
        if backing.kind == "primary_key":
            self.draft.refuse(
                f"{self.twin.old.name} is the primary key of {self.twin.table}",
                "plan the change of the primary key by itself: a new column, its references, then the swap",
            )
            return
        deferrable = " DEFERRABLE" if backing.deferrable else ""
        deferred = " INITIALLY DEFERRED" if backing.initially_deferred else ""
        self.draft.sql(
            Phase.MIGRATE,
            f"ALTER TABLE {self.name} ADD CONSTRAINT {quote_ident(working)} {kind} "
            f"USING INDEX {quote_ident(working)}{deferrable}{deferred}",
            undo=f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(working)}",
            why=f"the constraint {backing.name} again, from the index just built",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=self.twin.table,
        )


def index_copy_sql(index: Index, working: str, table_sql: str, columns: dict[str, str]) -> str:
    """CREATE INDEX CONCURRENTLY for a copy of `index` with columns replaced."""
    unique = "UNIQUE " if index.unique else ""
    head = f"CREATE {unique}INDEX CONCURRENTLY {quote_ident(fit(working))} ON {table_sql}"
    match = re.search(r"\bUSING\s+\w+\s*\(.*$", index.definition, re.IGNORECASE | re.DOTALL)
    if match:
        return f"{head} {rename_names(match[0], columns)}"
    keys = ", ".join(
        columns.get(
            key,
            quote_ident(key) if re.fullmatch(r"[\w$]+", key) else f"({rename_names(key, columns)})",
        )
        for key in index.keys
    )
    include = (
        f" INCLUDE ({', '.join(columns.get(c, quote_ident(c)) for c in index.include)})"
        if index.include
        else ""
    )
    distinct = " NULLS NOT DISTINCT" if index.nulls_not_distinct else ""
    where = f" WHERE {rename_names(index.predicate, columns)}" if index.predicate else ""
    return f"{head} USING {index.method} ({keys}){include}{distinct}{where}"
