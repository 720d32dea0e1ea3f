"""What every operation is, and the situation it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: what is dropped or made: its kind, the object or the table it stands on, its name there or ""
Key = tuple[str, QName, str]
DEFAULT_PG = 16
#: majors whose behaviour is known
SUPPORTED_PG = (14, 15, 16, 17, 18)


@dataclass(slots=True)
class Situation:
    """Where an operation runs: the schema it meets, the server's major, what came before.

    `schema` is the state just before the operation. `created` are relations (resolved) that the
    same migration created: nobody else uses them yet, so locking them hurts nobody. `held` are
    locks that earlier statements of the same transaction still hold. `siblings` are all operations
    of the same statement, in order. `enum_values_added` are (type, label) added earlier in the
    same transaction. `assumed` collects, in plain words, what had to be taken for granted.
    """

    schema: Schema
    pg: int = DEFAULT_PG
    in_transaction: bool = True
    created: set[QName] = field(default_factory=set)
    held: dict[QName, LockMode] = field(default_factory=dict)
    siblings: tuple[Operation, ...] = ()
    enum_values_added: set[tuple[QName, str]] = field(default_factory=set)
    created_types: set[QName] = field(default_factory=set)
    assumed: list[str] = field(default_factory=list)

    def assume(self, text: str) -> None:
        """Note something taken for granted because the schema does not say."""
        if text not in self.assumed:
            self.assumed.append(text)


@dataclass(frozen=True, slots=True)
class Hidden:
    """Where an operation stands that was found inside a body of code.

    `sql` is its own text, `offset` where that begins in the text of the statement that holds it
    (None: in another statement's, which this one calls). `certain` is whether it runs whenever the
    body does; under a condition, in a loop or guarded by EXCEPTION it only may. `where` names the
    body: `the DO block`, `f()`.
    """

    sql: str
    offset: int | None
    certain: bool
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing a statement does. Subclasses live in their own room, one file each.

    `relation` is the object it is about, as the source wrote it (schema None when unqualified).
    `hidden` is set on what was found in a body of code.
    `absent_ok` is the IF EXISTS of `ALTER TABLE IF EXISTS`: nothing happens where it is missing.
    """

    kind: ClassVar[str] = "operation"
    relation: QName | None = None
    hidden: Hidden | None = None
    absent_ok: bool = False

    def effects(self, at: Situation) -> Effects:
        """What Postgres does, asserted against measured servers. Pure; `at` is not changed."""
        raise NotImplementedError(self.kind)

    def apply(self, schema: Schema) -> None:
        """What it does to the schema. Unknown objects are ignored, never invented."""

    def plan(self, draft: Draft) -> None:
        """Add the safe steps that reach the same end to the draft, with their undo.

        `draft.schema` is the schema before this operation. The default refuses.
        """
        draft.refuse(
            f"{self.kind.replace('_', ' ')} has no safe way worked out yet",
            "write the steps by hand and check them with zdd-migrate check",
        )

    def created(self, schema: Schema) -> Iterable[QName]:
        """Relations (resolved) this operation creates, given the schema before it."""
        return ()

    def drops(self, schema: Schema) -> Iterable[Key]:
        """What it drops by name, where a migration may make it again."""
        return ()

    def makes(self, schema: Schema) -> Iterable[Key]:
        """What it makes by name, where the migration may have dropped it before."""
        return ()

    def describe(self, schema: Schema) -> dict[str, Any]:
        """For JSON: `kind`, `relation` resolved, and every field that is set."""
        out: dict[str, Any] = {"kind": self.kind}
        if self.relation is not None:
            out["relation"] = str(schema.resolve(self.relation))
        for name in _field_names(type(self)):
            value = getattr(self, name)
            if name == "relation" or value is None or value is False or value == ():
                continue
            out[name] = value if type(value) is str else _plain(value)
        return out

    def described(self, name: str, default: Any) -> Any:
        """One field as `describe` has it; the default where that leaves it out."""
        value = getattr(self, name) if name in _field_names(type(self)) else None
        if value is None or value is False or value == ():
            return default
        return _plain(value)


_FIELDS: dict[type[Any], tuple[str, ...]] = {}


def _field_names(type_: type[Any]) -> tuple[str, ...]:
    if type_ not in _FIELDS:
        _FIELDS[type_] = tuple(spec.name for spec in fields(type_))
    return _FIELDS[type_]


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, QName):
        return str(value)
    if isinstance(value, (tuple, list, frozenset, set)):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {
            name: _plain(v)
            for name in _field_names(type(value))
            if (v := getattr(value, name)) is not None and v is not False and v != ()
        }
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood(Operation):
    """A statement, or part of one, that was not fully understood: always a finding.

    `reason` says why in plain words; `offset` is where in the statement's text.
    """

    kind: ClassVar[str] = "not_understood"
    reason: str
    offset: int = 0

    def effects(self, at: Situation) -> Effects:
        """Nothing is known, and nothing is claimed."""
        return Effects(assumed=(f"not understood: {self.reason}",))

    def plan(self, draft: Draft) -> None:
        """Never planned around."""
        draft.refuse(
            f"not understood: {self.reason}",
            "split the statement, or write it in a form that zdd-migrate explain understands",
        )


@dataclass(frozen=True, slots=True)
class Target:
    """The head of an ALTER statement: `ALTER TABLE IF EXISTS ONLY users`."""

    relation: QName
    object: str = "TABLE"  # TABLE | VIEW | MATERIALIZED VIEW | INDEX | SEQUENCE | FOREIGN TABLE
    only: bool = False
    if_exists: bool = False


#: reads a whole statement; the cursor stands at its first word
StatementReader = Callable[[Cursor], "Operation | Iterable[Operation]"]
#: reads one ALTER TABLE action; the cursor stands at its first word
ActionReader = Callable[[Cursor, Target], "Operation | Iterable[Operation]"]
#: reads what follows ALTER [COLUMN] name; the cursor stands after the name
ColumnActionReader = Callable[[Cursor, Target, str], "Operation | Iterable[Operation]"]
