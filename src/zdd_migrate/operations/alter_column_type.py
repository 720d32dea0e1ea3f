"""ALTER COLUMN … TYPE: from nothing at all to a rewrite of the table and all its indexes.

Safe where it rewrites: a twin of the new type, filled in batches, that takes the name at contract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.conversions import (
    Conversion,
    assignable,
    conversion,
    lossless,
)
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, squeeze
from zdd_migrate.grammar.types import Type, normalise_type, parse_type, type_name
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Constraint, Index, Schema, Table
from zdd_migrate.operations.add_column import constrained_domain
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import cached_plans, leaves, owned_sequences, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterColumnType(Operation):
    """Give a column another type. `using` is the USING expression's text, None without one."""

    kind: ClassVar[str] = "alter_column_type"
    column: str
    type: str
    using: str | None = None
    collation: str | None = None
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """Depends on the old type, on USING, and on what hangs on the column."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        members = tree(at.schema, relation, only=self.only)
        locks = dict.fromkeys(members, LockMode.ACCESS_EXCLUSIVE)
        column = table.column(self.column) if table is not None else None
        if table is None or column is None:
            if table is not None:
                message = f'column "{self.column}" of relation "{relation.name}" does not exist'
                return Effects(locks=locks, error=PgError("42703", message))
            at.assume(f"the old type of {relation}.{self.column} is stored otherwise than the new")
        work = self._work(at, table, column)
        heaps = leaves(at.schema, members)
        indexes = [i for heap in heaps for i in at.schema.indexes_of(heap)]
        rewrites = tuple(heaps) if work is Conversion.REWRITE else ()
        scans: dict[QName, str] = {}
        rebuilds: tuple[QName, ...] = ()
        if work is Conversion.REWRITE:
            scans = dict.fromkeys(heaps, "every row is written anew with the new type")
            rebuilds = tuple(i.name for i in indexes)
        else:
            touched = [i for i in indexes if self._rebuilt(i, work)]
            rebuilds = tuple(i.name for i in touched)
            scans = {i.table: "its indexes on the column are built anew" for i in touched}
        error = None
        if table is not None and column is not None:
            error = self._dependents(at.schema, relation, table, at.pg)
            error = error or self._refused(at.schema, relation, table, column)
            if parse_type(column.type) != parse_type(self.type):
                owned = owned_sequences(at.schema, relation, self.column)
                if column.identity is not None:  # the identity's sequence takes the type too
                    locks.update(dict.fromkeys(owned, LockMode.SHARE_ROW_EXCLUSIVE))
            self._constraints(at.schema, relation, table, work, locks, scans)
        return Effects(
            locks=locks,
            rewrites=rewrites,
            scans=scans,
            index_rebuilds=rebuilds,
            error=error,
            breaks=(*self._breaks(relation, column), *cached_plans(members)),
        )

    def _rebuilt(self, index: Index, work: Conversion) -> bool:
        """Whether an index is built anew though the table is not.

        One whose predicate or expressions name the column always is: Postgres compares them as
        written, and they are written anew with another type.
        """
        if work is Conversion.REINDEX and self.column in index.columns:
            return True
        if index.predicate is not None and self.column in analyse(index.predicate).names:
            return True
        computed = (key for key in index.keys if not re.fullmatch(r"[\w$]+", key))
        return any(self.column in analyse(key).names for key in computed)

    def _work(self, at: Situation, table: Table | None, column: Column | None) -> Conversion:
        if table is None or column is None:
            return Conversion.REWRITE
        if self.using is not None and not self._using_is_cast(column.type):
            return Conversion.REWRITE
        old, new = _base_type(at.schema, column.type), _base_type(at.schema, self.type)
        if constrained_domain(at.schema, self.type) is not None:
            return Conversion.REWRITE
        zone = at.schema.settings.get("timezone", "").strip("'").upper()
        if not zone and {"timestamp with time zone", "timestamp without time zone"} <= {
            parse_type(old).base,
            parse_type(new).base,
        }:
            at.assume("the session's time zone is not UTC")
        work = conversion(old, new, utc=zone in ("UTC", "ETC/UTC", "GMT", "ZULU", "UCT"))
        if work is Conversion.CATALOG and self.collation is not None:
            return Conversion.REINDEX
        if work is Conversion.CATALOG and column.collation is not None and self.collation is None:
            return Conversion.REINDEX  # falls back to the type's own collation
        return work

    def _using_is_cast(self, old: str) -> bool:
        """Whether USING says no more than the change itself: `c`, `c::new`."""
        text = re.sub(r"[\s()\"]", "", self.using or "").lower()
        name = self.column.lower()
        new = re.sub(r"[\s()\"]", "", self.type).lower()
        return text == name or text == f"{name}::{new}" or text == f"cast{name}as{new}"

    def _dependents(self, schema: Schema, relation: QName, table: Table, pg: int) -> PgError | None:
        for view in schema.views_on(relation, self.column):
            return PgError(
                "0A000", f"cannot alter type of a column used by a view or rule ({view.name.name})"
            )
        for other in table.columns:
            if other.generation is not None and self.column in analyse(other.generation).names:
                return PgError(
                    "0A000" if pg >= 15 else "42601",
                    f"cannot alter type of a column used by generated column {other.name}",
                )
        for publication in schema.publications.values():
            # so says Postgres of a column list, too
            if (relation, self.column) in publication.filters | publication.columns:
                return PgError(
                    "0A000", "cannot alter type of a column used by a publication WHERE clause"
                )
        for policy in table.policies:
            if self.column in analyse(f"{policy.using or ''} {policy.with_check or ''}").names:
                return PgError(
                    "0A000", f"cannot alter type of a column used in a policy ({policy.name})"
                )
        for trigger in table.triggers:
            if self.column in trigger.columns:
                return PgError(
                    "0A000", f"cannot alter type of a column used in trigger {trigger.name}"
                )
        return None

    def _refused(
        self, schema: Schema, relation: QName, table: Table, column: Column
    ) -> PgError | None:
        """A default that cannot follow, a key whose two ends no longer compare."""
        old, new = (_base_type(schema, t) for t in (column.type, self.type))
        if (
            column.default is not None
            and self.using is not None
            and not assignable(old, new)
            and not _default_is(schema, column.default, new)
        ):
            return PgError(
                "42804",
                f'default for column "{self.column}" cannot be cast automatically to type '
                f"{normalise_type(self.type)}",
            )
        if self.using is None and _needs_using(schema, parse_type(old), parse_type(new)):
            return PgError(
                "42804",
                f'column "{self.column}" cannot be cast automatically to type '
                f"{normalise_type(self.type)}",
            )
        pairs = [
            (fk, far)
            for fk in table.constraints
            if fk.kind == "foreign_key" and fk.ref_table is not None
            for near, far in zip(fk.columns, _referenced(schema, fk), strict=False)
            if near == self.column
        ]
        for fk, far in pairs:
            assert fk.ref_table is not None
            other = schema.tables.get(fk.ref_table)
            theirs = other.column(far) if other is not None else None
            if theirs is not None and not _comparable(parse_type(new), parse_type(theirs.type)):
                return PgError("42804", f'foreign key constraint "{fk.name}" cannot be implemented')
        return None

    def _constraints(
        self,
        schema: Schema,
        relation: QName,
        table: Table,
        work: Conversion,
        locks: dict[QName, LockMode],
        scans: dict[QName, str],
    ) -> None:
        """Checks are checked anew, foreign keys at both ends."""
        for constraint in table.constraints:
            if self.column not in constraint.columns:
                continue
            if constraint.kind == "check" and constraint.valid:
                for heap in leaves(schema, tree(schema, relation)):
                    scans.setdefault(heap, f"{constraint.name} is checked anew")
            if constraint.kind == "foreign_key" and constraint.ref_table is not None:
                locks[constraint.ref_table] = LockMode.ACCESS_EXCLUSIVE
                if work is not Conversion.CATALOG:
                    scans.setdefault(relation, f"{constraint.name} is checked anew")
                    scans.setdefault(constraint.ref_table, "referenced rows are looked up")
        for other, fk in schema.foreign_keys_to(relation):
            keys = fk.ref_columns or (table.primary_key.columns if table.primary_key else ())
            if self.column in keys:
                locks[other.name] = LockMode.ACCESS_EXCLUSIVE
                if work is not Conversion.CATALOG:
                    scans.setdefault(other.name, f"{fk.name} is checked anew")
                    scans.setdefault(relation, "referenced rows are looked up")

    def _breaks(self, relation: QName, column: Column | None) -> tuple[Break, ...]:
        if column is not None and lossless(column.type, self.type) and self.using is None:
            same = parse_type(column.type).base == parse_type(self.type).base
            text = {parse_type(column.type).base, parse_type(self.type).base} <= {
                "text",
                "character varying",
            }
            if same or text:
                return ()
        old = column.type if column is not None else "the old type"
        what = f"code that reads or writes {relation.name}.{self.column} as {old}"
        return (Break("old", "result_type", what, None, relation, self.column),)

    def apply(self, schema: Schema) -> None:
        """Change the type, here and in children."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and (column := table.column(self.column)) is not None:
                changed = replace(column, type=normalise_type(self.type), collation=self.collation)
                schema.put_table(table.with_column(changed))

    def plan(self, draft: Draft) -> None:
        """One step where nothing is rewritten and nothing narrowed; else by way of a twin."""
        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        column = table.column(self.column) if table is not None else None
        if table is None or column is None:
            draft.refuse(
                f"{relation} or its column {self.column} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        at = Situation(schema=draft.schema, pg=draft.pg)
        effects = self.effects(at)
        if effects.error is not None:
            draft.refuse(
                effects.error.message,
                "drop what depends on the column in an earlier step and make it again afterwards",
            )
            return
        physical = quote_ident(draft.column(relation, self.column))
        head = f"ALTER TABLE {draft.sql_name(relation)} ALTER COLUMN {physical} TYPE"
        collate = f" COLLATE {self.collation}" if self.collation else ""
        if not (effects.rewrites or effects.scans or effects.index_rebuilds):
            back: tuple[str, ...] = ()
            if conversion(self.type, column.type, utc=True) is Conversion.CATALOG:
                back = (f"{head} {column.type}",)
                if column.default is not None:
                    back += (f"{head.removesuffix(' TYPE')} SET DEFAULT {column.default}",)
            else:
                # old code lives with it, and the way back would be worse than staying
                draft.leave(
                    f"column {draft.present(relation)}.{draft.column(relation, self.column)}",
                    f"{relation}.{self.column} as {self.type}: making it {column.type} again writes "
                    "the table anew under ACCESS EXCLUSIVE",
                )
            draft.sql(
                Phase.EXPAND,
                f"{head} {self.type}{collate}",
                undo=back,
                why=f"{column.type} and {self.type} are stored alike: an instant",
                lock=LockMode.ACCESS_EXCLUSIVE,
                relation=relation,
            )
            known = draft.twins.get((relation, self.column))
            if known is not None:
                draft.twins[(relation, self.column)] = replace(known, type=self.type)
            return
        from zdd_migrate.blocks.retyped import Retype, plan_retyped

        plan_retyped(
            draft, Retype(relation, column, self.type, using=self.using, collation=self.collation)
        )


_CAST = re.compile(r"(?:'(?:[^']|'')*'|[\w.]+)\s*::\s*(.+)", re.DOTALL)


def _default_is(schema: Schema, default: str, type_: str) -> bool:
    """Whether a default is a constant of this type already: Postgres keeps it as such beneath what
    it does to store it in the column, and takes it up again."""
    cast = _CAST.fullmatch(default.strip())
    if cast is None:
        return False
    made, wanted = (schema.user_type(type_name(text)) for text in (cast[1], type_))
    same = normalise_type(cast[1]) == normalise_type(type_)
    return same if made is None or wanted is None else made == wanted


def _base_type(schema: Schema, type_: str) -> str:
    """A domain without constraints is its base type."""
    found = schema.user_type(type_name(type_))
    if found is not None and found.kind == "domain" and found.base is not None:
        return _base_type(schema, found.base)
    return type_


_INTEGERS = ("smallint", "integer", "bigint")
_TEXTS = ("text", "character varying", "character", "name", "citext")
_NUMBERS = (*_INTEGERS, "numeric", "real", "double precision")


_NOT_FROM_TEXT = frozenset(
    (*_NUMBERS, "boolean", "uuid", "date", "interval", "json", "jsonb", "inet", "cidr", "bytea",
     "money", "timestamp with time zone", "timestamp without time zone",
     "time with time zone", "time without time zone")
)  # fmt: skip


def _needs_using(schema: Schema, old: Type, new: Type) -> bool:
    """Whether no cast leads there by itself (pg_cast has none, or an explicit one only)."""
    if old.dimensions or new.dimensions:
        return False
    enum = schema.user_type(type_name(new.base))
    if old.base in _TEXTS and old.base != "citext":
        return new.base in _NOT_FROM_TEXT or (enum is not None and enum.kind == "enum")
    return (
        {old.base, new.base} <= {"boolean", *_NUMBERS}
        and "boolean" in (old.base, new.base)
        and (old.base != new.base)
    )


def _comparable(referencing: Type, referenced: Type) -> bool:
    """Whether a foreign key can compare the two: the referenced one's operators must take both."""
    if referencing.base == referenced.base:
        return True
    if referencing.base in _NUMBERS and referenced.base in _NUMBERS:
        wider = _NUMBERS.index(referencing.base) <= _NUMBERS.index(referenced.base)
        return wider or (referencing.base in _INTEGERS and referenced.base in _INTEGERS)
    return referencing.base in _TEXTS and referenced.base in _TEXTS


def _referenced(schema: Schema, fk: Constraint) -> tuple[str, ...]:
    if fk.ref_columns or fk.ref_table is None:
        return fk.ref_columns
    other = schema.tables.get(fk.ref_table)
    key = other.primary_key if other is not None else None
    return key.columns if key is not None else ()


def _read(cursor: Cursor, target: Target, column: str) -> AlterColumnType:
    cursor.accept("SET", "DATA")
    cursor.expect("TYPE")
    type_ = cursor.type_text()
    collation = None
    if cursor.accept("COLLATE"):
        start = cursor.i
        cursor.qname()
        collation = cursor.slice(start)
    using = squeeze(cursor.until()) if cursor.accept("USING") else None
    return AlterColumnType(
        relation=target.relation,
        column=column,
        type=type_,
        using=using,
        collation=collation,
        only=target.only,
    )


COLUMN_ACTIONS = {"TYPE": _read, "SET DATA": _read}
