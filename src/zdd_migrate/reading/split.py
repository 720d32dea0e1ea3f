"""Cutting a file into statements, without understanding them.

One regular expression walks the text; only what can hide a semicolon is looked at: strings,
quoted names, dollar quotes, comments, parentheses, `BEGIN ATOMIC` bodies, psql's own lines and the
data after COPY … FROM stdin. The pieces always rejoin to the source, whatever the source is.
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
    comments and stray semicolons; meta is a psql backslash line; broken is a statement with a
    string, comment or dollar quote that never ends (`problem` says which).
    """

    text: str
    start: int
    end: int
    kind: Kind
    problem: str = ""


#: a dollar quote's tag is letters, _ and whatever is not ASCII, then digits too; spelt by what it is
#: not, because a case-insensitive range over all of Unicode takes 20 ms to compile
_STOP = re.compile(
    r"""
      (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<estring>(?<![\w$])[eE]')
    | (?P<string>')
    | (?P<quoted>")
    | (?P<dollar>(?<![\w$])\$(?:[^\x00-@\[-^`{-\x7f][^\x00-/:-@\[-^`{-\x7f]*)?\$)
    | (?P<semi>;)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<atomic>(?<![\w$."])(?:BEGIN\s+ATOMIC|CASE|END)(?![\w$"]))
    | (?P<meta>\\)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ESTRING_END = re.compile(r"(?:[^'\\]|\\.|'')*'", re.DOTALL)
_STRING_END = re.compile(r"(?:[^']|'')*'", re.DOTALL)
_QUOTED_END = re.compile(r'(?:[^"]|"")*"', re.DOTALL)
_COMMENT_PART = re.compile(r"/\*|\*/")
_GAP = re.compile(r"(?:[\s;\ufeff\x00]+|--[^\n]*)+")
_COPY_STDIN = re.compile(r"\s*COPY\b.*\bFROM\s+STDIN\b", re.IGNORECASE | re.DOTALL)
_COPY_END = re.compile(r"^\\\.[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
#: where reading goes on after a piece that never ends: a line that starts a statement
_RESUME = re.compile(
    r"^(?=(?:CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|SELECT|BEGIN|COMMIT|GRANT|REVOKE|COMMENT|SET|"
    r"DO|TRUNCATE|REINDEX|VACUUM|WITH|LOCK|REFRESH)\b)",
    re.MULTILINE | re.IGNORECASE,
)


def split(text: str) -> list[Piece]:
    """The pieces of `text`, in order; `"".join(p.text for p in split(t)) == t`."""
    return list(_Splitter(text).run())


class _Splitter:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[Piece] = []

    def run(self) -> list[Piece]:
        at, size = 0, len(self.text)
        while at < size:
            after = self._skip_gap(at)
            if after > at:
                self._add("gap", at, after)
                at = after
            elif self.text[at] == "\\" and self._starts_line(at):
                end = self._line_end(at)
                self._add("meta", at, end)
                at = end
            else:
                at = self._statement(at)
        return self.pieces

    def _add(self, kind: Kind, start: int, end: int, problem: str = "") -> None:
        if end > start:
            self.pieces.append(Piece(self.text[start:end], start, end, kind, problem))

    def _starts_line(self, at: int) -> bool:
        return self.text[self.text.rfind("\n", 0, at) + 1 : at].strip("\ufeff \t;") == ""

    def _line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

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
        while (match := _STOP.search(text, at)) is not None:
            kind = match.lastgroup
            at = match.end()
            if kind == "semi":
                if parens == 0 and atomic == 0:
                    return self._end(start, at)
            elif kind == "open":
                parens += 1
            elif kind == "close":
                parens = max(0, parens - 1)
            elif kind == "atomic":
                atomic = self._body_depth(match[0], atomic)
            elif kind == "meta":
                if self._starts_line(match.start()) and not text[start : match.start()].strip():
                    return self._end(start, match.start())
            elif kind != "line":
                end = self._closed(kind or "", match)
                if end is None:
                    return self._broken(start, match.start(), kind or "")
                at = end
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
        """Where the string, name, dollar quote or comment that starts here ends."""
        at = match.end()
        if kind == "block":
            return self._block_end(at)
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
            self._add("copy_data", end, stop)
            return stop
        return end

    def _broken(self, start: int, opened: int, kind: str) -> int:
        """Give up on this statement; go on at the next line that looks like a new one."""
        resume = _RESUME.search(self.text, opened + 1)
        end = resume.start() if resume else len(self.text)
        word = {"block": "comment", "dollar": "dollar quote", "quoted": "quoted name"}
        self._add("broken", start, end, f"a {word.get(kind, 'string')} that never ends")
        return end
