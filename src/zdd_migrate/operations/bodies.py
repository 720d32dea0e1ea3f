"""What a body of code does, as far as its statements stand there in plain text.

PL/pgSQL is followed through its blocks, conditions and loops: a statement that nothing stands in the
way of is certain, one under a condition, in a loop or guarded by EXCEPTION is possible. EXECUTE of
a text that is written out is read as that text; anything computed is not understood, and said so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from zdd_migrate.grammar.cursor import Cursor
from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.literals import string_value
from zdd_migrate.grammar.tokens import STRING, Token
from zdd_migrate.model.schema import Function, Schema
from zdd_migrate.operations.base import Hidden, NotUnderstood, Operation

Read = Callable[[str], tuple[Operation, ...]]

#: statements of PL/pgSQL that do nothing to the database
_NOTHING = frozenset("NULL RAISE EXIT CONTINUE ASSERT GET CLOSE FETCH MOVE COMMIT ROLLBACK".split())
#: after one of these under a condition, what follows may not run
_LEAVES = frozenset("RETURN EXIT CONTINUE RAISE".split())
_QUIET_RAISES = frozenset("DEBUG LOG INFO NOTICE WARNING".split())
_ENDS = frozenset("END ELSE ELSIF ELSEIF WHEN EXCEPTION".split())


def hidden_operations(language: str, body: str, read: Read, where: str) -> list[Operation]:
    """The operations that a body performs when it runs, each with its place in the body.

    `where` names the body in messages: `the DO block`, `f()`.
    """
    if language not in ("plpgsql", "sql"):
        return [NotUnderstood(reason=f"{where} is written in {language}, which can do anything")]
    try:
        cursor = Cursor(body)
        parts = _Code(cursor).run() if language == "plpgsql" else _script(cursor)
        found = [one for part in parts for one in _operations(part, body, read, where)]
    except UnreadError as error:
        return [NotUnderstood(reason=f"the body of {where} cannot be read: {error}")]
    except RecursionError:
        return [NotUnderstood(reason=f"the body of {where} is nested too deeply")]
    return found


def with_calls(
    operations: tuple[Operation, ...], schema: Schema, read: Read
) -> tuple[Operation, ...]:
    """Operations, each followed by what the functions and procedures do that it calls."""
    if not any(getattr(operation, "calls", ()) for operation in operations):
        return operations
    seen: set[str] = set()
    return tuple(
        one
        for operation in operations
        for one in (operation, *_called(operation, schema, read, seen))
    )


def _called(
    operation: Operation, schema: Schema, read: Read, seen: set[str]
) -> Iterator[Operation]:
    """What an operation's calls do; each function is followed once."""
    at = operation.hidden
    for name in getattr(operation, "calls", ()):
        functions = _functions(schema, name)
        if not functions and _only_calls(operation) and not is_harmless(name):
            reason = f"what {name}() does is not known: its definition was not read"
            yield NotUnderstood(reason=reason, hidden=at)
        if name in seen:
            continue
        seen.add(name)
        for function in functions:
            if function.volatility != "volatile":
                continue  # Postgres lets it read only
            told = False
            for inner in hidden_operations(function.language, function.body, read, f"{name}()"):
                if isinstance(inner, NotUnderstood):
                    if told:
                        continue  # they would all stand at the one call
                    told = True
                place = inner.hidden or Hidden(sql="", offset=None, certain=True, where=f"{name}()")
                certain = place.certain and (at is None or at.certain)
                place = replace(place, offset=at.offset if at else None, certain=certain)
                found = replace(inner, hidden=place)
                yield found
                yield from _called(found, schema, read, seen)


def _functions(schema: Schema, name: str) -> list[Function]:
    return [f for qname, made in schema.functions.items() if qname.name == name for f in made]


def _only_calls(operation: Operation) -> bool:
    """Whether an operation is there for what its function does: SELECT f(), CALL p()."""
    return operation.kind == "call" or getattr(operation, "verb", "") == "select"


def is_harmless(name: str) -> bool:
    """Whether a function is Postgres' own, or a known extension's, and changes no object."""
    from zdd_migrate.operations.builtins import HARMLESS

    return name.startswith("pg_") or name in HARMLESS


@dataclass(frozen=True, slots=True)
class _Part:
    """A statement of a body: where it stands, what it is to be read as (or why it cannot be)."""

    start: int
    end: int
    sql: str
    certain: bool = True
    reason: str = ""


def _operations(part: _Part, body: str, read: Read, where: str) -> Iterator[Operation]:
    hidden = Hidden(
        sql=body[part.start : part.end], offset=part.start, certain=part.certain, where=where
    )
    if part.reason:
        yield NotUnderstood(reason=f"{part.reason} in {where}: {_short(hidden.sql)}", hidden=hidden)
        return
    same = len(part.sql) == len(hidden.sql)  # else offsets are in a text that was put together
    for operation in read(part.sql):
        if isinstance(operation, NotUnderstood):
            operation = replace(operation, offset=operation.offset if same else 0)
        if operation.hidden is not None:  # a DO block in the body
            operation = replace(operation, hidden=_deeper(operation.hidden, hidden, same))
        yield replace(operation, hidden=operation.hidden or hidden)


def _deeper(inner: Hidden, outer: Hidden, same: bool) -> Hidden:
    """Where a statement of a body stands in the body around that one."""
    certain = inner.certain and outer.certain
    if same and inner.offset is not None and outer.offset is not None:
        return replace(inner, offset=outer.offset + inner.offset, certain=certain)
    return replace(outer, certain=certain)


def _script(cursor: Cursor) -> list[_Part]:
    """The statements of a body in SQL: a text, BEGIN ATOMIC … END, or RETURN."""
    if cursor.accept("RETURN"):
        return []
    atomic = cursor.accept("BEGIN", "ATOMIC")
    parts: list[_Part] = []
    while not cursor.done:
        if cursor.accept(";") or (atomic and cursor.accept("END")):
            continue
        start = cursor.i
        _skip_statement(cursor)
        if cursor.tokens[start].up != "RETURN":
            parts.append(_part(cursor, start, certain=True))
    return parts


def _part(cursor: Cursor, start: int, *, certain: bool, sql: str | None = None) -> _Part:
    text = cursor.slice(start)
    first = cursor.tokens[start].start
    return _Part(first, first + len(text), text if sql is None else sql, certain)


def _skip_statement(cursor: Cursor) -> None:
    """To the semicolon that ends a statement, which is left."""
    while not cursor.done and not cursor.at(";"):
        if cursor.at("(") or cursor.at("["):
            cursor.skip_group()
        else:
            cursor.next()


class _Code:
    """PL/pgSQL, by recursive descent over its control words."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.depth = 0
        self.left = False

    def run(self) -> list[_Part]:
        parts = self._statements()
        if not self.cursor.done:
            raise self.cursor.unread("the end of the body was expected")
        return parts

    def _statements(self) -> list[_Part]:
        """Statements up to a word that ends a list of them."""
        cursor = self.cursor
        parts: list[_Part] = []
        while not cursor.done and cursor.up() not in _ENDS:
            if cursor.accept(";"):
                continue
            if cursor.accept("<<"):
                cursor.name()
                cursor.expect(">>")
            elif cursor.at("DECLARE"):
                self._skip_to("BEGIN")
            elif cursor.accept("BEGIN"):
                parts += self._block()
            elif cursor.up() in _COMPOUND:
                parts += self._compound()
            else:
                parts += self._simple()
        return parts

    def _under_condition(self) -> list[_Part]:
        self.depth += 1
        parts = self._statements()
        self.depth -= 1
        return parts

    def _block(self) -> list[_Part]:
        parts = self._statements()
        if self.cursor.accept("EXCEPTION"):
            # whatever fails in the block is caught: nothing of it is certain
            parts = [replace(part, certain=False) for part in parts]
            while self.cursor.at("WHEN"):
                self._skip_to("THEN")
                self.cursor.expect("THEN")
                parts += self._under_condition()
        self._end("BEGIN")
        return parts

    def _compound(self) -> list[_Part]:
        """IF, CASE and loops, from their first word to their end."""
        cursor = self.cursor
        first = cursor.next().up
        parts: list[_Part] = []
        if first in ("IF", "CASE"):
            if first == "CASE":
                self._skip_to("WHEN")
                cursor.expect("WHEN")
            self._skip_to("THEN")
            cursor.expect("THEN")
            parts += self._under_condition()
            while cursor.accept_one(("ELSIF", "ELSEIF", "WHEN")) is not None:
                self._skip_to("THEN")
                cursor.expect("THEN")
                parts += self._under_condition()
            if cursor.accept("ELSE"):
                parts += self._under_condition()
            self._end(first)
            return parts
        if first != "LOOP":
            parts += self._header()
            cursor.expect("LOOP")
        parts += self._under_condition()
        self._end("LOOP")
        return parts

    def _header(self) -> list[_Part]:
        """A loop's head; the text that FOR … IN EXECUTE runs counts."""
        start = self.cursor.i
        self._skip_to("LOOP")
        tokens = self.cursor.tokens[start : self.cursor.i]
        for n, token in enumerate(tokens):
            if token.up == "EXECUTE" and n and tokens[n - 1].up == "IN":
                return self._execute(start + n)
        return []

    def _end(self, word: str) -> None:
        self.cursor.expect("END")
        if word in ("IF", "LOOP", "CASE"):
            self.cursor.accept(word)
        if not self.cursor.done and not self.cursor.at(";"):
            self.cursor.name()  # the block's label
        self.cursor.accept(";")

    def _skip_to(self, word: str) -> None:
        """To a control word outside parentheses and CASE expressions, which is left."""
        cases = 0
        while not self.cursor.done:
            up = self.cursor.up()
            if up == "CASE" and word == "THEN":
                cases += 1
            elif up == "END" and cases:
                cases -= 1
            elif up == word and not cases:
                return
            if up in ("(", "["):
                self.cursor.skip_group()
            else:
                self.cursor.next()
        raise self.cursor.unread(f"{word} was expected")

    def _simple(self) -> list[_Part]:
        """A statement that holds no others."""
        cursor = self.cursor
        start = cursor.i
        certain = self.depth == 0 and not self.left
        _skip_statement(cursor)
        tokens = cursor.tokens[start : cursor.i]
        first = tokens[0].up
        if (
            first in _LEAVES
            and self.depth
            and (len(tokens) < 2 or tokens[1].up not in _QUIET_RAISES)
        ):
            self.left = self.left or tokens[:2][-1].up not in ("QUERY", "NEXT")
        if first == "EXECUTE":
            return self._execute(start)
        if first == "RETURN":
            return self._return(start, certain)
        if first == "OPEN":
            at = next((n for n, t in enumerate(tokens) if t.up == "EXECUTE"), None)
            return [] if at is None else self._execute(start + at)
        if first in _NOTHING or _assigns(tokens):
            return []
        if first == "PERFORM":
            text = cursor.slice(start)
            return [_part(cursor, start, certain=certain, sql=" SELECT" + text[len("PERFORM") :])]
        sql = _without_targets(cursor.sql, tokens)
        return [_part(cursor, start, certain=certain, sql=sql)]

    def _return(self, start: int, certain: bool) -> list[_Part]:
        """RETURN QUERY runs a query; any other RETURN only gives a value."""
        cursor = self.cursor
        if start + 2 >= cursor.i or cursor.tokens[start + 1].up != "QUERY":
            return []
        if cursor.tokens[start + 2].up == "EXECUTE":
            return self._execute(start + 2)
        return [_part(cursor, start + 2, certain=certain)]

    def _execute(self, at: int) -> list[_Part]:
        """EXECUTE at token `at`: the text it runs, where it is written out."""
        cursor = self.cursor
        tokens = []
        depth = 0
        for token in cursor.tokens[at + 1 : cursor.i]:
            if depth == 0 and token.up in ("INTO", "USING"):
                break
            depth += (token.up in ("(", "[")) - (token.up in (")", "]"))
            tokens.append(token)
        certain = self.depth == 0 and not self.left
        whole = _part(cursor, at, certain=certain)
        text = _written_out(tokens)
        if text is None:
            return [replace(whole, reason="SQL is put together while it runs")]
        inner = _script(Cursor(text))
        return [replace(whole, sql=part.sql) for part in inner]


_COMPOUND = frozenset("IF CASE LOOP WHILE FOR FOREACH".split())


def _assigns(tokens: list[Token]) -> bool:
    """`x := …`, `x.y = …`, `x[1] := …`."""
    if len(tokens) < 2 or tokens[0].up in ("SELECT", "WITH", "SET"):
        return False
    return tokens[1].up in (":=", "=", ".", "[")


def _without_targets(sql: str, tokens: list[Token]) -> str:
    """A statement without `INTO [STRICT] target, …`, which are variables, no table."""
    text = sql[tokens[0].start : tokens[-1].end]
    first = tokens[0].up
    if first not in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES"):
        return text
    depth, returning = 0, first in ("SELECT", "VALUES")
    for n, token in enumerate(tokens):
        depth += (token.up in ("(", "[")) - (token.up in (")", "]"))
        returning = returning or (depth == 0 and token.up == "RETURNING")
        if first == "WITH" and depth == 0 and token.up in ("SELECT", "VALUES"):
            returning = True
        if depth or not returning or token.up != "INTO":
            continue
        last = n + 1
        if tokens[last : last + 1] and tokens[last].up == "STRICT":
            last += 1
        while last + 1 < len(tokens) and tokens[last + 1].up in (".", ",", "["):
            last += 2 if tokens[last + 1].up != "[" else _bracket(tokens, last + 1)
        if last >= len(tokens):
            return text
        begin, end = token.start - tokens[0].start, tokens[last].end - tokens[0].start
        return text[:begin] + " " * (end - begin) + text[end:]
    return text


def _bracket(tokens: list[Token], at: int) -> int:
    """How many tokens on the `]` is that closes the `[` at `at`."""
    for n in range(at, len(tokens)):
        if tokens[n].up == "]":
            return n - at + 1
    return len(tokens) - at


def _written_out(tokens: list[Token]) -> str | None:
    """The text of a literal, of literals joined by ||, or of format() over literals; else None."""
    if len(tokens) > 2 and tokens[0].up == "(" and tokens[-1].up == ")":
        return _written_out(tokens[1:-1])
    if tokens and tokens[0].up == "FORMAT" and len(tokens) > 3 and tokens[1].up == "(":
        arguments = tokens[2:-1]
        if tokens[-1].up != ")" or not _alternate(arguments, ","):
            return None
        template, *values = [string_value(t.text) for t in arguments[::2]]
        return _format(template, values)
    if not _alternate(tokens, "||"):
        return None
    return "".join(string_value(t.text) for t in tokens[::2])


def _alternate(tokens: list[Token], between: str) -> bool:
    """Whether strings and a separator take turns."""
    return len(tokens) % 2 == 1 and all(
        token.up == between if n % 2 else token.kind == STRING for n, token in enumerate(tokens)
    )


_PLACE = re.compile(r"%(?:%|([sIL]))")


def _format(template: str, values: list[str]) -> str | None:
    """format() as Postgres does it, for the plain places; None for anything finer."""
    if template.replace("%%", "").count("%") != sum(
        1 for m in _PLACE.finditer(template) if m[1]
    ) or sum(1 for m in _PLACE.finditer(template) if m[1]) > len(values):
        return None
    left = iter(values)

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%"
        value = next(left)
        if match[1] == "I":
            plain = re.fullmatch(r"[a-z_][a-z0-9_]*", value) is not None
            return value if plain else '"' + value.replace('"', '""') + '"'
        return "'" + value.replace("'", "''") + "'" if match[1] == "L" else value

    return _PLACE.sub(put, template)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"


def body_offset(token: Token) -> int:
    """Where a quoted body's text begins in the statement that holds the token."""
    if token.text.startswith("$"):
        return token.start + token.text.index("$", 1) + 1
    return token.start + token.text.index("'") + 1
