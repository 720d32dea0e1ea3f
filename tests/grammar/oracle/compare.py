"""Where a statement's two readings differ."""

from __future__ import annotations

from tests.grammar.oracle import ours, theirs_rest, trees
from tests.grammar.oracle.theirs import Fact
from tests.grammar.oracle.trees import Value, expression
from zdd_migrate.operations import NotUnderstood, read_statement


def differences(sql: str, read_as: str | None = None) -> list[str] | None:
    """What our reader says otherwise than libpg_query; None where it says it does not understand.

    `read_as` is what our reader is given instead, to see whether a misreading would be noticed.
    Raises trees.UnparsedError where libpg_query does not accept the statement.
    """
    theirs = theirs_rest.facts_of(trees.statement(sql))
    operations = read_statement(read_as or sql)
    if any(isinstance(o, NotUnderstood) for o in operations):
        return None
    mine = ours.facts(operations)
    if theirs and theirs[0]["is"] is None:
        # a statement that has no label: it must be one of a few kinds that claim nothing
        silent = {"switch_table"} if theirs[0]["node"] == "AlterObjectDependsStmt" else set()
        silent |= {"session", "alter_object", "define_object", "drop_object", "maintain"}
        return [f"{theirs[0]['node']} was read as {f['is']}" for f in mine if f["is"] not in silent]
    if len(mine) != len(theirs):
        return [f"{[f['is'] for f in mine]} instead of {[f['is'] for f in theirs]}"]
    return [d for a, b in zip(mine, theirs, strict=True) for d in _different(a, b)]


def _different(mine: Fact, theirs: Fact) -> list[str]:
    out = []
    if theirs.get("is", "") is None:
        return []
    for key, expected in theirs.items():
        found = mine.get(key, _default(key))
        if (expected is None and key in _UNSAID) or (key == "only" and theirs.get("is") in _WHOLE):
            continue
        if key == "keys" or key == "expressions":
            found = _keys(found, expected)
        if isinstance(expected, dict) and isinstance(found, dict):
            out += [f"{key}.{d}" for d in _different(found, expected)]
        elif (
            isinstance(expected, tuple) and isinstance(found, tuple) and len(found) == len(expected)
        ):
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                if isinstance(a, dict) and isinstance(b, dict):
                    out += [f"{key}[{i}].{d}" for d in _different(a, b)]
                elif a != b:
                    out.append(f"{key}[{i}]: {a!r} instead of {b!r}")
        elif expected != found and not (key == "name" and theirs.get("object") in _UNNAMED):
            out.append(f"{key}: {found!r} instead of {expected!r}")
    return [f"{mine.get('is', '')} {d}" for d in out]


#: kinds whose names are more than a word
_UNNAMED = frozenset(["CAST", "TRANSFORM", "LARGE OBJECT"])
#: where ONLY says nothing
_WHOLE = ("attach_partition", "detach_partition", "inherit", "set_of", "move_table")
#: what a label leaves open where it is None
_UNSAID = frozenset(["assignments", "body", "type_name"])


def _default(key: str) -> Value:
    return False if key in ("only", "absent_ok", "if_exists") else None


def _keys(mine: Value, theirs: Value) -> Value:
    """Index keys: a name where theirs is a name, else the expression's tree."""
    if mine is None or len(mine) != len(theirs):
        return mine
    return tuple(
        a if isinstance(b, str) else expression(a) for a, b in zip(mine, theirs, strict=True)
    )
