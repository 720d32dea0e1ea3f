"""What a query reads and writes, by sqlglot's parser.

Answers are None where the parser gives up: the caller then says that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from zdd_migrate.grammar.expressions import squeeze
from zdd_migrate.grammar.tokens import QUOTED, WORD, tokenise
from zdd_migrate.model.names import QName

if TYPE_CHECKING:
    from sqlglot import exp

    from zdd_migrate.grammar.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT or DML statement taken apart.

    `reads` are relations read; `written` those written, each with its verb (insert, update, delete
    or merge), also by queries of its WITH (names as written, folded). `columns` are (qualifier or
    None, column) pairs as written. `output` are the names of its result columns where they can be
    told, else None.
    """

    kind: str  # select | insert | update | delete | merge | other
    reads: tuple[QName, ...]
    written: tuple[tuple[QName, str], ...]
    columns: tuple[tuple[str | None, str], ...]
    functions: tuple[str, ...]
    output: tuple[str, ...] | None
    star: bool
    has_where: bool

    @property
    def writes(self) -> tuple[QName, ...]:
        """The relations written."""
        return tuple(dict.fromkeys(name for name, _ in self.written))


#: a clause of INSERT that sqlglot does not know, and that changes nothing of what is asked here
_OVERRIDING = re.compile(r"\bOVERRIDING\s+(?:SYSTEM|USER)\s+VALUE\b", re.IGNORECASE)


@lru_cache(maxsize=1024)
def parse_query(text: str) -> Query | None:
    """Take a query apart; None where the parser does not follow it whole."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if "--" in text or "/*" in text:  # which sqlglot keeps, and trips over in some places
        text = squeeze(text)
    try:
        trees = sqlglot.parse(_OVERRIDING.sub("", text), dialect="postgres")
    except (SqlglotError, RecursionError):
        return None
    if len(trees) != 1 or trees[0] is None or isinstance(trees[0], exp.Command):
        return None
    tree = trees[0]
    if not isinstance(tree, (exp.Query, exp.Values, exp.Insert, exp.Update, exp.Delete, exp.Merge)):
        return None
    found = _Found(tree)
    return Query(
        kind=_kind(tree),
        reads=tuple(found.reads),
        written=tuple(found.written),
        columns=tuple(found.columns),
        functions=tuple(found.functions),
        output=_output(tree),
        star=found.star,
        has_where=tree.args.get("where") is not None,
    )


def follow_query(cursor: Cursor, text: str) -> Query:
    """Take apart the query that the cursor has come to, or fail: what it touches must be known."""
    query = parse_query(text)
    if query is None:
        raise cursor.unread("a query that can be followed was expected")
    return query


def relations_read(text: str) -> tuple[QName, ...]:
    """Relations a query reads, as well as can be told: from the tree, else from its tokens."""
    query = parse_query(text)
    if query is not None:
        return (*query.reads, *query.writes)
    tokens = tokenise(text)
    found: dict[QName, None] = {}
    for i, token in enumerate(tokens[:-1]):
        if token.up in ("FROM", "JOIN", "ONLY", "UPDATE", "INTO") and tokens[i + 1].kind in (
            WORD,
            QUOTED,
        ):
            first = tokens[i + 1].name
            if (
                i + 3 < len(tokens)
                and tokens[i + 2].up == "."
                and tokens[i + 3].kind in (WORD, QUOTED)
            ):
                found[QName(first, tokens[i + 3].name)] = None
            else:
                found[QName(None, first)] = None
    return tuple(found)


#: what a `*` follows that stands for columns: elsewhere it multiplies, or counts rows
_BEFORE_ALL = ("SELECT", "DISTINCT", "ALL", ",", ".")


def has_stars(text: str) -> bool:
    """Whether a statement has a `*` that stands for columns."""
    return any(t.up == "*" and b.up in _BEFORE_ALL for b, t in pairwise(tokenise(text)))


def write_out_star(text: str, quoted: Sequence[str]) -> str | None:
    """A statement with its one `*` written out as `quoted` columns; None where it is not all of one
    table alone."""
    tokens = tokenise(text)
    ups = [t.up for t in tokens]
    at = [i for i, t in enumerate(tokens) if t.up == "*" and ups[i - 1] in _BEFORE_ALL]
    alone = ups.count("SELECT") == ups.count("FROM") == len(at) == 1
    if not alone or not quoted or ups[at[0] - 1] == ".":
        return None
    after = ups.index("FROM") + 1
    after += 3 if ups[after + 1 : after + 2] == ["."] else 1
    if after < len(tokens) and ups[after] not in ("WHERE", "ORDER", "LIMIT", "WITH", ";"):
        return None
    return text[: tokens[at[0]].start] + ", ".join(quoted) + text[tokens[at[0]].end :]


#: words that are no tables where a table can stand: FROM current_date
_NO_TABLES = frozenset(
    "user current_user session_user current_role system_user current_date current_time "
    "current_timestamp localtime localtimestamp current_catalog current_schema".split()
)


_VERBS = {"Insert": "insert", "Update": "update", "Delete": "delete", "Merge": "merge"}


def _kind(tree: exp.Expr) -> str:
    return _VERBS.get(type(tree).__name__, "select")


class _Found:
    """What a tree reads, writes, names and calls; a name of a WITH query hides a table of that name."""

    def __init__(self, tree: exp.Expr) -> None:
        from sqlglot import exp

        self.reads: dict[QName, None] = {}
        self.written: dict[tuple[QName, str], None] = {}
        self.columns: dict[tuple[str | None, str], None] = {}
        self.functions: dict[str, None] = {}
        self.star = False
        todo: list[tuple[exp.Expr, frozenset[str]]] = [(tree, frozenset())]
        while todo:
            node, ctes = todo.pop()
            clause = node.args.get("with_")
            queries: list[tuple[exp.Expr, frozenset[str]]] = []
            if isinstance(clause, exp.With):
                ctes, queries = _with(clause, ctes)
            skipped = self._take(node, ctes)
            below = [
                (part, ctes)
                for key, value in node.args.items()
                if key != "with_" and key != skipped
                for part in (value if type(value) is list else (value,))
                if isinstance(part, exp.Expr)
            ]
            todo += reversed(queries + below)

    def _take(self, node: exp.Expr, ctes: frozenset[str]) -> str:
        """Note one node; gives the part of it that is not to be looked into."""
        kind = type(node).__name__
        if kind == "Column":
            name = _fold(node.this)
            if name is not None:
                self.columns[_fold(node.args.get("table")), name] = None
        elif kind == "Table":
            self._read(node, ctes)
        elif kind in _VERBS:
            target = node.this
            if type(target).__name__ == "Schema":
                target = target.this
            if type(target).__name__ == "Table":  # none in the UPDATE of MERGE or ON CONFLICT
                self.written[_name(target), _VERBS[kind]] = None
                return "this"
        elif kind == "Anonymous":
            if node.name:
                self.functions[node.name.lower()] = None
        elif kind == "Star":
            self.star = True
        elif kind == "OnConflict":
            return "conflict_keys"  # columns and operator classes of an index
        return ""

    def _read(self, table: exp.Expr, ctes: frozenset[str]) -> None:
        if _fold(table.this) is None:
            return
        name = _name(table)
        special = not table.this.args.get("quoted") and name.name in _NO_TABLES
        if name.schema is not None or not (special or name.name in ctes):
            self.reads[name] = None


def _with(
    clause: exp.With, ctes: frozenset[str]
) -> tuple[frozenset[str], list[tuple[exp.Expr, frozenset[str]]]]:
    """The names hidden after a WITH, and its queries with the names hidden in each."""
    names = [_fold(cte.args["alias"].this) or "" for cte in clause.expressions]
    inner = ctes | frozenset(names) if clause.args.get("recursive") else ctes
    queries = []
    for name, cte in zip(names, clause.expressions, strict=True):
        queries.append((cte.this, inner))
        inner |= {name}
    return ctes | frozenset(names), queries


def _output(tree: exp.Expr) -> tuple[str, ...] | None:
    from sqlglot import exp

    if not isinstance(tree, exp.Query):
        return None
    names: list[str] = []
    for item in tree.selects:
        if isinstance(item, exp.Star) or (
            isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
        ):
            return None
        identifier = item.args.get("alias") if isinstance(item, exp.Alias) else None
        if identifier is None and isinstance(item, exp.Column):
            identifier = item.this
        folded = _fold(identifier)
        if folded is None:
            return None
        names.append(folded)
    return tuple(names)


def _name(table: exp.Expr) -> QName:
    return QName(_fold(table.args.get("db")), _fold(table.this) or "")


def _fold(node: object) -> str | None:
    from sqlglot import exp

    if not isinstance(node, exp.Identifier):
        return None
    return node.name if node.args.get("quoted") else node.name.lower()
