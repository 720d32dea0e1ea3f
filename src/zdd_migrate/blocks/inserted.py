"""Rows that a migration writes out, with keys of their own: undo takes them back.

A row of that key was not there before, else the INSERT would have failed. It goes again unless somebody
has changed it since; left behind, it would stand in the way of the same INSERT a second time.
"""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.grammar.rows import read_inserted_rows
from zdd_migrate.grammar.types import parse_type
from zdd_migrate.model.names import QName

#: types whose values can be compared with a literal as it is written
_COMPARED = frozenset(
    (
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "text",
        "character varying",
        "citext",
        "uuid",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
    )
)


def take_back(draft: Draft, table: QName, text: str) -> list[str]:
    """DELETEs of the very rows that an INSERT writes; none where that cannot be said or done."""
    inserted, known = read_inserted_rows(text), draft.schema.tables.get(table)
    if inserted is None or known is None or known.primary_key is None:
        return []
    key = known.primary_key.columns
    reacts = any("DELETE" in trigger.definition.upper() for trigger in known.triggers)
    if reacts or not set(key) <= set(inserted.columns) or any(draft.schema.foreign_keys_to(table)):
        return []
    out = []
    for row in inserted.rows:
        values = dict(zip(inserted.columns, row, strict=True))
        if not all(analyse(values[c]).constant and values[c].upper() != "NULL" for c in key):
            return []
        same = [f"{quote_ident(c)} = {values[c]}" for c in key]
        for column in known.columns:
            value = values.get(column.name, "DEFAULT")
            compared = parse_type(column.type)
            if column.name in key or value.upper() == "DEFAULT" or not analyse(value).constant:
                continue
            if compared.base in _COMPARED and not compared.dimensions:
                same.append(f"{quote_ident(column.name)} IS NOT DISTINCT FROM {value}")
        out.append(f"DELETE FROM {draft.sql_name(table)} WHERE {' AND '.join(same)}")
    return out
