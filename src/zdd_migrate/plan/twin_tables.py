"""A table that a migration makes anew, with its rows, under the same name: to partition it, say.

The plain way: make the new table, `INSERT INTO new SELECT … FROM old`, drop or rename the old one,
and give the new one its name, in this order or with the old one renamed first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import own
from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.blocks.twin_table import TwinTable, numbers_alike, plan_twin_table
from zdd_migrate.grammar.rows import AllRows, plain_name, read_all_rows
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Column, Schema, Table
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.base import Operation
from zdd_migrate.operations.create_index import CreateIndex
from zdd_migrate.operations.create_table import CreateTable
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.operations.drop_table import DropTable
from zdd_migrate.operations.rename_table import RenameTable


@dataclass(slots=True)
class Anew:
    """One table made anew. `name` is what code calls it, `made` its CREATE TABLE, `copied` the
    INSERT. `building` are operations on the new table while it had that name already, `covered`
    those that are not planned by themselves, `left` the old table's name in the end, if it stays."""

    name: QName
    made: CreateTable
    copied: DataStatement
    rows: AllRows
    new_name: QName
    building: dict[int, Operation] = field(default_factory=dict)
    covered: set[int] = field(default_factory=set)
    left: QName | None = None
    refused: tuple[str, str] | None = None

    @property
    def twin(self) -> QName:
        """What the new table is called until it takes the name."""
        if self.new_name != self.name:
            return self.new_name
        return self.name.sibling(own("new", self.name.name))

    def plan(self, draft: Draft, operation: Operation, final: Schema) -> None:
        """What one of its operations becomes."""
        if self.refused is not None:
            if operation is self.copied:
                draft.refuse(*self.refused)
        elif operation is self.copied:
            self._plan_copy(draft, final)
        elif id(operation) in self.building and draft.number not in draft.built:
            self._build(draft, operation)

    def _build(self, draft: Draft, operation: Operation) -> None:
        """The statement as it stands, but for the table's name, which another table has yet."""
        draft.built.add(draft.number)
        first = operation is self.made
        draft.sql(
            Phase.EXPAND,
            renamed_text(draft.statement, self.name, self.twin),
            undo=f"DROP TABLE IF EXISTS {quote_qname(self.twin)}" if first else (),
            why=f"{'make' if first else 'part of'} {self.twin}, which takes the name "
            f"{self.name.name} at contract",
        )

    def _plan_copy(self, draft: Draft, final: Schema) -> None:
        old, new = draft.start.tables[self.name], final.tables[self.name]
        columns = tuple(
            c for c in old.columns if c.generated is None and new.column(c.name) is not None
        )
        key = new.primary_key or next(c for c in new.constraints if c.kind == "unique")
        lost = [
            c.columns
            for c in old.constraints
            if c.kind in ("primary_key", "unique") and not _has_key(new, c.columns)
        ]
        for gone in lost:
            draft.note(
                f"from contract on nothing keeps ({', '.join(gone)}) of {self.name} unique, and ON "
                "CONFLICT on it fails; until the last step of contract it has to stay unique"
            )
        if old.triggers or old.policies or old.row_security:
            draft.note(
                f"{self.name} is another table after contract: triggers, policies and row security of "
                "the first one are on it only where the migration makes them"
            )
        draft.note(
            f"{self.name} is another table after contract: privileges, publications and replica "
            "identity of the first one are on it only where the migration gives them"
        )
        numbered, sequences = self._numbers(draft, new)
        draft.takes_name[self.name] = self.twin
        shows = self.left is not None and numbers_alike(draft, self.name, numbered)
        if self.left is not None and not shows:
            draft.note(
                f"{self.left} is there from contract on, and nothing may be written into it before the last "
                "step: no code can name it earlier, for both tables number their rows by an identity"
            )
        plan_twin_table(
            draft,
            TwinTable(
                source=self.name,
                twin=self.twin,
                tomb=self.left or self.name.sibling(own("old", self.name.name)),
                columns=columns,
                key=key.columns,
                keeps=self.left is not None,
                shows=shows,
                total=_takes_all(final, old, new),
                renames=self._renames(draft, new),
                sequences=sequences,
                numbered=numbered,
            ),
        )

    def _renames(self, draft: Draft, new: Table) -> tuple[tuple[str, str], ...]:
        """Constraints that Postgres names after the table, which has another name for now."""
        if self.twin == self.new_name:
            return ()
        scratch = draft.start.copy()
        replace(self.made, relation=self.twin).apply(scratch)
        made = draft.start.copy()
        made.drop_table(self.name)
        replace(self.made, relation=self.name).apply(made)
        pairs = zip(
            scratch.tables[self.twin].constraints, made.tables[self.name].constraints, strict=True
        )
        return tuple(
            (now.name, _free(draft.start, self.name, then.name) if then.index else then.name)
            for now, then in pairs
            if now.name != then.name and new.constraint(then.name) is not None
        )

    def _numbers(
        self, draft: Draft, new: Table
    ) -> tuple[tuple[tuple[QName, QName], ...], tuple[tuple[QName, QName], ...]]:
        """Sequences that number the same column, and those of the new table that change names."""
        numbered, renamed = [], []
        for definition in self.made.columns:
            if not (definition.serial or definition.identity is not None):
                continue
            working = self.twin.sibling(f"{self.twin.name}_{definition.name}_seq")
            if self.twin != self.new_name:
                wanted = f"{self.name.name}_{definition.name}_seq"
                renamed.append((working, self.name.sibling(_free(draft.start, self.name, wanted))))
            owned = draft.start.sequences_of(self.name, definition.name)
            numbered += [(s.name, working) for s in owned]
        return tuple(numbered), tuple(renamed)


def _free(start: Schema, table: QName, name: str) -> str:
    """The name that Postgres chooses where the first table still has this one."""
    there = {*start.indexes, *start.tables, *start.sequences}
    number, chosen = 0, name
    while table.sibling(chosen) in there:
        number += 1
        chosen = f"{name}{number}"
    return chosen


def renamed_text(statement: str, name: QName, to: QName) -> str:
    """A statement that makes a table or something of it, with the table's name replaced."""
    schema = rf'(?:"?{re.escape(name.schema or "")}"?\s*\.\s*)?'
    found = rf'{schema}(?:"{re.escape(name.name)}"|{re.escape(name.name)}(?![\w$"]))'
    head = r"(\b(?:TABLE(?:\s+ONLY|\s+IF\s+NOT\s+EXISTS|\s+IF\s+EXISTS)?|PARTITION\s+OF|ON(?:\s+ONLY)?)\s+)"
    return re.sub(
        head + found, lambda m: f"{m[1]}{quote_qname(to)}", statement, count=1, flags=re.IGNORECASE
    )


def made_anew(start: Schema, statements: Sequence[Statement]) -> dict[int, Anew]:
    """For each operation that is part of making a table anew: of which."""
    operations = [o for s in statements for o in s.operations]
    copies = [
        (o, rows)
        for o in operations
        if isinstance(o, DataStatement)
        and o.verb == "insert"
        and (rows := read_all_rows(o.text)) is not None
    ]
    if not copies or not any(isinstance(o, CreateTable) for o in operations):
        return {}
    return _follow(start, operations, {id(o): rows for o, rows in copies})


def _follow(
    start: Schema, operations: Sequence[Operation], copies: dict[int, AllRows]
) -> dict[int, Anew]:
    """Follow each table through its names; pair those that the rows of another went to."""
    now = start.copy()
    old = {name: name for name in start.tables}
    new: dict[QName, CreateTable] = {}
    touched: dict[int, list[tuple[Operation, QName]]] = {}
    ends: dict[QName, list[Operation]] = {}
    found: list[tuple[QName, CreateTable, DataStatement, AllRows, QName]] = []
    for operation in operations:
        relation = now.resolve(operation.relation) if operation.relation is not None else None
        if isinstance(operation, CreateTable):
            target = operation.target(now)
            parent = operation.partition_of and now.resolve(operation.partition_of)
            if parent in new:
                touched[id(new[parent])].append((operation, parent))
            elif parent is None and target not in now.tables:
                new[target] = operation
                touched[id(operation)] = [(operation, target)]
        elif relation is None:
            pass
        elif isinstance(operation, RenameTable) and relation in (*old, *new):
            to = relation.sibling(operation.to)
            if relation in old:
                ends.setdefault(old[relation], []).append(operation)
                old[to] = old.pop(relation)
            else:
                ends.setdefault(relation, []).append(operation)
                new[to] = new.pop(relation)
        elif isinstance(operation, DropTable) and relation in old:
            ends.setdefault(old.pop(relation), []).append(operation)
        elif id(operation) in copies and relation in new:
            rows = copies[id(operation)]
            source = old.get(now.resolve(rows.source))
            if source is not None and isinstance(operation, DataStatement):
                found.append((source, new[relation], operation, rows, relation))
        elif relation in new:
            touched[id(new[relation])].append((operation, relation))
        operation.apply(now)
    out: dict[int, Anew] = {}
    for source, made, copied, rows, called in found:
        if new.get(source) is not made or source not in now.tables:
            continue
        one = Anew(source, made, copied, rows, touched[id(made)][0][1])
        one.left = next((name for name, first in old.items() if first == source), None)
        one.building = {
            id(o): o for o, name in touched[id(made)] if name == source and one.new_name == source
        }
        one.covered = {id(copied), *one.building, *(id(o) for o in ends.get(source, []))}
        one.covered |= {id(o) for o in ends.get(called, [])}
        one.refused = _why_not(start, now, one, touched[id(made)])
        out.update(dict.fromkeys(one.covered, one))
    return out


def _why_not(
    start: Schema, final: Schema, one: Anew, touched: Sequence[tuple[Operation, QName]]
) -> tuple[str, str] | None:
    """Why it cannot be kept in step, and what to do instead."""
    old, new = start.tables[one.name], final.tables[one.name]
    incoming = [(t, fk) for t, fk in start.foreign_keys_to(one.name) if t.name != one.name]
    columns = [c.name for c in new.columns]
    told = one.rows.columns or tuple(columns)
    same = (
        [c.name for c in old.columns] == columns
        if one.rows.expressions == ("*",) and not one.rows.columns
        else [plain_name(e) for e in one.rows.expressions] == list(told)
    )
    unlike = list({c.name for c in old.columns} ^ set(columns)) + [
        c.name
        for c in old.columns
        if (there := new.column(c.name)) is not None
        and normalise_type(there.type) != normalise_type(c.type)
    ]  # fmt: skip
    views = start.views_on(one.name)
    if incoming:
        table, fk = incoming[0]
        return (
            f"{fk.name} of {table.name} refers to {one.name}, and goes with the first table",
            (
                "drop the foreign key in an earlier migration; afterwards it can only come back if the new "
                "table has a unique key over what it refers to, which on a partitioned table holds the "
                "partition key too"
            ),
        )
    if views:
        return (
            f"the view {views[0].name} reads {one.name}, and would go on reading the first table",
            "drop the view in an earlier migration, or make it anew in a later one",
        )
    if old.kind != "table" or old.parent is not None or old.inherits or start.children_of(one.name):
        return (
            f"{one.name} has partitions, parents or children of its own",
            "plan it for the tables that hold the rows, one by one",
        )
    if not one.rows.whole or not same:
        return (
            (
                f"not every row and column of {one.name} is copied as it is, so a trigger cannot know what "
                "else to carry over"
            ),
            (
                "copy all rows and columns under their own names (INSERT INTO new SELECT * FROM old), and "
                "leave out or convert what is to change in a migration of its own"
            ),
        )
    if unlike:
        return (
            (
                f"{', '.join(sorted(unlike))} of {one.name} are not the same before and after: until "
                "contract new code works with the first table"
            ),
            "change columns in a migration of their own, before or after this one",
        )
    keys = [c for c in new.constraints if c.kind in ("primary_key", "unique") and not c.deferrable]
    if old.primary_key is None or not any(
        all((was := old.column(k)) is not None and was.not_null for k in key.columns)
        for key in keys[:1]
    ):
        return (
            f"a row of {one.name} cannot be told from another in both tables",
            "give both a primary key; the partitioned one's holds the partition key too",
        )
    if any(
        isinstance(o, CreateIndex) and o.index is None for o, name in touched if name == one.name
    ):
        return (
            f"an index of the new {one.name} has no name of its own",
            "give it one: CREATE INDEX name ON …",
        )
    return None


def _has_key(table: Table, columns: tuple[str, ...]) -> bool:
    return any(
        c.kind in ("primary_key", "unique") and set(c.columns) <= set(columns)
        for c in table.constraints
    )


def _takes_all(schema: Schema, old: Table, new: Table) -> bool:
    """Whether the new table is sure to take whatever the old one takes."""
    parts = schema.partitions_of(new.name)
    bounds = {p.bound for p in parts}
    open_ = new.kind != "partitioned" or "DEFAULT" in bounds
    known = {(c.kind, c.definition) for c in old.constraints}
    more = [c for c in new.constraints if c.kind in ("check", "foreign_key", "exclude")]
    stricter = any((c.kind, c.definition) not in known for c in more) or any(
        c.not_null and not _required(old, c) for c in new.columns
    )
    unique = any(not _has_key(old, c.columns) for c in new.constraints if c.kind == "unique")
    return open_ and not stricter and not unique


def _required(table: Table, column: Column) -> bool:
    known = table.column(column.name)
    return known is not None and known.not_null
