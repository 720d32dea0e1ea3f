"""Out of use before gone: objects wait in a schema that nobody looks into, and come back whole.

Nobody but its owner may use the schema, so whoever still names the object is told so. What hangs
on the object (grants, comments, indexes, dependents) stays on it: one statement brings all back.
"""

from __future__ import annotations

from collections.abc import Sequence

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Phase

#: where dropped objects wait
TRASH = f"{ZDD_SCHEMA}_trash"
#: what makes room for one, and what takes the room away again once nothing waits there
MAKE_TRASH = f"CREATE SCHEMA IF NOT EXISTS {TRASH}"
CLEAR_TRASH = (
    f"DO $zdd$ BEGIN DROP SCHEMA IF EXISTS {TRASH}; "
    "EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $zdd$"
)


def trashed(name: QName) -> QName:
    """The name under which an object waits."""
    return QName(TRASH, fit(f"{name.schema}_{name.name}"))


def move_aside(kind: str, name: QName, signature: str = "") -> tuple[list[str], list[str]]:
    """Statements that take an object into the trash, and those that bring it back.

    `kind` is its kind in SQL, `name` its present name, `signature` a function's `(int, text)`.
    """
    there = trashed(name)
    aside = QName(name.schema, there.name)
    away = [
        MAKE_TRASH,
        f"ALTER {kind} {quote_qname(name)}{signature} RENAME TO {quote_ident(there.name)}",
        f"ALTER {kind} {quote_qname(aside)}{signature} SET SCHEMA {TRASH}",
    ]
    back = [
        f"ALTER {kind} {quote_qname(there)}{signature} SET SCHEMA {quote_ident(name.schema or '')}",
        f"ALTER {kind} {quote_qname(aside)}{signature} RENAME TO {quote_ident(name.name)}",
        CLEAR_TRASH,
    ]
    return away, back


def plan_trashed(
    draft: Draft,
    kind: str,
    name: QName,
    *,
    signature: str = "",
    cascade: bool = False,
    what: str,
    lock: LockMode | None = None,
    with_it: Sequence[tuple[str, QName]] = (),
    before_drop: Sequence[str] = (),
    loses: str = "",
) -> None:
    """At contract: into the trash, reversibly; at the very end: dropped.

    `with_it` are objects (kind, present name) that CASCADE takes along, `before_drop` statements
    that run just before the drop, `what` the object for people, `loses` what is lost for good.
    """
    put_aside(draft, kind, name, signature=signature, what=what, lock=lock, with_it=with_it)
    tail = " CASCADE" if cascade else ""
    drop_aside(
        draft,
        kind,
        name,
        signature=f"{signature}{tail}",
        what=f"{what}{loses}",
        lock=lock,
        before=before_drop,
    )


def put_aside(
    draft: Draft,
    kind: str,
    name: QName,
    *,
    signature: str = "",
    what: str,
    lock: LockMode | None = None,
    with_it: Sequence[tuple[str, QName]] = (),
) -> None:
    """At contract: into the trash, reversibly."""
    away: list[str] = []
    back: list[str] = []
    for kind_, name_, signature_ in (*((k, n, "") for k, n in with_it), (kind, name, signature)):
        there, home = move_aside(kind_, name_, signature_)
        away += there
        back = [*home, *back]
    draft.sql(
        Phase.CONTRACT,
        list(dict.fromkeys(away)),
        undo=[*(s for s in back if s != CLEAR_TRASH), CLEAR_TRASH],
        why=f"take {what} out of use: it waits in {TRASH} as it is, to be brought back at once",
        lock=lock,
        relation=name if lock is not None else None,
    )


def drop_aside(
    draft: Draft,
    kind: str,
    name: QName,
    *,
    signature: str = "",
    what: str,
    lock: LockMode | None = None,
    before: Sequence[str] = (),
) -> None:
    """At the very end: out of the trash, for good."""
    draft.sql(
        Phase.CONTRACT,
        (*before, f"DROP {kind} {quote_qname(trashed(name))}{signature}", CLEAR_TRASH),
        undo=None,
        why=f"drop {what}; after this there is no way back",
        lock=lock,
        relation=trashed(name) if lock is not None else None,
    )
