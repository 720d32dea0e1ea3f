"""ALTER COLUMN … SET DEFAULT and DROP DEFAULT: an instant, for rows to come."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDefault(Operation):
    """Change what a row gets that does not give the column; `default` None drops it."""

    kind: ClassVar[str] = "set_default"
    column: str
    default: str | None
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        known = table.column(self.column) if table is not None else None
        breaks: tuple[Break, ...] = ()
        if self.default is None and known is not None and known.not_null and known.default:
            what = f"INSERTs into {relation.name} that leave {self.column} to its default"
            breaks = (Break("old", "obligation", what, "23502", relation, self.column),)
        error = None
        if self.default is not None and known is not None:
            error = _wrong_literal(self.default, known.type)
        return Effects(
            error=error,
            locks=dict.fromkeys(
                tree(at.schema, relation, only=self.only), LockMode.ACCESS_EXCLUSIVE
            ),
            breaks=breaks,
        )

    def apply(self, schema: Schema) -> None:
        """Remember the default, here and in children."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and (column := table.column(self.column)) is not None:
                schema.put_table(table.with_column(replace(column, default=self.default)))

    def plan(self, draft: Draft) -> None:
        """Setting: expand. Dropping one that old code's inserts need: contract."""
        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.as_written(Phase.EXPAND, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        known = table.column(self.column) if table is not None else None
        if known is None:
            draft.refuse(
                f"{relation}.{self.column} is not known, so its default could not be put back",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        twin = draft.twins.get((relation, self.column))
        if twin is not None and not twin.keeps_old:
            draft.note(f"the default of {relation}.{self.column} comes with its type, at contract")
            return
        lent = (relation, self.column) in draft.lent_defaults
        settled = (relation, self.column) in draft.settled
        if lent and (self.default is None or settled):
            return  # ours goes at contract by itself, or gives way to what is there in the end
        needed = self.default is None and known.not_null and known.default is not None
        draft.restricts_old = draft.restricts_old or needed
        head = (
            f"ALTER TABLE {draft.sql_name(relation)} ALTER COLUMN "
            f"{quote_ident(draft.column(relation, self.column))}"
        )
        draft.sql(
            Phase.CONTRACT if needed or lent else Phase.EXPAND,
            f"{head} {_clause(self.default)}",
            undo=f"{head} {_clause(known.default)}",
            why=f"change what a row gets that leaves {self.column} out",
            lock=LockMode.ACCESS_EXCLUSIVE,
            relation=relation,
        )


_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
_NUMERIC = ("smallint", "integer", "bigint", "numeric", "real", "double precision")


def _wrong_literal(default: str, type_: str) -> PgError | None:
    """A quoted literal is read as the column's type at once: a number must look like one."""
    literal = _LITERAL.fullmatch(default.strip())
    if literal is None or parse_type(type_).base not in _NUMERIC or parse_type(type_).dimensions:
        return None
    if _NUMBER.fullmatch(literal[1]) or literal[1].strip().lower() in ("nan", "infinity"):
        return None
    return PgError("22P02", f'invalid input syntax for type {type_}: "{literal[1]}"')


def _clause(default: str | None) -> str:
    return f"SET DEFAULT {default}" if default is not None else "DROP DEFAULT"


def _read(cursor: Cursor, target: Target, column: str) -> SetDefault:
    if cursor.accept("DROP", "DEFAULT"):
        return SetDefault(relation=target.relation, column=column, default=None, only=target.only)
    cursor.expect("SET", "DEFAULT")
    return SetDefault(
        relation=target.relation,
        column=column,
        default=squeeze(cursor.until()),
        only=target.only,
    )


COLUMN_ACTIONS = {"SET DEFAULT": _read, "DROP DEFAULT": _read}
