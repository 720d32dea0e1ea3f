"""Rows of one table carried over to another by trigger, written only where they differ.

What is carried is the row as it is when the trigger fires, not as the statement wrote it: a user's
AFTER trigger may have changed it once more by then, or put it back. Where both tables carry to each
other, it ends by itself: the second write finds nothing to do. A row whose key changes takes its row
there along, with what only that table knows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.blocks.sync import differs
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase


@dataclass(frozen=True, slots=True)
class Carried:
    """A column of the other table: what it gets is SQL in which `{row}` is the row that was written.

    `fixed` columns can be given to a new row and not changed afterwards.
    """

    column: str
    type: str
    value: str
    fixed: bool = False

    def of(self, row: str) -> str:
        """The value for a row: `NEW`, `OLD` or an alias."""
        return self.value.replace("{row}", row)


@dataclass(frozen=True, slots=True)
class Flow:
    """From `here`, whose columns `mine` tell rows apart, to `to`, where `key` does.

    `goes` is a condition on a row here (`{row}`), `own` one on a row there: only rows for which it
    holds are changed. `only_new` columns are given to new rows alone.
    """

    here: QName
    mine: tuple[str, ...]
    to: QName
    columns: tuple[Carried, ...]
    key: tuple[str, ...]
    goes: str | None = None
    own: str | None = None
    only_new: tuple[Carried, ...] = ()

    @property
    def _keys(self) -> list[Carried]:
        return [next(c for c in self.columns if c.column == k) for k in self.key]

    @property
    def _rest(self) -> list[Carried]:
        return [c for c in self.columns if c.column not in self.key]

    def there(self, row: str, alias: str = "x") -> str:
        """A condition: the row of `to` that belongs to a row here."""
        same = [f"{alias}.{quote_ident(k.column)} = {k.of(row)}" for k in self._keys]
        return " AND ".join(dict.fromkeys([*same, *([self._owned(alias)] if self.own else [])]))

    def _owned(self, alias: str) -> str:
        assert self.own is not None
        return self.own.replace("{row}", alias)

    def emptied(self) -> list[str]:
        """What a TRUNCATE here does there."""
        target = quote_qname(self.to)
        if self.own is not None:
            return [f"DELETE FROM {target} x WHERE {self._owned('x')};"]
        return [f"IF EXISTS (SELECT 1 FROM {target}) THEN TRUNCATE {target}; END IF;"]

    def written(self) -> list[str]:
        """What an INSERT, UPDATE or DELETE of a row here does there."""
        target = quote_qname(self.to)
        follow = [k for k in self._keys if "{row}" in k.value]
        moved = " OR ".join(f"{k.of('NEW')} IS DISTINCT FROM {k.of('OLD')}" for k in follow)
        gone = f"TG_OP <> 'INSERT' AND NOT EXISTS ({self._now('OLD')})"
        if self.goes is not None:  # a row that never went there leaves nothing behind
            gone = f"{gone} AND ({self.goes.replace('{row}', 'OLD')})"
        lines = [f"IF {gone} THEN"]
        delete = f"DELETE FROM {target} x WHERE {self.there('OLD')};"
        if any(k.fixed for k in self._keys):
            lines.append(f"  {delete}")
        else:
            # all at once: a key alone would have the other table carry old values back
            sets = ", ".join(
                f"{quote_ident(c.column)} = {c.of('s')}"
                for c in self.columns
                if not c.fixed and "{row}" in c.value
            )
            lines += [
                (
                    f"  IF TG_OP = 'UPDATE' AND ({moved}) AND EXISTS ({self._now('NEW')}) AND NOT EXISTS "
                    f"(SELECT 1 FROM {target} x WHERE {self.there('NEW')}) THEN"
                ),
                (
                    f"    UPDATE {target} x SET {sets} FROM {quote_qname(self.here)} s "
                    f"WHERE {self._current('NEW')} AND {self.there('OLD')};"
                ),
                "  ELSE",
                f"    {delete}",
                "  END IF;",
            ]
        return [
            *lines,
            "END IF;",
            "IF TG_OP <> 'DELETE' THEN",
            *(f"  {line}" for line in self._put(target)),
            "END IF;",
        ]

    def _now(self, row: str, what: str = "1") -> str:
        """A query for the row here that has a row's key now.

        In a transaction that keeps its snapshot a row that others have since deleted is there too:
        the lock has it fail as such transactions do (40001), not go by what was.
        """
        here = quote_qname(self.here)
        return f"SELECT {what} FROM {here} s WHERE {self._current(row)} FOR KEY SHARE"

    def _current(self, row: str) -> str:
        """A condition on `s`: the row here that has a row's key now, if it goes there."""
        same = [f"s.{quote_ident(k)} = {row}.{quote_ident(k)}" for k in self.mine]
        return " AND ".join([*same, *([self.goes.replace("{row}", "s")] if self.goes else [])])

    def _put(self, target: str) -> list[str]:
        given = [*self.columns, *self.only_new]
        names = ", ".join(quote_ident(c.column) for c in given)
        values = ", ".join(c.of("s") for c in given)
        rest = [c for c in self._rest if not c.fixed]
        sets = ", ".join(
            f"{quote_ident(c.column)} = EXCLUDED.{quote_ident(c.column)}" for c in rest
        )
        changed = " OR ".join(
            differs(f"x.{quote_ident(c.column)}", f"EXCLUDED.{quote_ident(c.column)}", c.type)
            for c in rest
        )
        own = f"{self._owned('x')} AND " if self.own else ""
        conflict = f"DO UPDATE SET {sets} WHERE {own}({changed})" if rest else "DO NOTHING"
        return [
            f"INSERT INTO {target} AS x ({names}) OVERRIDING SYSTEM VALUE",
            self._now("NEW", values),
            f"ON CONFLICT ({', '.join(map(quote_ident, self.key))}) {conflict};",
        ]


def with_owners_rights(schemas: Sequence[str | None]) -> str:
    """The head of a trigger function that runs with its owner's rights: whoever writes here need not
    be allowed to write there. Names are looked up in `schemas`, and in the session's own temporary
    one last: it would come first else, and anybody may put a type there that runs code of his."""
    named = (quote_ident(schema or "public") for schema in schemas)
    path = ", ".join(dict.fromkeys(("pg_catalog", *named, "public", "pg_temp")))
    return f"LANGUAGE plpgsql SECURITY DEFINER SET search_path = {path}"


def function_sql(
    function: str,
    flows: Sequence[Flow],
    *,
    schemas: Sequence[str | None],
    forgiving: bool = False,
) -> str:
    """The trigger function that carries over what is written here.

    `forgiving`: a row that the other table does not take is left for a gate to find, so that no code
    fails by a table that it does not know.
    """
    left = (
        "EXCEPTION WHEN integrity_constraint_violation THEN\n  RETURN NULL;\n" if forgiving else ""
    )
    emptied = [f"    {line}" for flow in flows for line in flow.emptied()]
    written = [f"  {line}" for flow in flows for line in flow.written()]
    body = ["  IF TG_OP = 'TRUNCATE' THEN", *emptied, "    RETURN NULL;", "  END IF;", *written]
    return (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
        f"{with_owners_rights(schemas)} AS $zdd$\nBEGIN\n"
        + "\n".join(body)
        + f"\n  RETURN NULL;\n{left}END\n$zdd$"
    )


def triggers(table: QName) -> tuple[str, str]:
    """The names of a table's triggers, quoted: for rows, and for TRUNCATE.

    They fire before users' own, whose writes are carried after what they answer to.
    """
    rows, all_ = (quote_ident(fit(f"AAA_zdd_carry_{w}{table.name}")) for w in ("", "all_"))
    return rows, all_


def make_triggers(table: QName, function: str) -> tuple[str, ...]:
    """The triggers that run the function for whatever is written."""
    rows, all_ = triggers(table)
    name = quote_qname(table)
    run = f"EXECUTE FUNCTION {function}()"
    # not ENABLE ALWAYS: where both tables are replicated, the other row comes by itself, and would
    # come twice; what a load with triggers switched off leaves out, the gate finds
    return (
        f"CREATE TRIGGER {rows} AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW {run}",
        f"CREATE TRIGGER {all_} AFTER TRUNCATE ON {name} FOR EACH STATEMENT {run}",
    )


def drop_triggers(table: QName, on: QName | None = None) -> tuple[str, ...]:
    """They go; `on` is the table's name by then."""
    return tuple(
        f"DROP TRIGGER IF EXISTS {t} ON {quote_qname(on or table)}" for t in triggers(table)
    )


def touch(draft: Draft, table: QName, there: str, *, why: str) -> None:
    """A backfill that changes nothing, for the trigger to carry over every row for which the query
    `there` finds no row yet."""
    columns = draft.start.tables[table].columns
    writable = [c for c in columns if c.identity != "always" and c.generated is None]
    first = (*writable, *columns)[0].name
    draft.backfill(table, [(first, quote_ident(first))], f"NOT EXISTS ({there})", why=why)


def row_for_row(
    draft: Draft, name: str, differing: str, phase: Phase, *, message: str, why: str
) -> None:
    """The law that two tables say the same, and the gate of a phase that waits for it.

    `differing` is a query for rows that only one of them has, or has otherwise.
    """
    draft.law(name, differing)
    draft.gate(
        phase,
        f"SELECT 1 FROM ({differing}) v LIMIT 1",
        message=f"{message}. Look at them: {differing}",
        why=why,
    )
