"""What a query touches, by sqlglot's parser and scopes over our schema.

Sound before precise: a name that may belong to a table is taken to belong to it, and what cannot be
followed is said to be so. Parameters stand as $1, $2 … in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.tokens import NUMBER, QUOTED, WORD, Token, tokenise
from zdd_migrate.model.names import QName
from zdd_migrate.model.query import Insertion, Usage
from zdd_migrate.model.schema import Schema

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

_PARAMETER = "zdd_p"


def analyse(sql: str, schema: Schema) -> Usage:
    """What a statement touches in a schema; `problem` set where that cannot be told."""
    try:
        tokens = tokenise(sql)
    except UnreadError as error:
        return Usage(problem=f"the text cannot be cut into words: {error}", words=_rough(sql))
    words = frozenset(t.name for t in tokens if t.kind in (WORD, QUOTED))
    first = tokens[0].up if tokens else ""
    if first == "COPY":
        return _copy(sql, tokens, schema, words)
    if first == "DECLARE":
        inner = next((t.end for t in tokens if t.up == "FOR"), None)
        return analyse(sql[inner:], schema) if inner else Usage(problem="a cursor", words=words)
    if first in ("CALL", "DO", "EXECUTE"):
        return Usage(problem=f"{first} runs what is not written here", words=words)
    tree = _parse(_with_names(sql, tokens))
    if tree is None:
        return Usage(problem="the parser does not follow it", words=words)
    return _Reader(schema, words).read(tree)


def _rough(sql: str) -> frozenset[str]:
    return frozenset(word.lower() for word in re.findall(r"\w+", sql))


def _with_names(sql: str, tokens: Sequence[Token]) -> str:
    """$1 as a named parameter: the parser takes `$1, $` for the start of a dollar quote."""
    out, at = [], 0
    for token in tokens:
        if token.kind == NUMBER and token.text.startswith("$"):
            out += [sql[at : token.start], f":{_PARAMETER}{token.text[1:]}"]
            at = token.end
    return "".join([*out, sql[at:]])


def _parse(sql: str) -> exp.Expr | None:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        trees = sqlglot.parse(sql, dialect="postgres")
    except (SqlglotError, RecursionError):
        return None
    if len(trees) != 1:
        return None
    tree = trees[0]
    if not isinstance(tree, (exp.Query, exp.Insert, exp.Update, exp.Delete, exp.Merge)):
        return None
    return None if any(isinstance(n, exp.Command) for n in tree.walk()) else tree


def _copy(sql: str, tokens: Sequence[Token], schema: Schema, words: frozenset[str]) -> Usage:
    """COPY t [(columns)] FROM | TO, or COPY (query) TO."""
    if len(tokens) > 1 and tokens[1].up == "(":
        depth = 0
        for token in tokens[1:]:
            depth += {"(": 1, ")": -1}.get(token.up, 0)
            if not depth:
                return analyse(sql[tokens[1].end : token.start], schema)
        return Usage(problem="a parenthesis that never ends", words=words)
    names = [t for t in tokens[1:4] if t.kind in (WORD, QUOTED)]
    if not names:
        return Usage(problem="the parser does not follow it", words=words)
    at = 2
    name = QName(None, names[0].name)
    if len(tokens) > 3 and tokens[2].up == ".":
        name, at = QName(names[0].name, tokens[3].name), 4
    table = schema.resolve(name)
    columns: list[str] | None = None
    if len(tokens) > at and tokens[at].up == "(":
        end = next(i for i in range(at, len(tokens)) if tokens[i].up == ")")
        columns = [t.name for t in tokens[at + 1 : end] if t.kind in (WORD, QUOTED)]
    writes = any(t.up == "FROM" for t in tokens)
    return Usage(
        relations=frozenset({table}),
        columns=frozenset((table, c) for c in columns or ()),
        stars=frozenset() if columns is not None else frozenset({table}),
        written=frozenset({table}) if writes else frozenset(),
        insertions=(Insertion(table, tuple(columns) if columns is not None else None),)
        if writes
        else (),
        words=words,
    )


class _Reader:
    """Collects what one statement touches."""

    def __init__(self, schema: Schema, words: frozenset[str]) -> None:
        self.schema = schema
        self.words = words
        self.relations: set[QName] = set()
        self.columns: set[tuple[QName, str]] = set()
        self.stars: set[QName] = set()
        self.written: set[QName] = set()
        self.assigned: set[tuple[QName, str]] = set()
        self.insertions: list[Insertion] = []
        self.conflicts: list[tuple[QName, tuple[str, ...]]] = []
        self.sources: list[tuple[int, QName, str]] = []
        #: columns whose table was found: by identity, so that the rest is seen to be a rest
        self.found: dict[int, list[tuple[QName, str]]] = {}

    def read(self, tree: exp.Expr) -> Usage:
        from sqlglot import exp

        ctes = {_fold(c.args["alias"].this) for c in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            name = _table(table)
            if name is not None and not (name.schema is None and name.name in ctes):
                self.relations.add(self.schema.resolve(name))
        for dml in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge):
            self._written(dml)
        self._scopes(tree)
        self._the_rest(tree)
        self._parameters(tree)
        functions = {node.name.lower() for node in tree.find_all(exp.Anonymous) if node.name}
        return Usage(
            relations=frozenset(self.relations),
            columns=frozenset(self.columns),
            stars=frozenset(self.stars),
            written=frozenset(self.written),
            assigned=frozenset(self.assigned),
            insertions=tuple(self.insertions),
            conflicts=tuple(self.conflicts),
            functions=frozenset(functions),
            sources=tuple(dict.fromkeys(self.sources)),
            words=self.words,
        )

    # -- what is written ---------------------------------------------------------------------

    def _written(self, dml: exp.Expr) -> None:
        from sqlglot import exp

        target = dml.this
        named: list[str] | None = None
        if isinstance(target, exp.Schema):
            named = [_fold(i) or "" for i in target.expressions]
            target = target.this
        name = _table(target)
        if name is None:
            return
        table = self.schema.resolve(name)
        self.written.add(table)
        aliases = {_alias(target) or name.name, name.name, "excluded"}
        if isinstance(dml, exp.Insert):
            self.insertions.append(Insertion(table, tuple(named) if named is not None else None))
            if named is None and not dml.args.get("default"):
                self.stars.add(table)
            self.columns.update((table, c) for c in named or ())
            self._values(dml, table, named)
            self._conflict(dml.args.get("conflict"), table)
        for then in dml.find_all(exp.When) if isinstance(dml, exp.Merge) else ():
            self._merge(then, table)
        for part in _assignments(dml):
            self._assign(part, table)
        self._own_columns(dml, table, aliases)

    def _values(self, dml: exp.Expr, table: QName, named: list[str] | None) -> None:
        """Which column each parameter of VALUES goes to."""
        from sqlglot import exp

        values = dml.args.get("expression")
        known = self.schema.tables.get(table)
        order = named if named is not None else [c.name for c in known.columns] if known else []
        for row in values.expressions if isinstance(values, exp.Values) else ():
            for column, value in zip(order, getattr(row, "expressions", ()), strict=False):
                for number in _numbers(value):
                    self.sources.append((number, table, column))

    def _conflict(self, conflict: exp.Expr | None, table: QName) -> None:
        from sqlglot import exp

        if conflict is None:
            return
        constraint = conflict.args.get("constraint")
        keys = [
            _fold(node) or ""
            for key in conflict.args.get("conflict_keys") or ()
            for node in ([key] if isinstance(key, exp.Identifier) else key.find_all(exp.Identifier))
        ]
        if constraint is not None:
            self.conflicts.append((table, (_fold(constraint) or "",)))
        elif keys:
            self.conflicts.append((table, tuple(keys)))
            self.columns.update((table, k) for k in keys if self._has(table, k))

    def _merge(self, when: exp.Expr, table: QName) -> None:
        from sqlglot import exp

        then = when.args.get("then")
        if isinstance(then, exp.Insert):
            listed = then.this.expressions if isinstance(then.this, exp.Tuple) else None
            named = [_fold(c.this) or "" for c in listed] if listed is not None else None
            self.insertions.append(Insertion(table, tuple(named) if named is not None else None))
            self.columns.update((table, c) for c in named or ())

    def _assign(self, part: exp.Expr, table: QName) -> None:
        """`SET a = …`, `SET (a, b) = …`."""
        from sqlglot import exp

        if not isinstance(part, exp.EQ):
            return
        left = part.this
        columns = left.expressions if isinstance(left, (exp.Tuple, exp.Paren)) else [left]
        for column in columns:
            inner = column.find(exp.Column) if not isinstance(column, exp.Column) else column
            if inner is None:
                continue
            name = _fold(inner.this) or ""
            self.assigned.add((table, name))
            self._note(inner, table, name)
            for number in _numbers(part.expression):
                self.sources.append((number, table, name))

    def _own_columns(self, dml: exp.Expr, table: QName, aliases: set[str]) -> None:
        """Columns of a DML statement outside the queries inside it."""
        from sqlglot import exp

        others = _sources_of(dml, self.schema)
        for node in _outside_queries(dml):
            if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Column):
                if node.find_ancestor(exp.Returning) is not None:
                    self.stars.add(table)
                    self.stars.update(others.values())
                continue
            if not isinstance(node, exp.Column) or id(node) in self.found:
                continue
            qualifier, name = _fold(node.args.get("table")), _fold(node.this)
            if qualifier in aliases:
                self._note(node, table, name)
            elif qualifier in others:
                self._note(node, others[qualifier], name)
            elif qualifier is None and name is not None:
                for one in (table, *others.values()):
                    if self._has(one, name):
                        self._note(node, one, name)

    # -- what is read ------------------------------------------------------------------------

    def _scopes(self, tree: exp.Expr) -> None:
        from sqlglot import exp
        from sqlglot.errors import SqlglotError
        from sqlglot.optimizer.scope import traverse_scope

        for query in _top_queries(tree):
            try:
                scopes = traverse_scope(query)
            except (SqlglotError, RecursionError):
                continue  # the rest is then resolved by name alone
            for scope in scopes:
                for column in scope.columns:
                    self._in_scope(column, scope)
                for star in scope.expression.find_all(exp.Star):
                    if star.find_ancestor(exp.Select) is not scope.expression:
                        continue  # of a query inside
                    if isinstance(star.parent, exp.Column):
                        self._in_scope(star.parent, scope)
                    elif not isinstance(star.parent, exp.Count):
                        self._star(scope)
                self._joined(scope)

    def _in_scope(self, column: exp.Column, scope: Scope) -> None:
        from sqlglot import exp

        qualifier = _fold(column.args.get("table"))
        if isinstance(column.this, exp.Star):
            source = _source(scope, qualifier)
            for table in _bases(source):
                self.stars.add(self.schema.resolve(table))
            self.found[id(column)] = []
            return
        name = _fold(column.this)
        here: Scope | None = scope
        while here is not None and name is not None:
            hits = list(self._resolve(here, qualifier, name))
            if hits:
                for table in hits:
                    self._note(column, table, name)
                return
            whole = _source(here, name) if qualifier is None else None
            if whole is not None:  # a whole row
                self.stars.update(self.schema.resolve(t) for t in _bases(whole))
                self.found[id(column)] = []
                return
            derived = (
                _source(here, qualifier) is not None
                if qualifier is not None
                else any(name in _outputs(source) for source in here.sources.values())
            )
            if derived:  # its columns are looked at where they come from
                self.found.setdefault(id(column), [])
                return
            here = here.parent

    def _resolve(self, scope: Scope, qualifier: str | None, name: str) -> Iterator[QName]:
        for alias, source in scope.sources.items():
            if qualifier is not None and alias.lower() != qualifier.lower():
                continue
            yield from self._of(source, name)

    def _of(self, source: Any, name: str) -> Iterator[QName]:
        """The base tables a source's column of this name comes from."""
        from sqlglot import exp

        if isinstance(source, exp.Table):
            table = _table(source)
            if table is not None and self._has(self.schema.resolve(table), name):
                yield self.schema.resolve(table)
            return
        inner = getattr(source, "expression", None)
        if inner is not None and any(
            isinstance(s, exp.Star) or (isinstance(s, exp.Column) and isinstance(s.this, exp.Star))
            for s in getattr(inner, "selects", ())
        ):
            for one in source.sources.values():
                yield from self._of(one, name)

    def _star(self, scope: Scope) -> None:
        for source in scope.sources.values():
            for table in _bases(source):
                self.stars.add(self.schema.resolve(table))

    def _joined(self, scope: Scope) -> None:
        """JOIN … USING (a), NATURAL JOIN."""
        for join in scope.expression.args.get("joins") or ():
            tables = {t for s in scope.sources.values() for t in _bases(s)}
            for identifier in join.args.get("using") or ():
                name = _fold(identifier)
                for table in map(self.schema.resolve, tables):
                    if name is not None and self._has(table, name):
                        self.columns.add((table, name))
            if join.args.get("method") == "NATURAL":
                self.stars.update(map(self.schema.resolve, tables))

    def _the_rest(self, tree: exp.Expr) -> None:
        """Columns that no scope accounted for: of every table here that has such a column."""
        from sqlglot import exp

        named: dict[str | None, set[QName]] = {}
        for node in tree.find_all(exp.Table):
            if (table_name := _table(node)) is not None:
                alias = _alias(node) or table_name.name
                named.setdefault(alias, set()).add(self.schema.resolve(table_name))
        for column in tree.find_all(exp.Column):
            if id(column) in self.found:
                continue
            name = _fold(column.this)
            if name is None:
                self.stars.update(self.relations)
                continue
            for table in named.get(_fold(column.args.get("table")), self.relations):
                if table in self.relations and self._has(table, name):
                    self.columns.add((table, name))

    def _parameters(self, tree: exp.Expr) -> None:
        """The column that each compared parameter is compared with."""
        from sqlglot import exp

        compared = (exp.Binary, exp.In, exp.Between, exp.Like, exp.ILike)
        for node in tree.find_all(*compared):
            columns = [c for c in node.find_all(exp.Column) if self.found.get(id(c))]
            if not columns or isinstance(node, exp.Connector):
                continue
            for number in _numbers(node):
                for table, name in self.found[id(columns[0])]:
                    self.sources.append((number, table, name))

    def _has(self, table: QName, name: str) -> bool:
        known = self.schema.tables.get(table)
        if known is not None:
            return known.column(name) is not None
        view = self.schema.views.get(table)
        if view is not None:
            return not view.columns or name in view.columns
        return not self.schema.complete

    def _note(self, node: exp.Expr, table: QName, name: str | None) -> None:
        if name is not None:
            self.columns.add((table, name))
            self.found.setdefault(id(node), []).append((table, name))


def _top_queries(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The tree itself when it is a query, else the outermost queries in it."""
    from sqlglot import exp

    if isinstance(tree, exp.Query):
        yield tree
        for dml in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge):
            yield from _top_queries(dml)
        return
    for node in tree.walk(prune=lambda n: isinstance(n, exp.Select)):
        if isinstance(node, exp.Select):
            yield node


def _outside_queries(dml: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    for node in dml.walk(prune=lambda n: isinstance(n, (exp.Select, exp.SetOperation))):
        if not isinstance(node, (exp.Select, exp.SetOperation)):
            yield node


def _sources_of(dml: exp.Expr, schema: Schema) -> dict[str | None, QName]:
    """Other tables of a DML statement by alias: FROM, USING and their joins."""
    from sqlglot import exp

    out: dict[str | None, QName] = {}
    own = dml.this.this if isinstance(dml.this, exp.Schema) else dml.this
    for node in _outside_queries(dml):
        if isinstance(node, exp.Table) and node is not own:
            name = _table(node)
            if name is not None:
                out[_alias(node) or name.name] = schema.resolve(name)
    return out


def _assignments(dml: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    if isinstance(dml, exp.Update):
        yield from dml.expressions
    conflict = dml.args.get("conflict")
    if conflict is not None:
        yield from conflict.expressions
    if isinstance(dml, exp.Merge):
        for update in dml.find_all(exp.Update):
            yield from update.expressions


def _source(scope: Scope, alias: str | None) -> Any:
    if alias is None:
        return None
    return next((s for a, s in scope.sources.items() if a.lower() == alias.lower()), None)


def _outputs(source: Any) -> set[str]:
    """The names of a derived table's columns; none for a table."""
    return {name.lower() for name in getattr(source, "outer_columns", ())} | {
        name.lower() for name in getattr(getattr(source, "expression", None), "named_selects", ())
    }


def _bases(source: Any) -> Iterable[QName]:
    """The tables below a source of a scope."""
    from sqlglot import exp

    if isinstance(source, exp.Table):
        name = _table(source)
        return (name,) if name is not None else ()
    return [t for one in getattr(source, "sources", {}).values() for t in _bases(one)]


def _numbers(node: exp.Expr) -> Iterator[int]:
    from sqlglot import exp

    for place in node.find_all(exp.Placeholder):
        if place.name.startswith(_PARAMETER):
            yield int(place.name.removeprefix(_PARAMETER))


def _table(node: object) -> QName | None:
    from sqlglot import exp

    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        return None
    return QName(_fold(node.args.get("db")), _fold(node.this) or "")


def _alias(node: exp.Expr) -> str | None:
    alias = node.args.get("alias")
    return _fold(alias.this) if alias is not None else None


def _fold(node: object) -> str | None:
    from sqlglot import exp

    if not isinstance(node, exp.Identifier):
        return None
    return node.name if node.args.get("quoted") else node.name.lower()
