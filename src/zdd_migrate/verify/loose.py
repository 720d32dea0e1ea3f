"""What old code may write by its schema, though no row shows it: tried once, and never kept.

Made-up code takes its values from the rows there are, as real code mostly does. So a text column that
holds nothing but numbers is written numbers, and a plan that fails on any other text passes. That
is no fault of the plan while nobody writes one; but it has to be known.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Column
from zdd_migrate.verify.bench import Bench

_TEXTS = ("text", "character varying", "citext")
_ODD = "~zdd~"


def loose_notes(bench: Bench, database: str) -> list[str]:
    """One for each column into which old code cannot write any text, as it could at the start."""
    with bench.server.connect(database) as here, bench.server.connect(bench.stage.start) as start:
        return [
            f"until contract old code fails that writes a text such as {_ODD} into {table}.{column.name}: "
            f"{said}. No row holds one, and nothing in the schema forbids it"
            for table, column in _loose(bench)
            if not _refused(start, table, column) and (said := _refused(here, table, column))
        ]


def _loose(bench: Bench) -> Iterator[tuple[QName, Column]]:
    """Free texts that are something else in the end, or not there any more."""
    before, after = bench.stage.before, bench.stage.after
    for shape in bench.stage.old:
        table, later = before.tables[shape.name], after.tables.get(shape.name)
        asked = {name for constraint in table.constraints for name in constraint.columns}
        for column in table.columns:
            if later is None or column.name in asked or column.generated or not _text(column):
                continue
            end = later.column(column.name)
            if end is None or not _text(end):
                yield shape.name, column


def _text(column: Column) -> bool:
    type_ = parse_type(column.type)
    return type_.base in _TEXTS and not type_.dimensions


def _refused(connection: psycopg.Connection, table: QName, column: Column) -> str:
    """What the server says of such a text in one of the rows; "" where it takes it."""
    name = quote_qname(table)
    room = parse_type(column.type).modifiers
    value = _ODD[: int(room[0])] if room else _ODD
    statement = (
        f"UPDATE {name} SET {quote_ident(column.name)} = %s "
        f"WHERE ctid = (SELECT ctid FROM {name} LIMIT 1)"
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode(), (value,))
    except psycopg.Error as error:
        return f"{error.sqlstate} {' '.join((error.diag.message_primary or '').split())[:120]}"
    return ""
