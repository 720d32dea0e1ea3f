"""Text in Markdown that stays text."""

from __future__ import annotations


def plain(text: str) -> str:
    """Text that neither ends a cell of a table nor becomes HTML."""
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def code(text: str) -> str:
    """Text as code in a line."""
    return f"`{plain(text).replace('`', '')}`"
