"""A cursor over the tokens of one statement, with the few moves that DDL needs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import NUMBER, OP, QUOTED, STRING, WORD, Token, squeezed, tokenise
from zdd_migrate.model.names import QName

T = TypeVar("T")

_OPEN = {"(": ")", "[": "]"}
_CLOSE = {")", "]"}

#: words that end a bare expression in a column definition (DEFAULT a + 1 NOT NULL …)
COLUMN_CONSTRAINT_WORDS = frozenset(
    [
        "NOT",
        "NULL",
        "CHECK",
        "UNIQUE",
        "PRIMARY",
        "REFERENCES",
        "GENERATED",
        "CONSTRAINT",
        "COLLATE",
        "DEFAULT",
        "DEFERRABLE",
        "INITIALLY",
        "STORAGE",
        "COMPRESSION",
        "ENFORCED",
    ]
)
_INTERVAL_FIELDS = frozenset(["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"])


class Cursor:
    """Where reading stands. Methods that read move forward or raise UnreadError."""

    __slots__ = ("end", "i", "sql", "tokens")

    def __init__(self, sql: str, tokens: list[Token] | None = None) -> None:
        self.sql = sql
        self.tokens = tokenise(sql) if tokens is None else tokens
        self.i = 0
        self.end = len(self.tokens)

    # -- looking -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every token was read."""
        return self.i >= self.end

    def up(self, ahead: int = 0) -> str:
        """The upper-cased word (or operator) `ahead` tokens on; "" at the end and for literals."""
        i = self.i + ahead
        return self.tokens[i].up if i < self.end else ""

    def token(self, ahead: int = 0) -> Token | None:
        """The token `ahead` tokens on; None past the end."""
        i = self.i + ahead
        return self.tokens[i] if i < self.end else None

    def at(self, *words: str) -> bool:
        """Whether the next tokens are exactly these words or operators."""
        i = self.i
        tokens = self.tokens
        if i >= self.end or tokens[i].up != words[0]:
            return False
        if len(words) == 1:
            return True
        if i + len(words) > self.end:
            return False
        return all(tokens[i + k].up == word for k, word in enumerate(words))

    @property
    def offset(self) -> int:
        """Offset of the next token in the statement's text."""
        if self.i < self.end:
            return self.tokens[self.i].start
        return self.tokens[self.end - 1].end if self.end else 0

    # -- moving ------------------------------------------------------------------------------

    def accept(self, *words: str) -> bool:
        """Read these words if they come next."""
        i = self.i
        if i >= self.end or self.tokens[i].up != words[0]:
            return False
        if len(words) == 1:
            self.i = i + 1
            return True
        if self.at(*words):
            self.i += len(words)
            return True
        return False

    def accept_one(self, words: Collection[str]) -> str | None:
        """Read one of these words if it comes next, and say which."""
        up = self.up()
        if up and up in words:
            self.i += 1
            return up
        return None

    def expect(self, *words: str) -> None:
        """Read these words or fail."""
        if not self.accept(*words):
            raise self.unread(f"{' '.join(words)} was expected")

    def unread(self, message: str) -> UnreadError:
        """An error that says what was found instead, for the caller to raise."""
        token = self.token()
        found = f", found {token.text[:40]}" if token is not None else ", found the end"
        return UnreadError(message + found, self.offset)

    def expect_done(self) -> None:
        """Fail if something is left: an unread tail is a misreading."""
        self.accept(";")
        if not self.done:
            raise self.unread("nothing more was expected")

    def next(self) -> Token:
        """Read any one token."""
        token = self.token()
        if token is None:
            raise self.unread("more was expected")
        self.i += 1
        return token

    # -- names -------------------------------------------------------------------------------

    def name(self) -> str:
        """Read one identifier."""
        token = self.token()
        if token is None or token.kind not in (WORD, QUOTED):
            raise self.unread("a name was expected")
        self.i += 1
        return token.name

    def qname(self) -> QName:
        """Read `name`, `schema.name` or `database.schema.name`."""
        parts = [self.name()]
        while (
            self.at(".") and (token := self.token(1)) is not None and token.kind in (WORD, QUOTED)
        ):
            self.i += 1
            parts.append(self.name())
        if len(parts) == 1:
            return QName(None, parts[0])
        return QName(parts[-2], parts[-1])

    def path(self) -> tuple[str, ...]:
        """Read a dotted path, all its parts: `schema.table.column`."""
        parts = [self.name()]
        while self.accept("."):
            parts.append(self.name())
        return tuple(parts)

    def names(self) -> tuple[str, ...]:
        """Read a parenthesised list of identifiers."""
        self.expect("(")
        out = [self.name()]
        while self.accept(","):
            out.append(self.name())
        self.expect(")")
        return tuple(out)

    def list_of(self, read: Callable[[], T]) -> tuple[T, ...]:
        """Read one or more things separated by commas."""
        out = [read()]
        while self.accept(","):
            out.append(read())
        return tuple(out)

    def string(self) -> str:
        """Read a string literal and give its value."""
        token = self.token()
        if token is None or token.kind != STRING:
            raise self.unread("a string was expected")
        self.i += 1
        escape = "\\"
        if self.up() == "UESCAPE" and (given := self.token(1)) is not None and given.kind == STRING:
            escape = given.text[1:-1]
            self.i += 2
        return string_value(token.text, escape)

    def integer(self) -> int:
        """Read an integer, signed or not."""
        sign = -1 if self.accept("-") else 1
        self.accept("+")
        token = self.token()
        if token is None or token.kind != NUMBER or not token.text.isdigit():
            raise self.unread("a whole number was expected")
        self.i += 1
        return sign * int(token.text)

    # -- slices ------------------------------------------------------------------------------

    def slice(self, start: int, stop: int | None = None) -> str:
        """The source text from token index `start` up to the current (or `stop`) token."""
        last = (self.i if stop is None else stop) - 1
        if last < start:
            return ""
        return self.sql[self.tokens[start].start : self.tokens[last].end]

    def skip_group(self) -> None:
        """Read a balanced ( … ) or [ … ] group."""
        close = _OPEN.get(self.up())
        if close is None:
            raise self.unread("( was expected")
        depth = 0
        while not self.done:
            up = self.next().up
            if up in _OPEN:
                depth += 1
            elif up in _CLOSE:
                depth -= 1
                if depth == 0:
                    return
        raise self.unread(f"{close} was expected")

    def group_text(self) -> str:
        """Read a balanced ( … ) group; gives what stands in it, comments left out."""
        start = self.i
        self.skip_group()
        return squeezed(self.sql, self.tokens[start + 1 : self.i - 1])

    def rest(self) -> str:
        """Read everything left (but a final semicolon) and give its text."""
        start = self.i
        self.i = self.end
        if self.i > start and self.tokens[self.i - 1].up == ";":
            return self.slice(start, self.i - 1)
        return self.slice(start)

    def rest_without(self, endings: Collection[str]) -> tuple[str, str]:
        """Read everything left; gives its text without an ending of these, and the ending."""
        start = self.i
        text = self.rest()
        stop = self.i - 1 if self.tokens[self.i - 1].up == ";" else self.i
        for ending in endings:
            words = ending.split()
            first = stop - len(words)
            if first > start and all(
                self.tokens[first + k].up == word for k, word in enumerate(words)
            ):
                return self.slice(start, first), ending
        return text, ""

    def until(self, stops: Collection[str] = (), *, comma: bool = True) -> str:
        """Read up to a depth-0 stop word, comma (unless told not to), `)` or the end.

        At least one token is read. Words inside parentheses, brackets and CASE … END never stop;
        NOT does not stop in `IS NOT …`, and a word after `.` or `::` is a name.
        """
        start = self.i
        case_depth = 0
        previous = ""
        operand = False  # whether an operand must follow, so that no clause can
        while not self.done:
            up = self.up()
            first = self.i == start
            if up in _OPEN:
                self.skip_group()
                previous, operand = ")", False
                continue
            if up == "CASE" and previous != ".":
                case_depth += 1
            elif up == "END" and case_depth:
                case_depth -= 1
            elif case_depth == 0 and not first:
                if up in _CLOSE or up == ";" or (comma and up == ","):
                    break
                if (
                    up in stops
                    and not operand
                    and not (
                        (up == "NOT" and (previous == "IS" or self.up(1) in _NOT_OPERATORS))
                        or (up == "NULL" and previous in ("NOT", "IS"))
                        or (up == "DEFAULT" and previous == "SET")
                        or (up == "FROM" and previous == "DISTINCT")
                    )
                ):
                    break
            elif first and (up in _CLOSE or up in (";", ",")):
                break
            token = self.tokens[self.i]
            before, previous = previous, token.up or token.kind
            star = previous == "*" and before == "."  # v.* is whole
            operand = (token.kind == OP and not star) or previous in _BEFORE_OPERANDS
            self.i += 1
        if self.i == start:
            raise self.unread("an expression was expected")
        return self.slice(start)

    def expression(self, stops: Collection[str] = COLUMN_CONSTRAINT_WORDS) -> str:
        """Read an expression as it stands in a column definition; gives its text."""
        return self.until(stops)

    # -- types -------------------------------------------------------------------------------

    def type_text(self) -> str:
        """Read a type with its modifiers, arrays and multi-word spellings; gives its text."""
        start = self.i
        self._type()
        return squeezed(self.sql, self.tokens[start : self.i])

    def _type(self) -> None:
        self.accept("SETOF")
        up = self.up()
        token = self.token()
        if token is None or token.kind not in (WORD, QUOTED):
            raise self.unread("a type was expected")
        self.i += 1
        if up == "DOUBLE":
            self.accept("PRECISION")
        elif up in ("CHARACTER", "CHAR", "NCHAR", "BIT"):
            self.accept("VARYING")
        elif up == "NATIONAL":
            if not self.accept("CHARACTER"):
                self.accept("CHAR")
            self.accept("VARYING")
        while (
            self.at(".") and (token := self.token(1)) is not None and token.kind in (WORD, QUOTED)
        ):
            self.i += 2
        if self.accept("%", "TYPE"):
            return
        if up == "INTERVAL":
            self._interval_fields()
        if self.at("("):
            self.skip_group()
        if (up in ("TIME", "TIMESTAMP") and self.at("WITH", "TIME", "ZONE")) or (
            up in ("TIME", "TIMESTAMP") and self.at("WITHOUT", "TIME", "ZONE")
        ):
            self.i += 3
        self._array_suffix()

    def _array_suffix(self) -> None:
        while True:
            if self.at("["):
                self.skip_group()
            elif self.at("ARRAY"):
                self.i += 1
            else:
                return

    def _interval_fields(self) -> None:
        while self.up() in _INTERVAL_FIELDS or (
            self.up() == "TO" and self.up(1) in _INTERVAL_FIELDS
        ):
            self.i += 1


_BEFORE_OPERANDS = frozenset(["AND", "OR", "AS"])
_NOT_OPERATORS = frozenset(["IN", "LIKE", "ILIKE", "BETWEEN", "SIMILAR", "DISTINCT"])
