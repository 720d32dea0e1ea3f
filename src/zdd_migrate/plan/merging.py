"""Several tables that a migration makes one new one of.

`CREATE TABLE n …; INSERT INTO n … SELECT … FROM a; INSERT INTO n … SELECT … FROM b; DROP TABLE a;
DROP TABLE b`. Each SELECT takes columns as they are, and constants: those that are others in each of
them tell which table a row of the new one belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.merged import Merged, Part, plan_merged
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.grammar.rows import AllRows, plain_name, qualified, read_all_rows
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column, Constraint, Schema, Table
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.operations.drop_table import DropTable
from zdd_migrate.operations.facts import views_over

_CONSTANT = re.compile(
    r"(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false)(?:::[\w\". ]+)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Merging:
    """One new table and the statements that fill it; `drops` are those of the old tables."""

    target: QName
    inserts: tuple[tuple[DataStatement, AllRows], ...]
    drops: tuple[DropTable, ...]

    def plan(self, draft: Draft, final: Schema) -> None:
        """What becomes of it: steps, questions, or a refusal."""
        start = draft.start
        parts = []
        for insert, rows in self.inserts:
            part = _part(start, final.tables[self.target], rows)
            if isinstance(part, str):
                draft.refuse(*_unlike(part, insert))
                return
            parts.append(part)
        marked = _marked(parts)
        key = _key(final.tables[self.target], marked)
        refused = _why_not(start, final, self.target, marked, key)
        if refused is not None:
            draft.refuse(*refused)
            return
        assert key is not None
        if not set(marked[0].mark) & set(key) and not _said_disjoint(
            draft, self.target, key, marked
        ):
            return
        asked = [_asked(draft, self.target, part) for part in marked]
        if any(one is None for one in asked):
            return
        given = tuple(replace(p, asked=one or ()) for p, one in zip(marked, asked, strict=True))
        plan_merged(draft, Merged(self.target, key, given))


def merged_tables(
    start: Schema, final: Schema, operations: Sequence[Operation]
) -> Iterator[Merging]:
    """The new tables of a migration that two or more old ones go into."""
    filled: dict[QName, list[tuple[DataStatement, AllRows]]] = {}
    drops: dict[QName, DropTable] = {}
    for operation in operations:
        if isinstance(operation, DropTable) and operation.relation is not None:
            drops[start.resolve(operation.relation)] = operation
        elif isinstance(operation, DataStatement) and operation.verb == "insert":
            rows = read_all_rows(operation.text)
            if rows is not None:
                filled.setdefault(final.resolve(rows.target), []).append((operation, rows))
    for target, inserts in filled.items():
        sources = [start.resolve(rows.source) for _, rows in inserts]
        if (
            target in final.tables
            and target not in start.tables
            and len(set(sources)) == len(sources) > 1
            and all(s in start.tables and s in drops for s in sources)
        ):
            yield Merging(target, tuple(inserts), tuple(drops[s] for s in sources))


def _unlike(what: str, insert: DataStatement) -> tuple[str, str]:
    return (
        f"{what}: a trigger could not tell what new code's row is in the old table",
        (
            "take columns as they are, and constants (INSERT INTO new (kind, …) SELECT 'this', … FROM old), "
            "of every row; leave out or convert in a migration of its own. It says: "
            f"{squeeze(insert.text)[:120]}"
        ),
    )


def _part(start: Schema, new: Table, rows: AllRows) -> Part | str:
    """One SELECT, or what stands in the way."""
    source = start.tables[start.resolve(rows.source)]
    columns = rows.columns or tuple(c.name for c in new.columns)
    values = rows.expressions
    if values == ("*",):
        values = tuple(f'"{c.name}"' for c in source.columns)
        columns = rows.columns or columns[: len(values)]
    if not rows.whole:
        return f"not every row of {source.name} is copied as it is"
    if len(columns) != len(values) or any(new.column(c) is None for c in columns):
        return f"the columns of {new.name} are not those of the SELECT"
    pairs: list[tuple[Column, str]] = []
    constants: list[tuple[Column, str]] = []
    for name, value in zip(columns, values, strict=True):
        there = new.column(name)
        assert there is not None
        if _CONSTANT.fullmatch(value):
            constants.append((there, value))
            continue
        named = qualified(value)
        taken = source.column(
            named[1] if named and named[0] == source.name.name else plain_name(value)
        )
        if taken is None or any(taken == c for c, _ in pairs):
            return f"{name} of {new.name} is {value}, not a column of {source.name}"
        pairs.append((taken, name))
    key = source.primary_key.columns if source.primary_key is not None else ()
    return Part(source.name, key, tuple(pairs), tuple(constants), ())


def _marked(parts: Sequence[Part]) -> list[Part]:
    """The parts with the columns in which every one of them has another constant."""
    told = [{c.name: value for c, value in part.constants} for part in parts]
    shared = [name for name in told[0] if all(name in one for one in told)]
    mark = tuple(
        name for name in shared if len({one[name].partition("::")[0] for one in told}) == len(told)
    )
    return [replace(part, mark=mark) for part in parts]


def _key(new: Table, parts: Sequence[Part]) -> tuple[str, ...] | None:
    """The columns that tell rows of the new table apart, and each old table's key among them."""
    keys = [c for c in new.constraints if c.kind == "primary_key"]
    keys += [c for c in new.constraints if c.kind == "unique"]
    for constraint in keys:
        columns = [new.column(c) for c in constraint.columns]
        if constraint.deferrable or any(c is None or not c.not_null for c in columns):
            continue
        if all(_covers(part, constraint.columns) for part in parts):
            return constraint.columns
    return None


def _covers(part: Part, key: Sequence[str]) -> bool:
    """Whether the new table's key is this part's, with marks."""
    to = {c.name: t for c, t in part.pairs}
    mine = [to.get(k) for k in part.key]
    return bool(part.key) and {*mine} == set(key) - set(part.mark) and None not in mine


# -- what stands in the way -----------------------------------------------------------------------


def _why_not(
    start: Schema,
    final: Schema,
    target: QName,
    parts: Sequence[Part],
    key: tuple[str, ...] | None,
) -> tuple[str, str] | None:
    """Why the tables cannot be kept in step, and what to do instead."""
    new, names = final.tables[target], " and ".join(str(p.source) for p in parts)
    if not parts[0].mark:
        return (
            (
                f"nothing in a row of {target} tells whether it is one of {names}: what new code writes "
                "could not be carried back to where old code looks for it"
            ),
            (
                "give the new table a column that says so, and each INSERT … SELECT a constant of its own "
                "for it (SELECT 'guest', … FROM guests); it may be dropped in a later migration"
            ),
        )
    if key is None:
        return (
            f"a row of {target} cannot be told from another as in {names}",
            (
                "give every old table a primary key, and the new one a primary key (or a unique one, NOT "
                f"NULL) over that and what tells the tables apart ({', '.join(parts[0].mark)})"
            ),
        )
    if new.kind != "table" or new.parent is not None:
        return (
            f"{target} is partitioned or a partition",
            "make it a plain table, and partition it in a later migration",
        )
    for part in parts:
        found = (
            _in_the_way(start, part)
            or _columns_apart(target, new, part)
            or _rules_apart(start, final, new, part, key)
            or _numbered_twice(start, final, part, target, key)
        )
        if found is not None:
            return found
    return None


def _in_the_way(start: Schema, part: Part) -> tuple[str, str] | None:
    """What hangs on an old table and could not go on."""
    old = start.tables[part.source]
    incoming = [(t, fk) for t, fk in start.foreign_keys_to(old.name) if t.name != old.name]
    if incoming:
        return (
            f"{old.name} is still referenced by {incoming[0][1].name} of {incoming[0][0].name}",
            "drop the foreign key in an earlier migration",
        )
    if views := views_over(start, old.name):
        return (
            f"{old.name} is still referenced by the view {views[0].name}",
            "drop the view in an earlier migration, or make it anew over the new table in a later one",
        )
    if old.kind != "table" or old.parent is not None or old.inherits or start.children_of(old.name):
        return (
            f"{old.name} has partitions, parents or children of its own",
            "merge the tables that hold the rows, one by one",
        )
    if old.row_security or old.policies:
        return (
            f"{old.name} has row security: what is carried over would pass it by",
            "drop its policies in an earlier migration, and make the new table's in a later one",
        )
    if any(t.row and t.timing == "BEFORE" for t in old.triggers):
        return (
            (
                f"a BEFORE trigger of {old.name} changes rows: new code would be given back its row as it "
                "was before that"
            ),
            "drop the trigger in an earlier migration, or let the code do what it does",
        )
    return None


def _columns_apart(target: QName, new: Table, part: Part) -> tuple[str, str] | None:
    """A column that one of the two tables takes a value in which the other does not."""
    later = "change it in a migration of its own, before or after this one"
    for column, name in part.pairs:
        there = new.column(name)
        assert there is not None
        if normalise_type(there.type) != normalise_type(column.type):
            return (
                (
                    f"{target}.{name} is {there.type}, {part.source}.{column.name} {column.type}: not "
                    "everything that one takes the other does"
                ),
                later,
            )
        if there.not_null != column.not_null:
            lax, strict = (f"{part.source}.{column.name}", f"{target}.{name}")
            if column.not_null:
                lax, strict = strict, lax
            return f"{lax} may be NULL, and {strict} may not", later
        if column.generated is not None or there.generated is not None:
            return f"{part.source}.{column.name} or {target}.{name} is generated", later
        if there.identity == "always":
            return (
                f"{target}.{name} is GENERATED ALWAYS: it cannot follow {part.source}.{column.name}",
                "make it GENERATED BY DEFAULT, and ALWAYS in a later migration",
            )
    return None


def _rules_apart(
    start: Schema, final: Schema, new: Table, part: Part, key: tuple[str, ...]
) -> tuple[str, str] | None:
    """A constraint that one of the two tables has and the other has not: a row that the one takes,
    the other would refuse."""
    old, to = start.tables[part.source], {c.name: t for c, t in part.pairs}
    constant = {c.name for c, _ in part.constants}
    mine = [c for c in old.constraints if c.columns != part.key or c.kind != "primary_key"]
    theirs = [c for c in new.constraints if c.columns != key]
    mine += _unique_indexes(start, old.name)
    theirs += _unique_indexes(final, new.name)
    for constraint in mine:
        if not any(_implies(other, constraint, to, constant) for other in theirs):
            return (
                (
                    f"{constraint.name} of {old.name} is not asked of {new.name}: until contract new code "
                    "would fail where it breaks it"
                ),
                f"drop it in an earlier migration, or ask the same of {new.name}",
            )
    for constraint in theirs:
        if _holds_anyhow(constraint, new, set(to.values())):
            continue
        if not any(_implies(constraint, other, to, constant) for other in mine):
            return (
                (
                    f"{constraint.name} of {new.name} is not asked of {old.name}: old code would fail "
                    "where it breaks it"
                ),
                f"add it to {new.name} in a later migration, when no old code is left",
            )
    return None


def _holds_anyhow(constraint: Constraint, new: Table, written: set[str]) -> bool:
    """Whether rows of a part keep a constraint of the new table whatever old code writes: none of what
    it writes is in it, or a NULL is that keeps the row apart from all others."""
    if constraint.kind in ("check", "foreign_key"):
        return not set(constraint.columns) & written
    empty = [c for c in constraint.columns if c not in written and new.column(c) is not None]
    return not constraint.nulls_not_distinct and any(
        (column := new.column(c)) is not None and not column.not_null and column.default is None
        for c in empty
    )


def _unique_indexes(schema: Schema, table: QName) -> list[Constraint]:
    """Unique indexes that back no constraint, as constraints."""
    return [
        Constraint(
            index.name.name,
            "unique" if index.predicate is None and set(index.keys) == index.columns else "exclude",
            index.keys,
            index.definition,
        )
        for index in schema.indexes_of(table)
        if index.unique and index.constraint is None
    ]


def _implies(new: Constraint, old: Constraint, to: Mapping[str, str], constant: set[str]) -> bool:
    """Whether a constraint of the new table asks of this part's rows what the old one does."""
    if new.kind != old.kind or new.kind == "exclude":
        return False
    if new.kind == "check":
        return (
            all(to.get(c) == c for c in old.columns)
            and old.expression is not None
            and new.expression is not None
            and squeeze(old.expression) == squeeze(new.expression)
        )
    if new.kind == "foreign_key":
        return (
            tuple(to.get(c) for c in old.columns) == new.columns
            and old.ref_table == new.ref_table
            and old.ref_columns == new.ref_columns
        )
    # without what tells the tables apart it would be unique over all of them
    return {to.get(c) for c in old.columns} == set(new.columns) - constant and bool(
        set(new.columns) & constant
    )


def _numbered_twice(
    start: Schema, final: Schema, part: Part, target: QName, key: tuple[str, ...]
) -> tuple[str, str] | None:
    """A key that one sequence numbers for old code and another for new code."""
    for column, name in part.pairs:
        there = final.tables[target].column(name)
        assert there is not None
        if name in key and _is_numbered(column) and _is_numbered(there):
            return (
                (
                    f"old code numbers {part.source}.{column.name} by one sequence, and new code "
                    f"{target}.{name} by another: both would come to the same number"
                ),
                (
                    f"leave the default of {target}.{name} out until contract: let new code take its number "
                    "from the old table's sequence, and give the column its own in a later migration"
                ),
            )
    return None


def _is_numbered(column: Column) -> bool:
    return column.identity is not None or "nextval(" in (column.default or "")


# -- what is asked -----------------------------------------------------------------------------------


def _said_disjoint(
    draft: Draft, target: QName, key: tuple[str, ...], parts: Sequence[Part]
) -> bool:
    """Whether no two old rows have one key: told by the answer that it stays as it is. A row that all
    the same has a taken key is never written over the other: the gate before switch finds it."""
    to = {t: c.name for c, t in parts[0].pairs}
    column = key[-1]
    if draft.answer("up", target, column) is not None:
        return True
    names = " and ".join(str(p.source) for p in parts)
    about = f"{target.name}.{column}"
    draft.ask(
        about,
        f"may a row of {names} have the same {column}? {', '.join(key)} alone tells rows of {target} apart",
        f"--up {about}={to.get(column, column)} (never: the numbers are all different), or put "
        f"{', '.join(parts[0].mark)} into the key of {target.name}",
    )
    return False


def _asked(draft: Draft, target: QName, part: Part) -> tuple[tuple[Column, str], ...] | None:
    """What rows of new code have in columns that the new table has not; None where it is asked."""
    taken = {c.name for c, _ in part.pairs}
    out: list[tuple[Column, str]] = []
    complete = True
    for column in draft.start.tables[part.source].columns:
        if column.name in taken or not column.not_null or column.default or column.identity:
            continue
        said = draft.answer("down", part.source, column.name)
        about = f"{part.source.name}.{column.name}"
        if said is None:
            complete = False
            draft.ask(
                about,
                f"{about} is NOT NULL and nowhere in {target}: what does old code read there in rows that "
                f"new code writes ({part.said})?",
                f"--down {about}=… (in terms of {target.name}; or -- zdd: down {about} = … in the migration)",
            )
        else:
            out.append((column, said))
    return tuple(out) if complete else None
