"""CREATE [OR REPLACE] [MATERIALIZED] VIEW."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import (
    follow_query,
    parse_query,
    relations_read,
    write_out_star,
)
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema, View
from zdd_migrate.operations.base import Key, Operation, Situation
from zdd_migrate.operations.facts import cached_plans, views_over

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView(Operation):
    """Make or replace a view. `columns` are those named before AS, `query` its text."""

    kind: ClassVar[str] = "create_view"
    query: str
    columns: tuple[str, ...] = ()
    materialized: bool = False
    or_replace: bool = False
    if_not_exists: bool = False
    with_data: bool = True
    temporary: bool = False

    def _target(self, schema: Schema) -> QName:
        assert self.relation is not None
        if self.temporary and self.relation.schema is None:
            return QName("pg_temp", self.relation.name)
        return QName(self.relation.schema or schema.default_schema, self.relation.name)

    def _view(self, schema: Schema) -> View:
        parsed = parse_query(self.query)
        reads = tuple(schema.resolve(r) for r in relations_read(self.query))
        pairs: set[tuple[QName, str]] = set()
        for relation in reads:
            table = schema.tables.get(relation)
            if parsed is None or table is None:
                pairs.add((relation, "*"))
            elif parsed.star:
                pairs |= {(relation, c.name) for c in table.columns}
            else:
                pairs |= {(relation, c) for _, c in parsed.columns if table.column(c)}
        query = self.query
        if parsed is not None and parsed.star and len(reads) == 1 and reads[0] in schema.tables:
            # it stands for the columns of this moment, for good
            every = [quote_ident(c.name) for c in schema.tables[reads[0]].columns]
            query = write_out_star(query, every) or query
            parsed = parse_query(query) or parsed
        output = self.columns or (parsed.output if parsed is not None else None) or ()
        return View(
            name=self._target(schema),
            query=query,
            columns=output,
            materialized=self.materialized,
            populated=self.with_data,
            depends_on=frozenset(reads),
            depends_on_columns=frozenset(pairs),
        )

    def effects(self, at: Situation) -> Effects:
        """ACCESS SHARE on what it reads; ACCESS EXCLUSIVE on the view it replaces."""
        name = self._target(at.schema)
        locks = {at.schema.resolve(r): _M.ACCESS_SHARE for r in relations_read(self.query)}
        existing = at.schema.views.get(name)
        if existing is None:
            scans = (
                dict.fromkeys(locks, "its query is run")
                if self.materialized and self.with_data
                else {}
            )
            return Effects(locks=locks, scans=scans)
        if self.if_not_exists:
            return Effects()
        if not self.or_replace:
            return Effects(error=PgError("42P07", f'relation "{name.name}" already exists'))
        locks[name] = _M.ACCESS_EXCLUSIVE
        new = self._view(at.schema).columns
        error = None
        breaks: tuple[Break, ...] = ()
        if new and existing.columns and new[: len(existing.columns)] != existing.columns:
            error = PgError("42P16", "cannot drop or rename columns of a view by replacing it")
        elif new and existing.columns and new != existing.columns:
            breaks = cached_plans([name])  # a column more
        elif not new:
            at.assume(f"the new query of {name} gives the same columns as the old one")
        return Effects(locks=locks, error=error, breaks=breaks)

    def apply(self, schema: Schema) -> None:
        """Add or replace it."""
        name = self._target(schema)
        if name not in schema.views or self.or_replace:
            schema.views[name] = self._view(schema)

    def created(self, schema: Schema) -> tuple[QName, ...]:
        """The view, where it is new."""
        name = self._target(schema)
        return () if name in schema.views else (name,)

    def plan(self, draft: Draft) -> None:
        """A new view in expand. Replacing one: with the old definition as the way back."""
        name = self._target(draft.schema)
        existing = draft.schema.views.get(name)
        kind = "MATERIALIZED VIEW" if self.materialized else "VIEW"
        if set(self.makes(draft.schema)) & draft.replaced and name in draft.start.views:
            self._replace(draft, name, draft.start.views[name])
            return
        if existing is not None and self.if_not_exists:
            draft.note(f"{name} is there already")
            return
        if existing is None:
            undo: tuple[str, ...] = (f"DROP {kind} IF EXISTS {quote_qname(name)}",)
        elif existing.query and not existing.materialized:
            undo = (f"CREATE OR REPLACE VIEW {quote_qname(name)} AS {existing.query}",)
            if len(self._view(draft.schema).columns) != len(existing.columns):
                # columns were added: they go only with the view, so nothing may read it
                if views_over(draft.schema, name):
                    draft.refuse(
                        f"replacing {name} adds columns, which cannot be taken back while "
                        f"{views_over(draft.schema, name)[0].name} reads it",
                        "create a view under a new name for the new code, and drop the old one later",
                    )
                    return
                undo = (
                    f"DROP VIEW IF EXISTS {quote_qname(name)}",
                    f"CREATE VIEW {quote_qname(name)} AS {existing.query}",
                )
                draft.note(f"undo makes {name} anew: privileges granted on it are not put back")
        else:
            draft.refuse(
                f"what {name} was is not known, so it could not be put back",
                "give the schema with --schema, or create the view under a new name",
            )
            return
        why = f"{'replace' if existing else 'create'} {name}"
        if self._plan_built(draft, name, undo, why):
            return
        draft.as_written(
            Phase.EXPAND,
            undo=undo,
            why=why,
            lock=_M.ACCESS_EXCLUSIVE if existing else _M.ACCESS_SHARE,
            relation=name if existing else None,
        )

    def _plan_built(
        self, draft: Draft, name: QName, undo: Sequence[str], why: str, before: Sequence[str] = ()
    ) -> bool:
        """Built on what gets its name only at contract; False where it reads nothing of the kind.

        A materialized view is computed when all is filled: while it is made, its tables are locked.
        """
        from zdd_migrate.blocks.bound import plan_built, unfilled

        reads, text, later = relations_read(self.query), draft.statement, False
        if self.materialized and self.with_data:
            later = True
            text = f"{Cursor(text).rest_without(('WITH DATA',))[0]} WITH NO DATA"
        seen = name in draft.start.views  # by old code too
        if not plan_built(
            draft,
            reads,
            undo=undo,
            why=why,
            statement=text,
            before=before,
            filled=seen and bool(unfilled(draft, reads, text)),
        ):
            return False
        if later:
            draft.last(lambda: self._compute(draft, name))
        return True

    def _compute(self, draft: Draft, name: QName) -> None:
        draft.sql(
            Phase.MIGRATE,
            f"REFRESH MATERIALIZED VIEW {quote_qname(name)}",
            undo=f"REFRESH MATERIALIZED VIEW {quote_qname(name)} WITH NO DATA",
            why=f"compute {name}, now that all it reads is there",
        )

    def _replace(self, draft: Draft, name: QName, old: View) -> None:
        """Dropped and made again: as one step, where old code finds all its columns in the new one."""
        new = self._view(draft.schema)
        if old.materialized or self.materialized:
            draft.refuse(
                f"{name} is a {'materialized ' if old.materialized else ''}view before and another kind after",
                f"make the new one under a new name and DROP {name.name}: planned, the first in expand, the "
                "other at contract; let new code read the new name",
            )
            return
        over = views_over(draft.start, name)
        if not new.columns or not old.columns or not old.query or over:
            draft.refuse(
                f"{name} is dropped and made again, and "
                + (f"{over[0].name} reads it" if over else "its columns are not known"),
                "CREATE OR REPLACE VIEW where columns are only added, else a view under a new name",
            )
            return
        gone = [column for column in old.columns if column not in new.columns]
        if gone:
            draft.refuse(
                f"the new {name} has no {', '.join(gone)}, which old code reads",
                "create the new view under a new name, and drop the old one when no old code is left",
            )
            return
        from zdd_migrate.blocks.bound import plan_rebuilt, unfilled

        sql = quote_qname(name)
        draft.note(
            f"privileges on {name} go with the old view, as in the migration: grant them again"
        )
        drop, was = f"DROP VIEW IF EXISTS {sql}", f"CREATE VIEW {sql} AS {old.query}"
        why = f"replace {name}: every column that old code reads is still there"
        reads = relations_read(self.query)
        if copies := unfilled(draft, reads, new.query):
            if any(twin.final != twin.old.name for twin in copies):
                draft.refuse(
                    f"old code reads {name}, and would find nothing in {copies[0].final} before it is filled",
                    "create the new view under a new name, and drop the old one when no old code is left",
                )
            else:
                plan_rebuilt(draft, reads, drop=drop, was=was, same=old.query == new.query, why=why)
            return
        if self._plan_built(draft, name, (drop, was), why, (drop,)):
            return
        draft.sql(
            Phase.EXPAND,
            (f"DROP VIEW {sql}", draft.statement),
            undo=(drop, was),
            why=why,
            lock=_M.ACCESS_EXCLUSIVE,
            relation=name,
        )

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The view."""
        return (("view", self._target(schema), ""),)


def _read(cursor: Cursor) -> CreateView:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.accept_one(("LOCAL", "GLOBAL"))
    temporary = cursor.accept_one(("TEMP", "TEMPORARY")) is not None
    recursive = cursor.accept("RECURSIVE")
    materialized = cursor.accept("MATERIALIZED")
    cursor.expect("VIEW")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.qname()
    columns = cursor.names() if cursor.at("(") else ()
    while not cursor.at("AS"):
        if cursor.accept("WITH"):
            cursor.skip_group()
        elif cursor.accept("USING") or cursor.accept("TABLESPACE"):
            cursor.name()
        else:
            raise cursor.unread("AS was expected")
    cursor.expect("AS")
    query, ending = cursor.rest_without(_ENDINGS)
    follow_query(cursor, query)
    with_data = ending != "WITH NO DATA"
    if recursive:  # what Postgres makes of it, so that the view is not taken to read itself
        own, names = quote_ident(name.name), ", ".join(map(quote_ident, columns))
        query = f"WITH RECURSIVE {own} ({names}) AS ({query}) SELECT {names} FROM {own}"
    return CreateView(
        relation=name,
        query=query,
        columns=columns,
        materialized=materialized,
        or_replace=or_replace,
        if_not_exists=if_not_exists,
        with_data=with_data,
        temporary=temporary or name.schema == "pg_temp",
    )


_ENDINGS = (
    "WITH NO DATA",
    "WITH DATA",
    "WITH CHECK OPTION",
    "WITH CASCADED CHECK OPTION",
    "WITH LOCAL CHECK OPTION",
)
_TEMPORARY = (
    "TEMP ",
    "TEMPORARY ",
    *(f"{w} {t} " for w in ("LOCAL", "GLOBAL") for t in ("TEMP", "TEMPORARY")),
)
READS = {
    f"CREATE {replacing}{temporary}{recursive}VIEW": _read
    for replacing in ("", "OR REPLACE ")
    for temporary in ("", *_TEMPORARY)
    for recursive in ("", "RECURSIVE ")
} | {"CREATE MATERIALIZED VIEW": _read}
