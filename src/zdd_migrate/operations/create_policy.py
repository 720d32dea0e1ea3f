"""CREATE and ALTER POLICY: who sees and writes which rows. ACCESS EXCLUSIVE for an instant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.blocks.quoting import quote_ident
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.queries import relations_read
from zdd_migrate.model.effects import Break, Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Policy, Schema
from zdd_migrate.operations.alter_object import read_change
from zdd_migrate.operations.base import Key, Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

_M = LockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePolicy(Operation):
    """Make a policy of a table, or (`alter`) change the one of that name."""

    kind: ClassVar[str] = "create_policy"
    policy: Policy
    alter: bool = False

    def effects(self, at: Situation) -> Effects:
        """ACCESS EXCLUSIVE on the table, ACCESS SHARE on what its conditions read."""
        assert self.relation is not None
        relation = at.schema.resolve(self.relation)
        locks: dict[QName, LockMode] = {relation: _M.ACCESS_EXCLUSIVE}
        for condition in (self.policy.using, self.policy.with_check):
            for read in relations_read(f"SELECT 1 WHERE {condition}") if condition else ():
                locks.setdefault(at.schema.resolve(read), _M.ACCESS_SHARE)
        table = at.schema.tables.get(relation)
        enforced = table is None or table.row_security
        narrows = self.alter or not self.policy.permissive
        if not (enforced and narrows):
            return Effects(locks=locks)
        what = f"rows of {relation.name} that roles no longer see or may write"
        return Effects(locks=locks, breaks=(Break("old", "row_security", what, "42501", relation),))

    def apply(self, schema: Schema) -> None:
        """Keep it with its table."""
        assert self.relation is not None
        table = schema.table(self.relation)
        if table is None:
            return
        name = self.policy.name
        if not self.alter:
            schema.put_table(replace(table, policies=(*table.policies, self.policy)))
            return
        kept = tuple(
            replace(
                p,
                using=self.policy.using or p.using,
                with_check=self.policy.with_check or p.with_check,
                roles=self.policy.roles or p.roles,
            )
            if p.name == name
            else p
            for p in table.policies
        )
        schema.put_table(replace(table, policies=kept))

    def plan(self, draft: Draft) -> None:
        """A permissive policy only adds: in expand. What narrows waits for contract."""
        relation = draft.resolve(self.relation)
        if self.alter:
            self._replace(draft, relation)
            return
        if set(self.makes(draft.schema)) & draft.replaced:
            self._replace(draft, relation)
            return
        name = f"{quote_ident(self.policy.name)} ON {draft.sql_name(relation)}"
        new = self.policy.permissive or draft.is_new(relation)
        draft.restricts_old = draft.restricts_old or not new
        draft.as_written(
            Phase.EXPAND if new else Phase.CONTRACT,
            undo=f"DROP POLICY IF EXISTS {name}",
            why=f"policy {self.policy.name} of {relation}",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The policy of this name."""
        assert self.relation is not None
        if self.alter:
            return ()
        return (("policy", schema.resolve(self.relation), self.policy.name),)

    def _replace(self, draft: Draft, relation: QName) -> None:
        """Beside the old one, so that either version sees its rows; alone at contract."""
        from zdd_migrate.blocks.naming import own

        table = draft.start.tables.get(draft.present(relation))
        was = (
            next((p for p in table.policies if p.name == self.policy.name), None) if table else None
        )
        if was is not None and self.alter:
            changed = replace(
                was,
                using=self.policy.using or was.using,
                with_check=self.policy.with_check or was.with_check,
                roles=self.policy.roles or was.roles,
            )
        else:
            changed = self.policy
        if was is None or not (was.permissive and changed.permissive):
            draft.refuse(
                f"the restrictive policy {self.policy.name} of {relation} changes for both versions "
                "at once",
                "create a second policy for the new code, and drop this one when no old code is left",
            )
            return
        name, final = draft.sql_name(relation), quote_ident(self.policy.name)
        working = own("new", self.policy.name)
        draft.restricts_old = True
        draft.sql(
            Phase.EXPAND,
            policy_sql(changed, name, working),
            undo=f"DROP POLICY IF EXISTS {quote_ident(working)} ON {name}",
            why=f"the new {self.policy.name} beside the old one: either version sees its rows",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )
        draft.sql(
            Phase.CONTRACT,
            (
                f"DROP POLICY {final} ON {name}",
                f"ALTER POLICY {quote_ident(working)} ON {name} RENAME TO {final}",
            ),
            undo=(
                f"ALTER POLICY {final} ON {name} RENAME TO {quote_ident(working)}",
                policy_sql(was, name),
            ),
            why=f"the new {self.policy.name} alone, under its name",
            lock=_M.ACCESS_EXCLUSIVE,
            relation=relation,
        )


_ROLES = ("public", "current_user", "current_role", "session_user")


def policy_sql(policy: Policy, table_sql: str, name: str | None = None) -> str:
    """CREATE POLICY as it is, perhaps under another name."""
    roles = ", ".join(r if r in _ROLES else quote_ident(r) for r in policy.roles) or "public"
    using = f" USING ({policy.using})" if policy.using is not None else ""
    check = f" WITH CHECK ({policy.with_check})" if policy.with_check is not None else ""
    kind = "PERMISSIVE" if policy.permissive else "RESTRICTIVE"
    return (
        f"CREATE POLICY {quote_ident(name or policy.name)} ON {table_sql} AS {kind} "
        f"FOR {policy.command} TO {roles}{using}{check}"
    )


def _read(cursor: Cursor) -> Operation:
    alter = cursor.accept("ALTER")
    if not alter:
        cursor.expect("CREATE")
    cursor.expect("POLICY")
    if alter:
        cursor.accept("IF", "EXISTS")
    name = cursor.name()
    cursor.expect("ON")
    relation = cursor.qname()
    if alter and cursor.at("RENAME"):
        return read_change(cursor, "POLICY", name, relation)
    policy = Policy(name, roles=() if alter else ("public",))
    while not cursor.done and not cursor.at(";"):
        if cursor.accept("AS"):
            policy = replace(policy, permissive=cursor.name() == "permissive")
        elif cursor.accept("FOR"):
            policy = replace(policy, command=cursor.next().up)
        elif cursor.accept("TO"):
            policy = replace(policy, roles=cursor.list_of(cursor.name))
        elif cursor.accept("USING"):
            policy = replace(policy, using=cursor.group_text())
        else:
            cursor.expect("WITH", "CHECK")
            policy = replace(policy, with_check=cursor.group_text())
    return CreatePolicy(relation=relation, policy=policy, alter=alter)


READS = {"CREATE POLICY": _read, "ALTER POLICY": _read}
