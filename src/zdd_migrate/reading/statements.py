"""A file's text as a migration: statements with their spans, suppressions and answers."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.model.statement import Answer, Migration, Span, Statement, Suppression
from zdd_migrate.operations import NotUnderstood, Operation, read_statement
from zdd_migrate.reading.split import Piece, split
from zdd_migrate.reading.templates import expand

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
    at_once: bool = False,
    direction: str = "up",
    known: Mapping[str, str] | None = None,
) -> Migration:
    """Read SQL text. `in_transaction` is whether the tool wraps the file into one transaction.

    `at_once` is whether the tool sends the whole text in one message without a transaction of its
    own: Postgres then runs it in one all the same, unless it is a single statement. `known` are
    values of templates and variables.
    """
    pieces = split(text)
    reader = _Reader(text, path, _block(pieces, in_transaction, at_once), dict(known or {}))
    for piece in pieces:
        reader.take(piece)
    suppressions, answers, wrong = remarks(text)
    return Migration(
        name=name or Path(path).stem,
        path=path,
        statements=tuple(reader.statements),
        suppressions=tuple(suppressions),
        answers=tuple(answers),
        direction="down" if direction == "down" else "up",
        problems=(*wrong, *reader.problems),
    )


def section(text: str, start: int, end: int) -> str:
    """`text` with all but one stretch blanked, so that its lines and columns stay what they are."""
    return _blank(text[:start]) + text[start:end] + _blank(text[end:])


_NOT_NEWLINE = re.compile(r"[^\n]")


def _blank(text: str) -> str:
    return _NOT_NEWLINE.sub(" ", text)


def decode(data: bytes, path: str) -> str:
    """A file's bytes as text: UTF-8, or UTF-16 (with a byte order mark, or plainly so); InputError.

    NUL bytes in text stay: the statement that holds one is not understood.
    """
    encoding = _utf16(data)
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise InputError(f"{path}: neither UTF-8 nor UTF-16 text; save it as UTF-8") from None
    head = data[:4096]
    if head.count(0) * 10 > len(head):
        raise InputError(f"{path}: this is a binary file, not SQL")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from None


def _utf16(data: bytes) -> str | None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    head = data[: min(len(data), 4096) // 2 * 2]
    if len(head) < 4:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if even == 0 and odd * 10 >= half * 9:
        return "utf-16-le"
    return "utf-16-be" if odd == 0 and even * 10 >= half * 9 else None


#: psql commands that change neither the database nor which statements run
_QUIET = frozenset(
    """\\. \\echo \\qecho \\warn \\set \\unset \\restrict \\unrestrict \\pset \\timing \\encoding \\a \\t
    \\x \\H \\C \\f \\T \\o \\out \\p \\print \\errverbose \\conninfo \\cd \\setenv \\getenv \\prompt \\h \\help
    \\? \\copyright \\l \\list \\z \\sf \\sv \\g \\gx \\gset \\gdesc \\crosstabview \\elif \\else \\endif
    \\w \\write \\parse \\bind \\close \\\\""".split()
)
_META_REASONS = {
    "\\gexec": "psql runs the rows of the query before \\gexec as statements, and which these are is "
    "not known",
    "\\if": "psql decides here which statements up to \\endif run; they are read as if all of them did",
    "\\connect": "from here on psql talks to another database",
    "\\copy": "\\copy moves rows between a table and a file of the client",
    "\\q": "psql stops here, and what follows never runs",
    "\\r": "psql forgets here what was typed before",
    "\\!": "a program is run here",
    "\\watch": "psql repeats the query before \\watch without end",
}
_META_REASONS |= {
    "\\c": _META_REASONS["\\connect"],
    "\\quit": _META_REASONS["\\q"],
    "\\reset": _META_REASONS["\\r"],
}
_INCLUDES = ("\\i", "\\ir", "\\include", "\\include_relative")
_COMMAND = re.compile(r"\\(?:[A-Za-z_]+|.)?")
_SET = re.compile(r"\\set\s+(\w+)[ \t]+(.*)")


class _Reader:
    """Pieces become statements; psql's variables become known on the way."""

    def __init__(self, text: str, path: str, block: _Block, known: dict[str, str]) -> None:
        self.lines = _Lines(text, path)
        self.block = block
        self.known = known
        self.statements: list[Statement] = []
        self.problems: list[tuple[int, str]] = []

    def take(self, piece: Piece) -> None:
        """Read one piece."""
        if piece.kind == "statement":
            operations = self._understand(piece.text)
            if operations:
                self._add(piece, operations)
        elif piece.kind == "broken":
            where = self.lines.place(piece.opened)
            reason = f"{piece.problem}, from {where} on: the rest of the statement cannot be read"
            self._not_understood(piece, reason)
        elif piece.kind == "meta":
            self._meta(piece)
        elif piece.problem:
            self.problems.append(
                (self.lines.span(piece.start, piece.end).line, f"{piece.problem} with \\.")
            )

    def _understand(self, text: str) -> tuple[Operation, ...]:
        if "\0" in text:
            reason = "a NUL byte stands in it, which Postgres takes no text with"
            return (NotUnderstood(reason=reason, offset=text.index("\0")),)
        if "\r" in text:  # ends a comment for Postgres, whether or not a line feed follows
            text = _LONE_RETURN.sub("\n", text)
        expanded = expand(text, self.known)
        if expanded is None:
            return read_statement(text)
        if expanded.unknown:
            offset = text.index(expanded.unknown)
            what = " ".join(expanded.unknown.split())[:60]
            return (
                NotUnderstood(reason=f"what stands for {what} is not known here", offset=offset),
            )
        return tuple(
            replace(operation, offset=expanded.back(operation.offset))
            if isinstance(operation, NotUnderstood)
            else operation
            for operation in read_statement(expanded.text)
        )

    def _meta(self, piece: Piece) -> None:
        found = _COMMAND.match(piece.text)
        command = found[0] if found else piece.text
        if (given := _SET.match(piece.text)) is not None:
            self.known[given[1]] = _unquoted(given[2])
        elif command in ("\\unset", "\\gset", "\\if"):
            self.known.clear()
        if command in _QUIET or command.startswith("\\d"):
            return
        reason = _META_REASONS.get(command)
        if command in _INCLUDES:
            file = piece.text[len(command) :].strip().strip("'")
            reason = f"psql runs {file} here, which is not read: check it as a migration of its own"
        self._not_understood(piece, reason or f"the psql command {command} is not followed")

    def _not_understood(self, piece: Piece, reason: str) -> None:
        self._add(piece, (NotUnderstood(reason=reason),))

    def _add(self, piece: Piece, operations: tuple[Operation, ...]) -> None:
        sql = piece.text.rstrip()
        inside, number = self.block.enter(operations)
        self.statements.append(
            Statement(
                sql=sql.rstrip(";").rstrip(),
                span=self.lines.span(piece.start, piece.start + len(sql)),
                operations=operations,
                in_transaction=inside,
                transaction=number,
                understood=not any(isinstance(o, NotUnderstood) for o in operations),
            )
        )


_LONE_RETURN = re.compile(r"\r(?!\n)")


def _unquoted(value: str) -> str:
    """A value of \\set as psql joins it: its words run together, single quotes taken off."""
    parts = re.findall(r"'((?:[^']|'')*)'|(\S+)", value.strip())
    return "".join(quoted.replace("''", "'") or bare for quoted, bare in parts)


class _Lines:
    """Offsets to lines and columns."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def place(self, offset: int) -> str:
        """`line 3, column 7`."""
        line = bisect_right(self.starts, offset)
        return f"line {line}, column {offset - self.starts[line - 1] + 1}"

    def span(self, start: int, end: int) -> Span:
        """The span of a stretch, end exclusive."""
        line = bisect_right(self.starts, start)
        last = max(start, end - 1)
        end_line = bisect_right(self.starts, last)
        return Span(
            path=self.path,
            line=line,
            column=start - self.starts[line - 1] + 1,
            end_line=end_line,
            end_column=last - self.starts[end_line - 1] + 1,
            start=start,
            end=end,
        )


class _Block:
    """Which transaction block a statement belongs to.

    `wrapped` is whether one is open when the file begins, `always` whether one opens again by
    itself: several statements in one message are never outside a transaction.
    """

    def __init__(self, wrapped: bool, always: bool = False) -> None:
        self.always = always
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
            self.open = self.always
        return inside, number if inside else None


def _block(pieces: Sequence[Piece], in_transaction: bool, at_once: bool) -> _Block:
    always = at_once and sum(p.kind in ("statement", "broken") for p in pieces) > 1
    return _Block(in_transaction or always, always)


def remarks(
    text: str,
) -> tuple[list[Suppression], list[Answer], list[tuple[int, str]]]:
    """Suppressions, answers and what is wrong with either, from `-- zdd:` comments."""
    suppressions: list[Suppression] = []
    answers: list[Answer] = []
    problems: list[tuple[int, str]] = []
    continued = False
    if "zdd:" not in text:
        return suppressions, answers, problems
    for number, line in enumerate(text.split("\n"), start=1):
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
