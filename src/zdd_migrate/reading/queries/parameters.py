"""Parameters as drivers write them ($1, :name, %(name)s, %s) made into the server's $1, $2 …"""

from __future__ import annotations

import re

#: what may hide something that looks like a parameter, then the parameters themselves
_PART = re.compile(
    r"""
      (?P<skip>--[^\n]*
        |/\*.*?\*/
        |(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
        |'(?:[^']|'')*'
        |"(?:[^"]|"")*"
        |(?<![\w$])\$(?P<tag>[^\W\d]\w*)?\$.*?\$(?P=tag)?\$
        |::|:=|%%)
    | (?<![\w$])\$(?P<number>\d+)
    | %\((?P<pyformat>[^)]*)\)s
    | (?P<format>%s)
    | (?<![:\w\])\\]):(?P<named>[A-Za-z_]\w*)(?!:)
    """,
    re.VERBOSE | re.DOTALL,
)


def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """The text with $1, $2 …, and the parameters' names in that order.

    A name used twice is one parameter. Text that already has $n keeps its numbers.
    """
    names: dict[str, int] = {}
    highest = 0
    drivers = bool(re.search(r"%s|%\(", sql))

    def number(name: str) -> str:
        return f"${names.setdefault(name, len(names) + 1)}"

    def put(match: re.Match[str]) -> str:
        nonlocal highest
        if match["number"]:
            highest = max(highest, int(match["number"]))
            return match[0]
        if match["pyformat"] is not None:
            return number(match["pyformat"])
        if match["format"]:
            return number(f"%s {len(names) + 1}")
        if match["named"]:
            return number(match["named"])
        # a driver that takes % for a parameter wants it doubled anywhere else, strings included
        return match[0].replace("%%", "%") if drivers else match[0]

    text = _PART.sub(put, sql)
    if highest:
        return text, tuple(f"${i}" for i in range(1, highest + 1))
    return text, tuple(names)
