"""CREATE [OR REPLACE] FUNCTION and PROCEDURE. Replacing one changes what running code gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.queries import relations_read
from zdd_migrate.grammar.tokens import STRING
from zdd_migrate.model.effects import Break, Effects, PgError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.phase import Phase
from zdd_migrate.model.schema import Function, Schema
from zdd_migrate.operations.base import Key, Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFunction(Operation):
    """Make or replace a function or procedure. `relation` is its name, `body` its source."""

    kind: ClassVar[str] = "create_function"
    arguments: str
    returns: str | None
    language: str
    body: str
    volatility: Literal["immutable", "stable", "volatile"] = "volatile"
    procedure: bool = False
    or_replace: bool = False
    text: str = ""

    def target(self, schema: Schema) -> QName:
        """The resolved name."""
        assert self.relation is not None
        return QName(self.relation.schema or schema.default_schema, self.relation.name)

    def effects(self, at: Situation) -> Effects:
        """No relation is locked; a replaced body changes what old code gets from its next call."""
        name = self.target(at.schema)
        if re.match(r"\s*BEGIN\s+ATOMIC\b", self.body, re.IGNORECASE):
            read = {at.schema.resolve(r): LockMode.ACCESS_SHARE for r in relations_read(self.body)}
            return Effects(locks=read)
        if not self.or_replace or name not in at.schema.functions:
            return Effects()
        for known in at.schema.functions[name]:
            error = _renamed_argument(known.arguments, self.arguments)
            if error is not None:
                return Effects(error=error)
        what = f"code that calls {name.name}() gets the new body's results"
        return Effects(breaks=(Break("old", "values", what, None, name),))

    def apply(self, schema: Schema) -> None:
        """Add it, or replace the one of the same arguments."""
        name = self.target(schema)
        made = Function(
            name=name,
            arguments=self.arguments,
            returns=self.returns,
            language=self.language,
            volatility=self.volatility,
            body=self.body,
            kind="procedure" if self.procedure else "function",
            definition=self.text,
        )
        others = [f for f in schema.functions.get(name, ()) if f.arguments != self.arguments]
        schema.functions[name] = (*others, made)

    def plan(self, draft: Draft) -> None:
        """In expand; undone by dropping it, or by the definition it replaced."""
        name = self.target(draft.schema)
        kind = "PROCEDURE" if self.procedure else "FUNCTION"
        drop = f"DROP {kind} IF EXISTS {quote_qname(name)}({self._signature()})"
        again = set(self.makes(draft.schema)) & draft.replaced
        was = next(
            (
                f
                for f in (draft.start if again else draft.schema).functions.get(name, ())
                if argument_key(f.arguments) == argument_key(self.arguments)
            ),
            None,
        )
        if was is None:
            if not self._plan_built(draft, (drop,), f"define {name}()", seen=False):
                draft.as_written(Phase.EXPAND, undo=drop, why=f"define {name}()")
            return
        if (
            not was.definition
            or squeeze(was.returns or "").lower() != squeeze(self.returns or "").lower()
        ):
            draft.refuse(
                f"{name}() gives its callers something else than before",
                "make it under a new name, let new code call that, and drop the old one at the end",
            )
            return
        old = was.definition.rstrip().rstrip(";")
        draft.note(f"{name}() is replaced: old code gets the new body while it still runs")
        undo = (drop, old) if again else (_CREATE.sub("CREATE OR REPLACE ", old, count=1),)
        before = (drop,) if again else ()
        if self._plan_built(draft, undo, f"replace {name}()", seen=True, before=before):
            return
        if again:
            here = (drop, draft.statement)
            draft.sql(Phase.EXPAND, here, undo=undo, why=f"replace {name}()")
        else:
            draft.as_written(Phase.EXPAND, undo=undo, why=f"replace {name}()")

    def _plan_built(
        self,
        draft: Draft,
        undo: Sequence[str],
        why: str,
        *,
        seen: bool,
        before: Sequence[str] = (),
    ) -> bool:
        """Built on what gets its name only at contract; False where it is to be run as it stands.

        A body in SQL proper keeps to the columns themselves. One that is text finds them by name
        whenever it runs: a copy has its own from expand on, its values when it has been filled,
        which is what counts where old code calls the function too (`seen`).
        """
        from zdd_migrate.blocks.bound import copies_named, plan_built, reads_renamed, unfilled

        if _IN_SQL.match(self.body):
            reads = relations_read(self.body)
            empty = seen and bool(unfilled(draft, reads, self.body))
            return not empty and plan_built(draft, reads, undo=undo, why=why, before=before)
        copies = copies_named(draft, self.body)
        if any(twin.new != twin.final for twin in copies):
            return False
        # text in SQL is looked at when it is made: the names must be there
        renamed = self.language == "sql" and reads_renamed(draft, self.body)
        if not copies and not renamed:
            return False
        here = (*before, *draft.in_its_path(draft.statement))
        phase = Phase.MIGRATE if seen and copies else Phase.EXPAND
        if phase is Phase.MIGRATE or renamed:
            draft.last(lambda: draft.sql(phase, here, undo=undo, why=why), phase)
        else:
            draft.sql(phase, here, undo=undo, why=why)
        return True

    def makes(self, schema: Schema) -> tuple[Key, ...]:
        """The function of these arguments."""
        return (("function", self.target(schema), argument_key(self.arguments)),)

    def _signature(self) -> str:
        """The arguments without their defaults, as DROP wants them."""
        cursor = Cursor(self.arguments) if self.arguments.strip() else None
        if cursor is None:
            return ""
        parts = []
        while not cursor.done:
            parts.append(cursor.until(("DEFAULT", "=", ":=")))
            if cursor.accept("DEFAULT") or cursor.accept("=") or cursor.accept(":="):
                cursor.until()
            if not cursor.accept(","):
                break
        return ", ".join(parts)


def _renamed_argument(old: str, new: str) -> PgError | None:
    """Replacing a function may not give an argument of the same place and type another name."""
    before, after = (_arguments(text) for text in (old, new))
    if [type_ for _, type_ in before] != [type_ for _, type_ in after]:
        return None
    for (was, _), (now, _) in zip(before, after, strict=True):
        if was and was != now:
            return PgError("42P13", f'cannot change name of input parameter "{was}"')
    return None


def _arguments(text: str) -> list[tuple[str, str]]:
    """(name, type) of each argument, folded; the name empty where none is given."""
    found = []
    for part in text.split(",") if text.strip() else ():
        head = part.split(" DEFAULT ")[0].split("=")[0].strip().lower()
        words = [w for w in head.split() if w not in ("in", "inout", "out", "variadic")]
        two = len(words) > 1 and words[0] not in ("double", "character", "timestamp", "time", "bit")
        found.append((words[0], " ".join(words[1:])) if two else ("", " ".join(words)))
    return found


def argument_names(text: str) -> list[str]:
    """Each argument's name, folded; empty where none is given."""
    return [name for name, _ in _arguments(text)]


_IN_SQL = re.compile(r"\s*(?:BEGIN\s+ATOMIC|RETURN)\b", re.IGNORECASE)
_CREATE = re.compile(r"\s*CREATE\s+(OR\s+REPLACE\s+)?", re.IGNORECASE)
_DEFAULT = re.compile(r"\s+DEFAULT\b.*|\s*:?=.*", re.IGNORECASE | re.DOTALL)


def argument_key(arguments: str) -> str:
    """What tells overloads apart, as far as their text does: types, without names and defaults.

    A name before a type is left out where two words or more stand; so `double precision` and
    `x precision` count as one, which only ever makes two spellings of one function equal.
    """
    parts = [_DEFAULT.sub("", part).split() for part in arguments.lower().split(",")]
    words = [[w for w in part if w not in ("in", "variadic")] for part in parts]
    return ",".join(part[-1] for part in words if part and part[0] != "out")


def _read(cursor: Cursor) -> CreateFunction:
    start = cursor.i
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    procedure = cursor.next().up == "PROCEDURE"
    name = cursor.qname()
    arguments = cursor.group_text()
    returns = None
    if cursor.accept("RETURNS"):
        mark = cursor.i
        if cursor.accept("TABLE"):
            cursor.skip_group()
        else:
            cursor.type_text()
        returns = cursor.slice(mark)
    language, body, volatility = "sql", "", "volatile"
    while not cursor.done and not cursor.at(";"):
        up = cursor.up()
        if cursor.accept("LANGUAGE"):
            token = cursor.next()
            language = (
                (string_value(token.text) if token.kind == STRING else token.text)
                .lower()
                .strip('"')
            )
        elif up in ("IMMUTABLE", "STABLE", "VOLATILE"):
            volatility = cursor.next().up.lower()
        elif cursor.accept("AS"):
            body = cursor.string()
            if cursor.accept(","):
                cursor.string()
        elif up == "RETURN" or cursor.at("BEGIN", "ATOMIC"):
            body = cursor.rest()
        elif not _option(cursor):
            raise cursor.unread("an option of the function was expected")
    return CreateFunction(
        relation=name,
        arguments=arguments,
        returns=returns,
        language=language,
        body=body,
        volatility=volatility,  # type: ignore[arg-type]
        procedure=procedure,
        or_replace=or_replace,
        text=cursor.slice(start),
    )


_FLAGS = (
    ("WINDOW",),
    ("STRICT",),
    ("LEAKPROOF",),
    ("NOT", "LEAKPROOF"),
    ("CALLED", "ON", "NULL", "INPUT"),
    ("RETURNS", "NULL", "ON", "NULL", "INPUT"),
    ("EXTERNAL", "SECURITY", "DEFINER"),
    ("EXTERNAL", "SECURITY", "INVOKER"),
    ("SECURITY", "DEFINER"),
    ("SECURITY", "INVOKER"),
)


def _option(cursor: Cursor) -> bool:
    """Read an option that changes nothing of what we say; False when none comes."""
    if any(cursor.accept(*flag) for flag in _FLAGS):
        return True
    if cursor.accept("PARALLEL") or cursor.accept("COST") or cursor.accept("ROWS"):
        cursor.next()
        return True
    if cursor.accept("SUPPORT"):
        cursor.qname()
        return True
    if cursor.accept("TRANSFORM"):
        while cursor.accept("FOR", "TYPE"):
            cursor.type_text()
            cursor.accept(",")
        return True
    if cursor.accept("SET"):
        cursor.name()
        while cursor.accept("."):
            cursor.name()
        if cursor.accept("FROM", "CURRENT"):
            return True
        if not (cursor.accept("TO") or cursor.accept("=")):
            raise cursor.unread("TO or = was expected")
        cursor.next()
        while cursor.accept(","):
            cursor.next()
        return True
    return False


READS = {
    f"CREATE {head}": _read
    for head in ("FUNCTION", "OR REPLACE FUNCTION", "PROCEDURE", "OR REPLACE PROCEDURE")
}
