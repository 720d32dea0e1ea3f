"""What a literal or an escaped name says, given its text in the source."""

from __future__ import annotations

import re

from zdd_migrate.grammar.errors import UnreadError

#: one quoted stretch of a literal, and what stands between it and the next
_PLAIN = re.compile(r"'([^']*(?:''[^']*)*)'(?:[^'\r\n]*[\r\n](?:\s|--[^\r\n]*)*)?", re.DOTALL)
_ESCAPED = re.compile(
    r"'([^'\\]*(?:(?:''|\\.)[^'\\]*)*)'(?:[^'\r\n]*[\r\n](?:\s|--[^\r\n]*)*)?", re.DOTALL
)
_BACKSLASH = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def string_value(text: str, escape: str = "\\") -> str:
    """The value of a string literal given its source text ('…', E'…', U&'…', $tag$…$tag$).

    `escape` is the character that UESCAPE names, for a U&'…' literal.
    """
    if text.startswith("$"):
        tag_end = text.index("$", 1) + 1
        return text[tag_end : len(text) - tag_end]
    escaped = text[0] in "Ee"
    body = "".join((_ESCAPED if escaped else _PLAIN).findall(text)).replace("''", "'")
    if escaped:
        return _BACKSLASH.sub(_unescaped, body)
    if text[0] in "Uu":
        return unicode_escaped(body, escape)
    return body


def _unescaped(match: re.Match[str]) -> str:
    octal, byte, short, long, other = match.groups()
    if other is not None:
        return _NAMED.get(other, other)
    if octal is not None:
        return chr(int(octal, 8) & 0xFF)
    return _character(byte or short or long)


def unicode_escaped(text: str, escape: str) -> str:
    r"""`text` with its `\0061` and `\+000061` replaced by the characters they stand for."""
    mark = re.escape(escape)
    pattern = rf"{mark}(?:\+([0-9A-Fa-f]{{6}})|([0-9A-Fa-f]{{4}})|({mark}))"
    return re.sub(pattern, lambda m: m[3] or _character(m[1] or m[2]), text)


def _character(digits: str) -> str:
    code = int(digits, 16)
    if code > 0x10FFFF:
        raise UnreadError("a Unicode escape beyond Unicode")
    return chr(code)
