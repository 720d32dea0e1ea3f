"""Queries in a file of SQL, one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zdd_migrate.reading.split import split

_ENDED = re.compile(r"^\\\.\s*\Z", re.MULTILINE)


def read(text: str, first: int = 1) -> Iterator[tuple[str, int]]:
    """Each statement and the line it starts on. COPY FROM STDIN has data after it or has not."""
    for piece in split(text):
        line = first + text.count("\n", 0, piece.start)
        if piece.kind in ("statement", "broken"):
            yield piece.text, line
        elif piece.kind == "copy_data" and not _ENDED.search(piece.text):
            yield from read(piece.text, line)
