"""What Postgres will do, as JSON of the public contract and as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zdd_migrate.model.effects import Effects
from zdd_migrate.operations.walk import Explained


def to_dict(explained: Iterable[Explained], pg: int) -> dict[str, Any]:
    """`{"version": 1, "pg_version": 16, "statements": […]}`."""
    return {"version": 1, "pg_version": pg, "statements": [statement(e) for e in explained]}


def statement(explained: Explained) -> dict[str, Any]:
    """One statement. Call it while the walk stands at it: the schema goes on afterwards."""
    source = explained.statement
    return {
        "sql": source.sql,
        "path": source.span.path,
        "line": source.span.line,
        "operations": [op.describe(explained.schema) for op, _ in explained.parts],
        **effects(explained.effects),
        "in_transaction": source.in_transaction,
        "understood": explained.understood,
    }


def effects(found: Effects) -> dict[str, Any]:
    """The effects' share of a statement's JSON."""
    return {
        "locks": {str(r): str(m) for r, m in found.locks.items()},
        "index_locks": {str(r): str(m) for r, m in found.index_locks.items()},
        "blocks": {
            str(r): {"reads": reads, "writes": writes}
            for r, (reads, writes) in found.blocks.items()
        },
        "rewrites": [str(r) for r in found.rewrites],
        "scans": [str(r) for r in found.scans],
        "index_builds": [str(r) for r in found.index_builds],
        "index_rebuilds": [str(r) for r in found.index_rebuilds],
        "transactional": found.transactional,
        "error": None
        if found.error is None
        else {
            "sqlstate": found.error.sqlstate,
            "message": found.error.message,
            "certain": not found.error.rows_decide,
        },
        "breaks": [{"code": b.code, "what": b.what, "sqlstate": b.sqlstate} for b in found.breaks],
        "loses": list(found.loses),
        "assumed": list(found.assumed),
    }


def text(one: dict[str, Any]) -> str:
    """One statement's dictionary (of `statement`) as lines for a terminal."""
    flat = " ".join(one["sql"].split())
    lines = [f"{one['path']}:{one['line']}: {flat if len(flat) < 88 else flat[:87] + '…'}"]
    if not one["understood"]:
        reasons = [o["reason"] for o in one["operations"] if o["kind"] == "not_understood"]
        lines.append(f"    not understood: {'; '.join(reasons)}")
    for relation, lock in one["locks"].items():
        blocked = one["blocks"].get(relation, {})
        who = (
            "blocks reads and writes"
            if blocked.get("reads")
            else "blocks writes"
            if blocked.get("writes")
            else "blocks nobody"
        )
        lines.append(f"    {lock} on {relation}: {who}")
    for relation in sorted(one["blocks"].keys() - one["locks"].keys()):
        who = "reads and writes" if one["blocks"][relation]["reads"] else "writes"
        lines.append(f"    {relation} is not locked, but {who} wait too")
    for key, word in (
        ("rewrites", "rewrites"),
        ("scans", "reads every row of"),
        ("index_builds", "builds an index:"),
        ("index_rebuilds", "rebuilds an index:"),
    ):
        for relation in one[key]:
            lines.append(f"    {word} {relation}")
    if not one["transactional"]:
        lines.append("    cannot run inside a transaction block")
    if one["error"] is not None:
        fails = "fails" if one["error"]["certain"] else "fails if a row is in the way"
        lines.append(f"    {fails}: {one['error']['sqlstate']} {one['error']['message']}")
    for broken in one["breaks"]:
        state = f" ({broken['sqlstate']})" if broken["sqlstate"] else ""
        lines.append(f"    breaks {broken['code']} code: {broken['what']}{state}")
    for lost in one["loses"]:
        lines.append(f"    loses {lost}")
    for assumed in one["assumed"]:
        lines.append(f"    assumed: {assumed}")
    if len(lines) == 1:
        lines.append("    touches nothing that anybody waits for")
    return "\n".join(lines)
