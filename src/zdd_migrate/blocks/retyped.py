"""A change of type that writes the table anew, or that old code's values may not survive: by a twin.

Old code goes on with the old type, a trigger keeps the new one in step, and at contract the one
takes the other's name. Until then new code has either the old type too, or (`--via view`) the new
one from the beginning, by a view that its search_path finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zdd_migrate.blocks.costs import copying
from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.next_view import plan_next_type, why_not
from zdd_migrate.blocks.quoting import quote_ident, quote_literal
from zdd_migrate.blocks.twin import Twin, plan_twin
from zdd_migrate.grammar.conversions import assignable, fits, inverse, lossless
from zdd_migrate.grammar.expressions import rename_names
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column


@dataclass(frozen=True, slots=True)
class Retype:
    """Column `was` of `table` becomes of `type`; `using` is SQL over the row, None for a cast."""

    table: QName
    was: Column
    type: str
    using: str | None = None
    collation: str | None = None

    @property
    def column(self) -> str:
        """Its name, which stays."""
        return self.was.name

    @property
    def other_name(self) -> str:
        """A name that a column of the new type could have beside it."""
        return f"{self.column}_{parse_type(self.type).base.split(' ')[0].rsplit('.')[-1]}"

    @property
    def casts(self) -> bool:
        """Whether USING is a cast of the column, whose way back is a cast too."""
        text = re.sub(r"[\s()\"]", "", self.using or "").lower()
        return re.fullmatch(rf"{re.escape(self.column.lower())}(::[\w.\[\],]+)*", text) is not None


def plan_retyped(draft: Draft, retype: Retype) -> None:
    """Plan it, or refuse with the reason, or ask for a conversion that nobody gave."""
    by_view = draft.via == "view" and why_not(draft, retype.table, retypes=True) is None
    refused = _why_not(draft, retype, by_view=by_view)
    if refused is not None:
        draft.refuse(*refused)
        return
    given = _conversions(draft, retype)
    if given is None:
        return
    up, down, sure = given
    old, new = retype.was, own("new", retype.column)
    test = None if sure else fits(quote_ident(retype.column), old.type, retype.type, draft.pg)
    safe = sure or test is not None or lossless(old.type, retype.type)
    if by_view and not safe and not assignable(old.type, retype.type):
        draft.refuse(
            f"which values of {retype.table}.{retype.column} can be {retype.type} cannot be told before "
            "Postgres 16: old code would fail that writes another",
            f'say how every value becomes one: --up "{retype.table.name}.{retype.column}=…"',
        )
        return
    known = draft.twins.pop((retype.table, retype.column), None)
    if known is not None:  # renamed or retyped before: one way from the first shape to the last
        old, new = known.old, known.new
        up = rename_names(up, {retype.column: f"({known.up})"})
        test = rename_names(test, {retype.column: f"({known.up})"}) if test else None
        back = rename_names(known.down, {known.new: quote_ident(retype.column)})
        down = rename_names(back, {retype.column: f"({down})"})
    draft.restricts_old = True
    plan_twin(
        draft,
        Twin(
            table=retype.table,
            old=old,
            new=new,
            final=retype.column,
            type=retype.type,
            up=up,
            down=rename_names(down, {retype.column: quote_ident(new)}),
            lossless=lossless(old.type, retype.type),
            collation=retype.collation,
            fits=test,
            returns=by_view or assignable(retype.type, old.type),
            by_view=by_view,
            why=f"add {new} of type {retype.type} beside {old.name}, keep both in step",
        ),
    )
    if by_view:
        plan_next_type(draft, retype.table)
    _offer(draft, retype, old, by_view=by_view)
    _tell(draft, retype, old, fitting=test is not None, sure=sure, by_view=by_view)


def _why_not(draft: Draft, retype: Retype, *, by_view: bool) -> tuple[str, str] | None:
    """What a twin under the same name cannot do, and what to do instead."""
    relation, name = retype.table, retype.column
    table = draft.table(relation)
    if table is not None and any(
        c.kind == "exclude" and name in c.columns for c in table.constraints
    ):
        return (
            (
                f"an exclusion constraint on {relation} names {name}: it can neither be NOT "
                "VALID nor be built beside the old one"
            ),
            "drop the constraint in an earlier migration, change the type, add it again",
        )
    indexed = any(name in index.columns for index in draft.schema.indexes_of(relation))
    if table is not None and table.kind == "partitioned" and indexed:
        return (
            (
                f"{relation} is partitioned and has an index on {name}: it cannot be built "
                "again concurrently in one go"
            ),
            "add a column of the new type, build its index on each partition, then drop the old",
        )
    beside = (
        f"ADD COLUMN {retype.other_name} {retype.type}, UPDATE {relation.name} SET "
        f"{retype.other_name} = {retype.using or f'{name}::{retype.type}'}, DROP COLUMN {name}"
    )
    if draft.dual_write:
        return (
            (
                f"{relation}.{name} keeps its name and changes its type: code that writes both "
                "columns itself has no moment at which the one can take the other's name"
            ),
            f"give it another name ({beside}), or leave --sync application out: a trigger does it",
        )
    if by_view or assignable(retype.was.type, retype.type):
        return None
    if draft.via == "view":
        return why_not(draft, relation, retypes=True)
    return (
        (
            f"under the same name {relation}.{name} cannot be {retype.was.type} for old code "
            f"and {retype.type} for new code: statements that were prepared for the one fail with "
            "42804 when it becomes the other"
        ),
        (
            f"take --via view, where new code sees the new type by a view that its search_path finds; or "
            f"give it another name, which is planned: {beside}"
        ),
    )


def _conversions(draft: Draft, retype: Retype) -> tuple[str, str, bool] | None:
    """up, down, and whether somebody said them; None when one was asked for."""
    name = quote_ident(retype.column)
    up = draft.answer("up", retype.table, retype.column) or retype.using
    down = draft.answer("down", retype.table, retype.column)
    said = up is not None and not retype.casts
    target = f"{retype.table.name}.{retype.column}"
    kinds = {parse_type(retype.was.type).base, parse_type(retype.type).base}
    if up is None and kinds == {"timestamp with time zone", "timestamp without time zone"}:
        zone = draft.schema.settings.get("timezone", "").strip("'")
        if not zone:
            draft.ask(
                target,
                f"in which time zone are the values of {target} meant? A plain cast reads them "
                "in the zone of whoever happens to write",
                f"--up \"{target}={retype.column} AT TIME ZONE 'UTC'\" (or -- zdd: up {target} = … "
                "in the migration)",
            )
            return None
        up, said = f"{name} AT TIME ZONE {quote_literal(zone)}", True
    if up is None:
        up = f"{name}::{retype.type}"
    if down is None and said:
        down = inverse(up, name)
        if down is None:
            draft.ask(
                target,
                f"how does old code's {target} ({retype.was.type}) come from the new one "
                f"({retype.type})? Write the new value as {target}",
                f"--down {target}=… (or -- zdd: down {target} = … in the migration)",
            )
            return None
    return up, down or f"{name}::{retype.was.type}", said


def _offer(draft: Draft, retype: Retype, old: Column, *, by_view: bool) -> None:
    """The ways there are, with what they cost on this table."""
    ways = [("copy", "", "a second column kept in step by a trigger, for no value is stored alike")]
    if why_not(draft, retype.table, retypes=True) is None:
        what = "the same, and new code sees the second column under the name of the first by a view"
        ways.append(("view", "--via view", what))
    if not assignable(old.type, retype.type):
        del ways[0]
    for via, option, what in ways:
        draft.alternatives.append(
            copying(
                draft,
                retype.table,
                (old.name,),
                about=f"{retype.table}.{retype.column}: {old.type} → {retype.type}",
                via=via,
                option=option,
                what=what,
                chosen=(via == "view") is by_view,
                each_write="the value stored twice, a trigger",
            )
        )


def _tell(
    draft: Draft, retype: Retype, old: Column, *, fitting: bool, sure: bool, by_view: bool
) -> None:
    at = f"{retype.table}.{retype.column}"
    if not by_view:
        draft.note(
            f"{at} is {old.type} until contract and {retype.type} from then on: new "
            "code must live with both"
        )
    if fitting:
        draft.note(
            f"old code may go on writing what {retype.type} cannot hold: contract waits until no "
            f"such row is left{', and new code finds NULL there until then' if by_view else ''}"
        )
    elif not sure and not lossless(old.type, retype.type):
        draft.note(
            f"a value of {at} that {retype.type} cannot hold fails for the old "
            "code that writes it, from expand on"
        )
    if not lossless(retype.type, old.type):
        draft.note(
            f"between the swap and the last step of contract a value that {old.type} cannot hold "
            f"fails for the new code that writes it: do the last step soon after"
        )
