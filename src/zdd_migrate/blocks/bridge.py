"""What lets statements that were prepared for one type go on when another takes its name.

A prepared statement keeps the types of its parameters for as long as its connection lasts. When the
column it writes to is of another type from one moment to the next, it fails until it is prepared
anew, which no driver does by itself. So values of either type become the other's by themselves, and
the first type goes when no connection of before the exchange is left.

That is not so for a comparison with a bare parameter (`status = $1`): it would take an operator
between the two types, and that draws literals, lists and new parameters to the other type, past the
index. With a cast (`status = $1::status`) it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from zdd_migrate.blocks.naming import ZDD_SCHEMA, fit
from zdd_migrate.blocks.quoting import quote_literal, quote_qname
from zdd_migrate.model.names import QName

#: connections of the release that runs the plan: they prepare nothing
_OURS = ("zdd-deploy lock", "zdd-deploy journal")


def make_casts(one: QName, other: QName) -> Iterator[str]:
    """Values of each type become the other's wherever one is wanted, label by label."""
    for source, target in ((one, other), (other, one)):
        yield f"CREATE CAST ({quote_qname(source)} AS {quote_qname(target)}) WITH INOUT AS IMPLICIT"


def drop_casts(one: QName, other: QName) -> Iterator[str]:
    """What takes those away."""
    for source, target in ((one, other), (other, one)):
        yield f"DROP CAST IF EXISTS ({quote_qname(source)} AS {quote_qname(target)})"


def keep_moment(called: QName) -> str:
    """Write down when the types were exchanged that are `called` so."""
    return f"CREATE TABLE {_moment(called)} AS SELECT clock_timestamp() AS at"


def forget_moment(called: QName) -> str:
    """What takes that away."""
    return f"DROP TABLE IF EXISTS {_moment(called)}"


def still_connected(called: QName) -> str:
    """A query for connections that may hold statements of before the exchange. Those of others, of
    which the server does not say when they began, may."""
    ours = ", ".join(quote_literal(name).strip() for name in _OURS)
    return (
        "SELECT pid, usename, application_name, backend_start::text FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND coalesce(backend_type, 'client backend') = 'client backend' "
        f"AND coalesce(application_name, '') NOT IN ({ours}) "
        f"AND (backend_start IS NULL OR backend_start < (SELECT max(at) FROM {_moment(called)})) "
        "LIMIT 1"
    )


def _moment(called: QName) -> str:
    return quote_qname(QName(ZDD_SCHEMA, fit(f"exchanged_{called.schema}_{called.name}")))
