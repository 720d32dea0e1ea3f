"""Tokens of one statement: sqlglot's cuts, our own small view of them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zdd_migrate.grammar.errors import UnreadError

if TYPE_CHECKING:
    from sqlglot.tokens import Tokenizer

#: kinds of tokens
WORD, QUOTED, STRING, NUMBER, OP = "word", "quoted", "string", "number", "op"

_WORD = re.compile(r"[^\W\d][\w$]*")


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
            return self.text.lower()
        if self.kind == QUOTED:
            return self.text[1:-1].replace('""', '"')
        raise UnreadError(f"a name was expected, not {self.text}", self.start)


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    from sqlglot.dialects.postgres import Postgres

    return Postgres().tokenizer()


def tokenise(sql: str) -> list[Token]:
    """The tokens of one statement, comments left out. Raises UnreadError where it cannot be cut."""
    from sqlglot.errors import TokenError

    try:
        raw = _tokenizer().tokenize(sql)
    except TokenError as error:
        raise UnreadError(f"the text cannot be cut into tokens: {_one_line(error)}", 0) from None
    if len(raw) > 1 and _is_swallowed(raw[1]):
        return _uncommanded(sql, raw[0].start, raw[0].end + 1)
    tokens: list[Token] = []
    append = tokens.append
    at = 0
    for cut in raw:
        start, end = cut.start, cut.end + 1
        if start > at and not _is_gap(sql[at:start]):
            raise UnreadError(f"the text cannot be cut into tokens: {sql[at:start][:40]!r}", at)
        at = end
        text = sql[start:end]
        first = text[:1]
        if first == '"':
            append(Token(QUOTED, text, "", start, end))
        elif (
            first == "'"
            or (first in "EeBbXxNnUu" and "'" in text[:3])
            or (first == "$" and len(text) > 1)
        ):
            append(Token(STRING, text, "", start, end))
        elif first.isdigit() or (first == "." and len(text) > 1):
            append(Token(NUMBER, text, "", start, end))
        elif first.isalpha() or first == "_":
            if text.isidentifier() or "$" in text:
                append(Token(WORD, text, text.upper(), start, end))
            else:  # several words in one cut (PRIMARY KEY): one token each
                for word in _WORD.finditer(text):
                    begin = start + word.start()
                    append(Token(WORD, word[0], word[0].upper(), begin, begin + len(word[0])))
        else:
            append(Token(OP, text, text, start, end))
    return _join_unicode_names(sql, tokens)


def _is_swallowed(cut: Any) -> bool:
    """Whether a token is the unread rest of a statement that sqlglot takes for a command."""
    return bool(cut.token_type.name == "STRING" and cut.end - cut.start + 1 < len(cut.text))


def _is_gap(text: str) -> bool:
    """Whether there is nothing but white space and comments: a token left out is a misreading."""
    stripped = text.strip("\ufeff\x00 \t\r\n\f\v\xa0")
    return not stripped or stripped.startswith(("--", "/*"))


def _uncommanded(sql: str, start: int, end: int) -> list[Token]:
    """After some first words (DO, REFRESH …) sqlglot takes the rest of the statement as one text.

    Behind another word it cuts it like any other statement.
    """
    head = "SELECT "
    word = sql[start:end]
    shift = end - len(head)
    rest = [
        Token(t.kind, t.text, t.up, t.start + shift, t.end + shift)
        for t in tokenise(head + sql[end:])[1:]
    ]
    return [Token(WORD, word, word.upper(), start, end), *rest]


def _join_unicode_names(sql: str, tokens: list[Token]) -> list[Token]:
    """`U&"d\\0061ta"` is cut into three tokens; make it the one name that it is."""
    if "&" not in sql:
        return tokens
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        t = tokens[i]
        if (
            t.up == "U"
            and i + 2 < len(tokens)
            and tokens[i + 1].text == "&"
            and tokens[i + 1].start == t.end
            and tokens[i + 2].start == tokens[i + 1].end
        ):
            body = tokens[i + 2]
            if body.kind == QUOTED:
                plain = re.sub(
                    r"\\(?:\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4})|(\\))",
                    lambda m: "\\" if m[3] else chr(int(m[1] or m[2], 16)),
                    body.text,
                )
                out.append(Token(QUOTED, plain, "", t.start, body.end))
                i += 3
                continue
            if body.kind == STRING:
                out.append(Token(STRING, sql[t.start : body.end], "", t.start, body.end))
                i += 3
                continue
        out.append(t)
        i += 1
    return out


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
