"""Templates and variables in a statement: `{{ ns }}`, `${schema}`, psql's `:var`, `:'var'`, `:"var"`.

A value that is known takes its place. One that is not can still be read where it names something
(`{{ ns }}.users`): it stands in for that name, written as it is. Anywhere else it could be any SQL,
and the statement is not understood.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

#: worth a closer look at all
_MARK = re.compile(r"\{[{%#]|\$\{|(?<![:\w\])\[]):['\"{A-Za-z_]")
_PART = re.compile(
    r"""
      (?P<skip>--[^\n\r]*+ | (?<![\w$])[eE]'(?:[^'\\]++|\\.|'')*+' | '(?:[^']++|'')*+'
        | (?P<quoted>"(?:[^"]++|"")*+"))
    | (?P<remark>\{\#.*?\#\})
    | (?P<code>\{%.*?%\})
    | (?P<template>[\w$]*(?:(?:\{\{.*?\}\}|\$\{[^{}]*\})[\w$]*)+)
    | (?<![:\w\])\[]):(?:(?P<literal>'[\w]+')|(?P<name>"[\w]+")|(?P<plain>[A-Za-z_]\w*)|(?P<set>\{\?\w+\}))
    """,
    re.VERBOSE | re.DOTALL,
)
_BRACES = re.compile(r"\{\{\s*(.*?)\s*\}\}|\$\{\s*(.*?)\s*\}", re.DOTALL)
_BEFORE = re.compile(r"([A-Za-z_]+|\.)\s*$")
_AFTER = re.compile(r"\s*+\.")
#: words that one name follows, and no more than that
_NAMES = frozenset(
    """TABLE EXISTS ONLY INDEX CONCURRENTLY ON INTO UPDATE FROM JOIN REFERENCES SCHEMA COLUMN TO
    CONSTRAINT VIEW SEQUENCE TRIGGER FUNCTION PROCEDURE TYPE DOMAIN ROLE USER GROUP DATABASE
    EXTENSION TABLESPACE POLICY RULE PUBLICATION AUTHORIZATION""".split()
)


@dataclass(frozen=True, slots=True)
class Expanded:
    """A statement with its templates filled. `unknown` is one that could be any SQL, "" for none."""

    text: str
    unknown: str
    #: (offset in `text`, offset in the source) where each part begins, ascending; parts as they were
    #: in the source and parts that were filled in take turns
    places: tuple[tuple[int, int], ...]

    def back(self, offset: int) -> int:
        """The source's offset of an offset in `text`; of what was filled in, where that begins."""
        part = bisect_right(self.places, (offset, 1 << 60)) - 1
        here = self.places[part]
        return here[1] if part % 2 else here[1] + offset - here[0]


def expand(sql: str, known: Mapping[str, str]) -> Expanded | None:
    """Fill in a statement's templates; None when it has none."""
    if _MARK.search(sql) is None:
        return None
    out: list[str] = []
    places = [(0, 0)]
    size = at = 0
    unknown = ""
    for match in _PART.finditer(sql):
        filled, doubtful = _filled(match, sql, known)
        if filled is None:
            continue
        out.append(sql[at : match.start()])
        size += match.start() - at
        places.append((size, match.start()))
        out.append(filled)
        size += len(filled)
        at = match.end()
        places.append((size, at))
        unknown = unknown or (match[0] if doubtful else "")
    if not out:
        return None
    return Expanded("".join((*out, sql[at:])), unknown, tuple(places))


def _filled(match: re.Match[str], sql: str, known: Mapping[str, str]) -> tuple[str | None, bool]:
    """What stands in for a part (None: it is left as it is), and whether that is a guess."""
    kind = match.lastgroup
    if kind in ("skip", "quoted") or match["skip"] is not None:
        return None, False
    if kind == "remark":
        return " " * len(match[0]), False
    if kind in ("code", "set"):
        return _quoted(match[0]), True
    if kind in ("literal", "name"):
        word = match[kind][1:-1]
        value = known.get(word, f":{word}")
        return (_literal(value) if kind == "literal" else _quoted(value)), False
    if kind == "plain":
        value = known.get(match[kind], "")
        return (value, False) if value else (_quoted(match[0]), not _names(match, sql))
    values = _BRACES.sub(lambda m: known.get(m[1] or m[2] or "", "\0"), match[0])
    if "\0" not in values:
        return values, False
    return _quoted(match[0]), not _names(match, sql)


def _names(match: re.Match[str], sql: str) -> bool:
    """Whether a template stands where only a name can."""
    if _AFTER.match(sql, match.end()):
        return True
    before = _BEFORE.search(sql, max(0, match.start() - 80), match.start())
    return before is not None and (before[1] == "." or before[1].upper() in _NAMES)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
