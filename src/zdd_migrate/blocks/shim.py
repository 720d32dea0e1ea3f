"""An object under two names at once, while two code versions call it by either.

A relation gets a view under the new name, which reads and writes through to it; a type a domain, a
function a copy. At contract the stand-in goes and the object takes the name, in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, own
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase
from zdd_migrate.model.schema import Function

_COPY = f"{ZDD_SCHEMA}.copy_grants"
_COPY_GRANTS = f"""CREATE OR REPLACE FUNCTION {_COPY}(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $zdd$
DECLARE one record;
BEGIN
  FOR one IN
    SELECT x.privilege_type, x.is_grantable,
      CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS role
    FROM pg_class c, aclexplode(c.relacl) x
    WHERE c.oid = source AND x.grantee <> c.relowner
      AND x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON %s TO %s%s', one.privilege_type, target, one.role,
      CASE WHEN one.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
END
$zdd$"""


def copy_grants(source: QName, target: QName) -> tuple[str, ...]:
    """Statements that let every role do with `target` what it may do with `source`."""
    pair = ", ".join(quote_literal(quote_qname(name)) for name in (source, target))
    return (
        f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
        _COPY_GRANTS,
        f"SELECT {_COPY}({pair})",
        f"DROP FUNCTION {_COPY}(regclass, regclass)",
    )


def renaming(kind: str, old: QName, new: QName, signature: str = "") -> list[str]:
    """Statements that give an object another schema, another name, or both."""
    out = []
    at = old
    if old.schema != new.schema:
        out.append(
            f"ALTER {kind} {quote_qname(at)}{signature} SET SCHEMA {quote_ident(new.schema or '')}"
        )
        at = QName(new.schema, at.name)
    if old.name != new.name:
        out.append(f"ALTER {kind} {quote_qname(at)}{signature} RENAME TO {quote_ident(new.name)}")
    return out


def plan_stand_in(
    draft: Draft,
    kind: str,
    old: QName,
    new: QName,
    *,
    make: Sequence[str] | Callable[[bool], Sequence[str]],
    stands_in: str,
    why: str,
    signature: str = "",
    lock: LockMode | None = None,
) -> None:
    """`make` a stand-in under the new name in expand; at contract the object takes the name.

    `old` is the present name, `stands_in` the kind of the stand-in, `lock` is on the object at
    contract. Where `make` is to be called, the stand-in is of a table, and waits until everything
    else is known about it: whether this is its last name, and which columns it will have. It is told
    whether columns have changed their names already, as they have on the way back from contract.
    """
    if stands_in == "VIEW":
        draft.breaks_old = True
    else:  # not all code names a type or calls a function
        draft.restricts_old = True
    draft.needs_release = True
    known = old if lock is not None else None
    drop = f"{stands_in} {{}}{quote_qname(new)}{signature if stands_in == kind else ''}"
    takes = str(new) if old.schema != new.schema else new.name

    def expand() -> None:
        if callable(make) and draft.final(old) != new:
            return
        draft.sql(
            Phase.EXPAND,
            make(False) if callable(make) else make,
            undo=f"DROP {drop.format('IF EXISTS ')}",
            why=why,
            lock=LockMode.ACCESS_SHARE if known is not None else None,
            relation=known,
        )

    def contract() -> None:
        if callable(make) and draft.final(old) != new:
            return
        draft.sql(
            Phase.CONTRACT,
            (f"DROP {drop.format('')}", *renaming(kind, old, new, signature)),
            undo=(
                *renaming(kind, new, old, signature),
                *(make(True) if callable(make) else make),
            ),
            why=f"{old.name} becomes {takes}; nobody uses the old name any more",
            lock=lock,
            relation=known,
        )

    def contract_of_type() -> None:
        """Aside first, where a parameter that was prepared with the stand-in finds it still.

        What a prepared statement calls by the name is looked up again only when something else asks
        for that: any change among the schemas does, and the server then forgets every plan.
        """
        aside, moment = new.sibling(own("old", new.name)), quote_ident(own("moment"))
        draft.sql(
            Phase.CONTRACT,
            (
                *renaming("DOMAIN", new, aside),
                *renaming(kind, old, new),
                f"CREATE SCHEMA {moment}",
                f"DROP SCHEMA {moment}",
            ),
            undo=(*renaming(kind, new, old), *renaming("DOMAIN", aside, new)),
            why=f"{old.name} becomes {takes}; nobody uses the old name any more",
        )
        draft.sql(
            Phase.CONTRACT,
            f"DROP DOMAIN {quote_qname(aside)}",
            undo=f"CREATE DOMAIN {quote_qname(aside)} AS {quote_qname(new)}",
            why=f"drop what stood in for {takes}; no connection from before may hold it any more",
        )

    if stands_in == "DOMAIN":
        expand()
        contract_of_type()
    elif callable(make):
        draft.last(expand, Phase.EXPAND)
        draft.last(contract, Phase.CONTRACT)
    else:
        expand()
        contract()


def view_over(
    draft: Draft,
    relation: QName,
    view: QName,
    columns: Sequence[str],
    called: Mapping[str, str] | None = None,
) -> list[str]:
    """Statements that make a view of all of a relation, for whoever may use the relation. `called`
    are the names that columns have in the relation, where those are others."""
    invoker = " WITH (security_invoker = true)" if draft.pg >= 15 else ""
    pairs = [(quote_ident((called or {}).get(c, c)), quote_ident(c)) for c in columns]
    shown = ", ".join(now if now == c else f"{now} AS {c}" for now, c in pairs) or "*"
    return [
        f"CREATE VIEW {quote_qname(view)}{invoker} AS SELECT {shown} FROM {quote_qname(relation)}",
        *copy_grants(relation, view),
    ]


def plan_view_shim(draft: Draft, kind: str, old: QName, new: QName, columns: Sequence[str]) -> None:
    """A relation under its new name, as a view over the old one. `kind` is TABLE, VIEW …

    `columns` are a view's; a table's are those that it has in the end.
    """

    def of_table(swapped: bool) -> list[str]:
        from zdd_migrate.blocks.twin import all_syncs

        found = draft.schema.tables.get(new)
        owners = [table for table in draft.syncs if draft.present(table) == old]
        now = dict(p for o in owners for s in all_syncs(draft, o) for p in s.final)
        shown = [c.name for c in found.columns] if found else columns
        return view_over(draft, old, new, shown, now if swapped else {})

    if kind == "TABLE":
        draft.note(
            f"through the view {new}, COPY … FROM, TRUNCATE and system columns do not work: new "
            "code that needs them waits for contract"
        )
    elif kind == "MATERIALIZED VIEW":
        draft.note(f"until contract it is {old} that is refreshed, not {new}")
    plan_stand_in(
        draft,
        kind,
        old,
        new,
        make=of_table
        if kind in ("TABLE", "FOREIGN TABLE")
        else view_over(draft, old, new, columns),
        stands_in="VIEW",
        why=f"new code reads and writes {new if old.schema != new.schema else new.name} through a "
        f"view over {old.name}",
        lock=LockMode.ACCESS_EXCLUSIVE,
    )


def plan_type_shim(draft: Draft, kind: str, old: QName, new: QName) -> None:
    """A type under its new name, as a domain over it: casts and parameters of either name work."""
    draft.note(
        f"at contract every prepared statement is planned anew once, and one that gives back a {new.name} has "
        "to be prepared anew (0A000), as after any change of a type; a parameter of that type keeps to the "
        "stand-in, and fails (cache lookup failed for type) once contract's last step drops it: renew "
        "connections that live long, and a pool's, before that"
    )
    plan_stand_in(
        draft,
        kind,
        old,
        new,
        make=(f"CREATE DOMAIN {quote_qname(new)} AS {quote_qname(old)}",),
        stands_in="DOMAIN",
        why=f"new code finds the type {old.name} under the name {new.name} too",
    )


def plan_function_shim(draft: Draft, kind: str, known: Function, new: QName) -> bool:
    """A function under its new name, as a copy of it. False where its definition is not known."""
    head = re.compile(
        r"(CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+)[^(]*\(", re.IGNORECASE
    )
    if not head.match(known.definition):
        return False
    copy = head.sub(lambda m: f"{m[1]}{quote_qname(new)}(", known.definition, count=1)
    plan_stand_in(
        draft,
        kind,
        known.name,
        new,
        make=(copy.rstrip().rstrip(";"),),
        stands_in=kind,
        why=f"new code calls {new.name}(), a copy of {known.name.name}()",
        signature=f"({signature(known.arguments)})",
    )
    return True


def signature(arguments: str) -> str:
    """Arguments without their defaults, as ALTER and DROP want them."""
    parts = re.split(r",(?![^(]*\))", arguments) if arguments.strip() else []
    cut = re.compile(r"\s+DEFAULT\b.*|\s*:?=.*", re.IGNORECASE | re.DOTALL)
    return ", ".join(cut.sub("", part).strip() for part in parts)
