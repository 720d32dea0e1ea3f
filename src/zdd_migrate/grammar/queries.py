"""What a query reads and writes, by sqlglot's parser.

Answers are None where the parser gives up: the caller then says that it does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
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
    reads: dict[QName, None] = {}
    written: dict[tuple[QName, str], None] = {}
    _scan(tree, frozenset(), reads, written)
    columns = tuple(
        dict.fromkeys(
            (_fold(column.args.get("table")), _fold(column.this) or "")
            for column in tree.find_all(exp.Column)
            if isinstance(column.this, exp.Identifier)
        )
    )
    functions = tuple(
        dict.fromkeys(node.name.lower() for node in tree.find_all(exp.Anonymous) if node.name)
    )
    return Query(
        kind=_kind(tree),
        reads=tuple(reads),
        written=tuple(written),
        columns=columns,
        functions=functions,
        output=_output(tree),
        star=any(True for _ in tree.find_all(exp.Star)),
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


#: words that are no tables where a table can stand: FROM current_date
_NO_TABLES = frozenset(
    "user current_user session_user current_role system_user current_date current_time "
    "current_timestamp localtime localtimestamp current_catalog current_schema".split()
)


def _kind(tree: exp.Expr) -> str:
    from sqlglot import exp

    for class_, kind in (
        (exp.Insert, "insert"),
        (exp.Update, "update"),
        (exp.Delete, "delete"),
        (exp.Merge, "merge"),
        ((exp.Query, exp.Values), "select"),
    ):
        if isinstance(tree, class_):
            return kind
    return "other"


def _scan(
    node: exp.Expr,
    ctes: frozenset[str],
    reads: dict[QName, None],
    written: dict[tuple[QName, str], None],
) -> None:
    """Collect what a tree reads and writes; a name of a WITH query hides a table of that name."""
    from sqlglot import exp

    skip = {"with_"}
    if isinstance(node, (exp.Insert, exp.Update, exp.Delete, exp.Merge)):
        target = node.this.this if isinstance(node.this, exp.Schema) else node.this
        if isinstance(target, exp.Table):  # none in the UPDATE of a MERGE or of ON CONFLICT
            skip.add("this")
            written[_name(target), _kind(node)] = None
    clause = node.args.get("with_")
    if isinstance(clause, exp.With):
        ctes = _scan_with(clause, ctes, reads, written)
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        name = _name(node)
        special = not node.this.args.get("quoted") and name.name in _NO_TABLES
        if name.schema is not None or not (special or name.name in ctes):
            reads[name] = None
    elif isinstance(node, exp.OnConflict):
        skip.add("conflict_keys")  # columns and operator classes of an index
    for key, value in node.args.items():
        if key in skip:
            continue
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, exp.Expr):
                _scan(part, ctes, reads, written)


def _scan_with(
    clause: exp.With,
    ctes: frozenset[str],
    reads: dict[QName, None],
    written: dict[tuple[QName, str], None],
) -> frozenset[str]:
    """The names that the queries of a WITH give to what comes after them."""
    names = [_fold(cte.args["alias"].this) or "" for cte in clause.expressions]
    inner = ctes | frozenset(names) if clause.args.get("recursive") else ctes
    for name, cte in zip(names, clause.expressions, strict=True):
        _scan(cte.this, inner, reads, written)
        inner |= {name}
    return ctes | frozenset(names)


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


def _name(table: exp.Table) -> QName:
    return QName(_fold(table.args.get("db")), _fold(table.this) or "")


def _fold(node: object) -> str | None:
    from sqlglot import exp

    if not isinstance(node, exp.Identifier):
        return None
    return node.name if node.args.get("quoted") else node.name.lower()
