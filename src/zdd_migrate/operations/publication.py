"""CREATE and ALTER PUBLICATION: what others are sent of a table's changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Publication, Schema
from zdd_migrate.operations.alter_object import AlterObject, read_change
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Operation):
    """Make a publication (`act` create), or ADD, DROP or SET its tables."""

    kind: ClassVar[str] = "publish"
    publication: str
    act: str
    tables: tuple[QName, ...] = ()
    all_tables: bool = False
    schemas: tuple[str, ...] = ()
    #: (table, column) pairs of column lists, and of row filters
    columns: tuple[tuple[QName, str], ...] = ()
    filters: tuple[tuple[QName, str], ...] = ()

    def effects(self, at: Situation) -> Effects:
        """SHARE UPDATE EXCLUSIVE on the tables named: nobody waits."""
        named = [at.schema.resolve(t) for t in self.tables]
        known = at.schema.publications.get(self.publication)
        if self.act == "set" and known is not None:
            named += known.tables
        for name in named:
            if name in at.schema.views:
                message = f'cannot add relation "{name.name}" to publication'
                return Effects(error=PgError("22023", message))
        if self.schemas and at.pg < 15:
            return Effects(error=PgError("42601", "TABLES IN SCHEMA needs Postgres 15"))
        if (self.columns or self.filters) and at.pg < 15:
            return Effects(error=PgError("42601", "column lists and filters need Postgres 15"))
        breaks: tuple[Break, ...] = ()
        if self.act in ("drop", "set"):
            what = f"subscribers of {self.publication} that count on tables it no longer sends"
            breaks = (Break("old", "values", what, None, None),)
        return Effects(locks=dict.fromkeys(named, LockMode.SHARE_UPDATE_EXCLUSIVE), breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Keep its tables."""
        known = schema.publications.get(self.publication)
        before = known.tables if known is not None else ()
        named = tuple(schema.resolve(t) for t in self.tables)
        if self.act == "add":
            named = (*before, *named)
        elif self.act == "drop":
            named = tuple(t for t in before if t not in named)
        kept = known if known is not None and self.act in ("add", "drop") else None
        schema.publications[self.publication] = Publication(
            self.publication,
            named,
            all_tables=self.all_tables,
            columns=_resolved(schema, self.columns) | (kept.columns if kept else frozenset()),
            filters=_resolved(schema, self.filters) | (kept.filters if kept else frozenset()),
        )

    def plan(self, draft: Draft) -> None:
        """Adding in expand; taking away at contract."""
        takes = self.act in ("drop", "set")
        name = quote_ident(self.publication)
        known = draft.schema.publications.get(self.publication)
        tables = ", ".join(quote_qname(draft.schema.resolve(t)) for t in self.tables)
        undo: str | tuple[str, ...] = ()
        if self.act == "create":
            undo = f"DROP PUBLICATION IF EXISTS {name}"
        elif self.act in ("add", "drop") and tables and not self.schemas:
            undo = (
                f"ALTER PUBLICATION {name} {'DROP' if self.act == 'add' else 'ADD'} TABLE {tables}"
            )
        elif self.act == "set" and known is not None and known.tables and not known.all_tables:
            before = ", ".join(quote_qname(t) for t in known.tables)
            undo = f"ALTER PUBLICATION {name} SET TABLE {before}"
        else:
            draft.leave(f"publication {self.publication}", f"what {self.publication} sends")
        if self.act in ("drop", "set") and known is not None and known.columns:
            draft.note(
                f"column lists and row filters of {self.publication} are not put back by undo"
            )
        draft.restricts_old = draft.restricts_old or takes
        draft.as_written(
            Phase.CONTRACT if takes else Phase.EXPAND,
            undo=undo,
            why=f"change what {self.publication} sends",
        )


def _resolved(schema: Schema, pairs: tuple[tuple[QName, str], ...]) -> frozenset[tuple[QName, str]]:
    return frozenset((schema.resolve(table), column) for table, column in pairs)


def _read_create(cursor: Cursor) -> Publish:
    cursor.expect("CREATE", "PUBLICATION")
    name = cursor.name()
    found = Publish(publication=name, act="create")
    if cursor.accept("FOR"):
        found = _objects(cursor, name, "create")
    if cursor.accept("WITH"):
        cursor.skip_group()
    return found


def _objects(cursor: Cursor, name: str, act: str) -> Publish:
    """`ALL TABLES` or a list of tables and schemas; a bare name goes on as the one before it."""
    tables: list[QName] = []
    schemas: list[str] = []
    columns: list[tuple[QName, str]] = []
    filters: list[tuple[QName, str]] = []
    everything, in_schemas = False, False
    while True:
        if cursor.accept("ALL", "TABLES") or cursor.accept("ALL", "SEQUENCES"):
            everything = True
            if cursor.accept("EXCEPT"):
                cursor.rest()
        else:
            if cursor.accept("TABLES", "IN", "SCHEMA"):
                in_schemas = True
            elif cursor.accept("TABLE"):
                in_schemas = False
            if in_schemas:
                schemas.append(cursor.name())
            else:
                cursor.accept("ONLY")
                bracket = cursor.accept("(")
                tables.append(cursor.qname())
                if bracket:
                    cursor.expect(")")
                cursor.accept("*")
                if cursor.at("("):
                    columns += [(tables[-1], name) for name in cursor.names()]
                if cursor.accept("WHERE"):
                    read = analyse(cursor.group_text()).names
                    filters += [(tables[-1], name) for name in sorted(read)]
        if not cursor.accept(","):
            break
    return Publish(
        publication=name,
        act=act,
        tables=tuple(tables),
        all_tables=everything,
        schemas=tuple(schemas),
        columns=tuple(columns),
        filters=tuple(filters),
    )


def _read_alter(cursor: Cursor) -> Operation:
    cursor.expect("ALTER", "PUBLICATION")
    name = cursor.name()
    if cursor.at("SET", "("):
        cursor.expect("SET")
        return AlterObject(
            object="PUBLICATION", name=name, change="options", text=cursor.group_text()
        )
    act = cursor.accept_one(("ADD", "DROP", "SET"))
    if act is not None:
        return _objects(cursor, name, act.lower())
    return read_change(cursor, "PUBLICATION", name, None)


READS = {"CREATE PUBLICATION": _read_create, "ALTER PUBLICATION": _read_alter}
