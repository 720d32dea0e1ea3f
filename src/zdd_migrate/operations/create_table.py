"""CREATE TABLE in every form: columns and constraints, LIKE, INHERITS, PARTITION OF, OF, AS.

The new table hurts nobody. What it refers to is another matter: a foreign key takes SHARE ROW
EXCLUSIVE on the referenced table, a partition ACCESS EXCLUSIVE on its parent (and a scan of the
default partition), a query ACCESS SHARE on what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.constraints import (
    ColumnDefinition,
    ConstraintDefinition,
    at_table_constraint,
    read_column_constraints,
    read_column_definition,
    read_table_constraint,
)
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import follow_query
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Constraint, Index, Schema, Sequence, Table
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.bounds import misses
from zdd_migrate.operations.facts import foreign_key_break, partition_copies
from zdd_migrate.operations.rows import read_by, scanned

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

Persistence = Literal["permanent", "unlogged", "temporary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable(Operation):
    """Make a table. `like` are (source, options); `bound` is a partition's, `query` an AS query's."""

    kind: ClassVar[str] = "create_table"
    columns: tuple[ColumnDefinition, ...] = ()
    constraints: tuple[ConstraintDefinition, ...] = ()
    like: tuple[tuple[QName, tuple[str, ...]], ...] = ()
    inherits: tuple[QName, ...] = ()
    partition_of: QName | None = None
    bound: str | None = None
    partition_strategy: str | None = None
    partition_key: str | None = None
    of_type: QName | None = None
    query: str | None = None
    with_data: bool = True
    if_not_exists: bool = False
    persistence: Persistence = "permanent"
    foreign: bool = False
    #: in the table's text, for showing; never part of what the operation means
    body: str = field(default="", compare=False)

    @property
    def _all_constraints(self) -> tuple[ConstraintDefinition, ...]:
        inline = tuple(c for column in self.columns for c in column.constraints)
        return (*inline, *self.constraints)

    def _is_there(self, schema: Schema) -> bool:
        return self.if_not_exists and self.target(schema) in schema.tables

    def target(self, schema: Schema) -> QName:
        """The table's resolved name: CREATE puts it in the first schema of the path."""
        assert self.relation is not None
        if self.relation.schema is not None:
            return self.relation
        if self.persistence == "temporary":
            return QName("pg_temp", self.relation.name)
        return QName(schema.default_schema, self.relation.name)

    def effects(self, at: Situation) -> Effects:
        """Locks on what the table refers to; nothing on the table itself, which nobody knows."""
        name = self.target(at.schema)
        if name in at.schema.tables or name in at.schema.views:
            if self.if_not_exists:
                return Effects()
            return Effects(error=PgError("42P07", f'relation "{name.name}" already exists'))
        if at.pg < 18 and any(not c.enforced for c in self._all_constraints):
            return Effects(error=PgError("42601", "NOT ENFORCED needs Postgres 18"))
        locks: dict[QName, LockMode] = {}
        scans: dict[QName, str] = {}
        breaks: list[Break] = []
        for constraint in self._all_constraints:
            if constraint.kind == "foreign_key" and constraint.ref_table is not None:
                referenced = at.schema.resolve(constraint.ref_table)
                if referenced == name:
                    continue
                for member in (referenced, *(t.name for t in at.schema.descendants_of(referenced))):
                    locks[member] = LockMode.SHARE_ROW_EXCLUSIVE
                breaks.extend(foreign_key_break(referenced, name, constraint.on_delete))
        if self.partition_of is not None:
            self._partition_effects(at, locks, scans)
        for parent in self.inherits:
            locks[at.schema.resolve(parent)] = LockMode.SHARE_UPDATE_EXCLUSIVE
        for source, _ in self.like:
            locks.setdefault(at.schema.resolve(source), LockMode.ACCESS_SHARE)
        self._sources(at, locks, scans)
        return Effects(locks=locks, scans=scans, breaks=tuple(breaks))

    def _sources(
        self, at: Situation, locks: dict[QName, LockMode], scans: dict[QName, str]
    ) -> None:
        """What a query reads, and the type a table is made of."""
        if self.query is not None:
            for read in read_by(at.schema, self.query):
                locks.setdefault(read, LockMode.ACCESS_SHARE)
            for read in scanned(at.schema, self.query) if self.with_data else ():
                scans.setdefault(read, "the query of CREATE TABLE AS reads it")
        if self.of_type is not None:
            locks.setdefault(at.schema.resolve_type(self.of_type), LockMode.ACCESS_SHARE)

    def _partition_effects(
        self, at: Situation, locks: dict[QName, LockMode], scans: dict[QName, str]
    ) -> None:
        assert self.partition_of is not None
        parent = at.schema.resolve(self.partition_of)
        locks[parent] = LockMode.ACCESS_EXCLUSIVE
        for sibling in at.schema.partitions_of(parent):
            if sibling.bound == "DEFAULT":
                locks[sibling.name] = LockMode.ACCESS_EXCLUSIVE
                above = at.schema.tables.get(parent)
                if above is None or not misses(sibling, above, self.bound or ""):
                    scans[sibling.name] = "its rows are checked against the new partition's bounds"
        table = at.schema.tables.get(parent)
        if table is None:
            at.assume(f"{parent} has no default partition")
            return
        for fk in table.constraints:  # the partition inherits the parent's foreign keys
            if fk.kind == "foreign_key" and fk.ref_table is not None and fk.ref_table != parent:
                locks.setdefault(fk.ref_table, LockMode.SHARE_ROW_EXCLUSIVE)

    def created(self, schema: Schema) -> tuple[QName, ...]:
        """The table, its indexes and its sequences."""
        if self._is_there(schema):
            return ()
        name = self.target(schema)
        behind = (c.index for c in self._made_constraints(schema, name))
        return (
            name,
            *(name.sibling(index) for index in behind if index is not None),
            *(s.name for s in self._sequences(name)),
        )

    def apply(self, schema: Schema) -> None:
        """Add the table with its indexes and sequences."""
        if self.target(schema) in schema.tables:
            return
        table, indexes, sequences = self._build(schema)
        schema.put_table(table)
        for index in indexes:
            schema.put_index(index)
        for sequence in sequences:
            schema.put_sequence(sequence)
        for index in schema.indexes_of(table.parent) if table.parent is not None else ():
            for copy in partition_copies(schema, table, index):
                schema.put_index(copy)

    def _build(self, schema: Schema) -> tuple[Table, list[Index], list[Sequence]]:
        name = self.target(schema)
        columns = self._made_columns(schema, name)
        constraints = self._made_constraints(schema, name)
        for made in constraints:
            for column in made.columns if made.kind in ("primary_key", "not_null") else ():
                known = columns.get(column)
                if known is not None and not known.not_null:
                    columns[column] = replace(known, not_null=True)
        table = Table(
            name=name,
            columns=tuple(columns.values()),
            constraints=tuple(c for c in constraints if c.kind != "not_null"),
            kind="partitioned"
            if self.partition_strategy
            else "foreign"
            if self.foreign
            else "table",
            partition_strategy=self.partition_strategy,
            partition_key=self.partition_key,
            parent=schema.resolve(self.partition_of) if self.partition_of else None,
            bound=self.bound,
            inherits=tuple(schema.resolve(p) for p in self.inherits),
            of_type=schema.resolve_type(self.of_type) if self.of_type else None,
            persistence=self.persistence,
        )
        return table, _constraint_indexes(table), list(self._sequences(name))

    def _parents(self, schema: Schema) -> Iterator[Table]:
        """The tables it inherits from or is a partition of, where they are known."""
        for named in (*self.inherits, *((self.partition_of,) if self.partition_of else ())):
            parent = schema.tables.get(schema.resolve(named))
            if parent is not None:
                yield parent

    def _likes(self, schema: Schema) -> Iterator[tuple[Table, tuple[str, ...]]]:
        """The tables it is made LIKE, where they are known, with what is copied beside columns."""
        for source, options in self.like:
            like = schema.tables.get(schema.resolve(source))
            if like is not None:
                yield like, options

    def _made_columns(self, schema: Schema, name: QName) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for parent in self._parents(schema):
            columns.update({c.name: c for c in parent.columns})
        for like, options in self._likes(schema):
            columns.update({c.name: _like_column(c, options) for c in like.columns})
        if self.of_type is not None:
            type_ = schema.user_type(self.of_type)
            columns.update({c.name: c for c in type_.attributes} if type_ is not None else {})
        for definition in self.columns:
            columns[definition.name] = definition.column(name)
        return columns

    def _made_constraints(self, schema: Schema, name: QName) -> list[Constraint]:
        """Its constraints, those of kind `not_null` among them, which a table has on its columns."""
        constraints: list[Constraint] = []
        for parent in self._parents(schema):
            constraints.extend(_inherited(name, parent, partition=self.partition_of is not None))
        for like, options in self._likes(schema):
            constraints.extend(_like_constraints(name, like, options))
        taken = {c.name for c in constraints}
        for written in self._all_constraints:
            if written.valid is not written.enforced:  # nothing is there yet to be validated
                written = replace(written, valid=written.enforced)
            made = written.constraint(name, taken)
            if made.ref_table is not None:
                made = replace(made, ref_table=schema.resolve(made.ref_table))
            constraints.append(made)
            if made.kind != "not_null":
                taken.add(made.name)
        return constraints

    def _sequences(self, table: QName) -> list[Sequence]:
        return [
            Sequence(
                table.sibling(f"{table.name}_{column.name}_seq"),
                type=column.column(table).type,
                owned_by=(table, column.name),
            )
            for column in self.columns
            if column.serial or column.identity is not None
        ]

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The table."""
        return (("table", self.target(schema), ""),)

    def plan(self, draft: Draft) -> None:
        """As it is, in expand: nobody uses it yet. Undone by dropping it."""
        name = self.target(draft.schema)
        if name in draft.start.tables and name not in draft.schema.tables:
            draft.refuse(
                f"{name} is the name of old code's table until contract",
                "make the new table under another name. To partition a table that is there: rename "
                "it, make the partitioned table, give the old one a CHECK with its bound, VALIDATE "
                "it, and ATTACH it, in a window of a second",
            )
            return
        referenced = [
            draft.schema.resolve(c.ref_table)
            for c in self._all_constraints
            if c.kind == "foreign_key" and c.ref_table is not None
        ]
        renamed = [r for r in referenced if draft.present(r) != r]
        if renamed:
            draft.refuse(
                f"{name} references {renamed[0]}, which the same migration renames",
                "create the table in one migration and rename the other in the next",
            )
            return
        foreign = [r for r in referenced if not draft.is_new(r) and r != name]
        for relation in foreign:
            draft.resolve(relation)
        lock = LockMode.SHARE_ROW_EXCLUSIVE if foreign else None
        if self.partition_of is not None:
            draft.note(
                f"creating {name} as a partition locks {self.partition_of} for an instant; with "
                "much traffic, create it as a table of its own and ATTACH it instead"
            )
            lock = LockMode.ACCESS_EXCLUSIVE
            foreign = [draft.resolve(self.partition_of)]
        kind = "FOREIGN TABLE" if self.foreign else "TABLE"
        draft.as_written(
            Phase.EXPAND,
            undo=()
            if self._is_there(draft.start)
            else f"DROP {kind} IF EXISTS {quote_qname(name)}",
            why=f"create {name}, which no code uses yet",
            lock=lock,
            relation=foreign[0] if foreign else None,
        )


def _inherited(name: QName, parent: Table, *, partition: bool) -> list[Constraint]:
    out = []
    for constraint in parent.constraints:
        if constraint.no_inherit or (not partition and constraint.kind != "check"):
            continue
        made = replace(constraint, inherited=True)
        if constraint.index is not None:
            suffix = "pkey" if constraint.kind == "primary_key" else "key"
            middle = "" if constraint.kind == "primary_key" else "_".join(("", *constraint.columns))
            named = f"{name.name}{middle}_{suffix}"
            made = replace(made, name=named, index=named)
        out.append(made)
    return out


def _like_column(column: Column, options: tuple[str, ...]) -> Column:
    """LIKE copies name, type and NOT NULL; the rest as its INCLUDING options say."""
    return replace(
        column,
        default=column.default if "DEFAULTS" in options else None,
        generated=column.generated if "GENERATED" in options else None,
        generation=column.generation if "GENERATED" in options else None,
        identity=column.identity if "IDENTITY" in options else None,
        comment=column.comment if "COMMENTS" in options else None,
    )


def _like_constraints(name: QName, like: Table, options: tuple[str, ...]) -> list[Constraint]:
    out = []
    for constraint in like.constraints:
        if constraint.kind == "check" and "CONSTRAINTS" in options:
            out.append(constraint)
        elif constraint.kind in ("unique", "primary_key", "exclude") and "INDEXES" in options:
            suffix = {"unique": "key", "primary_key": "pkey", "exclude": "excl"}[constraint.kind]
            middle = "" if constraint.kind == "primary_key" else "_".join(("", *constraint.columns))
            named = f"{name.name}{middle}_{suffix}"
            out.append(replace(constraint, name=named, index=named))
    return out


def _constraint_indexes(table: Table) -> list[Index]:
    return [
        Index(
            name=table.name.sibling(constraint.index),
            table=table.name,
            keys=constraint.columns,
            unique=constraint.kind != "exclude",
            method="gist" if constraint.kind == "exclude" else "btree",
            include=constraint.include,
            columns=frozenset((*constraint.columns, *constraint.include)),
            constraint=constraint.name,
            nulls_not_distinct=constraint.nulls_not_distinct,
        )
        for constraint in table.constraints
        if constraint.index is not None
    ]


# -- reading -----------------------------------------------------------------------------------


def _read(cursor: Cursor) -> CreateTable:
    cursor.expect("CREATE")
    persistence: Persistence = "permanent"
    if cursor.accept("GLOBAL") or cursor.accept("LOCAL"):
        persistence = "temporary"
    if cursor.accept_one(("TEMPORARY", "TEMP")):
        persistence = "temporary"
    elif cursor.accept("UNLOGGED"):
        persistence = "unlogged"
    foreign = cursor.accept("FOREIGN")
    cursor.expect("TABLE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    relation = cursor.qname()
    if relation.schema == "pg_temp":
        persistence = "temporary"
    table = CreateTable(
        relation=relation, persistence=persistence, if_not_exists=if_not_exists, foreign=foreign
    )
    body_from = cursor.i
    if cursor.accept("PARTITION", "OF"):
        table = replace(table, partition_of=cursor.qname())
        if cursor.at("("):
            table = _elements(cursor, table, typed=True)
        table = replace(table, bound=read_bound(cursor))
    elif cursor.accept("OF"):
        table = replace(table, of_type=cursor.qname())
        if cursor.at("("):
            table = _elements(cursor, table, typed=True)
    elif cursor.at("(") and not _names_then_as(cursor):
        table = _elements(cursor, table, typed=False)
    table = _tail(cursor, table)
    return replace(table, body=cursor.slice(body_from))


def _names_then_as(cursor: Cursor) -> bool:
    """Whether `(a, b) AS …` follows: the column names of CREATE TABLE AS, not definitions."""
    following = cursor.token(2)
    if following is None or following.up not in (",", ")"):
        return False
    mark = cursor.i
    cursor.skip_group()
    found = cursor.up() in ("AS", "USING", "WITH", "WITHOUT", "ON", "TABLESPACE")
    cursor.i = mark
    return found


def _elements(cursor: Cursor, table: CreateTable, *, typed: bool) -> CreateTable:
    cursor.expect("(")
    columns: list[ColumnDefinition] = []
    constraints: list[ConstraintDefinition] = []
    like: list[tuple[QName, tuple[str, ...]]] = []
    if cursor.accept(")"):
        return table
    while True:
        if cursor.accept("LIKE"):
            like.append((cursor.qname(), _like_options(cursor)))
        elif at_table_constraint(cursor):
            constraints.append(read_table_constraint(cursor))
        elif typed:
            start = cursor.i
            name = cursor.name()
            cursor.accept("WITH", "OPTIONS")
            columns.append(read_column_constraints(cursor, name, "", start))
        else:
            columns.append(read_column_definition(cursor))
        if table.foreign and cursor.accept("OPTIONS"):
            cursor.skip_group()
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return replace(table, columns=tuple(columns), constraints=tuple(constraints), like=tuple(like))


def _like_options(cursor: Cursor) -> tuple[str, ...]:
    options: set[str] = set()
    while (which := cursor.accept_one(("INCLUDING", "EXCLUDING"))) is not None:
        option = cursor.accept_one((*_LIKE_OPTIONS, "ALL"))
        if option is None:
            raise cursor.unread("an option of LIKE was expected")
        named = set(_LIKE_OPTIONS) if option == "ALL" else {option}
        options = options | named if which == "INCLUDING" else options - named
    return tuple(sorted(options))


_LIKE_OPTIONS = (
    "COMMENTS", "COMPRESSION", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES",
    "STATISTICS", "STORAGE",
)  # fmt: skip


def read_bound(cursor: Cursor) -> str:
    """Read a partition's bound: `DEFAULT` or `FOR VALUES …`, as text."""
    if cursor.accept("DEFAULT"):
        return "DEFAULT"
    start = cursor.i
    cursor.expect("FOR", "VALUES")
    if cursor.accept("FROM"):
        cursor.skip_group()
        cursor.expect("TO")
        cursor.skip_group()
    elif cursor.accept("IN"):
        cursor.skip_group()
    else:
        cursor.expect("WITH")
        cursor.skip_group()
    return cursor.slice(start)


def _tail(cursor: Cursor, table: CreateTable) -> CreateTable:
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("INHERITS"):
            cursor.expect("(")
            parents = () if cursor.at(")") else cursor.list_of(cursor.qname)
            cursor.expect(")")
            table = replace(table, inherits=parents)
        elif cursor.accept("PARTITION", "BY"):
            strategy = cursor.name().upper()
            table = replace(table, partition_strategy=strategy, partition_key=cursor.group_text())
        elif cursor.accept("USING") or cursor.accept("TABLESPACE") or cursor.accept("SERVER"):
            cursor.name()
        elif cursor.accept("WITHOUT", "OIDS"):
            pass
        elif cursor.at("WITH", "(") or cursor.at("OPTIONS", "("):
            cursor.next()
            cursor.skip_group()
        elif cursor.accept("ON", "COMMIT"):
            if not (cursor.accept("PRESERVE", "ROWS") or cursor.accept("DELETE", "ROWS")):
                cursor.expect("DROP")
        elif cursor.at("(") and table.query is None and not table.columns:
            cursor.skip_group()  # column names of CREATE TABLE AS
        elif cursor.accept("AS"):
            query, tail = cursor.rest_without(("WITH NO DATA", "WITH DATA"))
            follow_query(cursor, query)
            table = replace(table, query=query, with_data=tail != "WITH NO DATA")
        else:
            raise cursor.unread("an option of CREATE TABLE was expected")
    return table


_HEADS = (
    "TABLE",
    "UNLOGGED TABLE",
    "TEMP TABLE",
    "TEMPORARY TABLE",
    "LOCAL TEMP TABLE",
    "LOCAL TEMPORARY TABLE",
    "GLOBAL TEMP TABLE",
    "GLOBAL TEMPORARY TABLE",
    "FOREIGN TABLE",
)
READS = {f"CREATE {head}": _read for head in _HEADS}
