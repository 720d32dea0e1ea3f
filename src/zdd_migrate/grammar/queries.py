"""What a query reads and writes, by sqlglot's parser.

Answers are None where the parser gives up: the caller then says that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from zdd_migrate.grammar.tokens import QUOTED, WORD, tokenise
from zdd_migrate.model.names import QName

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT or DML statement taken apart.

    `reads` are relations read, `writes` the one written (names as written, folded). `columns`
    are (qualifier or None, column) pairs as written. `output` are the names of its result columns
    where they can be told, else None.
    """

    kind: str  # select | insert | update | delete | merge | other
    reads: tuple[QName, ...]
    writes: tuple[QName, ...]
    columns: tuple[tuple[str | None, str], ...]
    functions: tuple[str, ...]
    output: tuple[str, ...] | None
    star: bool
    has_where: bool


@lru_cache(maxsize=1024)
def parse_query(text: str) -> Query | None:
    """Take a query apart; None where the parser does not follow it whole."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        trees = sqlglot.parse(text, dialect="postgres")
    except (SqlglotError, RecursionError):
        return None
    if len(trees) != 1 or trees[0] is None or isinstance(trees[0], exp.Command):
        return None
    tree = trees[0]
    if not isinstance(tree, (exp.Query, exp.Insert, exp.Update, exp.Delete, exp.Merge)):
        return None
    ctes = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    writes = [_name(table) for table in _written(tree)]
    reads: dict[QName, None] = {}
    written_nodes = {id(table) for table in _written(tree)}
    for table in tree.find_all(exp.Table):
        if id(table) in written_nodes or not isinstance(table.this, exp.Identifier):
            continue
        name = _name(table)
        if name.schema is None and name.name in ctes:
            continue
        reads[name] = None
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
        writes=tuple(dict.fromkeys(writes)),
        columns=columns,
        functions=functions,
        output=_output(tree),
        star=any(True for _ in tree.find_all(exp.Star)),
        has_where=tree.args.get("where") is not None,
    )


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


def _kind(tree: exp.Expr) -> str:
    from sqlglot import exp

    for class_, kind in (
        (exp.Insert, "insert"),
        (exp.Update, "update"),
        (exp.Delete, "delete"),
        (exp.Merge, "merge"),
        (exp.Query, "select"),
    ):
        if isinstance(tree, class_):
            return kind
    return "other"


def _written(tree: exp.Expr) -> list[exp.Table]:
    from sqlglot import exp

    out: list[exp.Table] = []
    for node in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge):
        target = node.this
        if isinstance(target, exp.Schema):
            target = target.this
        if isinstance(target, exp.Table):
            out.append(target)
    return out


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
