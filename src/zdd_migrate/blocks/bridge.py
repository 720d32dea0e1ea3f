"""What lets statements that were prepared for one type go on when another takes its name.

A prepared statement keeps the types of its parameters for as long as its connection lasts. When the
column it writes to or compares with is of another type from one moment to the next, it fails until it
is prepared anew, which no driver does by itself. So values of either type may be written where the
other is wanted, a column is compared with values of the type that it had, and the first type goes
when no connection of before the exchange is left.

An operator between the two types themselves would draw literals, lists and new parameters to the other
type, past the index and into labels that it lacks. It is one of a domain over the column's type: Postgres
finds it for a value that is of the other type already, and prefers its own for all that is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_ident, quote_literal, quote_qname
from zdd_migrate.model.names import QName

#: which type has the name: the new one, or the old one again
Way = Literal["new", "old"]
_COMPARED = {"=": "eq", "<>": "ne"}
#: what connections of our own are called: they run the plan, and prepare nothing
_OURS = "^zdd-(migrate|deploy) "


def make_casts(one: QName, other: QName) -> Iterator[str]:
    """Values of each type may be written where the other is wanted, label by label."""
    for source, target in ((one, other), (other, one)):
        yield f"CREATE CAST ({quote_qname(source)} AS {quote_qname(target)}) WITH INOUT AS ASSIGNMENT"


def drop_casts(one: QName, other: QName) -> Iterator[str]:
    """What takes those away."""
    for source, target in ((one, other), (other, one)):
        yield f"DROP CAST IF EXISTS ({quote_qname(source)} AS {quote_qname(target)})"


def begin_comparing(way: Way, called: QName, type_: QName, other: QName) -> Iterator[str]:
    """A column of a type is compared with values of the other, by its index. `called` is the name
    that the types change hands of, `way` which of the two has it.

    The functions are written so that the planner puts their bodies into the query.
    """
    mine, theirs, domain = quote_qname(type_), quote_qname(other), _domain(way, called)
    yield f"CREATE DOMAIN {domain} AS {mine}"
    for operator, word in _COMPARED.items():
        function = _function(word, way, called)
        for left, right, said in (
            (domain, theirs, f"$1::{mine} {operator} $2::text::{mine}"),
            (theirs, domain, f"$1::text::{mine} {operator} $2::{mine}"),
        ):
            yield (
                f"CREATE FUNCTION {function}({left}, {right}) RETURNS boolean LANGUAGE sql STABLE "
                f"PARALLEL SAFE RETURN {said}"
            )
            yield (
                f"CREATE OPERATOR {_operator(operator, called)} "
                f"(FUNCTION = {function}, LEFTARG = {left}, RIGHTARG = {right})"
            )


def end_comparing(way: Way, called: QName, other: QName) -> Iterator[str]:
    """What takes that away, whether it was there or not."""
    theirs, domain = quote_qname(other), _domain(way, called)
    for operator, word in _COMPARED.items():
        for left, right in ((domain, theirs), (theirs, domain)):
            yield f"DROP OPERATOR IF EXISTS {_operator(operator, called)} ({left}, {right})"
            yield f"DROP FUNCTION IF EXISTS {_function(word, way, called)}({left}, {right})"
    yield f"DROP DOMAIN IF EXISTS {domain}"


def keep_moment(called: QName) -> str:
    """Write down when the types were exchanged that are `called` so."""
    return f"CREATE TABLE {_moment(called)} AS SELECT clock_timestamp() AS at"


def forget_moment(called: QName) -> str:
    """What takes that away."""
    return f"DROP TABLE IF EXISTS {_moment(called)}"


def still_connected(called: QName) -> str:
    """A query for connections that may hold statements of before the exchange. Those of others, of
    which the server does not say when they began, may."""
    return (
        "SELECT pid, usename, application_name, backend_start::text FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND coalesce(backend_type, 'client backend') = 'client backend' "
        f"AND coalesce(application_name, '') !~ {quote_literal(_OURS).strip()} "
        f"AND (backend_start IS NULL OR backend_start < (SELECT max(at) FROM {_moment(called)})) "
        "LIMIT 1"
    )


def _moment(called: QName) -> str:
    return quote_qname(QName(ZDD_SCHEMA, fit(f"exchanged_{called.schema}_{called.name}")))


def _domain(way: Way, called: QName) -> str:
    return quote_qname(QName(ZDD_SCHEMA, fit(f"{way}_{called.schema}_{called.name}")))


def _function(word: str, way: Way, called: QName) -> str:
    return quote_qname(QName(ZDD_SCHEMA, fit(f"{word}_{way}_{called.schema}_{called.name}")))


def _operator(operator: str, called: QName) -> str:
    return f"{quote_ident(called.schema or 'public')}.{operator}"
