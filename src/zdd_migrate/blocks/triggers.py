"""Our BEFORE triggers: they fire last, and always.

Last, so that what users' own BEFORE triggers make of a row is what is carried over: BEFORE triggers
fire in the order of their names, byte by byte. Always, also under `session_replication_role =
replica` (a subscription's apply worker, a bulk load with triggers switched off): what is written
there must not be missing from the other shape. Applied to a row that is in step already they
change nothing, so a replicated row that brings both shapes stays as it came.
"""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.names import QName


def over_row(expression: str, row: str, table: QName) -> str:
    """SQL for an expression over a trigger's row (`NEW.*`, or its columns under other names).

    The row is given the table's own name, so `lower(users.name)` reads as the user wrote it. OFFSET
    keeps the planner from putting the row's values in their place: it would then compute
    `code::int` of one value ahead, also behind a test that says that it cannot be.
    """
    return f"(SELECT {expression} FROM (SELECT {row} OFFSET 0) AS {quote_ident(table.name)})"


def last_name(draft: Draft, table: QName, wanted: str) -> str:
    """`wanted`, or where a user's BEFORE trigger of the table (its present name) or of one of its
    partitions would fire after that, a name behind it. Not quoted."""
    others = [
        trigger.name
        for schema in (draft.start, draft.schema)
        for name in (table, *(t.name for t in schema.descendants_of(table)))
        if (known := schema.tables.get(name)) is not None
        for trigger in known.triggers
        if trigger.timing == "BEFORE" and trigger.row
    ]
    last = max((name.encode() for name in others), default=b"")
    for name in (wanted, f"~{wanted}"):
        if fit(name).encode() > last:
            return fit(name)
    return fit(f"{last.decode()}~{wanted}")


def create(table: QName, trigger: str, function: str) -> tuple[str, str]:
    """The statements that make a trigger on every INSERT and UPDATE. `trigger` is its name and
    `function` that of its function, both quoted; the table is the one of its present name."""
    name = quote_qname(table)
    when = f"BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW"
    return (
        f"CREATE TRIGGER {trigger} {when} EXECUTE FUNCTION {function}()",
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger}",
    )


def quoted(draft: Draft, table: QName, wanted: str) -> str:
    """`last_name` as SQL."""
    return quote_ident(last_name(draft, table, wanted))
