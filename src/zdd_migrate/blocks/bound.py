"""What is built on columns and tables that have their final names only at contract.

A view keeps to columns and tables themselves, not to their names. So in one transaction those that
stay take the names that the statement knows them by, the statement is run as it stands, and they
give the names back: nobody else sees it, and at contract nothing has to be done about the view.
Old and new code both keep what it shows up to date, for the columns are in step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.shim import renaming
from zdd_migrate.grammar.queries import has_stars, write_out_star
from zdd_migrate.grammar.tokens import QUOTED, WORD, tokenise
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase

if TYPE_CHECKING:
    from zdd_migrate.blocks.twin import Twin


@dataclass(frozen=True, slots=True)
class Known:
    """A table as a statement knows it: its name then, its columns then, and which of them are to be
    found under another name (name then → the column before the migration)."""

    name: QName
    columns: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]


def plan_built(
    draft: Draft,
    reads: Iterable[QName],
    *,
    undo: str | Sequence[str],
    why: str,
    statement: str | None = None,
    before: Sequence[str] = (),
    filled: bool = False,
) -> bool:
    """Run a statement in expand, built on what stays of the relations it reads.

    It is the one being planned, or `statement`; those `before` it come first in its transaction.
    `filled` has it wait until the columns it reads hold their values: old code is to see them too.
    False where all it reads has the names it knows: then it is the caller's to run.
    """
    known = [_known(draft, name) for name in dict.fromkeys(map(draft.schema.resolve, reads))]
    given = statement or draft.statement
    path = draft.in_its_path(given)[:-1]
    stars = has_stars(given) and any(draft.present(k.name) in draft.start.tables for k in known)
    if not stars and not any(k.moved or _moves(draft, k.name) for k in known):
        return False
    if stars and any(_columns_wait(draft, k) for k in known) and _all_of(given, known) is None:
        draft.refuse(
            "until contract * also stands for columns that are there only for the time between",
            "name the columns that it is to show",
        )
        return True
    phase = Phase.MIGRATE if filled else Phase.EXPAND

    def add() -> None:
        text = given
        if stars and any(_columns_wait(draft, k) for k in known):
            text = _all_of(given, known) or given
        to, back = _renames(draft, known, text)
        draft.sql(
            phase,
            (*to, *path, *before, text, *back),
            undo=undo,
            why=f"{why}: what it reads has its final names for the moment" if to else why,
            lock=LockMode.ACCESS_EXCLUSIVE if to or before else LockMode.ACCESS_SHARE,
            relation=draft.present(known[0].name) if known else None,
        )

    if filled:
        draft.last(add)
    else:
        draft.later(phase, add)
    return True


def plan_rebuilt(
    draft: Draft, reads: Iterable[QName], *, drop: str, was: str, same: bool, why: str
) -> None:
    """The statement being planned makes a view anew over columns that change their type.

    To old code they have the old one until contract, in the table and in the view: so the view
    follows just after the columns. Where its text is another (not `same`), it is made in expand as
    well, over the columns as they are.
    """
    known = [_known(draft, name) for name in dict.fromkeys(map(draft.schema.resolve, reads))]
    tables = [replace(k, moved=()) for k in known]
    text = _all_of(draft.statement, known) or draft.statement
    before = was if same else text

    def make() -> None:
        to, back = _renames(draft, tables, text)
        draft.sql(
            Phase.EXPAND,
            (*to, drop, text, *back),
            undo=(drop, was),
            why=why,
            lock=LockMode.ACCESS_EXCLUSIVE,
        )

    def follow() -> None:
        to, back = _renames(draft, tables, text, contract=True)
        both = f"{text} {before}"
        start, home = _renames(draft, known, both, contract=True, swapped=True)
        draft.sql(
            Phase.CONTRACT,
            (*to, drop, text, *back),
            undo=(*start, drop, before, *home),
            why="the view follows its columns to their new types",
            lock=LockMode.ACCESS_EXCLUSIVE,
        )

    if not same:
        draft.later(Phase.EXPAND, make)
    draft.later(Phase.CONTRACT, follow)


def final_names(
    draft: Draft, reads: Iterable[QName]
) -> Callable[[str], tuple[list[str], list[str]]]:
    """For a text that reads relations: what gives them the names that it knows them by now, and what
    gives those back. To be asked when every operation has been heard."""
    known = [_known(draft, name) for name in dict.fromkeys(map(draft.schema.resolve, reads))]
    return lambda text: _renames(draft, known, text)


def reads_renamed(draft: Draft, text: str) -> bool:
    """Whether a text names a table by a name that it has only at contract."""
    words = _words(text)
    return any(name.name in words for name in (*draft.present_tables, *draft.takes_name))


def copies_named(draft: Draft, text: str) -> list[Twin]:
    """The copied columns that a text names together with their tables."""
    words = _words(text)
    return [
        twin
        for (owner, now), twin in draft.twins.items()
        if now in words and {owner.name, draft.final(draft.present(owner)).name} & words
    ]


def unfilled(draft: Draft, reads: Iterable[QName], text: str) -> list[Twin]:
    """The copies that a text reads which hold nothing before they have been filled."""
    words = _words(text)
    present = {draft.present(draft.schema.resolve(name)) for name in reads}
    return [
        twin
        for (owner, now), twin in draft.twins.items()
        if not twin.keeps_old
        and (now in words or has_stars(text))
        and draft.present(owner) in present
    ]


def _known(draft: Draft, name: QName) -> Known:
    present = draft.present(name)
    table = draft.schema.tables.get(name)
    moved = [
        (now, was) for (t, now), was in draft.behind_view.items() if draft.present(t) == present
    ]
    moved += [
        (now, twin.old.name)
        for (t, now), twin in draft.twins.items()
        if draft.present(t) == present
    ]
    return Known(name, tuple(c.name for c in table.columns) if table else (), tuple(moved))


def _moves(draft: Draft, name: QName) -> bool:
    return draft.present(name) != name or name in draft.takes_name


def _columns_wait(draft: Draft, one: Known) -> bool:
    """Whether a table has other columns until contract than those the statement knows."""
    present = draft.present(one.name)
    start = draft.start.tables.get(present)
    syncing = any(draft.present(table) == present for table in draft.syncs)
    dropped = start is not None and {c.name for c in start.columns} - set(one.columns)
    return bool(one.columns and start is not None and (syncing or dropped))


def _words(text: str) -> set[str]:
    return {t.name for t in tokenise(text) if t.kind in (WORD, QUOTED)}


def _all_of(text: str, known: Sequence[Known]) -> str | None:
    if len(known) != 1:
        return None
    return write_out_star(text, list(map(quote_ident, known[0].columns)))


def _renames(
    draft: Draft,
    known: Sequence[Known],
    text: str,
    *,
    contract: bool = False,
    swapped: bool = False,
) -> tuple[list[str], list[str]]:
    """Statements that give what stays the names of the text, and those that give them back.

    In `contract` a view stands in for a renamed table, and columns have their final names: `swapped`
    gives those that go the names they had.
    """
    words = _words(text)
    to: list[str] = []
    back: list[str] = []
    for one in known:
        home = quote_qname(one.name)
        present = draft.takes_name.get(one.name, draft.present(one.name))
        if one.name in draft.takes_name or (contract and present != one.name):
            aside = one.name.sibling(own("aside", one.name.name))  # another has it until then
            to += renaming("TABLE", one.name, aside)
            back[:0] = renaming("TABLE", aside, one.name)
        if present != one.name:
            to += renaming("TABLE", present, one.name)
            back[:0] = renaming("TABLE", one.name, present)
        pairs: list[tuple[str, str]] = []
        for now, was in one.moved:
            there = own("old", was) if swapped else _where(draft, one.name, was)
            if now in words and there is not None and there != now:
                pairs.append((there, now))
        moves = _through(pairs, _columns(draft, one.name))
        to += [_column(home, was, now) for was, now in moves]
        back[:0] = [_column(home, now, was) for was, now in reversed(moves)]
    return to, back


def _where(draft: Draft, table: QName, was: str) -> str | None:
    """The present name of the column that stays of one that had a name before the migration."""
    present = draft.present(table)
    for (owner, _), physical in draft.behind_view.items():
        if draft.present(owner) == present and physical == was:
            return physical
    for (owner, _), twin in draft.twins.items():
        if draft.present(owner) == present and twin.old.name == was:
            return twin.old.name if twin.keeps_old else twin.new
    return None


def _columns(draft: Draft, table: QName) -> set[str]:
    """The names that columns of a table have until contract."""
    present = draft.present(table)
    start = draft.start.tables.get(present)
    twins = {t.new for (owner, _), t in draft.twins.items() if draft.present(owner) == present}
    return {c.name for c in start.columns} | twins if start is not None else twins


def _through(pairs: Sequence[tuple[str, str]], there: set[str]) -> list[tuple[str, str]]:
    """Renames one after another that end in `pairs`, though other columns may have the names."""
    leaving = {was for was, _ in pairs}
    in_the_way = [now for _, now in pairs if now in there and now not in leaving]
    out = [(now, own("aside", now)) for now in in_the_way]
    if not leaving & {now for _, now in pairs}:
        return out + list(pairs)
    out += [(was, own("moved", was)) for was, _ in pairs]
    return out + [(own("moved", was), now) for was, now in pairs]


def _column(table: str, was: str, now: str) -> str:
    return f"ALTER TABLE {table} RENAME COLUMN {quote_ident(was)} TO {quote_ident(now)}"
