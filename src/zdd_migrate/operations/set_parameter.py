"""SET, RESET and set_config: session settings. Some change what later statements do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import QUOTED, STRING, WORD
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.base import Operation, Situation

if TYPE_CHECKING:
    from zdd_migrate.blocks.draft import Draft

#: settings that plans make for themselves, step by step
_OURS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
#: settings that change nothing of what a plan's steps do
_HARMLESS = (
    "client_min_messages",
    "client_encoding",
    "application_name",
    "log_",
    "xmloption",
    "row_security",
    "standard_conforming_strings",
    "check_function_bodies",
    "default_tablespace",
    "default_table_access_method",
    "transaction_timeout",
    "default_with_oids",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParameter(Operation):
    """Change a session setting. `value` None means RESET; `local` until the transaction ends."""

    kind: ClassVar[str] = "set_parameter"
    parameter: str
    value: str | None
    local: bool = False

    def effects(self, at: Situation) -> Effects:
        """None on any relation."""
        return Effects()

    def apply(self, schema: Schema) -> None:
        """Remember it; search_path changes where names are looked up."""
        if self.parameter == "search_path":
            if self.value is None:
                schema.search_path = ("public",)
            else:
                path = tuple(p.strip().strip('"') for p in self.value.split(","))
                schema.search_path = tuple(p for p in path if p and p != "$user") or ("public",)
        elif self.value is None:
            schema.settings.pop(self.parameter, None)
        else:
            schema.settings[self.parameter] = self.value

    def plan(self, draft: Draft) -> None:
        """Timeouts are the plan's own business; anything else is kept where it stands."""
        if self.parameter in _OURS or self.parameter.startswith(_HARMLESS):
            return
        if self.parameter == "search_path":
            return  # names in the plan are qualified
        draft.note(f"the migration sets {self.parameter}; the plan's steps run without it")


def _read_set(cursor: Cursor) -> SetParameter:
    cursor.expect("SET")
    local = cursor.accept("LOCAL")
    if not local:
        cursor.accept("SESSION")
    if cursor.accept("XML", "OPTION"):
        word = cursor.accept_one(("DOCUMENT", "CONTENT"))
        return SetParameter(parameter="xmloption", value=word, local=local)
    if cursor.accept("SESSION", "AUTHORIZATION"):
        return SetParameter(parameter="session_authorization", value=_value(cursor), local=local)
    if cursor.accept("TIME", "ZONE"):
        value = None if cursor.accept("LOCAL") else _value(cursor)
        return SetParameter(parameter="timezone", value=value, local=local)
    if cursor.at("TRANSACTION") or cursor.at("CHARACTERISTICS"):
        cursor.rest()
        return SetParameter(parameter="transaction", value="", local=True)
    if cursor.accept("CONSTRAINTS"):
        cursor.rest()
        return SetParameter(parameter="constraints", value="", local=True)
    if cursor.up(1) in ("TO", "=", "."):  # a parameter of that name: SET role TO …
        return _read_assignment(cursor, local)
    if cursor.accept("ROLE"):
        return SetParameter(parameter="role", value=_value(cursor), local=local)
    if cursor.accept("AUTHORIZATION"):
        return SetParameter(parameter="session_authorization", value=_value(cursor), local=local)
    if cursor.accept("NAMES"):
        return SetParameter(parameter="client_encoding", value=_value(cursor), local=local)
    if cursor.accept("SCHEMA"):
        return SetParameter(parameter="search_path", value=_value(cursor), local=local)
    return _read_assignment(cursor, local)


def _read_assignment(cursor: Cursor, local: bool) -> SetParameter:
    name = cursor.name()
    while cursor.accept("."):
        name += "." + cursor.name()
    if cursor.at("FROM", "CURRENT"):
        raise cursor.unread("the value to go on with is known to the session alone")
    if not (cursor.accept("TO") or cursor.accept("=")):
        raise cursor.unread("TO or = was expected")
    value = _value(cursor)
    return SetParameter(parameter=name, value=value, local=local)


def _value(cursor: Cursor) -> str | None:
    if cursor.at("DEFAULT"):
        cursor.next()
        return None
    parts: list[str] = []
    while not cursor.done and not cursor.at(";"):
        token = cursor.next()
        if token.kind == STRING:
            parts.append(string_value(token.text))
        elif token.kind in (WORD, QUOTED):
            parts.append(token.name)
        else:
            parts.append(token.text)
    if not parts:
        raise cursor.unread("a value was expected")
    return "".join(", " if p == "," else p for p in parts)


def _read_reset(cursor: Cursor) -> SetParameter:
    cursor.expect("RESET")
    if cursor.accept("SESSION", "AUTHORIZATION"):
        return SetParameter(parameter="session_authorization", value=None)
    if cursor.accept("TIME", "ZONE"):
        return SetParameter(parameter="timezone", value=None)
    if cursor.accept("TRANSACTION", "ISOLATION", "LEVEL"):
        return SetParameter(parameter="transaction_isolation", value=None)
    name = cursor.name()
    while cursor.accept("."):
        name += "." + cursor.name()
    return SetParameter(parameter=name, value=None)


READS = {"SET": _read_set, "RESET": _read_reset}
