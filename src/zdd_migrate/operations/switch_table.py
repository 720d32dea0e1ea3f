"""Switches of a relation: row security, triggers, rules, owner, options, statistics, storage …"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Column, Schema, Table
from zdd_migrate.operations.base import Operation, Situation, Target
from zdd_migrate.operations.facts import owned_sequences

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchTable(Operation):
    """A switch of a table that neither rewrites nor reads it.

    `switch` is what is switched: row security, force row security, trigger, rule, owner, options,
    replica identity, statistics, storage, clustering, oids. `on` is to where; `text` the action's
    source. `object` is what kind of relation the statement names.
    """

    kind: ClassVar[str] = "switch_table"
    switch: str
    text: str
    on: bool = True
    column: str | None = None
    only: bool = False
    object: str = "TABLE"

    def effects(self, at: Situation) -> Effects:
        """Mostly ACCESS EXCLUSIVE for an instant; options and statistics ask less."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        mode = _SWITCH_LOCKS.get(self.switch, _M.ACCESS_EXCLUSIVE)
        if (refused := self._refused(at, relation)) is not None:
            return Effects(error=refused)
        if self.object == "INDEX":
            return Effects(index_locks={relation: _M.SHARE_UPDATE_EXCLUSIVE})
        if self.object == "VIEW" and self.switch == "options":
            mode = _M.ACCESS_EXCLUSIVE
        members = [relation]
        if self.switch in ("statistics", "storage") and not self.only:
            members += [t.name for t in at.schema.descendants_of(relation)]
        if self.switch == "trigger" and not self.only:
            members += self._with_triggers(at.schema, relation)
        if self.switch == "owner":
            members += owned_sequences(at.schema, relation)
        breaks: tuple[Break, ...] = ()
        if self.switch == "row security" and self.on:
            what = f"roles that no policy of {relation.name} admits see and write no rows"
            breaks = (Break("old", "row_security", what, "42501", relation),)
        elif self.switch == "trigger" and not self.on:
            what = f"writes to {relation.name} that count on the trigger"
            breaks = (Break("old", "values", what, None, relation),)
        return Effects(locks=dict.fromkeys(members, mode), breaks=breaks)

    def _with_triggers(self, schema: Schema, relation: QName) -> list[QName]:
        """Partitions that have copies of the table's triggers, foreign keys' included."""
        table = schema.tables.get(relation)
        keyed = table is not None and (
            bool(table.triggers) or any(c.kind == "foreign_key" for c in table.constraints)
        )
        if not keyed and not any(True for _ in schema.foreign_keys_to(relation)):
            return []
        return [t.name for t in schema.descendants_of(relation)]

    def _refused(self, at: Situation, relation: QName) -> PgError | None:
        """Options nobody has, and what this kind of relation or this major does not take."""
        text = " ".join(self.text.upper().split())
        if self.switch == "storage" and text.endswith("SET STORAGE DEFAULT") and at.pg < 16:
            return PgError("42601", "SET STORAGE DEFAULT needs Postgres 16")
        table = at.schema.tables.get(relation)
        if self.switch == "options":
            return self._refused_options(at, relation, table)
        partitioned = table is not None and table.kind == "partitioned"
        if self.switch == "clustering" and partitioned and "WITHOUT" not in text:
            return PgError("0A000", "cannot mark index clustered in partitioned table")
        return None

    def _refused_options(
        self, at: Situation, relation: QName, table: Table | None
    ) -> PgError | None:
        # an extension's options have its name before them: who knows
        written = (m.lower().removeprefix("toast.") for m in _OPTION.findall(self.text))
        names = [name for name in written if "." not in name]
        if relation in at.schema.views and not at.schema.views[relation].materialized:
            wrong = [n for n in names if n not in _VIEW_OPTIONS.get(at.pg >= 15, ())]
        elif relation in at.schema.indexes:
            above = at.schema.tables.get(at.schema.indexes[relation].table)
            if above is not None and above.kind == "partitioned":
                message = f'ALTER action SET cannot be performed on relation "{relation.name}"'
                return PgError("42809", message)
            return None
        elif table is not None and table.kind == "partitioned":
            if at.pg >= 16:
                message = "cannot specify storage parameters for a partitioned table"
                return PgError("42809", message)
            wrong = names
        elif table is not None:
            wrong = [n for n in names if n not in _TABLE_OPTIONS]
        else:
            wrong = []
        return PgError("22023", f'unrecognized parameter "{wrong[0]}"') if wrong else None

    def apply(self, schema: Schema) -> None:
        """Remember row security, the replica identity, and what a column's storage is set to."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if self.switch == "owner":
            schema.owners[schema.resolve(self.relation)] = self.text.split()[-1].strip('"')
        if table is not None and self.switch == "clustering":
            index = re.search(r"CLUSTER\s+ON\s+(\S+)", self.text, re.IGNORECASE)
            if index is not None:
                schema.clustered[table.name] = index[1].strip('"')
            else:
                schema.clustered.pop(table.name, None)
        if table is None:
            self._apply_to_index(schema)
            return
        if self.switch == "row security":
            schema.put_table(replace(table, row_security=self.on))
        if table is not None and self.switch == "force row security":
            schema.put_table(replace(table, force_row_security=self.on))
        if table is not None and self.switch == "trigger":
            state = next((s for s, how in _HOW.items() if self.text.upper().startswith(how)), "O")
            named = self._trigger_named
            schema.put_table(
                replace(
                    table,
                    triggers=tuple(
                        replace(t, enabled=state) if t.name == named or named is None else t
                        for t in table.triggers
                    ),
                )
            )
        if self.switch == "replica identity":
            last = self.text.split()[-1]
            by_index = "USING" in self.text.upper()
            to = f"INDEX {last.strip(chr(34))}" if by_index else last.upper()
            schema.put_table(replace(table, replica_identity=to))
        if self.column is not None and (column := table.column(self.column)) is not None:
            for setting, change in _SETTINGS.items():
                if f" SET {setting} " in f"{self.text.upper()} ":
                    schema.put_table(table.with_column(change(column, self.text.split()[-1])))
            if (listed := _LISTED.search(self.text)) is not None:
                schema.put_table(table.with_column(_with_options(column, *listed.groups())))

    def _apply_to_index(self, schema: Schema) -> None:
        assert self.relation is not None
        index = schema.indexes.get(schema.resolve(self.relation))
        set_ = _TARGET.search(self.text)
        if index is None or set_ is None or self.column is None or not self.column.isdigit():
            return
        kept = [(n, target) for n, target in index.statistics if n != int(self.column)]
        given = [(int(self.column), int(set_[1]))] if int(set_[1]) >= 0 else []
        schema.put_index(replace(index, statistics=tuple(sorted(kept + given))))

    @property
    def _trigger_named(self) -> str | None:
        """The trigger switched; None for ALL and USER."""
        last = self.text.split()[-1]
        if last.upper() in ("ALL", "USER"):
            return None
        return last[1:-1].replace('""', '"') if last.startswith('"') else last.lower()

    def _triggers_back(self, table: Table) -> list[str]:
        """Actions that switch the triggers concerned back to what they are."""
        named = self._trigger_named
        return [
            f"{_HOW[t.enabled]} TRIGGER {quote_ident(t.name)}"
            for t in table.triggers
            if t.name == named or named is None
        ]

    def plan(self, draft: Draft) -> None:
        """As it is; what restricts old code waits for contract."""
        relation = draft.resolve(self.relation)
        restricting = self.switch == "row security" and self.on
        reverse = _REVERSE.get(self.switch)
        undo: tuple[str, ...] = ()
        name = draft.sql_name(relation)
        table = draft.table(relation)
        is_so = {
            "row security": table is not None and table.row_security,
            "force row security": table is not None and table.force_row_security,
        }.get(self.switch)
        if table is not None and is_so is not None and is_so == self.on:
            draft.note(f"the {self.switch} of {relation} is so already")
            return
        if self.switch == "trigger" and table is not None:
            undo = tuple(f"ALTER TABLE {name} {back}" for back in self._triggers_back(table))
        elif reverse is not None:
            undo = (f"ALTER {self.object} {name} {reverse(self)}",)
        elif self.switch == "replica identity" and table is not None and (was := _was(table)):
            undo = (f"ALTER TABLE {name} REPLICA IDENTITY {was}",)
        elif not draft.is_new(relation):
            kind = {"TABLE": "table", "INDEX": "index", "SEQUENCE": "sequence"}.get(
                self.object, "view"
            )
            at = f"column {relation}.{self.column}" if self.column else f"{kind} {relation}"
            draft.leave(at, f"the {self.switch} of {relation} as the migration sets it")
        draft.restricts_old = draft.restricts_old or restricting
        draft.sql(
            Phase.CONTRACT if restricting and not draft.is_new(relation) else Phase.EXPAND,
            f"ALTER {self.object} {name} {self.text}",
            undo=undo,
            why=f"change the {self.switch} of {relation}",
            lock=_SWITCH_LOCKS.get(self.switch, _M.ACCESS_EXCLUSIVE),
            relation=relation,
        )


#: how a trigger gets each of its states; the longer spellings first
_HOW = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "O": "ENABLE", "D": "DISABLE"}


def _was(table: Table) -> str | None:
    """A table's replica identity as ALTER TABLE has it; None where its index is not known."""
    known = table.replica_identity.upper()
    return known if known in ("DEFAULT", "FULL", "NOTHING") else None


_OPTION = re.compile(r"[(,]\s*\"?([\w.]+)\"?\s*(?==|,|\))")
_VIEW_OPTIONS = {
    False: ("security_barrier", "check_option"),
    True: ("security_barrier", "check_option", "security_invoker"),
}
#: storage parameters of tables; source: the documentation of CREATE TABLE, majors 14 to 18
_TABLE_OPTIONS = frozenset(
    """fillfactor toast_tuple_target parallel_workers autovacuum_enabled vacuum_index_cleanup
    vacuum_truncate autovacuum_vacuum_threshold autovacuum_vacuum_max_threshold
    autovacuum_vacuum_scale_factor autovacuum_vacuum_insert_threshold
    autovacuum_vacuum_insert_scale_factor autovacuum_analyze_threshold
    autovacuum_analyze_scale_factor autovacuum_vacuum_cost_delay autovacuum_vacuum_cost_limit
    autovacuum_freeze_min_age autovacuum_freeze_max_age autovacuum_freeze_table_age
    autovacuum_multixact_freeze_min_age autovacuum_multixact_freeze_max_age
    autovacuum_multixact_freeze_table_age log_autovacuum_min_duration user_catalog_table
    vacuum_max_eager_freeze_failure_rate log_autoanalyze_min_duration oids""".split()
)
#: how settings of a column change it
_SETTINGS: dict[str, Callable[[Column, str], Column]] = {
    "STATISTICS": lambda c, v: replace(c, statistics=int(v) if v.isdigit() else None),
    "STORAGE": lambda c, v: replace(c, storage=_set(v.upper())),
    "COMPRESSION": lambda c, v: replace(c, compression=_set(v.lower())),
}
_TARGET = re.compile(r" SET STATISTICS (-?\d+)$", re.IGNORECASE)
_LISTED = re.compile(r" (SET|RESET)\s*\((.*)\)\s*$", re.IGNORECASE | re.DOTALL)
_SWITCH_LOCKS = {
    "options": _M.SHARE_UPDATE_EXCLUSIVE,
    "statistics": _M.SHARE_UPDATE_EXCLUSIVE,
    "trigger": _M.SHARE_ROW_EXCLUSIVE,
    "clustering": _M.SHARE_UPDATE_EXCLUSIVE,
}
_REVERSE: dict[str, Callable[[SwitchTable], str]] = {
    "row security": lambda s: f"{'DISABLE' if s.on else 'ENABLE'} ROW LEVEL SECURITY",
    "force row security": lambda s: f"{'NO FORCE' if s.on else 'FORCE'} ROW LEVEL SECURITY",
    "rule": lambda s: _toggled(s),
    "trigger": lambda s: _toggled(s),
}
#: the words before TRIGGER or RULE
_SWITCHING = re.compile(r"\w+\s+(?:(?:ALWAYS|REPLICA)\s+)?(?=(?:TRIGGER|RULE)\b)", re.IGNORECASE)


def _set(value: str) -> str | None:
    return None if value.upper() == "DEFAULT" else value


def _with_options(column: Column, how: str, listed: str) -> Column:
    """A column with options set or reset."""
    pairs = [one.partition("=") for one in listed.split(",")]
    named = {name.strip().lower(): value.strip() for name, _, value in pairs}
    kept = [(name, value) for name, value in column.options if name not in named]
    given = named.items() if how.upper() == "SET" else ()
    return replace(column, options=(*kept, *given))


def _toggled(switched: SwitchTable) -> str:
    """The other state of a trigger or rule: there is no DISABLE ALWAYS."""
    return _SWITCHING.sub("DISABLE " if switched.on else "ENABLE ", switched.text, count=1)


def _switch(name: str, *, on: bool = True) -> Callable[[Cursor, Target], SwitchTable]:
    def read(cursor: Cursor, target: Target) -> SwitchTable:
        start = cursor.i
        while not cursor.done and not cursor.at(",") and not cursor.at(";"):
            if cursor.at("("):
                cursor.skip_group()
            else:
                cursor.next()
        return SwitchTable(
            relation=target.relation,
            switch=name,
            text=squeeze(cursor.slice(start)),
            on=on,
            only=target.only,
            object=target.object,
        )

    return read


def _column_switch(name: str) -> Callable[[Cursor, Target, str], SwitchTable]:
    def read(cursor: Cursor, target: Target, column: str) -> SwitchTable:
        start = cursor.i
        while not cursor.done and not cursor.at(",") and not cursor.at(";"):
            if cursor.at("("):
                cursor.skip_group()
            else:
                cursor.next()
        return SwitchTable(
            relation=target.relation,
            switch=name,
            text=f"ALTER COLUMN {_column(target, column)} {cursor.slice(start)}",
            column=column,
            only=target.only,
            object=target.object,
        )

    return read


def _column(target: Target, column: str) -> str:
    """A column of an index is told by its number."""
    return column if target.object == "INDEX" and column.isdigit() else quote_ident(column)


TABLE_ACTIONS = {
    "ENABLE ROW LEVEL": _switch("row security"),
    "DISABLE ROW LEVEL": _switch("row security", on=False),
    "FORCE ROW LEVEL": _switch("force row security"),
    "NO FORCE ROW": _switch("force row security", on=False),
    "ENABLE TRIGGER": _switch("trigger"),
    "DISABLE TRIGGER": _switch("trigger", on=False),
    "ENABLE ALWAYS TRIGGER": _switch("trigger"),
    "ENABLE REPLICA TRIGGER": _switch("trigger"),
    "ENABLE RULE": _switch("rule"),
    "ENABLE ALWAYS RULE": _switch("rule"),
    "ENABLE REPLICA RULE": _switch("rule"),
    "DISABLE RULE": _switch("rule", on=False),
    "OWNER TO": _switch("owner"),
    "SET (": _switch("options"),
    "RESET (": _switch("options"),
    "REPLICA IDENTITY": _switch("replica identity"),
    "CLUSTER ON": _switch("clustering"),
    "SET WITHOUT CLUSTER": _switch("clustering", on=False),
    "SET WITHOUT OIDS": _switch("oids", on=False),
    "OPTIONS": _switch("foreign options"),
    "DEPENDS ON EXTENSION": _switch("extension"),
    "NO DEPENDS ON": _switch("extension", on=False),
}
COLUMN_ACTIONS = {
    "SET STATISTICS": _column_switch("statistics"),
    "SET STORAGE": _column_switch("storage"),
    "SET COMPRESSION": _column_switch("storage"),
    "SET (": _column_switch("statistics"),
    "RESET (": _column_switch("statistics"),
    "OPTIONS": _column_switch("foreign options"),
}
