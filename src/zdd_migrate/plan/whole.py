"""What several statements of a migration say together: heard before each is planned by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import folded, quote_ident
from zdd_migrate.blocks.reshape import NewColumn, Reshape
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.grammar.rows import read_looked_up
from zdd_migrate.grammar.types import normalise_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema, Table
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations.add_column import AddColumn
from zdd_migrate.operations.add_constraint import AddConstraint
from zdd_migrate.operations.base import Operation, Situation
from zdd_migrate.operations.create_function import CreateFunction
from zdd_migrate.operations.create_type import CreateType
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.operations.define_object import DefineObject
from zdd_migrate.operations.drop_column import DropColumn
from zdd_migrate.operations.drop_constraint import DropConstraint
from zdd_migrate.operations.drop_object import DropObject
from zdd_migrate.operations.set_default import SetDefault
from zdd_migrate.operations.set_not_null import SetNotNull
from zdd_migrate.operations.validate_constraint import ValidateConstraint

#: from this likeness of names on, a dropped and an added column of one type look like a rename
_ALIKE = 0.6
#: operations after which a table is there under another name
_MOVES = ("rename_table", "move_table", "switch_table", "rename_object", "set_schema")


@dataclass(slots=True)
class Heard:
    """What was found: `skipped` are identities of operations that are not planned by themselves,
    `reshapes` what is planned at the first of its operations instead, with all that it covers.
    `scaffolding` are operations that leave nothing behind: the plan does without them altogether.
    """

    skipped: set[int] = field(default_factory=set)
    scaffolding: set[int] = field(default_factory=set)
    reshapes: dict[int, tuple[Reshape, tuple[AddColumn, ...]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Changes:
    """What happens to the columns of one table."""

    added: dict[str, AddColumn] = field(default_factory=dict)
    dropped: dict[str, DropColumn] = field(default_factory=dict)
    ups: dict[str, str] = field(default_factory=dict)
    updates: dict[str, DataStatement] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    #: how many UPDATEs write a column
    written: Counter[str] = field(default_factory=Counter)
    #: filled from another table: nothing of this one under a new name
    looked_up: set[str] = field(default_factory=set)


def hear(draft: Draft, statements: Sequence[Statement], final: Schema) -> Heard:
    """Listen to the whole migration; `final` is the schema after it."""
    scaffolding = _scaffolding(draft, statements) | _operators_in_passing(draft, statements)
    heard = Heard(_superseded(draft, statements) | scaffolding, scaffolding)
    moved = any(operation.kind in _MOVES for operation in _operations(statements))
    for name, changes in _changes(draft, statements).items():
        table = draft.start.tables.get(name)
        if table is None:
            continue
        for column, added in changes.added.items():
            up = draft.answer("up", name, column)
            if up is not None and not (added.definition.not_null and not analyse(up).names):
                changes.ups[column] = up  # what is said goes before what the UPDATE does
        heard.skipped |= _ask_renames(draft, table, changes, final, moved=moved)
        for group in _groups(table, changes):
            _reshape(heard, draft, table, changes, group)
    return heard


def _operations(statements: Sequence[Statement]) -> Iterator[Operation]:
    for statement in statements:
        yield from statement.operations


def _superseded(draft: Draft, statements: Sequence[Statement]) -> set[int]:
    """DROP DEFAULT before a SET DEFAULT of the same column: between the two stands a change of type
    that the default was in the way of."""
    out: set[int] = set()
    dropped: dict[tuple[QName, str], int] = {}
    for operation in _operations(statements):
        if isinstance(operation, SetDefault) and operation.relation is not None:
            key = (draft.start.resolve(operation.relation), operation.column)
            if operation.default is None:
                dropped[key] = id(operation)
            elif key in dropped:
                out.add(dropped.pop(key))
    return out


def _scaffolding(draft: Draft, statements: Sequence[Statement]) -> set[int]:
    """A CHECK that the migration adds and drops again: the plain way to a cheap SET NOT NULL.

    The plan has its own; what an ADD, VALIDATE and DROP of one name leave behind is nothing.
    """
    out: set[int] = set()
    added: dict[tuple[QName, str], list[Operation]] = {}
    for operation in _operations(statements):
        if operation.relation is None:
            continue
        relation = draft.start.resolve(operation.relation)
        if isinstance(operation, AddConstraint):
            name = operation.constraint.name
            table = draft.start.tables.get(relation)
            if operation.constraint.kind == "check" and name and table is not None:
                added[relation, name] = [operation]
        elif isinstance(operation, ValidateConstraint):
            added.get((relation, operation.constraint), []).append(operation)
        elif isinstance(operation, DropConstraint):
            covered = added.pop((relation, operation.constraint), None)
            if covered is not None:
                draft.note(
                    f"the constraint {operation.constraint} of {relation} is added and dropped "
                    "again: the plan does without it"
                )
                out |= {id(one) for one in (*covered, operation)}
    return out


def _operators_in_passing(draft: Draft, statements: Sequence[Statement]) -> set[int]:
    """Operators between an enum and the one made in its place, and their functions: made for the
    moment of the change and dropped again. The plan compares the two as text and needs none.
    """
    enums = {
        operation.relation.name
        for operation in _operations(statements)
        if isinstance(operation, CreateType) and operation.relation is not None
    }
    made: dict[str, DefineObject] = {}
    functions: dict[QName, CreateFunction] = {}
    pairs: list[tuple[Operation, Operation]] = []
    for operation in _operations(statements):
        if isinstance(operation, DefineObject) and operation.object == "OPERATOR":
            if any(re.search(rf"\b{re.escape(name)}\b", operation.text) for name in enums):
                made[operation.name] = operation
        elif isinstance(operation, CreateFunction) and operation.relation is not None:
            name = draft.start.resolve(operation.relation)
            if not operation.or_replace and name not in draft.start.functions:
                functions[name] = operation
        elif isinstance(operation, DropObject) and operation.object == "OPERATOR":
            if (one := made.pop(operation.name, None)) is not None:
                pairs.append((one, operation))
        elif isinstance(operation, DropObject) and operation.object == "FUNCTION":
            name = (
                draft.start.resolve(operation.relation) if operation.relation else QName(None, "")
            )
            if (its := functions.pop(name, None)) is not None:
                pairs.append((its, operation))
    if not any(isinstance(first, DefineObject) for first, _ in pairs):
        return set()
    found = {id(operation) for pair in pairs for operation in pair}
    rest = " ".join(s.sql for s in statements if id(s.operations[0]) not in found)
    names = [f.relation.name for f, _ in pairs if isinstance(f, CreateFunction) and f.relation]
    if any(re.search(rf"\b{re.escape(name)}\b", rest) for name in names):
        return set()  # somebody else calls it
    draft.note(
        "operators that the migration makes and drops again are left out: the plan needs none"
    )
    return found


def _changes(draft: Draft, statements: Sequence[Statement]) -> dict[QName, _Changes]:
    out: dict[QName, _Changes] = {}
    for operation in _operations(statements):
        if operation.relation is None:
            continue
        of = out.setdefault(draft.start.resolve(operation.relation), _Changes())
        if isinstance(operation, AddColumn):
            d = operation.definition
            if not (d.serial or d.identity is not None or d.generated is not None):
                of.added[operation.column] = operation
        elif isinstance(operation, DropColumn):
            of.dropped[operation.column] = operation
        elif isinstance(operation, SetNotNull):
            of.required.add(operation.column)
        elif isinstance(operation, DataStatement):
            _hear_update(of, operation)
            of.written.update(operation.written)
            if operation.verb == "update" and (found := read_looked_up(operation.text)) is not None:
                of.looked_up.add(found.column)
    for of in out.values():
        for column in [c for c in of.ups if of.written[c] > 1]:
            del of.ups[column], of.updates[column]  # each says a part of what rows get
    return out


def _hear_update(of: _Changes, update: DataStatement) -> None:
    """UPDATE t SET new = expr(old) [WHERE new IS NULL, or old IS NOT NULL]."""
    if update.verb != "update" or not update.simple or not update.assignments:
        return
    pairs = [(column.strip('"'), text) for column, text in update.assignments]
    if any(column not in of.added for column, _ in pairs):
        return
    if update.where is not None:
        read = set().union(*(analyse(text).names for _, text in pairs))
        harmless = {f"{quote_ident(c)} is null" for c, _ in pairs}
        harmless |= {f"{quote_ident(c)} is not null" for c in read}
        if folded(update.where) not in harmless:
            return
    for column, text in pairs:
        of.ups[column] = text
        of.updates[column] = update


def _groups(table: Table, changes: _Changes) -> list[set[str]]:
    """New columns that are computed from columns of the table, those with a source in common
    together."""
    groups: list[tuple[set[str], set[str]]] = []
    known = {c.name for c in table.columns}
    for new, up in changes.ups.items():
        read = set(analyse(up).names) & known
        if not read or changes.added[new].column in known:
            continue
        together = {new}
        for group in [g for g in groups if g[1] & read]:
            groups.remove(group)
            together |= group[0]
            read |= group[1]
        groups.append((together, read))
    return [new for new, _ in groups]


def _reshape(heard: Heard, draft: Draft, table: Table, changes: _Changes, group: set[str]) -> None:
    adds = [op for name, op in changes.added.items() if name in group]
    read = set().union(*(analyse(changes.ups[op.column]).names for op in adds))
    dropped = [c for c in table.columns if c.name in read and c.name in changes.dropped]
    if not dropped:
        return  # a column computed from others that stay: planned where it is added
    stay = [c for c in table.columns if c.name in read and c.name not in changes.dropped]
    at = Situation(schema=draft.start, pg=draft.pg)
    if any(changes.dropped[c.name].effects(at).error is not None for c in dropped):
        return  # what depends on it is said where the drop is planned
    updates = {id(u): u for n, u in changes.updates.items() if n in group}
    if any({c.strip('"') for c, _ in u.assignments} - group for u in updates.values()):
        return
    new = tuple(
        NewColumn(
            name=op.column,
            type=op.definition.type,
            clause=op.clause(),
            up=changes.ups[op.column],
            not_null=bool(op.definition.not_null),
            default=op.definition.default,
            required=bool(op.definition.not_null) or op.column in changes.required,
        )
        for op in adds
    )
    reshape = Reshape(table.name, new, tuple(dropped), tuple(stay))
    heard.reshapes[id(adds[0])] = (reshape, tuple(adds))
    heard.skipped |= {id(op) for op in adds} | updates.keys()
    heard.skipped |= {id(changes.dropped[c.name]) for c in dropped}


def _ask_renames(
    draft: Draft, table: Table, changes: _Changes, final: Schema, *, moved: bool
) -> set[int]:
    """A column goes and one of the same type and a like name comes: is it the same one?

    Identities of the operations that wait for the answer: nothing else is asked about them.
    """
    waiting: set[int] = set()
    read = set().union(*(analyse(up).names for up in changes.ups.values()))
    for name, added in changes.added.items():
        answered = name in changes.ups or draft.answer("fill", table.name, name) is not None
        if answered or name in changes.looked_up:
            continue
        new_type = normalise_type(added.definition.type)
        like = [
            column
            for column in table.columns
            if column.name in changes.dropped
            and column.name not in read
            and normalise_type(column.type) == new_type
            and _alike(column.name, name)
            and not _refer_apart(draft.start, final, table, column.name, name, moved=moved)
        ]
        if len(like) != 1:
            continue
        old, target = like[0], f"{table.name.name}.{name}"
        draft.ask(
            target,
            f"{table.name.name}.{old.name} ({old.type}) goes and {target} of the same type comes: is "
            f"it the same column under a new name? Then its values must be carried over",
            f"--up {target}={quote_ident(old.name)} (it is), or --fill {target}=NULL (it is not); or "
            f"-- zdd: up {target} = {quote_ident(old.name)} in the migration",
        )
        waiting |= {id(added), id(changes.dropped[old.name])}
    return waiting


def _refer_apart(
    start: Schema, final: Schema, table: Table, old: str, new: str, *, moved: bool
) -> bool:
    """Whether foreign keys tie the old column to one table and the new one to another.

    No value of the one is a value of the other then. A table under a new name would be the same
    table; `moved` is whether the migration gives any table one.
    """
    now = final.tables.get(table.name)
    was_to, is_to = (
        {c.ref_table for c in of.constraints if c.kind == "foreign_key" and c.columns == (column,)}
        for of, column in ((table, old), (now or table, new))
    )
    if len(was_to) != 1 or len(is_to) != 1:
        return False
    before, after = was_to.pop(), is_to.pop()
    if before is None or after is None or before == after:
        return False
    return not moved or before in final.tables or after in start.tables


def _alike(old: str, new: str) -> bool:
    words = [set(re.findall(r"[a-z0-9]+", name.lower())) for name in (old, new)]
    return bool(words[0] & words[1]) or SequenceMatcher(None, old, new).ratio() >= _ALIKE
