"""The facts of an operation that rules compare and messages name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zdd_migrate.checks.rooms import is_add_column
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import NotUnderstood, Operation
from zdd_migrate.operations.walk import Explained

if TYPE_CHECKING:
    from zdd_migrate.operations.add_column import AddColumn

#: facts that rules ask for most, and that many operations have in common
SHAPE = frozenset(
    "new blocks_reads blocks_writes rewrites scans builds rebuilds works long breaks fails holds".split()
)
#: breaks that have a rule of their own, so that `broken` need not repeat them
_OWN_RULE = ("cached_plan",)


class Facts(Mapping[str, Any]):
    """The facts a rule may ask for and its message may name, each worked out when it is asked for.

    The operation's own fields (those of a constraint as `constraint_…`, of an added column as
    `column_…`), and from its effects: `new` (what it is about was created by the same migration),
    `rewrites`, `scans`, `builds`, `rebuilds`, `blocks_reads`, `blocks_writes`, `works`
    (goes through a table in full), `long` (blocks writes while it does), `fails` (an SQLSTATE), `loses`, `breaks` (set of kinds
    that old code suffers), `held` (the lock mode on the relation itself), `holds` (the transaction has locks of
    earlier statements); from the schema: what
    `relation_kind` it is, whether it is a `partition`; and words: `relation`, `lock`, `who`,
    `others`, `sql_relation` (as the source wrote it).

    They are about the schema before the statement: ask while the walk stands there.
    """

    __slots__ = ("_described", "_known", "effects", "explained", "locks", "operation", "own")

    def __init__(self, explained: Explained, operation: Operation, effects: Effects) -> None:
        self.explained = explained
        self.operation = operation
        self.effects = effects
        named = operation.relation
        resolved = explained.schema.resolve(named) if named is not None else None
        plain = resolved is not None and str(resolved).count(".") == 1
        self.own = resolved if plain else None
        created, locks = explained.created, effects.locks
        self.locks = {r: m for r, m in locks.items() if r not in created} if created else locks
        self._known: dict[str, Any] = {}
        self._described: dict[str, Any] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """A fact, or the default where there is none of that name."""
        found = self._known.get(key, _UNASKED)
        if found is _UNASKED:
            found = self._known[key] = self._find(key)
        return default if found is _ABSENT else found

    def __getitem__(self, key: str) -> Any:
        found = self.get(key, _ABSENT)
        if found is _ABSENT:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        about = _of_relation(self.own, self.explained.schema)
        return iter({**self._of_operation(), **_OF_EFFECTS, **about})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def shape(self) -> tuple[object, ...]:
        """What the facts in SHAPE depend on: two operations alike in it are alike in all of them."""
        effects, known = self.effects, self._known
        new = known["new"] = _is_new(self)
        reads = known["blocks_reads"] = any(m.blocks_reads for m in self.locks.values())
        writes = known["blocks_writes"] = reads or any(m.blocks_writes for m in self.locks.values())
        return (
            new,
            reads,
            writes,
            bool(effects.rewrites),
            bool(effects.scans),
            bool(effects.index_builds),
            bool(effects.index_rebuilds),
            self["breaks"] if effects.breaks else None,
            effects.error.sqlstate if effects.error is not None else None,
            bool(self.explained.held),
        )

    def _find(self, key: str) -> Any:
        found = _OF_EFFECTS.get(key)
        if found is not None:
            return found(self)
        if key in _OF_RELATION:
            about = _of_relation(self.own, self.explained.schema)
            if key in about:
                return about[key]
        if self._described is None and not key.startswith(("constraint", "column")):
            return self._field(key)
        return self._of_operation().get(key, _ABSENT)

    def _field(self, key: str) -> Any:
        """One of the operation's fields, without describing the others."""
        if key == "kind":
            return self.operation.kind
        if key == "relation" and self.operation.relation is not None:
            return str(self.explained.schema.resolve(self.operation.relation))
        return self.operation.described(key, _ABSENT)

    def _of_operation(self) -> dict[str, Any]:
        if self._described is None:
            facts = self._described = self.operation.describe(self.explained.schema)
            constraint = facts.get("constraint")
            if isinstance(constraint, dict):
                facts.update({f"constraint_{k}": v for k, v in constraint.items()})
                facts["constraint"] = constraint.get("name") or "the constraint"
            if is_add_column(self.operation):
                facts.update(_of_column(self.operation, self.explained.schema))
        return self._described


_ABSENT, _UNASKED = object(), object()
_OF_RELATION = frozenset("relation_kind absent partition parent".split())


def _is_new(facts: Facts) -> bool:
    subject = facts.own is not None and facts.own in facts.explained.created
    return subject and not isinstance(facts.operation, NotUnderstood)


def _works(facts: Facts) -> bool:
    effects = facts.effects
    return bool(effects.rewrites or effects.scans or effects.index_builds or effects.index_rebuilds)


def _kinds(effects: Effects, code: str) -> frozenset[str]:
    return frozenset(b.kind for b in effects.breaks if b.code == code)


def _broken(facts: Facts) -> str:
    old = (b for b in facts.effects.breaks if b.code == "old")
    return "; ".join(b.what for b in old if b.kind not in _OWN_RULE)


def _held(facts: Facts) -> str | None:
    mode = facts.locks.get(facts.own) if facts.own is not None else None
    return str(mode) if mode is not None else None


def _who(facts: Facts) -> str:
    if facts["blocks_reads"]:
        return "reads and writes"
    return "writes" if facts["blocks_writes"] else "nobody"


#: the facts that the effects and the place in the migration give
_OF_EFFECTS: dict[str, Callable[[Facts], Any]] = {
    "new": _is_new,
    "sql_relation": lambda f: str(f.operation.relation or ""),
    "rewrites": lambda f: bool(f.effects.rewrites),
    "scans": lambda f: bool(f.effects.scans),
    "builds": lambda f: bool(f.effects.index_builds),
    "rebuilds": lambda f: bool(f.effects.index_rebuilds),
    "works": _works,
    "long": lambda f: _works(f) and f["blocks_writes"],
    "fails": lambda f: f.effects.error.sqlstate if f.effects.error is not None else None,
    "error": lambda f: f.effects.error.message if f.effects.error is not None else "",
    "loses": lambda f: bool(f.effects.loses),
    "lost": lambda f: ", ".join(f.effects.loses),
    "breaks": lambda f: _kinds(f.effects, "old"),
    "breaks_new": lambda f: _kinds(f.effects, "new"),
    "broken": _broken,
    "blocks_reads": lambda f: any(m.blocks_reads for m in f.locks.values()),
    "blocks_writes": lambda f: any(m.blocks_writes for m in f.locks.values()),
    "lock": lambda f: str(strongest(*f.locks.values()) or ""),
    "held": _held,
    "holds": lambda f: bool(f.explained.held),
    "locked": lambda f: ", ".join(str(r) for r in f.locks),
    "who": _who,
    "others": lambda f: ", ".join(sorted(str(r) for r in f.locks if r != f.own)),
    "why": lambda f: "; ".join(dict.fromkeys(f.effects.scans.values())),
    "transactional": lambda f: f.effects.transactional,
    "in_transaction": lambda f: f.explained.statement.in_transaction,
    "pg": lambda f: f.explained.pg,
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
