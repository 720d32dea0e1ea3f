"""What was predicted beside what was measured: as JSON, and as a table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

#: what is compared, in the order it is shown
FIELDS = (
    "error",
    "locks",
    "blocks",
    "rewrites",
    "scans",
    "index_builds",
    "index_rebuilds",
    "transactional",
)
_WORDS = {"same": "", "more": "predicts more", "less": "PREDICTS LESS", "other": "differs"}


def compare(predicted: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """One statement's comparison: per field both values and a verdict.

    Verdicts: `same`; `more` where the prediction holds all that was measured and something besides
    (the safe side); `less` where something was measured that was not predicted; `other`.
    A statement that failed left nothing to measure: then only the error is compared.
    """
    failed = measured["error"] is not None
    fields: dict[str, Any] = {}
    for field in FIELDS:
        if failed and field not in ("error", "transactional"):
            continue
        ours, theirs = (_value(field, one[field]) for one in (predicted, measured))
        verdict = _verdict(ours, theirs)
        if field == "error" and theirs is None and ours is not None:
            # foretold for rows that are in the way: there were none, or it was wrong
            verdict = "other" if predicted["error"].get("certain", True) else "more"
        fields[field] = {"predicted": ours, "measured": theirs, "verdict": verdict}
    return {
        "sql": predicted["sql"],
        "path": predicted["path"],
        "line": predicted["line"],
        "same": all(f["verdict"] == "same" for f in fields.values()),
        "fields": fields,
    }


def _value(field: str, value: Any) -> Any:
    if field == "error":
        return value["sqlstate"] if value is not None else None
    if field == "blocks":
        blocked = {r: _who(b) for r, b in sorted(value.items())}
        return {r: who for r, who in blocked.items() if who}
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    return sorted(value) if isinstance(value, list) else value


def _who(blocked: Mapping[str, bool]) -> str:
    return " and ".join(word for word in ("reads", "writes") if blocked[word])


def _verdict(ours: Any, theirs: Any) -> str:
    if ours == theirs:
        return "same"
    if isinstance(ours, list):
        return "more" if set(ours) > set(theirs) else "less"
    if isinstance(ours, dict):
        missing = [r for r, value in theirs.items() if not _covers(ours.get(r), value)]
        return "less" if missing else "more"
    return "other"


def _covers(ours: str | None, theirs: str) -> bool:
    """Whether a predicted lock or a predicted wait is at least the measured one."""
    if ours is None or ours == theirs:
        return ours is not None
    if theirs in _STRENGTH and ours in _STRENGTH:
        return _STRENGTH.index(ours) > _STRENGTH.index(theirs)
    return set(theirs.split(" and ")) <= set(ours.split(" and "))


_STRENGTH = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
_NAME, _COLUMN = 16, 33


def text(comparison: Mapping[str, Any]) -> str:
    """One comparison as a table of at most 100 columns."""
    flat = " ".join(comparison["sql"].split())
    place = f"{comparison['path']}:{comparison['line']}: "
    room = 98 - len(place)
    lines = [place + (flat if len(flat) <= room else flat[: room - 1] + "…")]
    lines.append(f"  {'':{_NAME}}{'predicted':{_COLUMN}}measured")
    for field, both in comparison["fields"].items():
        if both["verdict"] == "same" and not both["measured"]:
            continue
        left = _cells(both["predicted"])
        right = _cells(both["measured"])
        height = max(len(left), len(right))
        left += [""] * (height - len(left))
        right += [""] * (height - len(right))
        word = _WORDS[both["verdict"]]
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            name = field.replace("_", " ") if i == 0 else ""
            tail = word if i == 0 else ""
            lines.append(f"  {name:{_NAME}}{one:{_COLUMN}}{other:{_COLUMN}}{tail}".rstrip())
    if comparison["same"]:
        lines.append("  as predicted")
    return "\n".join(lines)


def _cells(value: Any) -> list[str]:
    """A value as lines that fit into a column."""
    if value is None or value in ([], {}):
        return ["–"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, dict):
        items = [f"{relation} {word}" for relation, word in value.items()]
    elif isinstance(value, list):
        items = list(value)
    else:
        items = [str(value)]
    return [
        line
        for item in items
        for line in textwrap.wrap(item, _COLUMN - 1, subsequent_indent=" ") or [""]
    ]
