"""Queries in a file of SQL, one after another."""

from __future__ import annotations

from collections.abc import Iterator

from zdd_migrate.reading.split import split


def read(text: str) -> Iterator[tuple[str, int]]:
    """Each statement and the line it starts on."""
    for piece in split(text):
        if piece.kind in ("statement", "broken"):
            yield piece.text, text.count("\n", 0, piece.start) + 1
