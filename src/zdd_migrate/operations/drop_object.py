"""Dropping what is not a table, index or column: views, functions, types, triggers, schemas …"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.grammar.objects import CALLABLES, KINDS, ON_TABLE, read_kind, read_name
from zdd_migrate.grammar.queries import parse_query
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, Table, Trigger
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.create_function import argument_key
from zdd_migrate.operations.create_policy import policy_sql
from zdd_migrate.operations.facts import kind_of, owned_by, tree, views_over

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode
_VIEWS = ("VIEW", "MATERIALIZED VIEW")
#: kinds that can be renamed and moved into another schema, and so wait in the trash
MOVABLE = (
    *_VIEWS,
    *CALLABLES,
    "SEQUENCE",
    "TYPE",
    "DOMAIN",
    "COLLATION",
    "CONVERSION",
    "STATISTICS",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH CONFIGURATION",
)
_STATES = {
    "VIEW": "42P01",
    "MATERIALIZED VIEW": "42P01",
    "SEQUENCE": "42P01",
    "FUNCTION": "42883",
    "PROCEDURE": "42883",
    "ROUTINE": "42883",
    "TYPE": "42704",
    "DOMAIN": "42704",
    "SCHEMA": "3F000",
    "EXTENSION": "42883",
    "PUBLICATION": "42704",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropObject(Operation):
    """Remove an object. `relation` is it (for a trigger, policy or rule: its table)."""

    kind: ClassVar[str] = "drop_object"
    object: str
    name: str
    if_exists: bool = False
    cascade: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the view or the trigger's table; who used the object fails."""
        locks = self._locks(at)
        state = _STATES.get(self.object)
        what = f"whatever uses {self.object.lower()} {self.name}"
        breaks = (Break("old", "removed", what, state, self.relation),) if state else ()
        loses: tuple[str, ...] = ()
        if self.object == "SCHEMA" and self.cascade:
            loses = (f"everything in schema {self.name}",)
        elif self.object in ("DATABASE", "OWNED"):
            loses = (f"everything in database {self.name}",)
            if self.object == "OWNED":
                loses = (f"everything that {self.name} owns",)
        outside = self.object in ("DATABASE", "TABLESPACE")
        error = self._dependents(at)
        if outside and at.in_transaction:
            message = f"DROP {self.object} cannot run inside a transaction block"
            error = PgError("25001", message)
        return Effects(
            locks=locks, breaks=breaks, loses=loses, transactional=not outside, error=error
        )

    def _locks(self, at: Situation) -> dict[QName, LockMode]:
        locks = self._own_locks(at)
        if self.cascade:
            for user, _ in self._users(at.schema):
                if user in at.schema.tables or user in at.schema.views:
                    locks[user] = _M.ACCESS_EXCLUSIVE
        return locks

    def _own_locks(self, at: Situation) -> dict[QName, LockMode]:
        """Without those who go by CASCADE."""
        if self.object == "SCHEMA":
            inside = _relations_in(at.schema, self.name) if self.cascade else []
            return dict.fromkeys(inside, _M.ACCESS_EXCLUSIVE)
        if self.object == "OWNED":
            return dict.fromkeys(owned_by(at.schema, self.name), _M.ACCESS_EXCLUSIVE)
        if self.relation is None:
            return {}
        if self.object == "TRIGGER":
            return self._trigger_locks(at)
        resolved = at.schema.resolve(self.relation)
        if self.object == "STATISTICS":
            table = at.schema.others.get(("statistics", resolved))
            return {QName(*table.split(".", 1)): _M.SHARE_UPDATE_EXCLUSIVE} if table else {}
        if self.object == "TYPE":
            type_ = at.schema.types.get(at.schema.resolve_type(self.relation))
            composite = type_ is not None and type_.kind == "composite"
            return {type_.name: _M.ACCESS_EXCLUSIVE} if type_ is not None and composite else {}
        if self.object not in (*ON_TABLE, "VIEW", "MATERIALIZED VIEW", "SEQUENCE"):
            return {}
        those = (at.schema.tables, at.schema.views, at.schema.sequences)
        known = not at.schema.complete or any(resolved in kind for kind in those)
        return {resolved: _M.ACCESS_EXCLUSIVE} if known or not self.if_exists else {}

    def _trigger_locks(self, at: Situation) -> dict[QName, LockMode]:
        """The table's, and where it is a row trigger of a partitioned table, its partitions'."""
        assert self.relation is not None
        resolved = at.schema.resolve(self.relation)
        table = at.schema.tables.get(resolved)
        known = table is None or any(t.name == self.name for t in table.triggers)
        if not known and self.if_exists:
            return {}
        partitioned = table is not None and table.kind == "partitioned"
        return dict.fromkeys(tree(at.schema, resolved, only=not partitioned), _M.ACCESS_EXCLUSIVE)

    def _users(self, schema: Schema) -> Iterator[tuple[QName, str]]:
        """What needs the object: the relation it stands on, and what it is."""
        name = schema.resolve(self.relation) if self.relation is not None else None
        if self.object in ("VIEW", "MATERIALIZED VIEW") and name is not None:
            yield from ((v, f"view {v.name}") for v in _views_above(schema, name))
        elif self.object == "SCHEMA":
            yield from ((r, str(r)) for r in _relations_in(schema, self.name))
        elif self.object == "SEQUENCE" and name is not None:
            yield from _defaults_with(schema, name)
        elif self.object in CALLABLES and self.relation is not None:
            name = schema.resolve_function(self.relation)
            if len(schema.functions.get(name, ())) < 2:  # else which of them is meant is not told
                yield from _users_of_function(schema, name)
        elif self.object in ("TYPE", "DOMAIN") and self.relation is not None:
            yield from _users_of_type(schema, schema.resolve_type(self.relation))
        elif self.object == "EXTENSION":
            yield from _users_of_extension(schema, self.name)

    def _dependents(self, at: Situation) -> PgError | None:
        """Without CASCADE nothing goes that something else needs."""
        if self.cascade:
            return None
        if self.object in ("ROLE", "USER", "GROUP"):
            if not (at.schema.granted.get(self.name) or owned_by(at.schema, self.name)):
                return None
            message = f'role "{self.name}" cannot be dropped because some objects depend on it'
            return PgError("2BP01", message)
        found = next(self._users(at.schema), None)
        if found is None:
            return None
        return PgError(
            "2BP01",
            f"cannot drop {self.object.lower()} {self.name} because other objects depend on it "
            f"({found[1]})",
        )

    def apply(self, schema: Schema) -> None:
        """Forget it."""
        if self.relation is None:
            if self.object == "SCHEMA":
                schema.schemas.discard(self.name)
            elif self.object == "EXTENSION":
                schema.extensions.discard(self.name)
            return
        resolved = schema.resolve(self.relation)
        if self.object in _VIEWS:
            for view in views_over(schema, resolved) if self.cascade else ():
                schema.views.pop(view.name, None)
            schema.views.pop(resolved, None)
            for index in schema.indexes_of(resolved):
                schema.drop_index(index.name)
        elif self.object == "SEQUENCE":
            schema.drop_sequence(resolved)
        elif self.object in ("TYPE", "DOMAIN"):
            schema.types.pop(schema.resolve_type(self.relation), None)
        elif self.object in CALLABLES:
            schema.functions.pop(schema.resolve_function(self.relation), None)
        elif (table := schema.tables.get(resolved)) is not None:
            schema.put_table(
                replace(
                    table,
                    triggers=tuple(t for t in table.triggers if t.name != self.name),
                    policies=tuple(p for p in table.policies if p.name != self.name),
                )
            )

    def plan(self, draft: Draft) -> None:
        """Out of use at contract, reversibly; dropped at the very end."""
        if set(self.drops(draft.schema)) & draft.replaced:
            return  # planned as one replacement, where it is made again
        if self.object in ON_TABLE and self.relation is not None:
            self._plan_on_table(draft, self.relation)
        elif self.object in MOVABLE and self.relation is not None:
            self._plan_moved(draft, self.relation)
        elif self.object in ("EXTENSION", "SCHEMA") and not self.cascade:
            self._plan_made_again(draft)
        else:
            draft.refuse(
                f"{self.object.lower()} {self.name} could not be put back once it is dropped",
                "drop it by hand, in a migration of its own, when no code needs what goes with it",
            )

    def _plan_made_again(self, draft: Draft) -> None:
        """Empty, or with nothing depending on it, else it cannot be dropped: so it can be made."""
        draft.restricts_old = True
        name = quote_ident(self.name)
        exists = "IF EXISTS " if self.if_exists else ""
        draft.sql(
            Phase.CONTRACT,
            f"DROP {self.object} {exists}{name}",
            undo=f"CREATE {self.object} IF NOT EXISTS {name}",
            why=f"drop {self.object.lower()} {self.name} once no old code uses it",
        )

    # -- what lives in a schema --------------------------------------------------------------

    def _plan_moved(self, draft: Draft, given: QName) -> None:
        from zdd_migrate.blocks.trash import plan_trashed

        name, known = self._known(draft.schema, given)
        if known is False and draft.schema.complete and self.if_exists:
            draft.note(f"{self.object.lower()} {self.name} is not there: nothing to drop")
            return
        if known is not True and self.if_exists:
            draft.refuse(
                f"whether there is a {self.object.lower()} {self.name} is not known",
                "leave IF EXISTS out, or give the schema with --schema",
            )
            return
        if self._is_new(draft, name):
            phase = draft.last_use(name.name)
            made = [f.definition for f in draft.schema.functions.get(name, ())]
            again = () if phase is Phase.EXPAND or self.object not in CALLABLES else made
            draft.as_written(phase, undo=again, why="dropped by its own migration")
            return
        draft.restricts_old = True
        draft.needs_release = True
        sequence = draft.schema.sequences.get(name)
        if self.object == "SEQUENCE" and sequence is not None and sequence.owned_by is not None:
            self._plan_owned_sequence(draft, name)
            return
        views = views_over(draft.schema, name) if self.object in _VIEWS and self.cascade else []
        for table, trigger in self._triggers(draft.schema, name):
            _disable(draft, table, trigger)
        plan_trashed(
            draft,
            self.object,
            name,
            signature=self.signature,
            cascade=self.cascade,
            what=f"{self.object.lower()} {name.name}",
            lock=_M.ACCESS_EXCLUSIVE if self.object in _VIEWS else None,
            with_it=[(kind_of(v), v.name) for v in reversed(views)],
        )

    def _plan_owned_sequence(self, draft: Draft, name: QName) -> None:
        """A sequence that a column owns stays in its schema: only its name goes."""
        from zdd_migrate.blocks.naming import own

        aside = name.sibling(own("old", name.name))
        old, there = quote_qname(name), quote_qname(aside)
        draft.sql(
            Phase.CONTRACT,
            f"ALTER SEQUENCE {old} RENAME TO {quote_ident(aside.name)}",
            undo=f"ALTER SEQUENCE {there} RENAME TO {quote_ident(name.name)}",
            why=f"take sequence {name.name} out of use, to be brought back at once",
        )
        draft.sql(
            Phase.CONTRACT,
            f"DROP SEQUENCE {there}{' CASCADE' if self.cascade else ''}",
            undo=None,
            why=f"drop sequence {name.name}; after this there is no way back",
        )

    @property
    def signature(self) -> str:
        """A function's `(int, text)`, "" where none was given or for anything else."""
        return self.name[self.name.index("(") :] if "(" in self.name else ""

    def _known(self, schema: Schema, given: QName) -> tuple[QName, bool | None]:
        """The resolved name, and whether it is there; None when nobody keeps count of such."""
        if self.object in _VIEWS:
            return (name := schema.resolve(given)), name in schema.views
        if self.object == "SEQUENCE":
            return (name := schema.resolve(given)), name in schema.sequences
        if self.object in ("TYPE", "DOMAIN"):
            return (name := schema.resolve_type(given)), name in schema.types
        if self.object in CALLABLES:
            return (name := schema.resolve_function(given)), bool(schema.functions.get(name))
        return schema.resolve(given), None

    def _is_new(self, draft: Draft, name: QName) -> bool:
        if draft.is_new(name):
            return True
        if self.object in ("TYPE", "DOMAIN"):
            return name in draft.schema.types and name not in draft.start.types
        if self.object in CALLABLES:
            return name in draft.schema.functions and name not in draft.start.functions
        return False

    def _triggers(self, schema: Schema, name: QName) -> list[tuple[Table, Trigger]]:
        """The triggers that CASCADE takes along with their function."""
        if self.object not in CALLABLES or not self.cascade:
            return []
        return [
            (table, trigger)
            for table in schema.tables.values()
            for trigger in table.triggers
            if schema.resolve_function(trigger.function) == name
        ]

    # -- what stands on a table --------------------------------------------------------------

    def _plan_on_table(self, draft: Draft, given: QName) -> None:
        relation = draft.resolve(given)
        table = draft.table(relation)
        if ("table", relation, "") in draft.dropped:
            draft.note(f"{self.object.lower()} {self.name} goes with its table {relation}")
            return
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        there = (
            {*(t.name for t in table.triggers), *(p.name for p in table.policies)} if table else ()
        )
        if self.name not in there:
            if self.if_exists and draft.schema.complete and self.object != "RULE":
                draft.note(f"{self.object.lower()} {self.name} of {relation} is not there")
                return
            draft.refuse(
                f"{self.object.lower()} {self.name} of {relation} is not known, so it could not be "
                "put back",
                "give the schema with --schema, or drop it by hand when no old code is left",
            )
            return
        assert table is not None
        draft.restricts_old = True
        if self.object == "POLICY":
            policy = next(p for p in table.policies if p.name == self.name)
            name = draft.sql_name(relation)
            draft.sql(
                Phase.CONTRACT,
                f"DROP POLICY {quote_ident(self.name)} ON {name}",
                undo=policy_sql(policy, name),
                why=f"drop policy {self.name} of {relation} once no old code counts on it",
                lock=_M.ACCESS_EXCLUSIVE,
                relation=relation,
            )
            return
        trigger = next(t for t in table.triggers if t.name == self.name)
        _disable(draft, table, trigger)
        draft.sql(
            Phase.CONTRACT,
            f"DROP TRIGGER {quote_ident(self.name)} ON {draft.sql_name(relation)}",
            undo=None,
            why=f"drop trigger {self.name} of {relation}; after this there is no way back",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def drops(self, schema: Schema) -> tuple[Key, ...]:
        """The object, where a migration may make it again."""
        if self.relation is None:
            return ()
        if self.object in ("TRIGGER", "POLICY"):
            return ((self.object.lower(), schema.resolve(self.relation), self.name),)
        if self.object in _VIEWS:
            return (("view", schema.resolve(self.relation), ""),)
        if self.object in ("TYPE", "DOMAIN"):
            return (("type", schema.resolve_type(self.relation), ""),)
        if self.object in ("FUNCTION", "PROCEDURE", "ROUTINE"):
            name = schema.resolve_function(self.relation)
            known = schema.functions.get(name, ())
            signature = self.signature[1:-1] if self.signature else None
            if signature is None and len(known) == 1:
                signature = known[0].arguments
            return (("function", name, argument_key(signature or "")),)
        return ()


def _disable(draft: Draft, table: Table, trigger: Trigger) -> None:
    """A trigger out of use: it stays where it is and fires no more."""
    name, at = quote_ident(trigger.name), draft.sql_name(table.name)
    how = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}.get(
        trigger.enabled, "ENABLE"
    )
    draft.sql(
        Phase.CONTRACT,
        f"ALTER TABLE {at} DISABLE TRIGGER {name}",
        undo=f"ALTER TABLE {at} {how} TRIGGER {name}",
        why=f"take trigger {trigger.name} of {table.name} out of use, to be brought back at once",
        lock=_M.SHARE_ROW_EXCLUSIVE,
        relation=table.name,
    )


def _relations_in(schema: Schema, name: str) -> list[QName]:
    return [
        relation
        for kind in (
            schema.tables,
            schema.views,
            schema.sequences,
            {n: t for n, t in schema.types.items() if t.kind == "composite"},
        )
        for relation in kind
        if relation.schema == name
    ]


def _views_above(schema: Schema, name: QName) -> list[QName]:
    found: list[QName] = []
    for view in schema.views_on(name):
        found += [view.name, *_views_above(schema, view.name)]
    return found


def _defaults_with(schema: Schema, sequence: QName) -> Iterator[tuple[QName, str]]:
    called = re.compile(rf"nextval\('(\w+\.)?\"?{re.escape(sequence.name)}\"?'", re.IGNORECASE)
    for table in schema.tables.values():
        for column in table.columns:
            if column.default is not None and called.search(column.default):
                what = f"default value for column {column.name} of table {table.name.name}"
                yield table.name, what


def _users_of_function(schema: Schema, name: QName) -> Iterator[tuple[QName, str]]:
    for table in schema.tables.values():
        yield from ((table.name, what) for what in _calls_of(table, name.name))
    for index in schema.indexes.values():
        if _calls(name.name, *(k for k in index.keys if "(" in k), index.predicate):
            yield index.table, f"index {index.name.name}"
    for view in schema.views.values():
        parsed = parse_query(view.query)
        if parsed is not None and name.name in parsed.functions:
            yield view.name, f"view {view.name.name}"


def _calls(function: str, *texts: str | None) -> bool:
    return any(function in analyse(text).functions for text in texts if text)


def _calls_of(table: Table, function: str) -> Iterator[str]:
    """What of a table calls the function."""
    on = f"on table {table.name.name}"
    yield from (f"trigger {t.name} {on}" for t in table.triggers if t.function.name == function)
    for column in table.columns:
        if _calls(function, column.default, column.generation):
            yield f"column {column.name} of table {table.name.name}"
    for constraint in table.constraints:
        if _calls(function, constraint.expression):
            yield f"constraint {constraint.name} {on}"
    for policy in table.policies:
        if _calls(function, policy.using, policy.with_check):
            yield f"policy {policy.name} {on}"


def _users_of_type(schema: Schema, name: QName) -> Iterator[tuple[QName, str]]:
    for table in schema.tables.values():
        if table.of_type is not None and schema.resolve_type(table.of_type) == name:
            yield table.name, f"table {table.name.name}"
        for column in table.columns:
            if name.name in column.type and _names_type(schema, column.type, name):
                yield table.name, f"column {column.name} of table {table.name.name}"
                for view in schema.views_on(table.name, column.name):
                    yield view.name, f"view {view.name.name}"
    for type_ in schema.types.values():
        parts = (type_.base, *(a.type for a in type_.attributes))
        if any(part is not None and _names_type(schema, part, name) for part in parts):
            yield type_.name, f"type {type_.name.name}"
            if type_.kind == "domain":
                yield from _users_of_type(schema, type_.name)


def _names_type(schema: Schema, text: str, name: QName) -> bool:
    base = text.removesuffix("[]")
    path, _, last = base.rpartition(".")
    last = last.strip('"')
    return last == name.name and schema.resolve_type(QName(path or None, last)) == name


#: types that come with an extension
_EXTENSION_TYPES = {
    "citext": ("citext",),
    "hstore": ("hstore",),
    "ltree": ("ltree", "lquery"),
    "postgis": ("geometry", "geography"),
    "vector": ("vector", "halfvec"),
    "isn": ("isbn", "issn"),
    "cube": ("cube",),
}


def _users_of_extension(schema: Schema, name: str) -> Iterator[tuple[QName, str]]:
    types = _EXTENSION_TYPES.get(name, ())
    for table in schema.tables.values():
        for column in table.columns:
            if parse_type(column.type).base.rpartition(".")[2] in types:
                yield table.name, f"column {column.name} of table {table.name.name}"


def _read(cursor: Cursor) -> list[DropObject]:
    cursor.expect("DROP")
    kind = read_kind(cursor)
    concerned = cursor.accept("IF", "EXISTS")
    found = cursor.list_of(lambda: read_name(cursor, kind))
    cascade = cursor.accept("CASCADE")
    if not cascade and not cursor.accept("RESTRICT") and cursor.accept("WITH"):
        cursor.skip_group()  # DROP DATABASE … WITH (FORCE)
    elif cursor.accept("("):
        cursor.expect("FORCE")
        cursor.expect(")")
    return [
        DropObject(
            relation=each.relation,
            object=each.kind,
            name=each.label if each.relation is not None and kind not in ON_TABLE else each.name,
            if_exists=concerned,
            cascade=cascade,
        )
        for each in found
    ]


def _read_owned(cursor: Cursor) -> DropObject:
    cursor.expect("DROP", "OWNED", "BY")
    names = cursor.list_of(cursor.name)
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return DropObject(object="OWNED", name=", ".join(names), cascade=cascade)


def _read_user_mapping(cursor: Cursor) -> DropObject:
    cursor.expect("DROP", "USER", "MAPPING")
    if_exists = cursor.accept("IF", "EXISTS")
    cursor.expect("FOR")
    name = cursor.name()
    cursor.expect("SERVER")
    cursor.name()
    return DropObject(object="USER MAPPING", name=name, if_exists=if_exists)


#: kinds that other rooms drop, or that cannot be dropped by a statement of their own
_ELSEWHERE = ("TABLE", "FOREIGN TABLE", "INDEX", "COLUMN", "CONSTRAINT", "LARGE OBJECT")
READS = {
    **{f"DROP {kind}": _read for kind in KINDS if kind not in _ELSEWHERE},
    "DROP OWNED": _read_owned,
    "DROP USER MAPPING": _read_user_mapping,
}
