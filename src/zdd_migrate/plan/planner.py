"""The planner: hears every operation in order, lets each room add its steps, and makes the plan."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import folded, quote_ident, quote_qname
from zdd_migrate.blocks.reshape import plan_reshape
from zdd_migrate.errors import InputError
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase, Plan, Question, Release
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration, Statement
from zdd_migrate.operations import read_statement
from zdd_migrate.operations.base import DEFAULT_PG, NotUnderstood, Operation, Situation
from zdd_migrate.operations.create_table import CreateTable
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.operations.do_block import DoBlock, outlasting
from zdd_migrate.operations.rename_table import RenameTable
from zdd_migrate.operations.walk import replay
from zdd_migrate.plan.across import carried_rows
from zdd_migrate.plan.conversions import conversions
from zdd_migrate.plan.enums import plan_rebuilt, rebuilt_enums
from zdd_migrate.plan.fingerprint import fingerprint
from zdd_migrate.plan.lookups import fills_looked_up
from zdd_migrate.plan.materialized import MadeAnew, computed_anew
from zdd_migrate.plan.replaced import replaced
from zdd_migrate.plan.twin_tables import Anew, made_anew
from zdd_migrate.plan.whole import hear

Answers = Mapping[tuple[str, str], str]


def make_plan(
    migrations: Sequence[Migration],
    schema: Schema,
    *,
    name: str,
    before: str = "",
    pg: int = DEFAULT_PG,
    answers: Answers | None = None,
    via: str | None = None,
    dual_write: bool = False,
) -> Plan:
    """Plan migrations as one release. `schema` is the one before them and is not changed.

    `via` chooses among the ways to a new name: copy or view, None for the usual one. `dual_write`
    has the code keep old and new columns in step, in further releases, instead of a trigger.
    Raises InputError where a statement was not understood: nothing is planned around it.
    """
    for migration in migrations:
        for statement in migration.statements:
            _refuse_unread(migration, statement)
    given = {**_inline_answers(migrations), **(answers or {})}
    schema = schema.copy()
    schema.new_session()
    draft = Draft(
        schema=schema.copy(), start=schema, pg=pg, answers=given, via=via, dual_write=dual_write
    )
    statements = [(m, s) for m in migrations for s in m.statements]
    every = [s for _, s in statements]
    final = draft.start.copy()
    replay(every, final)
    draft.given = _given_defaults(draft.start, final)
    heard = hear(draft, every, final)
    carried = carried_rows(draft.start, final, every)
    told = heard.skipped | carried.keys()
    used = heard.skipped | _infer_from_updates(draft, every, told, final)
    draft.dropped, draft.replaced = replaced(draft.start, every)
    enums = {
        operation: rebuilt
        for rebuilt in rebuilt_enums(draft.start, every)
        for operation in rebuilt.covered
    }
    anew: dict[int, Anew | MadeAnew] = {
        **made_anew(draft.start, every),
        **computed_anew(draft.start, every),
    }
    used |= {operation for one in carried.values() for operation in one.covered}
    draft.accounted = {operation for one in carried.values() for operation in one.accounted}
    kinds = _kinds(draft.start, every)
    draft.done_to = {table: frozenset(k) for table, k in kinds.items()}
    draft.renames_alone = all(set(k) == {"rename_column"} for k in kinds.values())
    draft.only_moved = {t: len(k) for t, k in kinds.items() if set(k) == {"rename_table"}}
    current: Migration | None = None
    for number, (migration, statement) in enumerate(statements):
        if migration is not current:
            current = migration
            draft.schema.new_session()
        draft.statement, draft.number = statement.sql.rstrip().rstrip(";"), number
        draft.in_transaction = statement.in_transaction
        if isinstance(statement.operations[0], DoBlock):
            _plan_block(draft, statement.operations[0], statement.operations[1:])
            continue
        for operation in statement.operations:
            if id(operation) in heard.scaffolding:
                continue
            if id(operation) in anew:
                anew[id(operation)].plan(draft, operation, final)
            elif id(operation) in enums:
                plan_rebuilt(draft, enums[id(operation)], final)
            elif id(operation) in heard.reshapes:
                reshape, adds = heard.reshapes[id(operation)]
                plan_reshape(draft, reshape)
                for add in adds:
                    add.plan_constraints(draft, draft.resolve(add.relation), Phase.CONTRACT)
            elif id(operation) in carried:
                carried[id(operation)].plan(draft)
            elif id(operation) not in used:
                operation.plan(draft)
            draft.created.update(operation.created(draft.schema))
            operation.apply(draft.schema)
    steps = draft.finish() if not (draft.questions or draft.refusals) else {}
    touched = [table for table in draft.touches if table in draft.start.tables]
    return Plan(
        name=name,
        schema_hash=fingerprint(draft.start, touched),
        steps={phase: steps.get(phase, ()) for phase in Phase},
        questions=tuple(_distinct_questions(draft.questions)),
        refusals=tuple(draft.refusals),
        laws=tuple(draft.laws),
        notes=tuple(draft.notes),
        sources=tuple(s.sql.rstrip().rstrip(";") for _, s in statements),
        before=before,
        touches=tuple(touched),
        breaks_old=draft.breaks_old,
        restricts_old=draft.restricts_old,
        pg_version=pg,
        alternatives=tuple(draft.alternatives),
        leaves=tuple(draft.leaves.items()),
        conversions=conversions(draft),
        search_path=tuple(draft.search_path),
        dual_writes=tuple(draft.dual_writes),
    )


def _given_defaults(start: Schema, final: Schema) -> dict[tuple[QName, str], str]:
    """What new columns of old tables get in the end where an INSERT leaves them out."""
    return {
        (name, column.name): column.default
        for name, table in final.tables.items()
        for column in table.columns
        if column.default is not None
        and column.default.strip().upper() != "NULL"
        and name in start.tables
        and start.tables[name].column(column.name) is None
    }


def _kinds(start: Schema, statements: Sequence[Statement]) -> dict[QName, list[str]]:
    """What the migration does to each table, by the name that it has at the start."""
    kinds: dict[QName, list[str]] = {}
    names: dict[QName, QName] = {}
    for statement in statements:
        for operation in statement.operations:
            if operation.relation is None:
                continue
            called = start.resolve(operation.relation)
            table = names.get(called, called)
            kinds.setdefault(table, []).append(operation.kind)
            if isinstance(operation, RenameTable):
                names[called.sibling(operation.to)] = table
    return kinds


def _plan_block(draft: Draft, block: DoBlock, inner: Sequence[Operation]) -> None:
    """A block as a whole; or, where it only guards its statements, each of them by itself."""
    # what a block creates unless it is there can be taken back only where that is known
    if not block.guarded or (block.only_creates and not draft.schema.complete):
        if not _plan_new_tables(draft, block, inner):
            block.plan(draft)
        for operation in outlasting(inner):
            if isinstance(operation, DataStatement) and operation.doing.verb != "select":
                operation.doing.refuse_stale(draft)
        for operation in inner:
            draft.created.update(operation.created(draft.schema))
            operation.apply(draft.schema)
        return
    draft.note("the DO block's statements are planned as they stand in it, without their guards")
    for position, text in enumerate(block.guarded, start=1):
        draft.statement = text
        draft.number = -(1000 * (1 + abs(draft.number)) + position)
        for operation in read_statement(text):
            at = Situation(draft.schema, draft.pg, created=draft.created)
            if draft.schema.complete and operation.effects(at).error is not None:
                draft.note(f"there already: {' '.join(text.split())[:80]}")
                continue
            operation.plan(draft)
            draft.created.update(operation.created(draft.schema))
            operation.apply(draft.schema)


def _plan_new_tables(draft: Draft, block: DoBlock, inner: Sequence[Operation]) -> bool:
    """A block that only makes tables, and indexes of theirs, stands in expand as it is written."""
    made = {
        draft.schema.resolve(o.relation)
        for o in inner
        if isinstance(o, CreateTable) and o.relation is not None and o.query is None
    }
    if not made or not draft.schema.complete or made & draft.start.tables.keys():
        return False
    for operation in inner:
        on_new = operation.relation is not None and draft.schema.resolve(operation.relation) in made
        if not (on_new and operation.kind in ("create_table", "create_index")):
            return False
    drops = [f"DROP TABLE IF EXISTS {quote_qname(table)}" for table in sorted(made, reverse=True)]
    draft.as_written(Phase.EXPAND, undo=drops, why="the migration's own block makes new tables")
    return True


def already_safe(plan: Plan) -> bool:
    """Whether the plan needs no release in between: one phase, and it is expand."""
    used = [
        phase
        for phase in Phase
        if any(not isinstance(step, Release) for step in plan.steps.get(phase, ()))
    ]
    return used in ([], [Phase.EXPAND])


def _refuse_unread(migration: Migration, statement: Statement) -> None:
    for operation in statement.operations:
        if isinstance(operation, NotUnderstood):
            raise InputError(
                f"{migration.path}:{statement.span.line}: not understood: {operation.reason}; "
                "nothing was planned"
            )
    if not statement.understood:
        raise InputError(
            f"{migration.path}:{statement.span.line}: not understood; nothing was planned"
        )


def parse_answer(kind: str, text: str) -> tuple[tuple[str, str], str]:
    """`users.username=lower(user_name)` → (("up", "users.username"), "lower(user_name)")."""
    match = re.match(r"\s*([\w\".$]+)\s*=\s*(.+)$", text, re.DOTALL)
    if match is None or "." not in match[1]:
        raise InputError(f"--{kind} {text}: write it as table.column=expression")
    return (kind, match[1].replace('"', "").lower()), match[2].strip()


def _inline_answers(migrations: Sequence[Migration]) -> dict[tuple[str, str], str]:
    return {
        (answer.kind, answer.target.replace('"', "").lower()): answer.expression
        for migration in migrations
        for answer in migration.answers
    }


def _infer_from_updates(
    draft: Draft, statements: Sequence[Statement], heard: Collection[int], final: Schema
) -> set[int]:
    """Answers from the UPDATE that stands beside the DDL: `UPDATE t SET new = expr(old)`.

    An UPDATE that fills a column which the same migration adds says how the new shape comes from
    the old one. It is used as that column's `up` (or `fill`, where it reads no column) and not
    planned a second time. Returns the identities of the operations used; those `heard` already
    are left alone.
    """
    added: set[tuple[QName, str]] = set()
    used: set[int] = set()
    several = _written_again(draft, statements)
    for statement in statements:
        for operation in statement.operations:
            if operation.kind == "add_column" and operation.relation is not None:
                definition = getattr(operation, "definition", None)
                if definition is not None and definition.default is None:
                    added.add((draft.start.resolve(operation.relation), definition.name))
                added -= several
            if id(operation) in heard:
                continue
            if isinstance(operation, DataStatement) and (
                _fills_added(draft, operation, added)
                or fills_looked_up(draft, operation, added, final)
            ):
                used.add(id(operation))
    return used


def _written_again(draft: Draft, statements: Sequence[Statement]) -> set[tuple[QName, str]]:
    """Columns that more than one UPDATE writes: none of them says by itself what rows get."""
    written = Counter(
        (draft.start.resolve(operation.relation), column)
        for statement in statements
        for operation in statement.operations
        if isinstance(operation, DataStatement) and operation.relation is not None
        for column in operation.written
    )
    return {column for column, times in written.items() if times > 1}


def _fills_added(draft: Draft, operation: DataStatement, added: set[tuple[QName, str]]) -> bool:
    if operation.verb != "update" or not operation.simple or operation.relation is None:
        return False
    table = draft.start.resolve(operation.relation)
    pairs = [(column.strip('"'), text) for column, text in operation.assignments]
    if not pairs or any((table, column) not in added for column, _ in pairs):
        return False
    own_gap = {f"{quote_ident(c)} is null" for c, _ in pairs}
    if operation.where is not None and folded(operation.where) not in own_gap:
        return False
    for column, text in pairs:
        kind = "up" if analyse(text).names else "fill"
        draft.answers.setdefault((kind, f"{table.name}.{column}".lower()), text)
    return True


def _distinct_questions(questions: Sequence[Question]) -> list[Question]:
    return list({(q.about, q.ask): q for q in questions}.values())
