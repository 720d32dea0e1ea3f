"""A file's text as a migration: statements with their spans, suppressions and answers."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Answer, Migration, Span, Statement, Suppression
from zdd_migrate.operations import NotUnderstood, Operation, read_statement
from zdd_migrate.reading.split import Piece, split

_REMARK = re.compile(r"--\s*zdd:\s*(.*)")
_IGNORE = re.compile(r"ignore(-file)?\s+([\w,\s-]+?)\s+because\s+(.+)$", re.IGNORECASE)
_ANSWER = re.compile(r"(up|down|fill)\s+([\w\".$]+)\s*=\s*(.+)$", re.IGNORECASE)
_CONTINUED = re.compile(r"--\s{2,}(\S.*)$")


def read_sql(
    text: str,
    path: str,
    *,
    name: str | None = None,
    in_transaction: bool = True,
    direction: str = "up",
    offset_line: int = 0,
) -> Migration:
    """Read SQL text. `in_transaction` is whether the tool wraps the file into one transaction.

    `offset_line` is added to every line, for text that is a section of a larger file.
    """
    lines = _Lines(text, path, offset_line)
    block = _Block(in_transaction)
    statements: list[Statement] = []
    problems: list[tuple[int, str]] = []
    for piece in split(text):
        if piece.kind == "broken":
            reason = f"{piece.problem}: the rest of the statement cannot be read"
            operation: tuple[Operation, ...] = (NotUnderstood(reason=reason),)
            statements.append(_statement(piece, lines, operation, block))
        elif piece.kind == "statement":
            operations = read_statement(piece.text)
            if operations:
                statements.append(_statement(piece, lines, operations, block))
        elif piece.kind == "meta" and not piece.text.startswith(
            ("\\.", "\\echo", "\\set ", "\\restrict", "\\unrestrict")
        ):
            first = piece.text.split()[0]
            reason = f"the psql command {first} is not followed"
            operation = (NotUnderstood(reason=reason),)
            statements.append(_statement(piece, lines, operation, block))
    suppressions, answers, wrong = remarks(text, offset_line)
    problems += wrong
    return Migration(
        name=name or Path(path).stem,
        path=path,
        statements=tuple(statements),
        suppressions=tuple(suppressions),
        answers=tuple(answers),
        direction="down" if direction == "down" else "up",
        problems=tuple(problems),
    )


def decode(data: bytes, path: str) -> str:
    """A file's bytes as text: UTF-8, or UTF-16 with a byte order mark; else InputError."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{path}: neither UTF-8 nor UTF-16 text; save it as UTF-8") from None
    if b"\x00" in data[:4096]:
        raise InputError(f"{path}: this is a binary file, not SQL")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from None


class _Lines:
    """Offsets to lines and columns."""

    def __init__(self, text: str, path: str, offset_line: int) -> None:
        self.path = path
        self.offset = offset_line
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def span(self, start: int, end: int) -> Span:
        line = bisect_right(self.starts, start)
        last = max(start, end - 1)
        end_line = bisect_right(self.starts, last)
        return Span(
            path=self.path,
            line=line + self.offset,
            column=start - self.starts[line - 1] + 1,
            end_line=end_line + self.offset,
            end_column=last - self.starts[end_line - 1] + 1,
            start=start,
            end=end,
        )


class _Block:
    """Which transaction block a statement belongs to."""

    def __init__(self, wrapped: bool) -> None:
        self.wrapped = wrapped
        self.number = 0
        self.open = wrapped

    def enter(self, operations: Iterable[Operation]) -> tuple[bool, int | None]:
        """Whether the next statement runs in a transaction, and in which."""
        verb = next((getattr(o, "verb", None) for o in operations if o.kind == "transaction"), None)
        if verb == "begin":
            if not self.open:
                self.number += 1
            self.open = True
            return True, self.number
        inside, number = self.open, self.number
        if verb in ("commit", "rollback"):
            self.number += 1
            self.open = False
        return inside, number if inside else None


def _statement(
    piece: Piece, lines: _Lines, operations: tuple[Operation, ...], block: _Block
) -> Statement:
    sql = piece.text.rstrip()
    inside, number = block.enter(operations)
    return Statement(
        sql=sql.rstrip(";").rstrip(),
        span=lines.span(piece.start, piece.start + len(sql)),
        operations=operations,
        in_transaction=inside,
        transaction=number,
        understood=not any(isinstance(o, NotUnderstood) for o in operations),
    )


def remarks(
    text: str, offset_line: int
) -> tuple[list[Suppression], list[Answer], list[tuple[int, str]]]:
    """Suppressions, answers and what is wrong with either, from `-- zdd:` comments."""
    suppressions: list[Suppression] = []
    answers: list[Answer] = []
    problems: list[tuple[int, str]] = []
    continued = False
    if "zdd:" not in text:
        return suppressions, answers, problems
    for number, line in enumerate(text.split("\n"), start=1 + offset_line):
        match = _REMARK.search(line)
        if match is None:
            more = _CONTINUED.match(line.strip()) if continued else None
            if more is not None and answers:
                last = answers[-1]
                answers[-1] = replace(last, expression=f"{last.expression} {more[1].strip()}")
            else:
                continued = False
            continue
        remark = re.sub(r"\s+-- ZDD.*$", "", match[1].strip())
        continued = False
        if (ignored := _IGNORE.match(remark)) is not None:
            rules = [rule for rule in re.split(r"[,\s]+", ignored[2]) if rule]
            at = 0 if ignored[1] else number
            suppressions += [Suppression(rule, ignored[3].strip(), at) for rule in rules]
        elif (answer := _ANSWER.match(remark)) is not None:
            kind = answer[1].lower()
            answers.append(Answer(kind, answer[2], answer[3].strip()))  # type: ignore[arg-type]
            continued = True
        elif remark.lower().startswith("ignore"):
            problems.append(
                (number, "a suppression without a reason: write `ignore ZDD101 because …`")
            )
        else:
            problems.append((number, f"`zdd: {remark}` is neither ignore, up, down nor fill"))
    return suppressions, answers, problems
