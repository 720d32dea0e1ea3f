"""ALTER TABLE … ADD COLUMN.

An instant where the default is constant, even with NOT NULL: Postgres keeps it in the catalog. A
rewrite of the whole table where every row needs a value of its own: a volatile default, serial,
identity, a stored generated column, a domain with constraints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.grammar.constraints import ColumnDefinition, read_column_definition
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, volatility
from zdd_migrate.grammar.types import SERIALS, normalise_type, parse_type, type_name
from zdd_migrate.model.effects import Break, Effects, PgError, merge
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, Sequence, Table, UserType
from zdd_migrate.operations.add_constraint import AddConstraint
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import (
    cached_plans,
    leaves,
    new_code_early,
    sequences_read,
    tree,
)

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AddColumn(Operation):
    """Add a column. `definition` is it as written, inline constraints included."""

    kind: ClassVar[str] = "add_column"
    column: str
    definition: ColumnDefinition
    if_not_exists: bool = False
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE; with a rewrite, a scan or a build where the column asks for one."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        members = tree(at.schema, relation, only=self.only)
        locks = dict.fromkeys(members, LockMode.ACCESS_EXCLUSIVE)
        if table is None:
            at.assume(f"{relation} holds rows")
        elif table.column(self.column) is not None:
            if self.if_not_exists:
                return Effects(locks={relation: LockMode.ACCESS_EXCLUSIVE})
            message = f'column "{self.column}" of relation "{relation.name}" already exists'
            return Effects(locks=locks, error=PgError("42701", message))
        if (refused := self._refused(at, table)) is not None:
            return Effects(error=refused)
        heaps = leaves(at.schema, members)
        rewrites = self._rewrites(at)
        if rewrites and self.definition.default is not None:
            locks = {**sequences_read(at.schema, self.definition.default), **locks}
        scans: dict[QName, str] = {}
        rebuilds: tuple[QName, ...] = ()
        if rewrites:
            scans = dict.fromkeys(heaps, f"every row is written anew to hold {self.column}")
            rebuilds = tuple(i.name for heap in heaps for i in at.schema.indexes_of(heap))
        elif self.definition.generated == "virtual" and self.definition.not_null:
            scans = dict.fromkeys(heaps, f"every row's {self.column} is computed and checked")
        own_effects = Effects(
            locks=locks,
            rewrites=tuple(heaps) if rewrites else (),
            scans=scans,
            index_rebuilds=rebuilds,
            error=self._error(at, table, relation),
            breaks=(
                *self._breaks(relation),
                *cached_plans(members),
                new_code_early(relation, self.column),
            ),
        )
        return merge(
            (own_effects, *self._inline_effects(at, relation, has_default=self._has_value))
        )

    @property
    def _has_value(self) -> bool:
        """Whether existing rows get a value other than NULL."""
        d = self.definition
        default = d.default is not None and d.default.strip().upper() != "NULL"
        return default or d.serial or d.identity is not None or d.generated is not None

    def _rewrites(self, at: Situation) -> bool:
        d = self.definition
        if d.serial or d.identity is not None or d.generated == "stored":
            return True
        if constrained_domain(at.schema, d.type) is not None and d.generated is None:
            return True
        default = d.default if d.default is not None else _domain_default(at.schema, d.type)
        if default is None:
            return False
        found, unknown = volatility(default, at.schema)
        if unknown is not None:
            at.assume(f"{unknown}() is volatile, so every row gets a value of its own")
        return found == "volatile"

    def _error(self, at: Situation, table: Table | None, relation: QName) -> PgError | None:
        domain = constrained_domain(at.schema, self.definition.type)
        needed = self.definition.not_null or (
            domain is not None and domain.not_null and domain.default is None
        )
        if not needed or self._has_value:
            return None
        if table is not None and table.rows == 0:
            return None
        message = f'column "{self.column}" of relation "{relation.name}" contains null values'
        return PgError("23502", message, rows_decide=table is None or table.rows is None)

    def _refused(self, at: Situation, table: Table | None) -> PgError | None:
        """What cannot be written this way, here or in this major."""
        d = self.definition
        if d.storage is not None and at.pg < 16:
            return PgError("42601", "STORAGE of a new column needs Postgres 16")
        if d.generated == "virtual":
            return self._refused_virtual(at)
        if d.generated == "stored" and d.generation is not None:
            kind, unknown = volatility(d.generation, at.schema)
            if kind != "immutable" and unknown is None and analyse(d.generation).understood:
                return PgError("42P17", "generation expression is not immutable")
        parents = table is not None and table.kind == "partitioned"
        if d.identity is not None and at.pg < 17 and parents:
            message = "cannot recursively add identity column to table that has child tables"
            return PgError("42P16", message)
        return None

    def _refused_virtual(self, at: Situation) -> PgError | None:
        d = self.definition
        if at.pg < 18:
            return PgError("42601", "VIRTUAL generated columns need Postgres 18")
        names = {"unique": "unique", "primary_key": "primary key", "foreign_key": "foreign key"}
        for constraint in d.constraints:
            if constraint.kind in names:
                return PgError(
                    "0A000",
                    f"{names[constraint.kind]} constraints on virtual generated columns are not "
                    "supported",
                )
        if _domain(at.schema, d.type) is not None:
            message = f'virtual generated column "{self.column}" cannot have a domain type'
            return PgError("0A000", message)
        called = analyse(d.generation or "").functions
        if any(name.name in called for name in at.schema.functions):
            return PgError("0A000", "generation expression uses user-defined function")
        return None

    def _breaks(self, relation: QName) -> tuple[Break, ...]:
        if not self.definition.not_null or self._has_value:
            return ()
        what = f"INSERTs into {relation.name} that do not give {self.column}"
        return (Break("old", "obligation", what, "23502", relation, self.column),)

    def _inline_effects(
        self, at: Situation, relation: QName, *, has_default: bool
    ) -> list[Effects]:
        """Inline constraints, as ADD CONSTRAINT would have them; nobody's old writes break them."""
        out = []
        for constraint in self.definition.constraints:
            effects = AddConstraint(relation=relation, constraint=constraint).effects(at)
            error = effects.error if effects.error and not effects.error.rows_decide else None
            effects = replace(effects, breaks=(), error=error)
            if constraint.kind == "foreign_key":
                effects = replace(effects, scans=effects.scans if has_default else {})
                # the table itself is locked harder by the ADD COLUMN
            out.append(effects)
        return out

    def apply(self, schema: Schema) -> None:
        """Add the column, its constraints, indexes and sequence, here and in children."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        for name in tree(schema, relation, only=self.only):
            table = schema.tables.get(name)
            if table is None or table.column(self.column) is not None:
                continue
            schema.put_table(table.with_column(self.definition.column(name)))
        if schema.tables.get(relation) is None:
            return
        if self.definition.serial or self.definition.identity is not None:
            sequence = relation.sibling(f"{relation.name}_{self.column}_seq")
            schema.put_sequence(Sequence(sequence, owned_by=(relation, self.column)))
        for constraint in self.definition.constraints:
            AddConstraint(relation=relation, constraint=constraint).apply(schema)

    def plan(self, draft: Draft) -> None:
        """In expand; a value for every row in batches; what old code cannot give, at contract."""
        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        if self.if_not_exists and table is not None and table.column(self.column) is not None:
            draft.note(f"{self.column} of {relation} is there already")
            return
        start = draft.start.tables.get(draft.present(relation))
        there = start.column(self.column) if start is not None else None
        if there is not None and table is not None and table.column(self.column) is None:
            draft.refuse(
                f"{relation}.{self.column} is dropped and added anew under the same name: old code's "
                "values and new code's cannot stand side by side in it",
                "ALTER COLUMN … TYPE … USING, which keeps both in step; or give the new column another "
                "name",
            )
            return
        if not self._plannable(draft, relation):
            return
        d = self.definition
        fresh = volatility(d.default, draft.schema)[0] == "volatile" if d.default else False
        if d.serial or d.identity is not None:
            self._plan_numbered(draft, relation)
        elif fresh:
            self._plan_volatile(draft, relation)
        elif d.not_null and d.default is None:
            self._plan_required(draft, relation)
        elif d.default is None and (value := self._said(draft, relation)) is not None:
            self._plan_filled(draft, relation, value)
        else:
            self._plan_instant(draft, relation, self._bare(default=True, not_null=True))
        self.plan_constraints(draft, relation, Phase.EXPAND)

    def _plan_filled(self, draft: Draft, relation: QName, value: str) -> None:
        """A nullable column with a value for the rows that are there and for those of old code."""
        from zdd_migrate.blocks.fill import plan_filled

        bare = self._bare(default=False, not_null=False)
        if analyse(value).names or re.search(r"\bselect\b", value, re.IGNORECASE):
            plan_filled(
                draft,
                relation,
                self.column,
                value,
                add=bare,
                type_=self.definition.type,
                required=False,
            )
            return
        # a default fills exactly those rows that do not name the column: no trigger is needed
        draft.filled.add((relation, self.column))
        draft.lent_defaults.add((relation, self.column))
        name, column = draft.sql_name(relation), quote_ident(self.column)
        default = f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {value}"
        if volatility(value, draft.schema)[0] == "volatile":
            self._plan_instant(draft, relation, bare, default)
            draft.backfill(
                relation,
                [(self.column, value)],
                f"{column} IS NULL",
                why=f"give every row a {self.column} of its own, in batches",
            )
        else:
            self._plan_instant(draft, relation, f"{bare} DEFAULT {value}")
        draft.needs_release = True
        draft.sql(
            Phase.CONTRACT,
            f"ALTER TABLE {name} ALTER COLUMN {column} {draft.final_default(relation, self.column)}",
            undo=default,
            why=f"old code, which leaves {self.column} out, is gone",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.note(
            f"until contract a row that is inserted without {relation.name}.{self.column} gets {value}, "
            "whoever inserts it; a NULL that is given stays"
        )

    def clause(self) -> str:
        """The ADD COLUMN clause without default, NOT NULL and constraints."""
        return self._bare(default=False, not_null=False)

    def _said(self, draft: Draft, relation: QName) -> str | None:
        """What rows get, where somebody said so; NULL is what they get by themselves."""
        said = draft.answer("up", relation, self.column) or draft.answer(
            "fill", relation, self.column
        )
        return None if said is not None and said.strip().upper() == "NULL" else said

    def _plannable(self, draft: Draft, relation: QName) -> bool:
        d = self.definition
        if d.generated == "stored":
            draft.refuse(
                f"adding the stored generated column {self.column} rewrites {relation}",
                "on Postgres 18 make it VIRTUAL; else add a plain column that a trigger keeps",
            )
            return False
        if constrained_domain(draft.schema, d.type) is not None:
            draft.refuse(
                f"adding a column of the constrained domain {d.type} rewrites {relation}",
                "use the domain's base type and a CHECK constraint",
            )
            return False
        return True

    def _bare(self, *, default: bool, not_null: bool, type_: str | None = None) -> str:
        """The ADD COLUMN clause without inline constraints."""
        d = self.definition
        parts = [f"ADD COLUMN {quote_ident(self.column)} {type_ or d.type}"]
        if d.collation:
            parts.append(f"COLLATE {d.collation}")
        if d.generated == "virtual":
            parts.append(f"GENERATED ALWAYS AS ({d.generation}) VIRTUAL")
        if default and d.default is not None:
            parts.append(f"DEFAULT {d.default}")
        if not_null and d.not_null:
            parts.append("NOT NULL")
        return " ".join(parts)

    def _plan_instant(self, draft: Draft, relation: QName, clause: str, more: str = "") -> None:
        name = draft.sql_name(relation)
        draft.sql(
            Phase.EXPAND,
            (f"ALTER TABLE {name} {clause}", *((more,) if more else ())),
            undo=f"ALTER TABLE {name} DROP COLUMN IF EXISTS {quote_ident(self.column)}",
            why=f"add {self.column} to {relation}: an instant, for nothing is rewritten",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def _plan_volatile(self, draft: Draft, relation: QName) -> None:
        from zdd_migrate.blocks.copies import make_not_null

        name, column = draft.sql_name(relation), quote_ident(self.column)
        default = self.definition.default or ""
        self._plan_instant(
            draft,
            relation,
            self._bare(default=False, not_null=False),
            f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {default}",
        )
        draft.backfill(
            relation,
            [(self.column, default)],
            f"{column} IS NULL",
            why=f"give every row a {self.column} of its own, in batches",
        )
        if self.definition.not_null:
            make_not_null(draft, relation, self.column)

    def _plan_required(self, draft: Draft, relation: QName) -> None:
        """NOT NULL without a default: old code cannot give it, so somebody must say what it gets."""
        from zdd_migrate.blocks.fill import plan_filled

        answer = draft.answer("fill", relation, self.column) or draft.answer(
            "up", relation, self.column
        )
        if answer is None:
            target = f"{relation.name}.{self.column}"
            draft.ask(
                target,
                f"what do existing rows, and rows that old code inserts, get in {target}?",
                f"--fill {target}=… (or -- zdd: fill {target} = … in the migration)",
            )
            return
        name, column = draft.sql_name(relation), quote_ident(self.column)
        if analyse(answer).names or volatility(answer, draft.schema)[0] == "volatile":
            plan_filled(
                draft,
                relation,
                self.column,
                answer,
                add=self._bare(default=False, not_null=False),
                type_=self.definition.type,
            )
            return
        draft.sql(
            Phase.EXPAND,
            f"ALTER TABLE {name} {self._bare(default=False, not_null=False)} DEFAULT {answer} NOT NULL",
            undo=f"ALTER TABLE {name} DROP COLUMN IF EXISTS {column}",
            why=f"add {self.column} with a default that old code's rows live with: an instant",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.lent_defaults.add((relation, self.column))
        draft.sql(
            Phase.CONTRACT,
            f"ALTER TABLE {name} ALTER COLUMN {column} {draft.final_default(relation, self.column)}",
            undo=f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {answer}",
            why=f"new code gives {self.column} by itself",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.breaks_old = True

    def _plan_numbered(self, draft: Draft, relation: QName) -> None:
        """serial and identity: a sequence, a default, numbers in batches, then the real thing."""
        from zdd_migrate.blocks.copies import make_not_null
        from zdd_migrate.blocks.naming import own

        d = self.definition
        name, column = draft.sql_name(relation), quote_ident(self.column)
        type_ = SERIALS.get(d.type.lower(), d.type)
        final = relation.sibling(f"{relation.name}_{self.column}_seq")
        working = final if d.serial else relation.sibling(own(final.name))
        sequence = quote_qname(working)
        draft.sql(
            Phase.EXPAND,
            (
                f"CREATE SEQUENCE {sequence} AS {normalise_type(type_)}",
                f"ALTER TABLE {name} {self._bare(default=False, not_null=False, type_=type_)}",
                f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT nextval({quote_literal(sequence)}::regclass)",
                f"ALTER SEQUENCE {sequence} OWNED BY {name}.{column}",
            ),
            undo=f"ALTER TABLE {name} DROP COLUMN IF EXISTS {column}",
            why=f"add {self.column} with its sequence; new rows are numbered from now on",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.backfill(
            relation,
            [(self.column, f"nextval({quote_literal(sequence)}::regclass)")],
            f"{column} IS NULL",
            why=f"number the rows that are there in {self.column}, in batches",
        )
        make_not_null(draft, relation, self.column)
        if d.identity is not None:
            self._become_identity(draft, relation, sequence)

    def _become_identity(self, draft: Draft, relation: QName, sequence: str) -> None:
        name, column = draft.sql_name(relation), quote_ident(self.column)
        kind = "ALWAYS" if self.definition.identity == "always" else "BY DEFAULT"
        options = (
            f" ({self.definition.identity_options})" if self.definition.identity_options else ""
        )
        literal = quote_literal(sequence)
        table = quote_literal(name)
        draft.sql(
            Phase.MIGRATE,
            (
                f"ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT",
                f"ALTER TABLE {name} ALTER COLUMN {column} ADD GENERATED {kind} AS IDENTITY{options}",
                (
                    f"SELECT setval(pg_get_serial_sequence({table}, {quote_literal(self.column)}), "
                    f"nextval({literal}::regclass), false)"
                ),
                f"ALTER SEQUENCE {sequence} OWNED BY NONE",
                f"DROP SEQUENCE {sequence}",
            ),
            undo=(
                f"CREATE SEQUENCE {sequence}",
                (
                    f"SELECT setval({literal}::regclass, nextval(pg_get_serial_sequence({table}, "
                    f"{quote_literal(self.column)})), false)"
                ),
                f"ALTER TABLE {name} ALTER COLUMN {column} DROP IDENTITY",
                f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT nextval({literal}::regclass)",
                f"ALTER SEQUENCE {sequence} OWNED BY {name}.{column}",
            ),
            why=f"{self.column} becomes an identity column, going on where the numbers are",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def plan_constraints(self, draft: Draft, relation: QName, phase: Phase) -> None:
        """Inline constraints by themselves, in expand where old code does not write the column."""
        from zdd_migrate.blocks.constraint import plan_added_constraint

        table = draft.table(relation)
        taken = {c.name for c in table.constraints} if table is not None else set()
        restricted = draft.restricts_old
        for definition in self.definition.constraints:
            made = definition.constraint(relation, taken)
            if made.ref_table is not None:
                made = replace(made, ref_table=draft.schema.resolve(made.ref_table))
            text = definition.text
            if definition.kind == "foreign_key":
                text = f"FOREIGN KEY ({quote_ident(self.column)}) {definition.text}"
            plan_added_constraint(
                draft, relation, replace(definition, text=text), made, phase=phase
            )
            taken.add(made.name)
        draft.restricts_old = restricted or phase is not Phase.EXPAND


def constrained_domain(schema: Schema, type_: str) -> UserType | None:
    """The domain behind a type's text when it (or a domain under it) has constraints.

    An array of a domain is none: its elements are checked when they are made.
    """
    found = _domain(schema, type_)
    if found is None or found.constrained:
        return found
    return constrained_domain(schema, found.base) if found.base else None


def _domain(schema: Schema, type_: str) -> UserType | None:
    parsed = parse_type(type_)
    if parsed.builtin or parsed.dimensions or not schema.types:
        return None
    found = schema.user_type(type_name(type_))
    return found if found is not None and found.kind == "domain" else None


def _domain_default(schema: Schema, type_: str) -> str | None:
    """The default that a column takes over from its domain."""
    found = _domain(schema, type_)
    if found is None or found.default is not None:
        return found.default if found is not None else None
    return _domain_default(schema, found.base) if found.base else None


def _read(cursor: Cursor, target: Target) -> AddColumn:
    cursor.expect("ADD")
    cursor.accept("COLUMN")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    definition = read_column_definition(cursor)
    return AddColumn(
        relation=target.relation,
        column=definition.name,
        definition=definition,
        if_not_exists=if_not_exists,
        only=target.only,
    )


TABLE_ACTIONS = {"ADD": _read, "ADD COLUMN": _read}
