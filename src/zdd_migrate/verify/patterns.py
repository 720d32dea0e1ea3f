"""Texts that a CHECK with a regular expression, a LIKE or a length lets through.

The common part of Postgres' regular expressions is read: characters, classes, groups, choices,
repetition, anchors. Whatever looks around or refers back is not, and said so. What is made is only a
proposal: the server's own CHECK decides what becomes a row.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from zdd_migrate.grammar.types import parse_type, type_name
from zdd_migrate.model.schema import Column, Constraint, Schema, Table

#: beyond what must be there, repetition goes on for so long at most, but for the odd longest one
_MORE, _LONGEST = 6, 300
_TRIES = 20
_PLAIN = string.ascii_letters + string.digits
_WORD = _PLAIN + "_"
_CLASSES = {
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "alnum": _PLAIN,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "punct": string.punctuation,
    "space": " ",
    "blank": " ",
    "xdigit": "0123456789abcdefABCDEF",
    "word": _WORD,
}
_ESCAPES = {"d": string.digits, "w": _WORD, "s": " "}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
#: what may stand anywhere and takes no room; where it does not fit, the server says so
_NO_ROOM = "AZyYmM"


class NotMadeUpError(Exception):
    """A pattern that texts are not made up for, and why."""


@dataclass(frozen=True, slots=True)
class _Chars:
    """One of these characters."""

    among: str

    def example(self, random: Random) -> str:
        return random.choice(self.among)


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]

    def example(self, random: Random) -> str:
        return "".join(part.example(random) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Choice:
    among: tuple[_Node, ...]

    def example(self, random: Random) -> str:
        return random.choice(self.among).example(random)


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Node
    least: int
    most: int | None

    def example(self, random: Random) -> str:
        usual = self.least + _MORE
        most = usual if self.most is None else min(self.most, usual)
        count = random.randint(self.least, most)
        if random.random() < 0.05:
            count = min(self.most, _LONGEST) if self.most is not None else self.least
        return "".join(self.part.example(random) for _ in range(count))


_Node = _Chars | _Sequence | _Choice | _Repeat


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a text must look like. `text` is how the schema says it."""

    text: str
    node: _Node

    def example(self, random: Random, limit: int | None = None) -> str:
        """A text that matches, not longer than `limit` where that can be had."""
        made = self.node.example(random)
        for _ in range(_TRIES):
            if limit is None or len(made) <= limit:
                break
            made = self.node.example(random)
        return made


def read(text: str) -> Pattern:
    """A regular expression as Postgres takes it. NotMadeUpError."""
    body = re.sub(r"^\(\?i\)", "", text)
    reader = _Reader(body)
    node = reader.choice()
    if reader.at < len(body):
        raise NotMadeUpError("a parenthesis that nothing opens")
    return Pattern(text, node)


def read_like(text: str) -> Pattern:
    """A pattern of LIKE."""
    parts: list[_Node] = []
    escaped = False
    for letter in text:
        if escaped or letter not in "\\%_":
            parts.append(_Chars(letter))
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            any_ = _Chars(_PLAIN)
            parts.append(_Repeat(any_, 0, None) if letter == "%" else any_)
    return Pattern(text, _Sequence(tuple(parts)))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        letter = self._next()
        if not letter:
            raise NotMadeUpError("it ends too early")
        self.at += 1
        return letter

    def choice(self) -> _Node:
        among = [self._sequence()]
        while self._next() == "|":
            self.at += 1
            among.append(self._sequence())
        return among[0] if len(among) == 1 else _Choice(tuple(among))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._next() not in ("", "|", ")"):
            atom = self._atom()
            parts.append(self._repeated(atom))
        return _Sequence(tuple(parts))

    def _repeated(self, atom: _Node) -> _Node:
        least_most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._next())
        if least_most is not None:
            self.at += 1
        else:
            bound = re.compile(r"\{(\d+)(,(\d*))?\}").match(self.text, self.at)
            if bound is None:
                return atom
            self.at = bound.end()
            least = int(bound[1])
            most = least if bound[2] is None else int(bound[3]) if bound[3] else None
            least_most = (least, most)
        if self._next() == "?":  # as few as can be: the same texts match
            self.at += 1
        return _Repeat(atom, *least_most)

    def _atom(self) -> _Node:
        letter = self._take()
        if letter == "(":
            return self._group()
        if letter == "[":
            return self._class()
        if letter == ".":
            return _Chars(_PLAIN)
        if letter in "^$":
            return _Sequence(())
        if letter == "\\":
            return self._escape()
        if letter in "*+?":
            raise NotMadeUpError(f"{letter} repeats nothing")
        return _Chars(letter)

    def _group(self) -> _Node:
        if self.text.startswith("?:", self.at):
            self.at += 2
        elif self._next() == "?":
            raise NotMadeUpError(f"({self.text[self.at : self.at + 2]} looks around")
        node = self.choice()
        if self._take() != ")":
            raise NotMadeUpError("a parenthesis is not closed")
        return node

    def _escape(self) -> _Node:
        letter = self._take()
        if letter in _NO_ROOM:
            return _Sequence(())
        return _Chars(self._escaped(letter))

    def _escaped(self, letter: str) -> str:
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter.lower() in _ESCAPES:
            return _without(_ESCAPES[letter.lower()])
        if letter in _CONTROL:
            return _CONTROL[letter]
        if letter.isdigit():
            raise NotMadeUpError(f"\\{letter} refers back")
        if letter.isalpha():
            raise NotMadeUpError(f"\\{letter} is not read")
        return letter

    def _class(self) -> _Node:
        negated = self._next() == "^"
        self.at += negated
        among = ""
        first = True
        while first or self._next() != "]":
            among += self._members()
            first = False
        self.at += 1
        among = "".join(dict.fromkeys(among))
        among = _without(among) if negated else among
        if not among:
            raise NotMadeUpError("a class that holds nothing common")
        return _Chars(among)

    def _members(self) -> str:
        """One character of a class, a range, or a named class."""
        letter = self._take()
        if letter == "[" and self._next() in (":", ".", "="):
            named = re.compile(r":(\w+):\]").match(self.text, self.at)
            if named is None or named[1] not in _CLASSES:
                raise NotMadeUpError(f"[{self.text[self.at : self.at + 8]} is not read")
            self.at = named.end()
            return _CLASSES[named[1]]
        if letter == "\\":
            found = self._escaped(self._take())
            if len(found) > 1:
                return found
            letter = found
        if self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
            self.at += 1
            last = self._take()
            last = self._escaped(self._take()) if last == "\\" else last
            if not (len(last) == 1 and 0 <= ord(last) - ord(letter) < 4096):
                raise NotMadeUpError(f"the range {letter}-{last} is not read")
            return "".join(map(chr, range(ord(letter), ord(last) + 1)))
        return letter


def _without(letters: str) -> str:
    return "".join(c for c in _PLAIN + "-_. " if c not in letters)


# -- where a schema says so ------------------------------------------------------------------

_LITERAL = r"(?P<e>E?)'(?P<text>(?:[^']|'')*)'"
_MATCHES = re.compile(rf"(?<![!~])(?P<how>~\*?|~~\*?|\bI?LIKE\b)\s*{_LITERAL}", re.IGNORECASE)
_LENGTH = re.compile(
    r"\b(?:char(?:acter)?_)?length\s*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*"
    r"(?P<how>=|>=|>|<=|<|BETWEEN)\s*(?P<n>\d+)",
    re.IGNORECASE,
)


def pattern_of(schema: Schema, table: Table, column: Column) -> Pattern | None:
    """What a column's own CHECKs, or its domain's, want its text to look like; None where they
    want nothing, or what texts are not made up for."""
    for text, read_it in _said(schema, table, column):
        try:
            return read_it(text)
        except NotMadeUpError:
            continue
    return None


def beyond(schema: Schema, table: Table) -> Iterator[str]:
    """The patterns of a table that texts are not made up for, and why."""
    for column in table.columns:
        for text, read_it in _said(schema, table, column):
            try:
                read_it(text)
            except NotMadeUpError as error:
                yield f"{column.name} must match '{text}', and {error}"


def _said(
    schema: Schema, table: Table, column: Column
) -> Iterator[tuple[str, Callable[[str], Pattern]]]:
    if parse_type(column.type).dimensions:
        return
    checks = [
        c.expression or c.definition
        for c in _checks(schema, column.type, table.constraints, column.name)
    ]
    for check in checks:
        for match in _MATCHES.finditer(check):
            text = match["text"].replace("''", "'")
            text = text.replace("\\\\", "\\") if match["e"] else text
            like = match["how"].startswith("~~") or match["how"].upper().endswith("LIKE")
            yield text, read_like if like else read
    for check in checks:
        bounds = [(m["how"].upper(), int(m["n"])) for m in _LENGTH.finditer(check)]
        if bounds:
            yield _of_length(bounds), read


def _checks(
    schema: Schema, type_: str, constraints: Iterable[Constraint], name: str
) -> Iterator[Constraint]:
    for constraint in constraints:
        if constraint.kind == "check" and constraint.columns == (name,):
            yield constraint
    seen = 0
    while seen < 8:  # domains over domains
        found = schema.user_type(type_name(type_))
        if found is None or found.kind != "domain" or found.base is None:
            return
        yield from found.constraints
        type_, seen = found.base, seen + 1


def _of_length(bounds: Iterable[tuple[str, int]]) -> str:
    least, most = 0, 2000
    for how, n in bounds:
        if how in ("=", ">=", "BETWEEN"):
            least = max(least, n)
        if how == ">":
            least = max(least, n + 1)
        if how in ("=", "<="):
            most = min(most, n)
        if how == "<":
            most = min(most, max(n - 1, 0))
    return f"[a-z0-9]{{{least},{max(least, most)}}}"
