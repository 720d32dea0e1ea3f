"""The statements an application writes for one table, as text with %s for its values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.expressions import rename_names
from zdd_migrate.verify.shapes import Conflict, Shape


def select_star(shape: Shape) -> str:
    """What no application should send, and many do."""
    return f"SELECT * FROM {shape.sql} LIMIT 5"


def sample(shape: Shape) -> str:
    """The writable columns of the row with a number, as text.

    By the key: rows lie anywhere once they were updated and vacuumed, and those that others have
    just written, whose names they may look for, are to be let alone.
    """
    names = _texts(c.name for c in shape.columns) or "1"
    order = f" ORDER BY {_names(shape.key)}" if shape.key else ""
    return f"SELECT {names} FROM {shape.sql}{order} OFFSET %s LIMIT 1"


def taken(shape: Shape, column: str) -> str:
    """Whether any row has a value."""
    return f"SELECT 1 FROM {shape.sql} WHERE {quote_ident(column)} = %s LIMIT 1"


def explicit(shape: Shape) -> str:
    """Every column by its name."""
    names = ", ".join(quote_ident(c.name) for c in shape.readable)
    return f"SELECT {names} FROM {shape.sql} LIMIT 3"


def insert(shape: Shape, columns: Sequence[str]) -> str:
    """A row, giving back its key and what was written, as text."""
    return f"{_inserting(shape, columns)} RETURNING {_texts(returned(shape, columns))}"


def _inserting(shape: Shape, columns: Sequence[str]) -> str:
    """INSERT with a row of parameters; what is written twice is computed from them."""
    if not shape.mirror:
        marks = ", ".join(["%s"] * len(columns))
        return f"INSERT INTO {shape.sql} ({_names(columns)}) VALUES ({marks})"
    types = {c.name: c.type for c in shape.columns}
    given = ", ".join(f"%s::{types[c]} AS {quote_ident(c)}" for c in columns)
    more = "".join(f", {quote_ident(c)}" for c, _ in shape.mirror)
    computed = "".join(f", {_doubled(e)}" for _, e in shape.mirror)
    row = quote_ident(shape.name.name)
    return (
        f"INSERT INTO {shape.sql} ({_names(columns)}{more}) "
        f"SELECT {_names(columns)}{computed} FROM (SELECT {given}) AS {row}"
    )


def _doubled(expression: str) -> str:
    return expression.replace("%", "%%")


def returned(shape: Shape, columns: Iterable[str]) -> list[str]:
    """What `insert` gives back: the key first."""
    return [*shape.key, *(c for c in columns if c not in shape.key)]


def update(shape: Shape, columns: Sequence[str], *, star: bool = False) -> str:
    """Columns of the row with this key; `star` gives all of it back."""
    types = {c.name: c.type for c in shape.columns}
    given = {c: f"%s::{types[c]}" for c in columns if c in shape.sources}
    sets = ", ".join(
        [
            *(f"{quote_ident(c)} = %s" for c in columns),
            # two statements in one transaction would do as well: what counts is that both are written
            *(
                f"{quote_ident(c)} = {rename_names(_doubled(e), given)}"
                for c, e in (shape.mirror if given else ())
            ),
        ]
    )
    ending = " RETURNING *" if star else ""
    return f"UPDATE {shape.sql} SET {sets} WHERE {_where(shape)}{ending}"


def times(shape: Shape, column: str) -> int:
    """How often `update` of one column takes its value: once more wherever it is written twice."""
    return update(shape, [column]).count("%s") - len(shape.key)


def read(shape: Shape, columns: Sequence[str], *, locking: bool = False, also: str = "") -> str:
    """Columns of the row with this key, as text; `also` is a condition of the schema's own."""
    ending = (f" AND {also}" if also else "") + (" FOR UPDATE" if locking else "")
    ending = ending.replace("%", "%%")
    names = _texts(columns) or "1"
    return f"SELECT {names} FROM {shape.sql} WHERE {_where(shape)}{ending}"


def delete(shape: Shape) -> str:
    """The row with this key."""
    return f"DELETE FROM {shape.sql} WHERE {_where(shape)} RETURNING *"


def upsert(shape: Shape, columns: Sequence[str], conflict: Conflict) -> str:
    """Insert, or update the row that has the same unique key."""
    rest = [c for c in columns if c not in conflict.columns and c not in shape.key]
    twice = [c for c, _ in shape.mirror]
    sets = ", ".join(f"{quote_ident(c)} = excluded.{quote_ident(c)}" for c in (*rest, *twice))
    return (
        f"{_inserting(shape, columns)} "
        f"ON CONFLICT {conflict.target} DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"
    )


def copy_in(shape: Shape, columns: Sequence[str]) -> str:
    """Rows in bulk."""
    return f"COPY {shape.sql} ({_names(columns)}) FROM STDIN"


def copy_out(shape: Shape) -> str:
    """A few rows in bulk."""
    names = ", ".join(quote_ident(c.name) for c in shape.readable)
    return f"COPY (SELECT {names} FROM {shape.sql} LIMIT 5) TO STDOUT"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(quote_ident(c) for c in columns)


def _texts(columns: Iterable[str]) -> str:
    return ", ".join(f"{quote_ident(c)}::text" for c in columns)


def _where(shape: Shape) -> str:
    """The condition that finds a row again; any row where there is no key."""
    if not shape.key:
        return f"ctid = (SELECT ctid FROM {shape.sql} LIMIT 1)"
    return " AND ".join(f"{quote_ident(k)} = %s" for k in shape.key)
