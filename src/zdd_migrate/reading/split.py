"""Cutting a file into statements, without understanding them.

One regular expression walks the text; only what can hide a semicolon is looked at: strings,
quoted names, dollar quotes, comments, parentheses, `BEGIN ATOMIC` bodies, templates, psql's own
commands and the data after COPY … FROM stdin. The pieces always rejoin to the source, whatever the
source is, in time that grows with its length alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["statement", "gap", "meta", "copy_data", "broken"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the source. `start` and `end` are character offsets, end exclusive.

    A statement's text ends with its semicolon, where it has one; a gap holds white space,
    comments and stray semicolons; meta is a psql backslash command; broken is a statement with a
    string, comment, dollar quote or parenthesis that never ends: `problem` says which, `opened`
    is where that begins. `problem` is also set on data of COPY that has no end.
    """

    text: str
    start: int
    end: int
    kind: Kind
    problem: str = ""
    opened: int = 0


#: a dollar quote's tag is letters, _ and whatever is not ASCII, then digits too; spelt by what it is
#: not, because a case-insensitive range over all of Unicode takes 20 ms to compile. A comment ends at
#: a carriage return too, as it does for Postgres: what follows one is not hidden
_STOP = re.compile(
    r"""
      (?P<line>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<estring>(?<![\w$])[eE]')
    | (?P<string>')
    | (?P<quoted>")
    | (?P<dollar>(?<![\w$])\$(?:[^\x00-@\[-^`{-\x7f][^\x00-/:-@\[-^`{-\x7f]*)?\$)
    | (?P<semi>;)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<atomic>(?<![\w$."])(?:BEGIN\s+ATOMIC|CASE|END)(?![\w$"]))
    | (?P<template>\{\{|\{%|\{\#|\$\{)
    | (?P<meta>\\)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# possessive: a string of some megabytes leaves no trail of places to come back to
_ESTRING_END = re.compile(r"(?:[^'\\]++|\\.|'')*+'", re.DOTALL)
_STRING_END = re.compile(r"(?:[^']++|'')*+'", re.DOTALL)
_QUOTED_END = re.compile(r'(?:[^"]++|"")*+"', re.DOTALL)
_COMMENT_PART = re.compile(r"/\*|\*/")
_GAP = re.compile(r"(?:[\s;\ufeff\x00]++|\\;|--[^\n\r]*+)++")
_COPY_STDIN = re.compile(r"\s*COPY\b.*\bFROM\s+STDIN\b", re.IGNORECASE | re.DOTALL)
_COPY_END = re.compile(r"^\\\.[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_META = re.compile(r"\\(?:\\|[A-Za-z_]+|.)?")
#: psql commands that send what was typed so far
_SENDS = re.compile(r"\\(?:g|gx|gexec|gset|gdesc|watch|crosstabview|bind\w*|parse|sendpipeline)\b")
_TEMPLATE_END = {"{{": "}}", "{%": "%}", "{#": "#}", "${": "}"}
#: a template longer than this is an opening that was never meant as one
_TEMPLATE_LIMIT = 2000
_STARTS = (
    r"(?:CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|SELECT|BEGIN|COMMIT|ROLLBACK|GRANT|REVOKE|COMMENT|SET|"
    r"DO|CALL|TRUNCATE|REINDEX|VACUUM|ANALYZE|WITH|LOCK|REFRESH|COPY)\b"
)
#: where reading goes on after a piece that never ends: a line that starts a statement, best after
#: one that ended
_RESUME = re.compile(rf"^(?={_STARTS})", re.MULTILINE | re.IGNORECASE)
_RESUME_AFTER_END = re.compile(
    rf";(?:[ \t\r\n]++|--[^\n\r]*+)*+(?<=[\n\r])(?={_STARTS})", re.IGNORECASE
)
#: each broken piece costs a look at the rest of the file: as many characters are looked at again as
#: these many lengths of the file and this many more; what breaks after that takes the rest with it
_AGAIN_LENGTHS, _AGAIN_MORE = 4, 500_000


def split(text: str) -> list[Piece]:
    """The pieces of `text`, in order; `"".join(p.text for p in split(t)) == t`."""
    return _Splitter(text).run()


class _Splitter:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[Piece] = []
        self.again = _AGAIN_LENGTHS * len(text) + _AGAIN_MORE

    def run(self) -> list[Piece]:
        at, size = 0, len(self.text)
        while at < size:
            after = self._skip_gap(at)
            if after > at:
                self._add("gap", at, after)
                at = after
            elif self.text[at] == "\\":
                end = self._meta_end(at)
                self._add("meta", at, end)
                at = end
            else:
                at = self._statement(at)
        return self.pieces

    def _add(self, kind: Kind, start: int, end: int, problem: str = "", opened: int = 0) -> None:
        if end > start:
            self.pieces.append(Piece(self.text[start:end], start, end, kind, problem, opened))

    def _meta_end(self, at: int) -> int:
        """A psql command goes to the end of its line, or to two backslashes."""
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end + 1
        two = self.text.find("\\\\", at + 2, end)
        return end if two < 0 else two + 2

    def _skip_gap(self, at: int) -> int:
        """Past white space, comments and stray semicolons; stays where none follows."""
        while True:
            match = _GAP.match(self.text, at)
            after = match.end() if match else at
            if self.text.startswith("/*", after):
                end = self._block_end(after + 2)
                if end is None:
                    return after
                after = end
            if after == at:
                return at
            at = after

    def _block_end(self, at: int) -> int | None:
        depth = 1
        while (match := _COMMENT_PART.search(self.text, at)) is not None:
            depth += 1 if match[0] == "/*" else -1
            at = match.end()
            if depth == 0:
                return at
        return None

    def _statement(self, start: int) -> int:
        """Read one statement from `start`; gives where it ends."""
        text, at, parens, atomic = self.text, start, 0, 0
        opened, swallowed = start, False
        while (match := _STOP.search(text, at)) is not None:
            kind = match.lastgroup
            at = match.end()
            if kind == "semi":
                if parens == 0 and atomic == 0:
                    return self._end(start, at)
                swallowed = True
            elif kind == "open":
                opened = match.start() if parens == 0 else opened
                parens += 1
            elif kind == "close":
                parens = max(0, parens - 1)
            elif kind == "atomic":
                opened = match.start() if atomic == 0 else opened
                atomic = self._body_depth(match[0], atomic)
            elif kind == "meta":
                if _SENDS.match(text, match.start()) or text.startswith("\\;", match.start()):
                    return self._end(start, match.start())
                at = self._meta_end(match.start())
            elif kind != "line":
                end = self._closed(kind or "", match)
                if end is None:
                    return self._broken(start, match.start(), _WORDS.get(kind or "", "string"))
                at = end
        if swallowed and (parens or atomic):
            what = "parenthesis" if parens else "BEGIN ATOMIC body"
            return self._broken(start, opened, what)
        return self._end(start, len(text))

    @staticmethod
    def _body_depth(word: str, depth: int) -> int:
        upper = word.upper()
        if upper.startswith("BEGIN"):
            return depth + 1
        if depth == 0:
            return 0
        return depth + 1 if upper == "CASE" else depth - 1

    def _closed(self, kind: str, match: re.Match[str]) -> int | None:
        """Where the string, name, dollar quote, comment or template that starts here ends."""
        at = match.end()
        if kind == "block":
            return self._block_end(at)
        if kind == "template":
            closing = _TEMPLATE_END[match[0]]
            end = self.text.find(closing, at, at + _TEMPLATE_LIMIT)
            return at if end < 0 else end + len(closing)
        if kind == "dollar":
            end = self.text.find(match[0], at)
            return None if end < 0 else end + len(match[0])
        ends = {"estring": _ESTRING_END, "string": _STRING_END, "quoted": _QUOTED_END}[kind]
        closed = ends.match(self.text, at)
        return closed.end() if closed else None

    def _end(self, start: int, end: int) -> int:
        self._add("statement", start, end)
        if _COPY_STDIN.match(self.text[start:end]):
            data = _COPY_END.search(self.text, end)
            stop = data.end() if data else len(self.text)
            self._add("copy_data", end, stop, "" if data else "data of COPY that never ends", end)
            return stop
        return end

    def _broken(self, start: int, opened: int, what: str) -> int:
        """Give up on this statement; go on at the next line that looks like a new one."""
        end = len(self.text)
        self.again -= end - start
        if self.again > 0:
            ended = _RESUME_AFTER_END.search(self.text, start + 1)
            begun = _RESUME.search(self.text, opened + 1)
            found = [m.end() for m in (ended, begun) if m is not None]
            end = min(found, default=end)
        self._add("broken", start, end, f"a {what} that never ends", opened)
        return end


_WORDS = {"block": "comment", "dollar": "dollar quote", "quoted": "quoted name"}
