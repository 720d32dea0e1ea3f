"""The one exception of reading: it never leaves `operations.read_statement`."""

from __future__ import annotations


class UnreadError(Exception):
    """The text is not what this reader reads. `offset` is where, in the statement's text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
