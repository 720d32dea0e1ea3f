"""A column that moves from one table to another, of which a row belongs to at most one row here.

Triggers on both tables write only what differs, so they end by themselves. A foreign key ties the
two: neither row can come without the other being there to be seen. A row of the source that comes
without the value takes the target's, under a lock on that row, so that no write passes by unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.dual import refuse_dual
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit, own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import differs
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase


@dataclass(frozen=True, slots=True)
class MovedColumn:
    """`column` of `source` becomes `to` of `target`, where source.`near` = target.`far`, both unique."""

    source: QName
    column: str
    type: str
    near: str
    target: QName
    to: str
    far: str


def plan_moved_column(draft: Draft, moved: MovedColumn) -> None:
    """Triggers on both tables, a backfill, and at contract the column out of use, then dropped."""
    if refuse_dual(draft, f"{moved.source}.{moved.column} and {moved.target}.{moved.to}"):
        return
    draft.breaks_old = draft.needs_release = True
    for table in (moved.source, moved.target):
        draft.touches.setdefault(table)
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            _forth(moved, moved.column, gone=True),
            _back(moved, moved.column),
            *_make(moved),
        ),
        undo=_unmake(moved),
        why=f"keep {moved.source}.{moved.column} and {moved.target}.{moved.to} in step, whoever writes",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=moved.source,
    )
    _fill(draft, moved)
    draft.sql(
        Phase.SWITCH,
        _forth(moved, moved.column, gone=False),
        undo=_forth(moved, moved.column, gone=True),
        why=f"from now on {moved.target}.{moved.to} stays when the row of {moved.source} goes",
    )
    _end(draft, moved)
    draft.note(
        f"what new code writes to {moved.target}.{moved.to} of a row that no row of {moved.source} "
        "belongs to, old code cannot see"
    )


def _fill(draft: Draft, moved: MovedColumn) -> None:
    """Every row touched, for the trigger to write the value; and what then holds."""
    source, target = quote_qname(moved.source), quote_qname(moved.target)
    name, near, far = (quote_ident(n) for n in (moved.source.name, moved.near, moved.far))
    differing = differs(
        f"x.{quote_ident(moved.to)}", f"{name}.{quote_ident(moved.column)}", moved.type
    )
    draft.backfill(
        moved.source,
        [(moved.near, near)],
        f"EXISTS (SELECT 1 FROM {target} x WHERE x.{far} = {name}.{near} AND {differing})",
        why=f"touch every row of {moved.source}, for the trigger to write {moved.target}.{moved.to}",
    )
    draft.law(
        f"{moved.target.name}.{moved.to} = {moved.source.name}.{moved.column}",
        f"SELECT {name}.* FROM {source} AS {name} JOIN {target} x ON x.{far} = {name}.{near} "
        f"WHERE {differing}",
    )


def _end(draft: Draft, moved: MovedColumn) -> None:
    """The column out of use, while the triggers still keep it in step; then it goes."""
    source, target = quote_qname(moved.source), quote_qname(moved.target)
    tomb = own("old", moved.column)
    # nobody may be inside the other table's trigger while the column changes its name
    alone = f"LOCK TABLE {source}, {target} IN ACCESS EXCLUSIVE MODE"
    there, here = quote_ident(moved.column), quote_ident(tomb)

    def renamed(was: str, now: str, column: str) -> tuple[str, ...]:
        return (
            alone,
            f"ALTER TABLE {source} RENAME COLUMN {was} TO {now}",
            _forth(moved, column, gone=False),
            _back(moved, column),
        )

    draft.sql(
        Phase.CONTRACT,
        renamed(there, here, tomb),
        undo=renamed(here, there, moved.column),
        why=f"take {moved.column} of {moved.source} out of use; the triggers still keep both in step, "
        "so this can be undone at once",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=moved.source,
    )
    draft.sql(
        Phase.CONTRACT,
        (*_unmake(moved), f"ALTER TABLE {source} DROP COLUMN {here}"),
        undo=None,
        why=f"drop {moved.column} of {moved.source}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=moved.source,
    )


def _unmake(moved: MovedColumn) -> tuple[str, ...]:
    source, target, (forth, back) = (
        quote_qname(moved.source),
        quote_qname(moved.target),
        _names(moved),
    )
    return (
        *(f"DROP TRIGGER IF EXISTS {t} ON {source}" for t in _triggers(moved.target)),
        *(f"DROP TRIGGER IF EXISTS {t} ON {target}" for t in _triggers(moved.source)),
        f"DROP FUNCTION IF EXISTS {forth}()",
        f"DROP FUNCTION IF EXISTS {back}()",
    )


def _names(moved: MovedColumn) -> tuple[str, str]:
    pair = f"{moved.source.name}_{moved.column}_{moved.target.name}"
    first, second = (quote_qname(QName(ZDD_SCHEMA, fit(f"{w}_{pair}"))) for w in ("move", "back"))
    return first, second


def _triggers(other: QName) -> tuple[str, str]:
    before, after = (quote_ident(fit(f"zzz_zdd_{w}_{other.name}")) for w in ("take", "give"))
    return before, after


def _make(moved: MovedColumn) -> tuple[str, ...]:
    out = []
    forth, back = _names(moved)
    for table, other, function, events in (
        (moved.source, moved.target, forth, "INSERT OR UPDATE OR DELETE"),
        (moved.target, moved.source, back, "INSERT OR UPDATE"),
    ):
        before, after = _triggers(other)
        run = f"ON {quote_qname(table)} FOR EACH ROW EXECUTE FUNCTION {function}()"
        out += [
            f"CREATE TRIGGER {before} BEFORE INSERT {run}",
            f"CREATE TRIGGER {after} AFTER {events} {run}",
            *(
                f"ALTER TABLE {quote_qname(table)} ENABLE ALWAYS TRIGGER {t}"
                for t in (before, after)
            ),
        ]
    return tuple(out)


def _function(moved: MovedColumn, name: str, body: list[str]) -> str:
    path = dict.fromkeys(
        ("pg_catalog", *(quote_ident(t.schema or "public") for t in (moved.source, moved.target)))
    )
    lines = "\n".join(f"  {line}" for line in body)
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = {', '.join((*path, 'public'))} AS $zdd$\n"
        f"BEGIN\n{lines}\nEND\n$zdd$"
    )


def _forth(moved: MovedColumn, column: str, *, gone: bool) -> str:
    """The source's trigger. `gone`: a value goes with the row that it came from, as it does as long
    as old code alone is there; later it is the target's own."""
    source, target = quote_qname(moved.source), quote_qname(moved.target)
    to, far = quote_ident(moved.to), quote_ident(moved.far)
    col, near = quote_ident(column), quote_ident(moved.near)
    empty = (
        f"UPDATE {target} x SET {to} = NULL WHERE x.{far} = OLD.{near} AND x.{to} IS NOT NULL "
        f"AND NOT EXISTS (SELECT 1 FROM {source} s WHERE s.{near} = OLD.{near});"
    )
    # the value as it is by now: a user's AFTER trigger may have written it once more
    given = (
        f"UPDATE {target} x SET {to} = s.{col} FROM {source} s WHERE s.{near} = NEW.{near} "
        f"AND x.{far} = s.{near} AND {differs(f'x.{to}', f's.{col}', moved.type)};"
    )
    moved_on = f"NEW.{near} IS DISTINCT FROM OLD.{near}"
    changed = differs(f"NEW.{col}", f"OLD.{col}", moved.type)
    # as long as old code alone is there, an UPDATE that changes nothing writes what is missing: the
    # backfill is one
    touched = given if gone else f"IF ({changed}) OR {moved_on} THEN {given} END IF;"
    return _function(
        moved,
        _names(moved)[0],
        [
            "IF TG_WHEN = 'BEFORE' THEN",
            f"  IF NEW.{col} IS NULL THEN",
            f"    SELECT x.{to} INTO NEW.{col} FROM {target} x WHERE x.{far} = NEW.{near}",
            "    FOR NO KEY UPDATE;",
            "  END IF;",
            "  RETURN NEW;",
            "END IF;",
            "IF TG_OP = 'DELETE' THEN",
            *([f"  {empty}"] if gone else []),
            "  RETURN NULL;",
            "END IF;",
            "IF TG_OP = 'UPDATE' THEN",
            *([f"  IF {moved_on} THEN {empty} END IF;"] if gone else []),
            f"  {touched}",
            f"ELSIF NEW.{col} IS NOT NULL THEN",
            f"  {given}",
            "END IF;",
            "RETURN NULL;",
        ],
    )


def _back(moved: MovedColumn, column: str) -> str:
    """The target's trigger: what new code writes there, old code finds in its column."""
    source, target = quote_qname(moved.source), quote_qname(moved.target)
    col, near = quote_ident(column), quote_ident(moved.near)
    to, far = quote_ident(moved.to), quote_ident(moved.far)
    changed = differs(f"NEW.{to}", f"OLD.{to}", moved.type)
    give = (
        f"UPDATE {source} s SET {col} = x.{to} FROM {target} x WHERE x.{far} = NEW.{far} "
        f"AND s.{near} = x.{far} AND {differs(f's.{col}', f'x.{to}', moved.type)};"
    )
    return _function(
        moved,
        _names(moved)[1],
        [
            "IF TG_WHEN = 'BEFORE' THEN",
            f"  IF NEW.{to} IS NULL THEN",
            f"    SELECT s.{col} INTO NEW.{to} FROM {source} s WHERE s.{near} = NEW.{far};",
            "  END IF;",
            "  RETURN NEW;",
            "END IF;",
            "IF TG_OP = 'UPDATE' THEN",
            f"  IF ({changed}) OR NEW.{far} IS DISTINCT FROM OLD.{far} THEN {give} END IF;",
            f"ELSIF NEW.{to} IS NOT NULL THEN",
            f"  {give}",
            "END IF;",
            "RETURN NULL;",
        ],
    )
