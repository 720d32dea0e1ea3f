"""The facts of an operation that rules compare and messages name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zdd_migrate.checks.rooms import is_add_column
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import NotUnderstood, Operation
from zdd_migrate.operations.walk import Explained

if TYPE_CHECKING:
    from zdd_migrate.operations.add_column import AddColumn

#: breaks that have a rule of their own, so that `broken` need not repeat them
_OWN_RULE = ("cached_plan",)


def describe(explained: Explained, operation: Operation, effects: Effects) -> dict[str, Any]:
    """The facts a rule may ask for and its message may name.

    The operation's own fields (those of a constraint as `constraint_…`, of an added column as
    `column_…`), and from its effects: `new` (what it is about was created by the same migration),
    `rewrites`, `scans`, `builds`, `rebuilds`, `blocks_reads`, `blocks_writes`, `works`
    (goes through a table in full), `long` (blocks writes while it does), `fails` (an SQLSTATE), `loses`, `breaks` (set of kinds
    that old code suffers), `held` (the lock mode on the relation itself); from the schema: what
    `relation_kind` it is, whether it is a `partition`; and words: `relation`, `lock`, `who`,
    `others`, `sql_relation` (as the source wrote it).
    """
    schema = explained.schema
    facts: dict[str, Any] = operation.describe(schema)
    constraint = facts.get("constraint")
    if isinstance(constraint, dict):
        facts.update({f"constraint_{k}": v for k, v in constraint.items()})
        facts["constraint"] = constraint.get("name") or "the constraint"
    if is_add_column(operation):
        facts.update(_of_column(operation, schema))
    relation = facts.get("relation", "")
    own = QName(*relation.split(".", 1)) if relation.count(".") == 1 else None
    locks = {r: m for r, m in effects.locks.items() if r not in explained.created}
    facts.update(_of_locks(locks, own))
    facts.update(_of_relation(own, schema))
    rows, builds = effects.rewrites or effects.scans, effects.index_builds or effects.index_rebuilds
    subject = own is not None and own in explained.created
    facts.update(
        new=subject and not isinstance(operation, NotUnderstood),
        sql_relation=str(operation.relation) if operation.relation is not None else "",
        rewrites=bool(effects.rewrites),
        scans=bool(effects.scans),
        builds=bool(effects.index_builds),
        rebuilds=bool(effects.index_rebuilds),
        works=bool(rows or builds),
        long=bool(rows or builds) and facts["blocks_writes"],
        fails=effects.error.sqlstate if effects.error is not None else None,
        error=effects.error.message if effects.error is not None else "",
        loses=bool(effects.loses),
        lost=", ".join(effects.loses),
        breaks=frozenset(b.kind for b in effects.breaks if b.code == "old"),
        breaks_new=frozenset(b.kind for b in effects.breaks if b.code == "new"),
        broken="; ".join(
            b.what for b in effects.breaks if b.code == "old" and b.kind not in _OWN_RULE
        ),
        why="; ".join(dict.fromkeys(effects.scans.values())),
        transactional=effects.transactional,
        in_transaction=explained.statement.in_transaction,
        pg=explained.pg,
    )
    return facts


def _of_locks(locks: dict[QName, LockMode], own: QName | None) -> dict[str, Any]:
    held = strongest(*locks.values())
    reads = any(m.blocks_reads for m in locks.values())
    writes = any(m.blocks_writes for m in locks.values())
    return {
        "blocks_reads": reads,
        "blocks_writes": writes,
        "lock": str(held) if held is not None else "",
        "held": str(locks[own]) if own in locks else None,
        "locked": ", ".join(str(r) for r in locks),
        "who": "reads and writes" if reads else "writes" if writes else "nobody",
        "others": ", ".join(sorted(str(r) for r in locks if r != own)),
    }


def _of_relation(own: QName | None, schema: Schema) -> dict[str, Any]:
    """What the relation is; `unknown` where the schema does not say."""
    if own is None:
        return {"relation_kind": None, "partition": False}
    kind = "unknown"
    table, view = schema.tables.get(own), schema.views.get(own)
    if table is not None:
        kind = table.kind
    elif view is not None:
        kind = "materialized view" if view.materialized else "view"
    elif own in schema.indexes:
        kind = "index"
    elif own in schema.sequences:
        kind = "sequence"
    known = kind != "unknown" or own in schema.types or own in schema.functions
    return {
        "relation_kind": kind,
        "absent": schema.complete and not known,
        "partition": table is not None and table.parent is not None,
        "parent": str(table.parent) if table is not None and table.parent is not None else "",
    }


def _of_column(operation: AddColumn, schema: Schema) -> dict[str, Any]:
    """How the values of an added column come about, and what is asked of them."""
    from zdd_migrate.operations.add_column import constrained_domain

    definition = operation.definition
    domain = constrained_domain(schema, definition.type)
    return {
        "column_type": definition.type,
        "column_default": definition.default,
        "column_serial": definition.serial,
        "column_numbered": definition.serial or definition.identity is not None,
        "column_generated": definition.generated,
        "column_domain": str(domain.name) if domain is not None else None,
        "column_constraints": frozenset(c.kind for c in definition.constraints),
    }
