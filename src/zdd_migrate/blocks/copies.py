"""Indexes, constraints, references, defaults and sequences of columns that are replaced: made again
for their twins under working names, built and validated without blocking, and given their own names
in the last step.

For a renamed column, which stays itself, only its indexes are built again, so that new code finds
its rows and can name its unique keys in ON CONFLICT until contract: they go with the twin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import fit, own
from zdd_migrate.blocks.partitioned import IndexShape, index_words, plan_partitioned_index
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.blocks.sync import hands_over
from zdd_migrate.grammar.expressions import analyse, rename_names
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column, Constraint, Index, Table

if TYPE_CHECKING:
    from zdd_migrate.blocks.twin import Twin


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


class Copies:
    """What hangs on the copied columns of one table, and what has to be done about it.

    What the migration itself dropped since is left out: `draft.schema` must be the end's.
    `at_swap` and `at_swap_back` are statements of the swap, after columns have changed names, and of
    its undo, before they do; `before_drop` and `finally_` those of the last step, before and after
    the columns go.
    """

    def __init__(self, draft: Draft, table: QName, twins: Sequence[Twin]) -> None:
        self.draft = draft
        self.name = draft.sql_name(table)
        self.present = draft.present(table)
        self.twins = twins
        self.replaced = {t.old.name: t for t in twins if not t.keeps_old}
        self.start = draft.start.tables[self.present]
        self.end = draft.schema.tables.get(draft.final(self.present)) or Table(table)
        self.every = {t.old.name: quote_ident(t.new) for t in twins}
        self.map = {old: quote_ident(t.new) for old, t in self.replaced.items()}
        self.at_swap: list[str] = []
        self.at_swap_back: list[str] = []
        self.before_drop: list[str] = []
        self.finally_: list[str] = []
        self.indexes = [i for i in draft.start.indexes_of(self.present) if self._copied(i)]
        self.checks = [c for c in self._constraints("check") if self._names(c) & self.map.keys()]
        self.foreign_keys = self._foreign_keys()
        self._last_step()

    # -- what there is -----------------------------------------------------------------------

    def _constraints(self, kind: str) -> list[Constraint]:
        return [
            c
            for c in self.start.constraints
            if c.kind == kind and self.end.constraint(c.name) is not None
        ]

    def _names(self, check: Constraint) -> frozenset[str]:
        return analyse(check.expression).names if check.expression is not None else frozenset()

    def _copied(self, index: Index) -> bool:
        there = index.name in self.draft.schema.indexes or (
            index.constraint is not None and self.end.constraint(index.constraint) is not None
        )
        names = {*index.columns, *index.keys, *index.include}
        return there and bool(names & self.every.keys())

    def _replaces(self, index: Index) -> bool:
        return bool({*index.columns, *index.keys, *index.include} & self.map.keys())

    def _foreign_keys(self) -> list[tuple[Table, Constraint]]:
        """Those from replaced columns, and those to them; each once, with the table that has it."""
        if not self.map:
            return []
        own_keys = [(self.start, c) for c in self._constraints("foreign_key")]
        found = [
            (t, c)
            for t, c in own_keys
            if self.map.keys() & set(c.columns) and not self._referenced_is_replaced(c)
        ]
        for other, fk in self.draft.start.foreign_keys_to(self.present):
            keys = fk.ref_columns or (
                self.start.primary_key.columns if self.start.primary_key else ()
            )
            later = self.draft.schema.tables.get(other.name)
            if later is not None and later.constraint(fk.name) is None:
                continue
            if self.map.keys() & set(keys):
                found.append((other, fk))
        return found

    def _referenced_is_replaced(self, fk: Constraint) -> bool:
        """Whether the other end has twins of its own: then that end takes care of the key."""
        return bool(self._ref_map(fk))

    def _ref_map(self, fk: Constraint) -> dict[str, str]:
        target = self.draft.start.tables.get(fk.ref_table) if fk.ref_table is not None else None
        if target is None:
            return {}
        keys = fk.ref_columns or (target.primary_key.columns if target.primary_key else ())
        return {k: v for k, v in _replaced_in(self.draft, target.name).items() if k in keys}

    # -- migrate -----------------------------------------------------------------------------

    def emit(self) -> None:
        """The steps of migrate: built and validated without blocking anyone."""
        for check in self.checks:
            body = f"CHECK ({rename_names(check.expression or '', self.map)})"
            self._add_not_valid(self.present, check, f"{body}{_not_inherited(check)}")
        for index in self.indexes:
            self._build(index)
        for twin in self.replaced.values():
            if twin.fits is None and self.stays_not_null(twin):
                make_not_null(self.draft, self.present, twin.new)
        for table, fk in self.foreign_keys:
            self._add_not_valid(table.name, fk, self._fk_definition(table, fk))

    def stays_not_null(self, twin: Twin) -> bool:
        """Whether the column is NOT NULL at the start and at the end."""
        if twin.not_null is not None:
            return twin.not_null
        kept = self.end.column(twin.final)
        return twin.old.not_null and (kept is None or kept.not_null)

    def _working(self, name: str) -> str:
        return own(name, *(t.new for t in self.twins if not t.keeps_old))

    def _add_not_valid(self, table: QName, constraint: Constraint, definition: str) -> None:
        fk = constraint.kind == "foreign_key"
        working = quote_ident(self._working(constraint.name))
        name = quote_qname(table)
        self.draft.sql(
            Phase.MIGRATE,
            f"ALTER TABLE {name} ADD CONSTRAINT {working} {definition} NOT VALID",
            undo=f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {working}",
            why=f"the constraint {constraint.name} again, on the new column",
            lock=LockMode.SHARE_ROW_EXCLUSIVE if fk else LockMode.ACCESS_EXCLUSIVE,
            relation=table,
        )
        if constraint.valid:
            self.draft.validate(table, working, why="check existing rows under a weak lock")

    def _fk_definition(self, table: Table, fk: Constraint) -> str:
        own_map = _replaced_in(self.draft, table.name)
        columns = ", ".join(own_map.get(c, quote_ident(c)) for c in fk.columns)
        assert fk.ref_table is not None
        target = self.draft.start.tables.get(fk.ref_table)
        keys = fk.ref_columns or (
            target.primary_key.columns if target is not None and target.primary_key else ()
        )
        there = self._ref_map(fk)
        listed = ", ".join(there.get(c, quote_ident(c)) for c in keys)
        tail = "".join(
            [
                f" MATCH {fk.match}" if fk.match != "SIMPLE" else "",
                f" ON UPDATE {fk.on_update}" if fk.on_update != "NO ACTION" else "",
                f" ON DELETE {fk.on_delete}" if fk.on_delete != "NO ACTION" else "",
                " DEFERRABLE" if fk.deferrable else "",
                " INITIALLY DEFERRED" if fk.initially_deferred else "",
            ]
        )
        return f"FOREIGN KEY ({columns}) REFERENCES {quote_qname(fk.ref_table)} ({listed}){tail}"

    def _build(self, index: Index) -> None:
        working = self._index_name(index)
        if self.start.kind == "partitioned":
            keys = [columns_of(key, self.every) for key in index.keys]
            shape = IndexShape(
                name=working,
                tail=index_tail(index, self.every),
                words=index_words(keys, [columns_of(c, self.every) for c in index.include]),
                unique=index.unique,
            )
            plan_partitioned_index(self.draft, self.present, shape, Phase.MIGRATE)
            return
        built = quote_qname(self.present.sibling(working))
        self.draft.sql(
            Phase.MIGRATE,
            index_copy_sql(index, working, self.name, self.every),
            undo=f"DROP INDEX CONCURRENTLY IF EXISTS {built}",
            why=f"the index {index.name.name} again, on the new column, while everyone goes on",
            lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
            relation=self.present,
            transactional=False,
        )
        backing = self.start.constraint(index.constraint) if index.constraint else None
        if backing is None or backing.kind != "unique" or not self._replaces(index):
            return
        # a primary key can only be one: its index waits for the last step
        self.draft.sql(
            Phase.MIGRATE,
            f"ALTER TABLE {self.name} ADD CONSTRAINT {quote_ident(working)} UNIQUE "
            f"USING INDEX {quote_ident(working)}{_deferred(backing)}",
            undo=f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(working)}",
            why=f"the constraint {backing.name} again, from the index just built",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=self.present,
        )

    def _index_name(self, index: Index) -> str:
        return own(index.name.name, *(t.new for t in self.twins if self._on(index, t)))

    @staticmethod
    def _on(index: Index, twin: Twin) -> bool:
        return twin.old.name in {*index.columns, *index.keys, *index.include}

    # -- the last step -----------------------------------------------------------------------

    def _last_step(self) -> None:
        for table, fk in self.foreign_keys:
            name, constraint = quote_qname(table.name), quote_ident(fk.name)
            self.before_drop.append(f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}")
            working = quote_ident(self._working(fk.name))
            self.finally_.append(f"ALTER TABLE {name} RENAME CONSTRAINT {working} TO {constraint}")
            if fk.comment is not None:
                self._comment(f"CONSTRAINT {constraint} ON {name}", fk.comment)
        for check in self.checks:
            # the drop of one column leaves a check over several
            self.before_drop.append(
                f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(check.name)}"
            )
            self._rename_constraint(check, self._working(check.name))
        for index in self.indexes:
            if self._replaces(index):
                self._take_over(index)
        for twin in self.replaced.values():
            self._numbers(twin)

    def _take_over(self, index: Index) -> None:
        working = self._index_name(index)
        backing = self.start.constraint(index.constraint) if index.constraint else None
        if backing is not None and backing.kind == "primary_key":
            key = quote_ident(backing.name)
            self.before_drop.append(f"ALTER TABLE {self.name} DROP CONSTRAINT {key}")
            self.finally_.append(
                f"ALTER TABLE {self.name} ADD CONSTRAINT {key} PRIMARY KEY USING INDEX "
                f"{quote_ident(working)}{_deferred(backing)}"
            )
            if backing.comment is not None:
                self._comment(f"CONSTRAINT {key} ON {self.name}", backing.comment)
        elif backing is not None:
            self.before_drop.append(
                f"ALTER TABLE {self.name} DROP CONSTRAINT IF EXISTS {quote_ident(backing.name)}"
            )
            self._rename_constraint(backing, working)
        else:
            named = quote_qname(index.name)
            built = quote_qname(self.present.sibling(working))
            self.before_drop.append(f"DROP INDEX IF EXISTS {named}")
            self.finally_.append(f"ALTER INDEX {built} RENAME TO {quote_ident(index.name.name)}")
            if index.comment is not None:
                self._comment(f"INDEX {named}", index.comment)
        if self.draft.start.clustered.get(self.present) == index.name.name:
            self.finally_.append(
                f"ALTER TABLE {self.name} CLUSTER ON {quote_ident(index.name.name)}"
            )
        if self.start.replica_identity == f"INDEX {index.name.name}":
            self.finally_.append(
                f"ALTER TABLE {self.name} REPLICA IDENTITY USING INDEX "
                f"{quote_ident(index.name.name)}"
            )

    def _rename_constraint(self, constraint: Constraint, working: str) -> None:
        name = quote_ident(constraint.name)
        self.finally_.append(
            f"ALTER TABLE {self.name} RENAME CONSTRAINT {quote_ident(working)} TO {name}"
        )
        if constraint.comment is not None:
            self._comment(f"CONSTRAINT {name} ON {self.name}", constraint.comment)

    def _comment(self, on: str, text: str) -> None:
        self.finally_.append(f"COMMENT ON {on} IS {quote_literal(text)}")

    def _numbers(self, twin: Twin) -> None:
        """The default of the end; a sequence that the old column owns, before it goes with it."""
        end = self.end.column(twin.final)
        column = quote_ident(twin.final)
        owned = [
            s.name
            for s in self.draft.start.sequences.values()
            if s.owned_by == (self.present, twin.old.name)
        ]
        if end is not None and end.identity is not None:
            self._identity(twin, end, owned)
            return
        self._default(twin, end.default if end is not None else None)
        for sequence in owned:
            self.before_drop.append(
                f"ALTER SEQUENCE {quote_qname(sequence)} OWNED BY {self.name}.{column}"
            )

    def _default(self, twin: Twin, default: str | None) -> None:
        """From the old column to the twin, in the moment of the swap: from then on an INSERT that
        leaves the column out gets it there, and one that gives NULL means it."""
        new = f"ALTER TABLE {self.name} ALTER COLUMN {quote_ident(twin.final)}"
        if not hands_over(self.draft, self.present):
            if default is not None:
                self.before_drop.append(f"{new} SET DEFAULT {self._typed(twin, default)}")
            return
        old = f"ALTER TABLE {self.name} ALTER COLUMN {quote_ident(own('old', twin.old.name))}"
        was = twin.old.default
        if was is not None and twin.old.identity is None:
            self.at_swap.append(f"{old} DROP DEFAULT")
        if default is not None:
            self.at_swap.append(f"{new} SET DEFAULT {self._typed(twin, default)}")
            mark = twin.mark(self.present, self.end.column(twin.final))
            again = "DROP DEFAULT" if mark is None else f"SET DEFAULT {mark.default}"
            self.at_swap_back.append(f"{new} {again}")
        if was is not None and twin.old.identity is None:
            self.at_swap_back.append(f"{old} SET DEFAULT {was}")

    @staticmethod
    def _typed(twin: Twin, default: str) -> str:
        """A change of type keeps the type that a literal had."""
        if default != twin.old.default or not _LITERAL.fullmatch(default):
            return default
        kind = parse_type(twin.old.type)
        return f"{default}::{kind.base}{'[]' * kind.dimensions}"

    def _identity(self, twin: Twin, end: Column, owned: Sequence[QName]) -> None:
        """A sequence of its own for the twin, going on where the old one is."""
        column = quote_ident(twin.final)
        kind = "ALWAYS" if end.identity == "always" else "BY DEFAULT"
        old = (
            owned[0] if owned else self.present.sibling(f"{self.present.name}_{twin.old.name}_seq")
        )
        working = self.present.sibling(own(old.name))
        options = _sequence_options(self.draft, old)
        made = f"SEQUENCE NAME {quote_qname(working)}{options}"
        here, there = (f"{quote_literal(quote_qname(n))}::regclass" for n in (working, old))
        self.before_drop += [
            f"ALTER TABLE {self.name} ALTER COLUMN {column} ADD GENERATED {kind} AS IDENTITY ({made})",
            f"SELECT setval({here}, nextval({there}), false)",
        ]
        self.finally_.append(
            f"ALTER SEQUENCE {quote_qname(working)} RENAME TO {quote_ident(old.name)}"
        )


_LITERAL = re.compile(r"'(?:[^']|'')*'")


def _replaced_in(draft: Draft, table: QName) -> dict[str, str]:
    """Columns of a table (its present name) that are replaced, with the twin's quoted name."""
    return {
        twin.old.name: quote_ident(twin.new)
        for (owner, _), twin in draft.twins.items()
        if draft.present(owner) == table and not twin.keeps_old
    }


def _sequence_options(draft: Draft, name: QName) -> str:
    """The options that an identity's sequence was made with, as far as they are known, as SQL."""
    found = draft.start.sequences.get(name)
    known = dict(found.options) if found is not None else {}
    step = f" INCREMENT BY {known['increment']}" if known.get("increment", "1") != "1" else ""
    return step + (" CYCLE" if known.get("cycle", "").lower() == "true" else "")


def _deferred(constraint: Constraint) -> str:
    return (" DEFERRABLE" if constraint.deferrable else "") + (
        " INITIALLY DEFERRED" if constraint.initially_deferred else ""
    )


def _not_inherited(check: Constraint) -> str:
    return " NO INHERIT" if check.no_inherit else ""


def index_copy_sql(index: Index, working: str, table_sql: str, columns: dict[str, str]) -> str:
    """CREATE INDEX CONCURRENTLY for a copy of `index` with columns replaced."""
    unique = "UNIQUE " if index.unique else ""
    head = f"CREATE {unique}INDEX CONCURRENTLY {quote_ident(fit(working))} ON {table_sql}"
    return f"{head} {index_tail(index, columns)}"


def columns_of(key: str, columns: dict[str, str]) -> str:
    """A key of an index with its columns replaced, unquoted where it is one of them."""
    return columns[key].strip('"') if key in columns else rename_names(key, columns)


def index_tail(index: Index, columns: dict[str, str]) -> str:
    """What follows the table in the CREATE INDEX of a copy with columns replaced."""
    match = re.search(r"\bUSING\s+\w+\s*\(.*$", index.definition, re.IGNORECASE | re.DOTALL)
    if match:
        return rename_names(match[0], columns)
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
    return f"USING {index.method} ({keys}){include}{distinct}{where}"
