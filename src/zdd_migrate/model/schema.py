"""What a database looks like: a mutable collection of frozen objects.

`Schema` is filled by replaying migrations (`Operation.apply`) or from a live catalog
(`postgres.catalog`). The objects in it are frozen, so `Schema.copy` is shallow and cheap, and a
replay changes the table it touches and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from zdd_migrate.model.names import DEFAULT_SCHEMA, QName

TableKind = Literal["table", "partitioned", "foreign"]
ConstraintKind = Literal["check", "foreign_key", "unique", "primary_key", "exclude", "not_null"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type` is `format_type` text (`character varying(20)`); `default` is SQL text."""

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    generated: Literal["stored", "virtual"] | None = None
    generation: str | None = None  # the expression of a generated column
    identity: Literal["always", "by default"] | None = None
    collation: str | None = None
    storage: str | None = None
    compression: str | None = None
    comment: str | None = None
    #: how closely ANALYZE looks at it; None: as the server is set
    statistics: int | None = None
    #: what the planner is told of it: n_distinct, n_distinct_inherited
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """A table constraint, of any kind.

    `columns` are the constrained columns (for a check: those its expression names). `definition`
    is the constraint's own SQL text after its name, as `pg_get_constraintdef` would print it or as
    the migration wrote it. `index` names the index behind unique, primary key and exclude.
    """

    name: str
    kind: ConstraintKind
    columns: tuple[str, ...] = ()
    definition: str = ""
    expression: str | None = None  # check
    ref_table: QName | None = None  # foreign key
    ref_columns: tuple[str, ...] = ()
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    match: str = "SIMPLE"
    deferrable: bool = False
    initially_deferred: bool = False
    valid: bool = True
    enforced: bool = True
    no_inherit: bool = False
    index: str | None = None
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    inherited: bool = False
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on a table or view. `definition` is its whole CREATE TRIGGER text."""

    name: str
    timing: str  # BEFORE | AFTER | INSTEAD OF
    events: tuple[str, ...]  # INSERT | UPDATE | DELETE | TRUNCATE
    function: QName
    columns: tuple[str, ...] = ()  # UPDATE OF
    row: bool = True
    enabled: str = "O"  # pg_trigger.tgenabled: O origin, D disabled, R replica, A always
    definition: str = ""
    constraint: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A row security policy."""

    name: str
    permissive: bool = True
    command: str = "ALL"
    roles: tuple[str, ...] = ("public",)
    using: str | None = None
    with_check: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table, partitioned table or foreign table.

    `rows`, `bytes` and `writes_per_second` are None when nobody measured them.
    """

    name: QName
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    kind: TableKind = "table"
    partition_strategy: str | None = None  # RANGE | LIST | HASH, of a partitioned table
    partition_key: str | None = None  # its key, SQL text without the outer parentheses
    parent: QName | None = None  # of a partition
    bound: str | None = None  # `FOR VALUES …` or `DEFAULT`, of a partition
    inherits: tuple[QName, ...] = ()
    of_type: QName | None = None
    persistence: Literal["permanent", "unlogged", "temporary"] = "permanent"
    row_security: bool = False
    force_row_security: bool = False
    replica_identity: str = "DEFAULT"
    options: tuple[tuple[str, str], ...] = ()
    access_method: str | None = None
    tablespace: str | None = None
    comment: str | None = None
    rows: int | None = None
    bytes: int | None = None
    writes_per_second: float | None = None

    def column(self, name: str) -> Column | None:
        """The column called `name`, if there is one."""
        for column in self.columns:
            if column.name == name:
                return column
        return None

    def constraint(self, name: str) -> Constraint | None:
        """The constraint called `name`, if there is one."""
        for constraint in self.constraints:
            if constraint.name == name:
                return constraint
        return None

    @property
    def primary_key(self) -> Constraint | None:
        """The primary key constraint, if there is one."""
        for constraint in self.constraints:
            if constraint.kind == "primary_key":
                return constraint
        return None

    def with_column(self, column: Column) -> Table:
        """This table with `column` added, or replacing the one of its name."""
        if self.column(column.name) is None:
            return replace(self, columns=(*self.columns, column))
        return replace(
            self, columns=tuple(column if c.name == column.name else c for c in self.columns)
        )

    def with_constraint(self, constraint: Constraint) -> Table:
        """This table with `constraint` added, or replacing the one of its name."""
        kept = tuple(c for c in self.constraints if c.name != constraint.name)
        return replace(self, constraints=(*kept, constraint))


@dataclass(frozen=True, slots=True)
class Index:
    """An index. `keys` are its key columns' names or expressions' text, in order.

    `columns` are all columns it depends on (keys, INCLUDE, expressions, predicate), so that
    dropping or rewriting one of them is known to touch the index.
    """

    name: QName
    table: QName
    keys: tuple[str, ...] = ()
    unique: bool = False
    method: str = "btree"
    include: tuple[str, ...] = ()
    predicate: str | None = None
    columns: frozenset[str] = frozenset()
    valid: bool = True
    constraint: str | None = None  # the constraint it backs
    parent: QName | None = None  # the partitioned index it is attached to
    on_only: bool = False
    nulls_not_distinct: bool = False
    definition: str = ""  # CREATE INDEX text
    comment: str | None = None
    #: how closely ANALYZE looks at its expressions: the column's number and the target
    statistics: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A view or materialized view. `depends_on` are the relations its query reads."""

    name: QName
    query: str = ""
    columns: tuple[str, ...] = ()
    materialized: bool = False
    populated: bool = True
    depends_on: frozenset[QName] = frozenset()
    #: (relation, column) pairs read; a pair with column "*" means all of them, or unknown which
    depends_on_columns: frozenset[tuple[QName, str]] = frozenset()
    options: tuple[tuple[str, str], ...] = ()
    triggers: tuple[Trigger, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence; `owned_by` is (table, column) when a column owns it."""

    name: QName
    type: str = "bigint"
    owned_by: tuple[QName, str] | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class UserType:
    """An enum, domain, composite or range type."""

    name: QName
    kind: Literal["enum", "domain", "composite", "range", "base", "shell"]
    labels: tuple[str, ...] = ()  # enum, in order
    base: str | None = None  # domain: type text; range: its subtype
    not_null: bool = False  # domain
    default: str | None = None  # domain
    constraints: tuple[Constraint, ...] = ()  # domain checks
    attributes: tuple[Column, ...] = ()  # composite

    @property
    def constrained(self) -> bool:
        """Whether values are checked on their way in (a domain with CHECK or NOT NULL)."""
        return self.kind == "domain" and (self.not_null or bool(self.constraints))


@dataclass(frozen=True, slots=True)
class Function:
    """A function or procedure. `arguments` is the text between its parentheses."""

    name: QName
    arguments: str = ""
    argument_types: tuple[str, ...] = ()
    returns: str | None = None
    language: str = "sql"
    volatility: Literal["immutable", "stable", "volatile"] = "volatile"
    body: str = ""
    kind: Literal["function", "procedure", "aggregate"] = "function"
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication and the tables it names (`all_tables` when FOR ALL TABLES)."""

    name: str
    tables: tuple[QName, ...] = ()
    all_tables: bool = False
    definition: str = ""
    #: (table, column) pairs that column lists and row filters name
    columns: frozenset[tuple[QName, str]] = frozenset()
    #: those pairs of row filters
    filters: frozenset[tuple[QName, str]] = frozenset()


@dataclass(slots=True)
class Schema:
    """All objects of a database that migrations touch.

    `complete` says whether this is known to be the whole truth: True for a live catalog or a
    replayed history, False when only the migration itself was given, or when a statement of the
    history was not understood (`gaps` says which). An object missing from an incomplete schema is
    unknown, not absent.
    """

    tables: dict[QName, Table] = field(default_factory=dict)
    indexes: dict[QName, Index] = field(default_factory=dict)
    views: dict[QName, View] = field(default_factory=dict)
    sequences: dict[QName, Sequence] = field(default_factory=dict)
    types: dict[QName, UserType] = field(default_factory=dict)
    #: overloads share a name: the value holds each of them
    functions: dict[QName, tuple[Function, ...]] = field(default_factory=dict)
    publications: dict[str, Publication] = field(default_factory=dict)
    extensions: set[str] = field(default_factory=set)
    #: relation → its owner, where a statement said so
    owners: dict[QName, str] = field(default_factory=dict)
    #: role → what was granted to it, where a statement said so
    granted: dict[str, set[str]] = field(default_factory=dict)
    #: table → the index that CLUSTER takes when none is named
    clustered: dict[QName, str] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=lambda: {DEFAULT_SCHEMA})
    #: other objects by (kind, name): rules, statistics, roles …, kept for equality and existence
    others: dict[tuple[str, QName], str] = field(default_factory=dict)
    search_path: tuple[str, ...] = (DEFAULT_SCHEMA,)
    #: session settings in force that change behaviour (timezone, lock_timeout …), lower-case keys
    settings: dict[str, str] = field(default_factory=dict)
    #: what search_path and settings are in a fresh session
    session_path: tuple[str, ...] = (DEFAULT_SCHEMA,)
    session_settings: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    #: statements behind this schema that were not understood, as `file:line: reason`
    gaps: list[str] = field(default_factory=list)
    #: what hangs on what, so that nothing is searched for: kept by the `put_…` and `drop_…` methods
    _indexes_of: dict[QName, tuple[QName, ...]] = field(default_factory=dict, repr=False)
    _parts_of: dict[QName, tuple[QName, ...]] = field(default_factory=dict, repr=False)
    _children_of: dict[QName, tuple[QName, ...]] = field(default_factory=dict, repr=False)
    _referenced_by: dict[QName, tuple[QName, ...]] = field(default_factory=dict, repr=False)
    _sequences_of: dict[QName, tuple[QName, ...]] = field(default_factory=dict, repr=False)

    def copy(self) -> Schema:
        """An independent schema with the same (frozen) objects."""
        return Schema(
            tables=dict(self.tables),
            indexes=dict(self.indexes),
            views=dict(self.views),
            sequences=dict(self.sequences),
            types=dict(self.types),
            functions=dict(self.functions),
            publications=dict(self.publications),
            extensions=set(self.extensions),
            clustered=dict(self.clustered),
            owners=dict(self.owners),
            granted={role: set(what) for role, what in self.granted.items()},
            schemas=set(self.schemas),
            others=dict(self.others),
            search_path=self.search_path,
            settings=dict(self.settings),
            session_path=self.session_path,
            session_settings=dict(self.session_settings),
            complete=self.complete,
            gaps=list(self.gaps),
            _indexes_of=dict(self._indexes_of),
            _parts_of=dict(self._parts_of),
            _children_of=dict(self._children_of),
            _referenced_by=dict(self._referenced_by),
            _sequences_of=dict(self._sequences_of),
        )

    def new_session(self) -> None:
        """Forget what SET left behind: each migration is run by a session that may be a new one."""
        self.search_path = self.session_path
        self.settings = dict(self.session_settings)

    # -- names -------------------------------------------------------------------------------

    def resolve(self, name: QName) -> QName:
        """`name` with its schema filled in, as the search path would.

        The first schema of the path in which any relation of that name exists; else the first
        schema of the path (where CREATE would put it).
        """
        if name.schema is not None:
            return name
        if len(self.search_path) == 1:  # wherever it is, that is its name
            return _qualified(self.search_path[0], name.name)
        for schema in self.search_path:
            candidate = _qualified(schema, name.name)
            if (
                candidate in self.tables
                or candidate in self.views
                or candidate in self.indexes
                or candidate in self.sequences
            ):
                return candidate
        return _qualified(self.default_schema, name.name)

    def resolve_type(self, name: QName) -> QName:
        """Like `resolve`, for types."""
        return self._resolve_in(self.types, name)

    def resolve_function(self, name: QName) -> QName:
        """Like `resolve`, for functions."""
        return self._resolve_in(self.functions, name)

    def _resolve_in(self, objects: dict[QName, Any], name: QName) -> QName:
        if name.schema is not None:
            return name
        for schema in self.search_path if objects else ():
            if (candidate := _qualified(schema, name.name)) in objects:
                return candidate
        return _qualified(self.default_schema, name.name)

    @property
    def default_schema(self) -> str:
        """Where an unqualified CREATE puts things."""
        return self.search_path[0] if self.search_path else DEFAULT_SCHEMA

    # -- looking up --------------------------------------------------------------------------

    def table(self, name: QName) -> Table | None:
        """The table called `name` (resolved), if it is known."""
        return self.tables.get(self.resolve(name))

    def view(self, name: QName) -> View | None:
        """The view or materialized view called `name` (resolved), if it is known."""
        return self.views.get(self.resolve(name))

    def index(self, name: QName) -> Index | None:
        """The index called `name` (resolved), if it is known."""
        return self.indexes.get(self.resolve(name))

    def user_type(self, name: QName) -> UserType | None:
        """The user-defined type called `name` (resolved), if it is known."""
        return self.types.get(self.resolve_type(name))

    def indexes_of(self, table: QName) -> list[Index]:
        """The indexes of a table (resolved name), in order of creation."""
        return [self.indexes[name] for name in self._indexes_of.get(table, ())]

    def parts_of(self, index: QName) -> list[Index]:
        """The indexes of partitions that are attached to a partitioned table's index (resolved)."""
        return [self.indexes[name] for name in self._parts_of.get(index, ())]

    def sequences_of(self, table: QName, column: str | None = None) -> list[Sequence]:
        """The sequences that columns of a table (resolved name) own, or this column."""
        owned = [self.sequences[name] for name in self._sequences_of.get(table, ())]
        if column is None:
            return owned
        return [s for s in owned if s.owned_by is not None and s.owned_by[1] == column]

    def partitions_of(self, table: QName) -> list[Table]:
        """Direct partitions of a partitioned table (resolved name)."""
        return [
            child
            for name in self._children_of.get(table, ())
            if (child := self.tables.get(name)) is not None and child.parent == table
        ]

    def children_of(self, table: QName) -> list[Table]:
        """Direct partitions and inheritance children."""
        return [
            child
            for name in self._children_of.get(table, ())
            if (child := self.tables.get(name)) is not None
        ]

    def descendants_of(self, table: QName) -> list[Table]:
        """All partitions and inheritance children, at every depth."""
        found: list[Table] = []
        for child in self.children_of(table) if table in self._children_of else ():
            found.append(child)
            found.extend(self.descendants_of(child.name))
        return found

    def foreign_keys_to(self, table: QName) -> Iterator[tuple[Table, Constraint]]:
        """Foreign keys of any table that reference `table` (resolved name)."""
        for name in self._referenced_by.get(table, ()):
            other = self.tables[name]
            for constraint in other.constraints:
                if constraint.kind == "foreign_key" and constraint.ref_table == table:
                    yield other, constraint

    def views_on(self, relation: QName, column: str | None = None) -> list[View]:
        """Views that read `relation` directly, or its `column` when given."""
        if column is None:
            return [v for v in self.views.values() if relation in v.depends_on]
        return [
            v
            for v in self.views.values()
            if (relation, column) in v.depends_on_columns or (relation, "*") in v.depends_on_columns
        ]

    # -- changing ----------------------------------------------------------------------------

    def put_table(self, table: Table) -> None:
        """Add or replace a table; keeps the links of partitions, inheritance and foreign keys."""
        old = self.tables.get(table.name)
        self._relink(self._children_of, table.name, _parents(old), _parents(table))
        if old is None or old.constraints is not table.constraints:
            self._relink(self._referenced_by, table.name, _references(old), _references(table))
        self.tables[table.name] = table

    def drop_table(self, name: QName) -> Table | None:
        """Forget a table, its indexes, and the sequences its columns own."""
        table = self.tables.pop(name, None)
        if table is None:
            return None
        self._relink(self._children_of, name, _parents(table), ())
        self._relink(self._referenced_by, name, _references(table), ())
        for index in self._indexes_of.get(name, ()):
            self.drop_index(index)
        for sequence in self.sequences_of(name):
            self.drop_sequence(sequence.name)
        return table

    def put_index(self, index: Index) -> None:
        """Add or replace an index."""
        old = self.indexes.get(index.name)
        was, now = (old.table,) if old else (), (index.table,)
        self._relink(self._indexes_of, index.name, was, now)
        self._relink(self._parts_of, index.name, _whole(old), _whole(index))
        self.indexes[index.name] = index

    def drop_index(self, name: QName) -> Index | None:
        """Forget an index."""
        index = self.indexes.pop(name, None)
        if index is not None:
            self._relink(self._indexes_of, name, (index.table,), ())
            self._relink(self._parts_of, name, _whole(index), ())
        return index

    def put_sequence(self, sequence: Sequence) -> None:
        """Add or replace a sequence."""
        old = self.sequences.get(sequence.name)
        self._relink(self._sequences_of, sequence.name, _owner(old), _owner(sequence))
        self.sequences[sequence.name] = sequence

    def drop_sequence(self, name: QName) -> Sequence | None:
        """Forget a sequence."""
        sequence = self.sequences.pop(name, None)
        self._relink(self._sequences_of, name, _owner(sequence), ())
        return sequence

    @staticmethod
    def _relink(
        links: dict[QName, tuple[QName, ...]],
        name: QName,
        was: Iterable[QName],
        now: Iterable[QName],
    ) -> None:
        """Take `name` from what it hung on, and hang it on what it hangs on now."""
        if was == now:
            return
        for key in was:
            names = links.get(key, ())
            if name in names:
                links[key] = tuple(n for n in names if n != name)
        for key in now:
            names = links.get(key, ())
            if name not in names:
                links[key] = (*names, name)


@lru_cache(maxsize=65536)
def _qualified(schema: str, name: str) -> QName:
    """One object for each name: names are resolved far more often than there are names."""
    return QName(schema, name)


def _parents(table: Table | None) -> tuple[QName, ...]:
    if table is None:
        return ()
    return (*((table.parent,) if table.parent is not None else ()), *table.inherits)


def _references(table: Table | None) -> tuple[QName, ...]:
    if table is None:
        return ()
    return tuple(c.ref_table for c in table.constraints if c.ref_table is not None)


def _whole(index: Index | None) -> tuple[QName, ...]:
    return (index.parent,) if index is not None and index.parent is not None else ()


def _owner(sequence: Sequence | None) -> tuple[QName, ...]:
    owned = sequence.owned_by if sequence is not None else None
    return (owned[0],) if owned is not None else ()
