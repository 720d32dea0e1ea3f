"""A statement of the users' code, and what it touches."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_migrate.model.names import QName


@dataclass(frozen=True, slots=True)
class Query:
    """One statement as it was written down somewhere.

    `sql` is its own text, `prepared` the same with its parameters as $1, $2 …, as the server wants
    them; `parameters` names them in that order. `values` are sets of values it was seen with.
    `calls` is how often it was seen.
    """

    sql: str
    path: str
    line: int
    prepared: str
    parameters: tuple[str, ...] = ()
    values: tuple[tuple[str | None, ...], ...] = ()
    calls: int = 1

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Insertion:
    """An INSERT (or COPY FROM): the columns it names, None where it names none."""

    table: QName
    columns: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a query touches, names resolved. Where that is not certain, too much rather than less.

    `columns` are (relation, column) pairs that it names; `stars` relations all of whose columns it
    gives back without naming them; `written` relations written to, `assigned` the columns set by
    UPDATE or by an upsert; `conflicts` (relation, what its ON CONFLICT names: columns, or the
    constraint's name); `sources` pairs a parameter's number with the column its value belongs to.
    `problem` says why it could not be analysed: then nothing else in here means anything but
    `words`, the names that stand in its text.
    """

    relations: frozenset[QName] = frozenset()
    columns: frozenset[tuple[QName, str]] = frozenset()
    stars: frozenset[QName] = frozenset()
    written: frozenset[QName] = frozenset()
    assigned: frozenset[tuple[QName, str]] = frozenset()
    insertions: tuple[Insertion, ...] = ()
    conflicts: tuple[tuple[QName, tuple[str, ...]], ...] = ()
    functions: frozenset[str] = frozenset()
    sources: tuple[tuple[int, QName, str], ...] = ()
    words: frozenset[str] = frozenset()
    problem: str = ""
