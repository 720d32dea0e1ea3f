"""Tokens of one statement, cut as Postgres' own scanner cuts them.

One regular expression knows Postgres' lexical rules: nested comments, dollar quotes, `U&"…"`,
strings that go on in the next line, operators glued together. It is held to libpg_query's scanner,
token by token, in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.literals import unicode_escaped

#: kinds of tokens
WORD, QUOTED, STRING, NUMBER, OP = "word", "quoted", "string", "number", "op"
#: names are cut off there, in bytes of UTF-8 (NAMEDATALEN - 1)
LONGEST_NAME = 63


class Token:
    """One token. `up` is the upper-cased word or the operator itself; "" for quoted and literals.

    `text` is the source slice, `start`/`end` its offsets (end exclusive). Comparing `up` is how
    keywords are recognised, so a quoted identifier never looks like one.
    """

    __slots__ = ("end", "kind", "start", "text", "up")

    def __init__(self, kind: str, text: str, up: str, start: int, end: int) -> None:
        self.kind = kind
        self.text = text
        self.up = up
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"<{self.kind} {self.text!r}>"

    @property
    def name(self) -> str:
        """The identifier as Postgres stores it: unquoted folded to lower case, quoted verbatim."""
        if self.kind == WORD:
            name = folded(self.text)
        elif self.kind == QUOTED:
            name = self.text[1:-1].replace('""', '"')
        else:
            raise UnreadError(f"a name was expected, not {self.text}", self.start)
        return name if len(name) <= LONGEST_NAME and name.isascii() else _cut_off(name)


def folded(word: str) -> str:
    """An unquoted identifier in lower case; letters beyond ASCII stay as they are."""
    if word.isascii():
        return word.lower()
    return "".join(c.lower() if c.isascii() else c for c in word)


def _cut_off(name: str) -> str:
    """The name's first 63 bytes, no letter cut in two."""
    return name.encode(errors="surrogatepass")[:LONGEST_NAME].decode(errors="ignore")


#: how an identifier begins and goes on: letters, _ and whatever is not ASCII, then digits and $ too;
#: spelt by what it is not, because ranges over all of Unicode take long to compile
_FIRST, _LATER = r"[^\x00-@\[-^`{-\x7f]", r"[^\x00-\x23\x25-/:-@\[-^`{-\x7f]"
_SPACE = r"[ \t\n\r\f\v]"
_STRING = r"'[^']*(?:''[^']*)*'"
_ESCAPED = r"'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'"
#: a literal goes on in the next line, with nothing but white space and comments between
_GOES_ON = rf"(?:(?:[ \t\f\v]|--[^\r\n]*+)*[\r\n](?:{_SPACE}|--[^\r\n]*+)*"
_DIGITS = r"[0-9](?:_?[0-9])*"
_TOKEN = re.compile(
    rf"""
    {_SPACE}*(?:
      (?P<word>{_FIRST}{_LATER}*+(?!['"&]))
    | (?P<mark>[,()\[\];])
    | (?P<quoted>"[^"]*(?:""[^"]*)*")
    | (?P<number>0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+
        |(?:{_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?|\$[0-9]+)
    | (?P<comment>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<string>(?:[bBxXnN]|[uU]&)?{_STRING}{_GOES_ON}{_STRING})*
        |[eE]{_ESCAPED}{_GOES_ON}{_ESCAPED})*)
    | (?P<unicode>[uU]&"[^"]*(?:""[^"]*)*")
    | (?P<dollar>\$(?:{_FIRST}[^\x00-/:-@\[-^`{{-\x7f]*)?\$)
    | (?P<dots>\.\.|\.|::|:=|:)
    | (?P<operator>[~!@\#^&|`?+\-*/%<>=]+)
    | (?P<glued>{_FIRST}{_LATER}*)
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PART = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\s*UESCAPE\s*'(.)'", re.IGNORECASE)


def tokenise(sql: str) -> list[Token]:
    """The tokens of one statement, comments left out. Raises UnreadError where it cannot be cut."""
    tokens: list[Token] = []
    append = tokens.append
    match_at = _TOKEN.match
    at = 0
    while True:
        match = match_at(sql, at)
        if match is None:
            raise _uncut(sql, at)
        kind = match.lastgroup
        assert kind is not None
        start, at = match.span(kind)
        if kind == "word" or kind == "glued":
            text = sql[start:at]
            append(Token(WORD, text, text.upper() if text.isascii() else text, start, at))
        elif kind == "mark" or kind == "dots":
            text = sql[start:at]
            append(Token(OP, text, text, start, at))
        elif kind == "quoted":
            append(Token(QUOTED, sql[start:at], "", start, at))
        elif kind == "string":
            append(Token(STRING, sql[start:at], "", start, at))
        elif kind == "number":
            append(Token(NUMBER, sql[start:at], "", start, at))
        elif kind == "operator":
            at = _operator_end(sql, start, at)
            text = sql[start:at]
            append(Token(OP, text, text, start, at))
        elif kind == "block":
            at = _comment_end(sql, start)
        elif kind == "dollar":
            at = _dollar_end(sql, start, at)
            append(Token(STRING, sql[start:at], "", start, at))
        elif kind == "unicode":
            name, at = _unicode_name(sql, start, at)
            append(Token(QUOTED, name, "", start, at))
        elif kind == "end":
            return tokens


def _uncut(sql: str, at: int) -> UnreadError:
    """Why nothing more can be cut."""
    rest = sql[at:].lstrip(" \t\n\r\f\v")
    at = len(sql) - len(rest)
    kinds = {"'": "a string that never ends", '"': "a quoted name that never ends"}
    what = kinds.get(rest[0], f"{rest[:20]!r} is nothing in SQL")
    return UnreadError(f"the text cannot be cut into tokens: {what}", at)


def _operator_end(sql: str, start: int, end: int) -> int:
    """Where an operator ends: before a comment, and before a sign that is not part of it."""
    text = sql[start:end]
    for mark in ("--", "/*"):
        if (found := text.find(mark, 1)) > 0:
            text = text[:found]
    if len(text) > 1 and text[-1] in "+-" and not any(c in "~!@#^&|`?%" for c in text):
        text = text.rstrip("+-") or text[0]
    return start + len(text)


def _comment_end(sql: str, start: int) -> int:
    depth, at = 1, start + 2
    while depth:
        part = _COMMENT_PART.search(sql, at)
        if part is None:
            raise UnreadError("a comment that never ends", start)
        depth += 1 if part[0] == "/*" else -1
        at = part.end()
    return at


def _dollar_end(sql: str, start: int, at: int) -> int:
    end = sql.find(sql[start:at], at)
    if end < 0:
        raise UnreadError("a dollar quote that never ends", start)
    return end + at - start


def _unicode_name(sql: str, start: int, at: int) -> tuple[str, int]:
    """`U&"d\\0061ta"` as the plain quoted name that it is, and where it ends."""
    escape, body = "\\", sql[start + 2 : at]
    if (given := _ESCAPE.match(sql, at)) is not None:
        escape, at = given[1], given.end()
    plain = unicode_escaped(body[1:-1].replace('""', '"'), escape)
    return '"' + plain.replace('"', '""') + '"', at


def squeezed(sql: str, tokens: Sequence[Token]) -> str:
    """The text of tokens of `sql`, single blanks for whatever white space and comments between."""
    parts: list[str] = []
    end = tokens[0].start if tokens else 0
    for token in tokens:
        if token.start > end:
            parts.append(" ")
        parts.append(sql[token.start : token.end])
        end = token.end
    return "".join(parts)
