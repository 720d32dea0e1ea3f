"""ALTER TABLE … ADD [CONSTRAINT name] CHECK | FOREIGN KEY | UNIQUE | PRIMARY KEY | EXCLUDE | NOT NULL.

Every one of them binds new writes at once, NOT VALID or not: old code that writes what the
constraint forbids fails from that moment on. Beyond that they differ: a check and a foreign key
can be added NOT VALID and validated later under a weak lock; unique and primary key can take over
an index built concurrently; an exclusion constraint can do neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.constraints import (
    ConstraintDefinition,
    at_table_constraint,
    read_table_constraint,
)
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Constraint, Index, Schema, Table
from zdd_migrate.operations.base import Key, Operation, Situation, Target
from zdd_migrate.operations.facts import (
    SUFFIXES,
    alike,
    built_on,
    cached_plans,
    foreign_key_break,
    implied_not_null,
    index_copies,
    leaves,
    partition_columns,
    tree,
)

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class AddConstraint(Operation):
    """Add a table constraint. `constraint` is it as written."""

    kind: ClassVar[str] = "add_constraint"
    constraint: ConstraintDefinition
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """By kind: which lock, on whom, and what is read or built under it."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        if table is None:
            at.assume(f"{relation} holds rows")
        if table is not None and self.constraint.name and table.constraint(self.constraint.name):
            return Effects(
                locks={relation: _M.ACCESS_EXCLUSIVE},
                error=PgError(
                    "42710",
                    f'constraint "{self.constraint.name}" for relation "{relation.name}" '
                    "already exists",
                ),
            )
        match self.constraint.kind:
            case "check":
                return self._check(at, relation)
            case "foreign_key":
                return self._foreign_key(at, relation, table)
            case "unique" | "primary_key":
                return self._unique(at, relation, table)
            case "exclude":
                return self._exclude(at, relation, table)
            case "not_null":
                return self._not_null(at, relation, table)

    # -- kinds -------------------------------------------------------------------------------

    def _check(self, at: Situation, relation: QName) -> Effects:
        members = tree(at.schema, relation, only=self.constraint.no_inherit)
        if self.only and not self.constraint.no_inherit and at.schema.children_of(relation):
            return Effects(error=PgError("42P16", "constraint must be added to child tables too"))
        if not self.constraint.enforced and at.pg < 18:
            return Effects(error=PgError("42601", "NOT ENFORCED needs Postgres 18"))
        scans = (
            dict.fromkeys(leaves(at.schema, members), "every row is checked")
            if self.constraint.valid and self.constraint.enforced
            else {}
        )
        what = f"writes to {relation.name} that break CHECK ({self.constraint.expression})"
        locked = tree(at.schema, relation) if at.pg >= 18 else members
        return Effects(
            locks=dict.fromkeys(locked, _M.ACCESS_EXCLUSIVE),
            scans=scans,
            breaks=(Break("old", "restriction", what, "23514", relation),)
            if self.constraint.enforced
            else (),
        )

    def _foreign_key(self, at: Situation, relation: QName, table: Table | None) -> Effects:
        constraint = self.constraint
        assert constraint.ref_table is not None
        referenced = at.schema.resolve(constraint.ref_table)
        parent = table is not None and table.kind == "partitioned"
        members = tree(at.schema, relation, only=not parent)
        locked = tree(at.schema, relation) if at.pg >= 18 else members
        locks = dict.fromkeys(locked, _M.SHARE_ROW_EXCLUSIVE)
        for member in tree(at.schema, referenced):
            locks[member] = _M.SHARE_ROW_EXCLUSIVE
        partitioned = table is not None and table.kind == "partitioned"
        if (
            at.pg >= 18
            and constraint.valid
            and self._validates_child(at.schema, members, referenced)
        ):
            locks[referenced] = _M.ACCESS_EXCLUSIVE  # the partition's own key becomes part of it
        error = None
        if (wrong := self._target_error(at.schema, referenced)) is not None:
            error = wrong
        elif partitioned and not constraint.valid and at.pg < 18 and constraint.enforced:
            error = PgError(
                "42809",
                f'cannot add NOT VALID foreign key on partitioned table "{relation.name}" '
                f'referencing relation "{referenced.name}"',
            )
        elif not constraint.enforced and at.pg < 18:
            error = PgError("42601", "NOT ENFORCED needs Postgres 18")
        scans: dict[QName, str] = {}
        if constraint.valid and constraint.enforced and not at.created >= set(members):
            scans = dict.fromkeys(leaves(at.schema, members), "every row's reference is looked up")
            for member in leaves(at.schema, tree(at.schema, referenced)):
                scans.setdefault(member, "referenced rows are looked up")
        columns = ", ".join(constraint.columns)
        return Effects(
            locks=locks,
            scans=scans,
            error=error,
            breaks=(
                Break(
                    "old",
                    "restriction",
                    f"writes to {relation.name} whose ({columns}) is not in {referenced.name}",
                    "23503",
                    relation,
                ),
                *foreign_key_break(referenced, relation, constraint.on_delete),
            )
            if constraint.enforced
            else (),
        )

    def _validates_child(self, schema: Schema, members: list[QName], referenced: QName) -> bool:
        """Whether a partition has the same key, NOT VALID, that is now taken over and validated."""
        return any(
            fk.kind == "foreign_key"
            and not fk.valid
            and (fk.columns, fk.ref_table) == (self.constraint.columns, referenced)
            for member in members[1:]
            for fk in (schema.tables[member].constraints if member in schema.tables else ())
        )

    def _target_error(self, schema: Schema, referenced: QName) -> PgError | None:
        """What may not be referenced: a view, or columns without a unique index."""
        known = referenced in schema.tables or referenced in schema.views
        if not known and schema.complete:
            return PgError("42P01", f'relation "{referenced.name}" does not exist')
        if referenced in schema.views:
            return PgError("42809", f'referenced relation "{referenced.name}" is not a table')
        table = schema.tables.get(referenced)
        if table is None or not self.constraint.ref_columns:
            return None
        wanted = set(self.constraint.ref_columns)
        keys = [set(c.columns) for c in table.constraints if c.kind in ("unique", "primary_key")]
        keys += [
            set(index.keys)
            for index in schema.indexes_of(referenced)
            if index.unique and index.valid and index.predicate is None
        ]
        if wanted in keys or not schema.complete:
            return None
        return PgError(
            "42830",
            "there is no unique constraint matching given keys for referenced table "
            f'"{referenced.name}"',
        )

    def _unique(self, at: Situation, relation: QName, table: Table | None) -> Effects:
        constraint = self.constraint
        columns = constraint.columns
        members = tree(at.schema, relation)
        locks = dict.fromkeys(members, _M.ACCESS_EXCLUSIVE)
        builds: tuple[QName, ...] = ()
        scans: dict[QName, str] = {}
        error = None
        already_unique = False
        if constraint.using_index is not None:
            index = at.schema.indexes.get(relation.sibling(constraint.using_index))
            if index is not None:
                columns = index.keys
                already_unique = index.unique
                error = self._index_error(table, index)
        else:
            error = self._partition_key_error(at, table)
            heaps = self._building(at, relation, table)
            builds = built_on(at.schema, heaps, self._copies(at.schema, relation, table))
            scans = dict.fromkeys(heaps, "every row is read to build the index")
            if at.pg < 18 and table is not None and table.kind == "partitioned":
                locks = {**dict.fromkeys(members, _M.SHARE), relation: _M.ACCESS_EXCLUSIVE}
        breaks: list[Break] = []
        if at.pg < 18 and table is not None and table.kind != "partitioned":
            locks = {relation: _M.ACCESS_EXCLUSIVE}  # children get no part of it
        if not already_unique:
            what = f"writes that repeat a value of ({', '.join(columns)}) in {relation.name}"
            breaks.append(Break("old", "restriction", what, "23505", relation))
        if constraint.kind == "primary_key":
            if table is not None and table.primary_key is not None and error is None:
                error = PgError(
                    "42P16", f'multiple primary keys for table "{relation.name}" are not allowed'
                )
            nullable = [
                c
                for c in columns
                if table is None or ((col := table.column(c)) and not col.not_null)
            ]
            for column in nullable:
                breaks.append(_null_break(relation, column))
            if nullable:
                locks = dict.fromkeys(members, _M.ACCESS_EXCLUSIVE)
            if nullable and not all(implied_not_null(table, c) for c in nullable):
                for heap in leaves(at.schema, members):
                    scans.setdefault(heap, "every row is checked for NULL")
        return Effects(
            locks=locks, scans=scans, index_builds=builds, error=error, breaks=tuple(breaks)
        )

    def _index_error(self, table: Table | None, index: Index) -> PgError | None:
        """An index that cannot become a constraint's."""
        name = self.constraint.using_index
        if table is not None and table.kind == "partitioned":
            message = (
                "ALTER TABLE / ADD CONSTRAINT USING INDEX is not supported on partitioned tables"
            )
            return PgError("0A000", message)
        if index.predicate is not None:
            return PgError("42809", f'"{name}" is a partial index')
        if _reordered(index):
            message = f'index "{name}" column number 1 does not have default sorting behavior'
            return PgError("42809", message)
        if not index.unique:
            return PgError("42809", f'"{name}" is not a unique index')
        if not index.valid:
            return PgError("55000", f'index "{name}" is not valid')
        return None

    def _exclude(self, at: Situation, relation: QName, table: Table | None) -> Effects:
        heaps = self._building(at, relation, table)
        locks = {relation: _M.ACCESS_EXCLUSIVE}
        error = None
        if table is not None and table.kind == "partitioned":
            mode = _M.SHARE if at.pg < 18 else _M.ACCESS_EXCLUSIVE
            locks = {**dict.fromkeys(tree(at.schema, relation), mode), **locks}
            if at.pg < 17:
                message = "exclusion constraints are not supported on partitioned tables"
                error = PgError("0A000", message)
        return Effects(
            locks=locks,
            error=error,
            scans=dict.fromkeys(heaps, "every row is read to build the index"),
            index_builds=built_on(at.schema, heaps, self._copies(at.schema, relation, table)),
            breaks=(
                Break(
                    "old",
                    "restriction",
                    f"writes to {relation.name} that collide under ({self.constraint.expression})",
                    "23P01",
                    relation,
                ),
            ),
        )

    def _building(self, at: Situation, relation: QName, table: Table | None) -> list[QName]:
        """Tables an index is built on: this one, or its partitions; children have none of it."""
        partitioned = table is not None and table.kind == "partitioned"
        members = tree(at.schema, relation) if partitioned else [relation]
        return [heap for heap in leaves(at.schema, members) if heap not in at.created]

    def _copies(self, schema: Schema, relation: QName, table: Table | None) -> list[Index]:
        """The index behind the constraint, and its copies on partitions."""
        made = self.constraint.constraint(relation, _taken(table))
        index = _index_behind(self.constraint, made, relation)
        return [index, *index_copies(schema, index, SUFFIXES[self.constraint.kind])]

    def _partition_key_error(self, at: Situation, table: Table | None) -> PgError | None:
        """A unique key of a partitioned table must hold the columns it is partitioned by."""
        if self.constraint.without_overlaps and at.pg < 18:
            return PgError("42601", "WITHOUT OVERLAPS needs Postgres 18")
        if self.constraint.nulls_not_distinct and at.pg < 15:
            return PgError("42601", "NULLS NOT DISTINCT needs Postgres 15")
        if table is None or table.kind != "partitioned" or table.partition_key is None:
            return None
        if set(partition_columns(table)) <= set(self.constraint.columns):
            return None
        return PgError(
            "0A000",
            "unique constraint on partitioned table must include all partitioning columns",
        )

    def _not_null(self, at: Situation, relation: QName, table: Table | None) -> Effects:
        if at.pg < 18:
            return Effects(
                error=PgError("42601", "NOT NULL as a named table constraint needs Postgres 18")
            )
        (column,) = self.constraint.columns
        members = tree(at.schema, relation, only=self.constraint.no_inherit)
        known = table.column(column) if table is not None else None
        already = known is not None and known.not_null
        scans = {}
        if self.constraint.valid and not already and not implied_not_null(table, column):
            scans = dict.fromkeys(leaves(at.schema, members), f"every row's {column} is checked")
        return Effects(
            locks=dict.fromkeys(members, _M.ACCESS_EXCLUSIVE),
            scans=scans,
            breaks=() if already else (_null_break(relation, column), *cached_plans(())),
        )

    # -- schema and plan ---------------------------------------------------------------------

    def apply(self, schema: Schema) -> None:
        """Add it to the table and its partitions, with the index behind it."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        for name in tree(schema, relation, only=self.constraint.no_inherit):
            table = schema.tables.get(name)
            if table is not None:
                self._apply_to(schema, table, inherited=name != relation)

    def _apply_to(self, schema: Schema, table: Table, *, inherited: bool) -> None:
        definition = self.constraint
        if definition.kind == "not_null" and definition.valid:
            column = table.column(definition.columns[0])
            if column is not None:
                schema.put_table(table.with_column(replace(column, not_null=True)))
            return
        if inherited and definition.kind in ("unique", "primary_key", "exclude"):
            definition = replace(definition, name=None)
        if inherited and definition.kind in ("foreign_key", "check") and definition.name is None:
            above = schema.resolve(self.relation) if self.relation is not None else table.name
            known = schema.tables.get(above)
            named = known.constraints[-1].name if known is not None and known.constraints else None
            definition = replace(definition, name=named)
        made = definition.constraint(table.name, _taken(table))
        if made.ref_table is not None:
            made = replace(made, ref_table=schema.resolve(made.ref_table))
        made = replace(made, inherited=inherited)
        if definition.using_index is not None:
            made = self._adopt_index(schema, table, made, definition.using_index)
        elif made.index is not None:
            index = _index_behind(definition, made, table.name)
            if inherited and table.parent is not None:
                theirs = schema.indexes_of(table.parent)
                parent = next((i.name for i in reversed(theirs) if alike(index, i)), None)
                index = replace(index, parent=parent)
            schema.put_index(index)
        table = schema.tables[table.name].with_constraint(made)
        if made.kind == "primary_key":
            for name in made.columns:
                if (column := table.column(name)) is not None:
                    table = table.with_column(replace(column, not_null=True))
        schema.put_table(table)

    def _adopt_index(
        self, schema: Schema, table: Table, made: Constraint, using: str
    ) -> Constraint:
        """USING INDEX renames the index to the constraint's name."""
        index = schema.drop_index(table.name.sibling(using))
        name = self.constraint.name or using
        if index is None:
            return replace(made, name=name, index=name)
        schema.put_index(replace(index, name=table.name.sibling(name), constraint=name))
        return replace(made, name=name, index=name, columns=index.keys, include=index.include)

    def plan(self, draft: Draft) -> None:
        """In contract, for it restricts what old code may write."""
        from zdd_migrate.blocks.constraint import plan_added_constraint

        relation = draft.resolve(self.relation)
        table = draft.table(relation)
        made = self.constraint.constraint(relation, _taken(table))
        if made.ref_table is not None:
            made = replace(made, ref_table=draft.schema.resolve(made.ref_table))
        start = draft.start.tables.get(draft.present(relation))
        replacing = None
        if start is not None and set(self.makes(draft.schema)) & draft.replaced:
            keyed = made.kind == "primary_key"
            replacing = start.primary_key if keyed else start.constraint(made.name)
        plan_added_constraint(draft, relation, self.constraint, made, replacing=replacing)

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The constraint; and the primary key, which a table has but one of."""
        assert self.relation is not None
        relation = schema.resolve(self.relation)
        if self.constraint.kind == "primary_key":
            return (("primary key", relation, ""),)
        made = self.constraint.constraint(relation, set())
        return (("constraint", relation, made.name),)


def _index_behind(definition: ConstraintDefinition, made: Constraint, table: QName) -> Index:
    return Index(
        name=table.sibling(made.index or made.name),
        table=table,
        keys=made.columns,
        unique=made.kind != "exclude",
        method=definition.method or ("gist" if made.kind == "exclude" else "btree"),
        include=made.include,
        columns=frozenset((*made.columns, *made.include)),
        constraint=made.name,
        nulls_not_distinct=made.nulls_not_distinct,
    )


_ORDERED = re.compile(r"\b(DESC|NULLS\s+FIRST)\b", re.IGNORECASE)


def _reordered(index: Index) -> bool:
    """Whether an index sorts otherwise than a constraint's would."""
    return _ORDERED.search(index.definition) is not None


def _taken(table: Table | None) -> set[str]:
    return {c.name for c in table.constraints} if table is not None else set()


def _null_break(relation: QName, column: str) -> Break:
    return Break(
        "old",
        "obligation",
        f"writes that leave {relation.name}.{column} NULL",
        "23502",
        relation,
        column,
    )


def _read(cursor: Cursor, target: Target) -> AddConstraint:
    cursor.expect("ADD")
    if not at_table_constraint(cursor):
        raise cursor.unread("a constraint was expected")
    read = read_table_constraint(cursor)
    return AddConstraint(
        relation=target.relation,
        constraint=replace(read, text=squeeze(read.text)) if "--" not in read.text else read,
        only=target.only,
    )


TABLE_ACTIONS = {
    "ADD CONSTRAINT": _read,
    "ADD CHECK (": _read,
    "ADD UNIQUE (": _read,
    "ADD UNIQUE USING": _read,
    "ADD UNIQUE NULLS": _read,
    "ADD PRIMARY KEY": _read,
    "ADD FOREIGN KEY": _read,
    "ADD EXCLUDE USING": _read,
    "ADD EXCLUDE (": _read,
    "ADD NOT NULL": _read,
}
