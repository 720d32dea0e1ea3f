"""ALTER TABLE … RENAME [COLUMN] old TO new.

Instant, and the surest way to break running code: every statement that names the old column fails
from one moment to the next. Safe: a second column beside the first, kept in step by a trigger,
until no code names the old one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import analyse, rename_names
from zdd_migrate.model.alternative import Alternative
from zdd_migrate.model.effects import Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Constraint, Index, Schema, Table
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import cached_plans, column_gone, lock_tree, new_code_early, tree

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameColumn(Operation):
    """Give a column another name; views and indexes follow, functions' text does not."""

    kind: ClassVar[str] = "rename_column"
    column: str
    to: str
    only: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE for an instant, on children too; old code loses the name."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        table = at.schema.tables.get(relation)
        error = None
        if table is None:
            at.assume(f"{relation} exists and has a column {self.column}")
        elif table.column(self.column) is None:
            error = PgError("42703", f'column "{self.column}" does not exist')
        elif table.column(self.to) is not None:
            error = PgError(
                "42701", f'column "{self.to}" of relation "{relation.name}" already exists'
            )
        return Effects(
            locks=lock_tree(at.schema, relation, LockMode.ACCESS_EXCLUSIVE, only=self.only),
            error=error,
            breaks=(
                *column_gone(relation, self.column, renamed_to=self.to),
                *cached_plans(tree(at.schema, relation, only=self.only)),
                new_code_early(relation, self.to),
            ),
        )

    def apply(self, schema: Schema) -> None:
        """Rename it here, in children, and wherever constraints and indexes name it."""
        assert self.relation is not None
        for name in tree(schema, schema.resolve(self.relation), only=self.only):
            table = schema.tables.get(name)
            if table is not None and table.column(self.column) is not None:
                schema.put_table(_renamed(table, self.column, self.to))
                for index in schema.indexes_of(name):
                    schema.put_index(_renamed_index(index, self.column, self.to))
                _rename_references(schema, table, self.column, self.to)

    def plan(self, draft: Draft) -> None:
        """A twin under the new name, identity both ways; at contract the column takes its name."""
        from zdd_migrate.blocks.twin import Twin, plan_twin

        relation = draft.resolve(self.relation)
        if draft.is_new(relation):
            draft.sql(Phase.EXPAND, draft.statement, undo=(), why="part of a new table")
            return
        table = draft.table(relation)
        if table is None or (column := table.column(self.column)) is None:
            draft.refuse(
                f"{relation} or its column {self.column} is not known",
                "give the schema with --schema (a dump, earlier migrations, or a database URL)",
            )
            return
        error = self.effects(Situation(schema=draft.schema, pg=draft.pg)).error
        if error is not None:
            draft.refuse(error.message, "give the column a name that is free")
            return
        was = draft.start.tables.get(draft.present(relation))
        physical = draft.column(relation, self.column)
        if was is not None and was.column(self.to) is not None and self.to != physical:
            draft.refuse(
                f"until contract {self.to} is another column of {relation} to old code: whoever still "
                "wrote by the old names would write into the wrong column, without an error",
                f"rename {self.column} to a name that was never taken, or free {self.to} in an earlier "
                "migration, and do this once no code knows it any more",
            )
            return
        if draft.via == "view":
            self._plan_view(draft, relation, table)
            return
        single = self._why_not_twice(draft, relation, table, column)
        if draft.dual_write and single:
            draft.refuse(
                f"where the code writes both columns itself, the old one is dropped in the end: {single}",
                "leave --sync application out: with a trigger the old column stays, under its new name",
            )
            return
        _offer(draft, relation, self.column, self.to, twice=not single)
        draft.breaks_old = True
        twin = draft.twins.pop((relation, self.column), None)
        if twin is None:
            twin = Twin(
                table=relation,
                old=column,
                new=self.to,
                final=self.to,
                type=column.type,
                up=quote_ident(self.column),
                down=quote_ident(self.to),
                collation=column.collation,
                keeps_old=not draft.dual_write,
                why=f"add {self.to} beside {self.column} and keep both in step",
            )
            _say_what_does_not_follow(draft, table, self.column, self.to)
        else:
            down = rename_names(twin.down, {twin.new: quote_ident(self.to)})
            twin = replace(twin, new=self.to, final=self.to, down=down)
        plan_twin(draft, twin)

    def _why_not_twice(self, draft: Draft, relation: QName, table: Table, column: Column) -> str:
        """Why a new column cannot take the old one's place, "" where it can: what hangs on it can be
        copied."""
        from zdd_migrate.operations.drop_column import DropColumn

        key = table.primary_key
        drop = DropColumn(relation=relation, column=self.column)
        error = drop.effects(Situation(schema=draft.schema, pg=draft.pg)).error
        reason = error.message if error is not None else ""
        if key is not None and self.column in key.columns:
            reason = (
                f"{self.column} is in the primary key of {relation}, which no row can be without"
            )
        elif column.identity is not None or "nextval(" in (column.default or ""):
            reason = f"the database numbers {self.column}, and would number both columns apart"
        elif any(self.column in trigger.columns for trigger in table.triggers):
            reason = f"a trigger of {relation} fires on UPDATE OF {self.column}"
        elif any(
            self.column in analyse(f"{p.using or ''} {p.with_check or ''}").names
            for p in table.policies
        ):
            reason = f"a policy of {relation} reads {self.column}"
        return reason

    def _plan_view(self, draft: Draft, relation: QName, table: Table) -> None:
        """A view shows the column under its new name; at contract it is renamed as it stands."""
        from zdd_migrate.blocks.next_view import plan_next_view, why_not

        refused = why_not(draft, relation)
        if refused is not None:
            draft.refuse(*refused)
            return
        if (relation, self.column) not in draft.behind_view:
            _say_what_does_not_follow(draft, table, self.column, self.to)
        plan_next_view(draft, relation, self.column, self.to)
        _offer(draft, relation, self.column, self.to, twice=False)


def _offer(draft: Draft, table: QName, column: str, to: str, *, twice: bool) -> None:
    """The ways there are to the new name, each with what it costs on this table."""
    from zdd_migrate.blocks.costs import copying
    from zdd_migrate.blocks.next_view import why_not

    about = f"{table}.{column} → {to}"
    view, dual = draft.via == "view", draft.dual_write
    draft.alternatives.append(
        copying(
            draft,
            table,
            (column,),
            about=about,
            via="copy",
            option="--via copy",
            what="a second column kept in step by a trigger: any client works with either name",
            chosen=not view and not dual,
            each_write="the value stored twice, a trigger",
        )
    )
    if dual or (twice and draft.renames_alone):
        draft.alternatives.append(
            copying(
                draft,
                table,
                (column,),
                about=about,
                via="dual write",
                option="--sync application",
                what="a second column that the code writes itself; no trigger, every writer must do it",
                chosen=dual,
                each_write="the value stored twice",
                releases=3,
            )
        )
    if view or why_not(draft, table) is None:
        draft.alternatives.append(
            Alternative(
                about=about,
                via="view",
                option="--via view",
                what="new code reads and writes through a view, found by its search_path; COPY … "
                "FROM, TRUNCATE and ON CONFLICT ON CONSTRAINT do not work through it",
                chosen=view,
            )
        )


def _say_what_does_not_follow(draft: Draft, table: Table, column: str, to: str) -> None:
    """Functions keep their text, triggers their view of the row, subscribers their columns."""
    named = re.compile(rf"(?<![\w$]){re.escape(column)}(?![\w$])", re.IGNORECASE)
    texts = sorted(
        {
            str(name)
            for name, overloads in draft.schema.functions.items()
            for function in overloads
            if named.search(function.body or function.definition)
            and (
                table.name.name in (function.body or function.definition)
                or any(t.function == name for t in table.triggers)
            )
        }
    )
    if texts:
        draft.note(
            f"functions whose text names {column} do not follow a rename and fail after contract: "
            f"{', '.join(texts)}. Replace them before it; until then {column} and {to} both work"
        )
    for trigger in table.triggers:
        if column in trigger.columns:
            draft.note(
                f"the trigger {trigger.name} fires on UPDATE OF {column}: until contract it does not "
                f"fire where new code sets {to}"
            )
        elif trigger.timing == "BEFORE" and trigger.row and str(trigger.function) in texts:
            draft.note(
                f"the trigger {trigger.name} runs before both names are brought in step: where new "
                f"code sets {to} it still sees the {column} from before"
            )
    for publication in draft.schema.publications.values():
        if table.name in publication.tables:
            draft.note(
                f"the publication {publication.name} carries {table.name}: its subscribers know "
                f"{column}; give them {to} before contract"
            )


def _renamed(table: Table, old: str, new: str) -> Table:
    return replace(
        table,
        columns=tuple(replace(c, name=new) if c.name == old else c for c in table.columns),
        constraints=tuple(_renamed_constraint(c, old, new) for c in table.constraints),
        triggers=tuple(
            replace(t, columns=tuple(new if c == old else c for c in t.columns))
            for t in table.triggers
        ),
    )


def _renamed_constraint(constraint: Constraint, old: str, new: str) -> Constraint:
    if old not in constraint.columns and old not in constraint.include:
        return constraint
    expression = constraint.expression
    if expression is not None:
        expression = rename_names(expression, {old: quote_ident(new)})
    return replace(
        constraint,
        columns=tuple(new if c == old else c for c in constraint.columns),
        include=tuple(new if c == old else c for c in constraint.include),
        expression=expression,
    )


def _renamed_index(index: Index, old: str, new: str) -> Index:
    if old not in index.columns and old not in index.keys:
        return index
    quoted = {old: quote_ident(new)}
    return replace(
        index,
        keys=tuple(new if k == old else rename_names(k, quoted) for k in index.keys),
        include=tuple(new if c == old else c for c in index.include),
        predicate=rename_names(index.predicate, quoted) if index.predicate else None,
        columns=frozenset(new if c == old else c for c in index.columns),
        definition=_renamed_tail(index.definition, quoted),
    )


def _renamed_tail(definition: str, quoted: dict[str, str]) -> str:
    """An index's definition with a column renamed: only what comes after its table and name."""
    tail = re.search(r"\bUSING\s+\w+\s*\(.*$", definition, re.IGNORECASE | re.DOTALL)
    return f"CREATE INDEX ON t {rename_names(tail[0], quoted)}" if tail else ""


def _rename_references(schema: Schema, table: Table, old: str, new: str) -> None:
    for other, fk in list(schema.foreign_keys_to(table.name)):
        if old in fk.ref_columns:
            changed = replace(fk, ref_columns=tuple(new if c == old else c for c in fk.ref_columns))
            current = schema.tables[other.name]
            schema.put_table(current.with_constraint(changed))


def _read(cursor: Cursor, target: Target) -> RenameColumn:
    cursor.expect("RENAME")
    cursor.accept("COLUMN")
    column = cursor.name()
    cursor.expect("TO")
    return RenameColumn(relation=target.relation, column=column, to=cursor.name(), only=target.only)


# RENAME TO and RENAME CONSTRAINT belong to other rooms and have longer keys
TABLE_ACTIONS = {"RENAME": _read, "RENAME COLUMN": _read}
