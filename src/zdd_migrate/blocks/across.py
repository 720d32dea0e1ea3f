"""Two tables that say the same thing in two shapes, kept in step while both versions write.

Extracting: columns of a table become a table of their own, row for row. Looking up: a value becomes
a row of its own, and the table refers to it. Triggers on both sides write only what differs, so
they end by themselves; nothing depends on who is connected.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.dual import refuse_dual
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit, own
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import Side, Sync, differs
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase


@dataclass(frozen=True, slots=True)
class Extract:
    """Columns `moved` of `source` (name there, name in `target`, type) become a table of their own.

    `key` pairs the source's primary key with the target's key, row for row.
    """

    source: QName
    target: QName
    key: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str, str], ...]


def plan_extract(draft: Draft, extract: Extract) -> None:
    """Triggers on both tables, a backfill, and at contract the columns out of use, then dropped."""
    if refuse_dual(draft, f"{extract.source} and {extract.target}"):
        return
    draft.breaks_old = True
    draft.needs_release = True
    draft.note(
        f"a row of {extract.source} gets its row in {extract.target} when its transaction commits, "
        "unless new code wrote one in the same transaction: new code writes both in one, or with "
        "ON CONFLICT, until contract"
    )
    _begin(draft, extract)
    _fill(draft, extract)
    there, _ = _functions(extract)
    draft.sql(
        Phase.SWITCH,
        _forward(extract, there, {}, touched=False),
        undo=_forward(extract, there, {}, touched=True),
        why=f"from now on only changed values are carried over to {extract.target.name}",
    )
    _end(draft, extract)


def _begin(draft: Draft, extract: Extract) -> None:
    there, back = _functions(extract)
    draft.sql(
        Phase.EXPAND,
        (
            f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
            _forward(extract, there, {}, touched=True),
            _backward(extract, back, {}),
            *_triggers(extract, there, back),
        ),
        # the new table goes in the same instant: its foreign key would keep old code from deleting
        undo=(*_unmake(draft, extract), f"DROP TABLE IF EXISTS {quote_qname(extract.target)}"),
        why=f"keep {extract.source.name} and {extract.target.name} in step, whoever writes",
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        relation=extract.source,
    )


def _unmake(draft: Draft, extract: Extract) -> list[str]:
    source, (there, back) = draft.sql_name(extract.source), _functions(extract)
    return [
        *(f"DROP TRIGGER IF EXISTS {_trigger(extract, what)} ON {source}" for what in _ON_SOURCE),
        f"DROP TRIGGER IF EXISTS {_trigger(extract, 'back')} ON {quote_qname(extract.target)}",
        f"DROP FUNCTION IF EXISTS {there}()",
        f"DROP FUNCTION IF EXISTS {back}()",
    ]


def _fill(draft: Draft, extract: Extract) -> None:
    """Every row touched, for the trigger to write its row; and what then holds."""
    source, target = draft.sql_name(extract.source), quote_qname(extract.target)
    first = extract.key[0][0]
    given = " OR ".join(f"{quote_ident(c)} IS NOT NULL" for c, _, _ in extract.moved)
    name = quote_ident(extract.source.name)
    joined = " AND ".join(f"x.{quote_ident(t)} = {name}.{quote_ident(s)}" for s, t in extract.key)
    draft.backfill(
        extract.source,
        [(first, quote_ident(first))],
        f"({given}) AND NOT EXISTS (SELECT 1 FROM {target} x WHERE {joined})",
        why=f"touch every row of {extract.source.name}, for the trigger to write {extract.target.name}",
    )
    on = " AND ".join(f"x.{quote_ident(t)} = s.{quote_ident(k)}" for k, t in extract.key)
    for column, other, type_ in extract.moved:
        differing = differs(f"x.{quote_ident(other)}", f"s.{quote_ident(column)}", type_)
        draft.law(
            f"{extract.target.name}.{other} = {extract.source.name}.{column}",
            f"SELECT s.* FROM {source} s JOIN {target} x ON {on} WHERE {differing}",
        )


def _end(draft: Draft, extract: Extract) -> None:
    """The columns out of use, while the triggers still keep them in step; then they go."""
    source, (there, back) = draft.sql_name(extract.source), _functions(extract)
    tombs = {column: own("old", column) for column, _, _ in extract.moved}
    rename = f"ALTER TABLE {source} RENAME COLUMN"
    pairs = [(quote_ident(c), quote_ident(t)) for c, t in tombs.items()]
    # nobody may be inside the other table's trigger while the columns change names
    alone = f"LOCK TABLE {quote_qname(extract.target)}, {source} IN ACCESS EXCLUSIVE MODE"
    draft.sql(
        Phase.CONTRACT,
        (
            alone,
            *(f"{rename} {column} TO {tomb}" for column, tomb in pairs),
            _forward(extract, there, tombs, touched=False),
            _backward(extract, back, tombs),
        ),
        undo=(
            alone,
            *(f"{rename} {tomb} TO {column}" for column, tomb in reversed(pairs)),
            _forward(extract, there, {}, touched=False),
            _backward(extract, back, {}),
        ),
        why=f"take {', '.join(tombs)} of {extract.source.name} out of use; the triggers still keep "
        "them in step, so this can be undone at once without losing a row",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=extract.source,
    )
    drops = ", ".join(f"DROP COLUMN {tomb}" for _, tomb in pairs)
    draft.sql(
        Phase.CONTRACT,
        (*_unmake(draft, extract), f"ALTER TABLE {source} {drops}"),
        undo=None,
        why=f"drop {', '.join(tombs)} of {extract.source.name}; after this there is no way back",
        lock=LockMode.ACCESS_EXCLUSIVE,
        relation=extract.source,
    )


_ON_SOURCE = ("insert", "update", "delete")


def _functions(extract: Extract) -> tuple[str, str]:
    pair = f"{extract.source.name}_{extract.target.name}"
    names = (fit(f"carry_{pair}"), fit(f"bring_back_{pair}"))
    first, second = (quote_qname(QName(ZDD_SCHEMA, name)) for name in names)
    return first, second


def _trigger(extract: Extract, what: str) -> str:
    if what == "delete":  # before the foreign key looks whether a row still refers to this one
        return quote_ident(fit(f"AAA_zdd_delete_{extract.target.name}"))
    return quote_ident(fit(f"zzz_zdd_{what}_{extract.target.name}"))


def _triggers(extract: Extract, there: str, back: str) -> list[str]:
    source, target = quote_qname(extract.source), quote_qname(extract.target)
    run = f"FOR EACH ROW EXECUTE FUNCTION {there}()"
    late = "DEFERRABLE INITIALLY DEFERRED"
    heads = (
        f"CREATE CONSTRAINT TRIGGER {_trigger(extract, 'insert')} AFTER INSERT ON {source} {late}",
        f"CREATE TRIGGER {_trigger(extract, 'update')} AFTER UPDATE ON {source}",
        f"CREATE TRIGGER {_trigger(extract, 'delete')} AFTER DELETE ON {source}",
    )
    on_target = f"{_trigger(extract, 'back')} AFTER INSERT OR UPDATE OR DELETE ON {target}"
    return [
        *(f"{head} {run}" for head in heads),
        f"CREATE TRIGGER {on_target} FOR EACH ROW EXECUTE FUNCTION {back}()",
    ]


def _forward(extract: Extract, function: str, tombs: dict[str, str], *, touched: bool) -> str:
    """The source's trigger. `touched`: an UPDATE that changes nothing writes a missing row too."""
    target = quote_qname(extract.target)
    mine = [tombs.get(c, c) for c, _, _ in extract.moved]
    changed = " OR ".join(
        differs(f"NEW.{quote_ident(c)}", f"OLD.{quote_ident(c)}", type_)
        for c, (_, _, type_) in zip(mine, extract.moved, strict=True)
    )
    given = " OR ".join(f"NEW.{quote_ident(c)} IS NOT NULL" for c in mine)
    peer = " AND ".join(f"{quote_ident(t)} = {{}}.{quote_ident(s)}" for s, t in extract.key)
    here = f"EXISTS (SELECT 1 FROM {target} WHERE {peer.format('NEW')})"
    columns = [t for _, t in extract.key] + [t for _, t, _ in extract.moved]
    values = [s for s, _ in extract.key] + mine
    sets = ", ".join(f"{quote_ident(t)} = EXCLUDED.{quote_ident(t)}" for _, t, _ in extract.moved)
    differing = " OR ".join(
        differs(f"x.{quote_ident(t)}", f"EXCLUDED.{quote_ident(t)}", type_)
        for _, t, type_ in extract.moved
    )
    skip = f"NOT ({changed})" + (f" AND {here}" if touched else "")
    return (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = {_path(extract.source)} AS $zdd$\n"
        "BEGIN\n"
        "  IF TG_OP = 'DELETE' THEN\n"
        f"    DELETE FROM {target} WHERE {peer.format('OLD')};\n"
        "    RETURN NULL;\n"
        "  END IF;\n"
        f"  IF TG_OP = 'UPDATE' THEN\n    IF {skip} THEN RETURN NULL; END IF;\n"
        f"    IF NOT ({given}) AND NOT {here} THEN RETURN NULL; END IF;\n"
        f"  ELSIF {here} OR NOT EXISTS (SELECT 1 FROM {quote_qname(extract.source)} "
        f"WHERE {' AND '.join(f'{quote_ident(s)} = NEW.{quote_ident(s)}' for s, _ in extract.key)})"
        " THEN\n    RETURN NULL;\n"
        "  END IF;\n"
        f"  INSERT INTO {target} AS x ({', '.join(map(quote_ident, columns))})\n"
        f"  SELECT {', '.join(f's.{quote_ident(v)}' for v in values)} "
        f"FROM {quote_qname(extract.source)} s WHERE "
        f"{' AND '.join(f's.{quote_ident(s)} = NEW.{quote_ident(s)}' for s, _ in extract.key)}\n"
        f"  ON CONFLICT ({', '.join(quote_ident(t) for _, t in extract.key)}) DO UPDATE SET {sets} "
        f"WHERE {differing};\n"
        "  RETURN NULL;\nEND\n$zdd$"
    )


def _backward(extract: Extract, function: str, tombs: dict[str, str]) -> str:
    """The target's trigger: what new code writes there, old code finds in its columns."""
    source, target = quote_qname(extract.source), quote_qname(extract.target)
    mine = [(quote_ident(tombs.get(c, c)), quote_ident(t), type_) for c, t, type_ in extract.moved]
    keys = [(quote_ident(s), quote_ident(t)) for s, t in extract.key]

    def now(row: str) -> str:
        return " AND ".join(f"x.{t} = {row}.{t}" for _, t in keys)

    gone = " AND ".join(f"s.{s} = OLD.{t}" for s, t in keys)
    same = " AND ".join(f"s.{s} = x.{t}" for s, t in keys)
    # the row as it is by now: a user's AFTER trigger may have written it once more
    sets = ", ".join(f"{c} = x.{t}" for c, t, _ in mine)
    differing = " OR ".join(differs(f"s.{c}", f"x.{t}", type_) for c, t, type_ in mine)
    nothing = ", ".join(f"{c} = NULL" for c, _, _ in mine)
    some = " OR ".join(f"s.{c} IS NOT NULL" for c, _, _ in mine)
    return (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SET search_path = {_path(extract.source)} AS $zdd$\n"
        "BEGIN\n"
        "  IF TG_OP = 'DELETE' THEN\n"
        f"    UPDATE {source} s SET {nothing} WHERE {gone} AND ({some})\n"
        f"    AND NOT EXISTS (SELECT 1 FROM {target} x WHERE {now('OLD')});\n"
        "  ELSE\n"
        f"    UPDATE {source} s SET {sets} FROM {target} x WHERE {now('NEW')} AND {same} "
        f"AND ({differing});\n"
        "  END IF;\n"
        "  RETURN NULL;\nEND\n$zdd$"
    )


def _path(table: QName) -> str:
    return ", ".join(dict.fromkeys(("pg_catalog", quote_ident(table.schema or "public"), "public")))


@dataclass(frozen=True, slots=True)
class Lookup:
    """Column `value` of `table` becomes a row of `target`, whose `id` goes into `reference`.

    `name` is the target's column that holds the value; the types are those of value and id.
    """

    table: QName
    value: str
    value_type: str
    reference: str
    id_type: str
    target: QName
    id: str
    name: str


def plan_lookup(draft: Draft, lookup: Lookup) -> None:
    """Either way of saying it, in step; a value that is new becomes a row by itself."""
    if refuse_dual(draft, f"{lookup.table.name}.{lookup.value} and the rows of {lookup.target}"):
        return
    target, id_, name = (
        quote_qname(lookup.target),
        quote_ident(lookup.id),
        quote_ident(lookup.name),
    )
    function = quote_qname(
        QName(ZDD_SCHEMA, fit(f"find_{lookup.target.name}_for_{lookup.table.name}"))
    )
    body = (
        f"CREATE OR REPLACE FUNCTION {function}(value {lookup.value_type}) "
        f"RETURNS {lookup.id_type}\n"
        f"LANGUAGE plpgsql SET search_path = {_path(lookup.table)} AS $zdd$\n"
        f"DECLARE found_id {lookup.id_type};\n"
        "BEGIN\n"
        "  IF value IS NULL THEN RETURN NULL; END IF;\n"
        "  LOOP\n"
        f"    SELECT k.{id_} INTO found_id FROM {target} k WHERE k.{name} = value;\n"
        "    IF FOUND THEN RETURN found_id; END IF;\n"
        f"    INSERT INTO {target} ({name}) VALUES (value) ON CONFLICT DO NOTHING;\n"
        "  END LOOP;\nEND\n$zdd$"
    )
    draft.sql(
        Phase.EXPAND,
        (f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}", body),
        undo=f"DROP FUNCTION IF EXISTS {function}({lookup.value_type})",
        why=f"find the row of {lookup.target.name} for a value, or make it",
    )
    table = quote_ident(lookup.table.name)
    value, reference = quote_ident(lookup.value), quote_ident(lookup.reference)
    up = f"{function}({table}.{value})"
    down = f"(SELECT k.{name} FROM {target} k WHERE k.{id_} = {table}.{reference})"
    draft.breaks_old = True
    draft.sync(
        Sync(
            table=lookup.table,
            old=(Side(lookup.value, lookup.value_type, down),),
            new=(Side(lookup.reference, lookup.id_type, up),),
            final=((lookup.value, own("old", lookup.value)),),
            drops=(lookup.value,),
            finally_=(f"DROP FUNCTION {function}({lookup.value_type})",),
            why=f"keep {lookup.value} and {lookup.reference} of {lookup.table.name} in step",
        )
    )
    todo = (
        f"{reference} IS DISTINCT FROM "
        f"(SELECT k.{id_} FROM {target} k WHERE k.{name} = {table}.{value})"
    )
    draft.backfill(
        lookup.table,
        [(lookup.reference, up)],
        todo,
        why=f"fill {lookup.table.name}.{lookup.reference} with the row of each value, in batches",
    )
    draft.law(
        f"{lookup.table.name}.{lookup.reference} = {lookup.target.name} of {lookup.value}",
        f"SELECT * FROM {draft.sql_name(lookup.table)} AS {table} WHERE {todo}",
    )
