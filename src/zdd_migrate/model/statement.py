"""What was read: migrations made of statements, each with the text it had in its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zdd_migrate.operations.base import Operation


@dataclass(frozen=True, slots=True)
class Span:
    """Where a statement stands in its file. Lines and columns count from 1, ends are inclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    #: character offsets into the file's decoded text, end exclusive
    start: int = 0
    end: int = 0

    def inner(self, sql: str, start: int, end: int) -> Span:
        """The span of a stretch of `sql`, whose own span this is; end exclusive."""
        line, column = self._place(sql, start)
        end_line, end_column = self._place(sql, max(start, end - 1))
        return Span(
            self.path, line, column, end_line, end_column, self.start + start, self.start + end
        )

    def _place(self, sql: str, offset: int) -> tuple[int, int]:
        before = sql[:offset]
        down = before.count("\n")
        if down == 0:
            return self.line, self.column + offset
        return self.line + down, offset - before.rindex("\n")


@dataclass(frozen=True, slots=True)
class Suppression:
    """`-- zdd: ignore ZDD101 because …` beside a statement. `reason` is never empty."""

    rule: str
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A conversion the user wrote down: `-- zdd: up users.username = lower(user_name)`.

    `target` is `table.column` or `schema.table.column`, `expression` SQL text.
    """

    kind: Literal["up", "down", "fill"]
    target: str
    expression: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement, quoted from its own text, and the operations it performs.

    `in_transaction` is whether the tool that runs this file will run it inside a transaction
    block; `transaction` numbers the block, so that statements that commit together share it.
    `source` is `do_block` or `function` for SQL found inside a body.
    """

    sql: str
    span: Span
    operations: tuple[Operation, ...] = ()
    in_transaction: bool = True
    transaction: int | None = 0
    understood: bool = True
    source: Literal["file", "do_block", "function"] = "file"


@dataclass(frozen=True, slots=True)
class Migration:
    """One unit that is released together: usually a file, or one revision."""

    name: str
    path: str
    statements: tuple[Statement, ...]
    suppressions: tuple[Suppression, ...] = ()
    answers: tuple[Answer, ...] = ()
    direction: Literal["up", "down"] = "up"
    #: problems of the file itself: (line, message), each becomes a ZDD9xx finding
    problems: tuple[tuple[int, str], ...] = field(default=())
    #: a phase of a plan, which was judged when it was planned: it only takes part in the schema
    planned: bool = False
