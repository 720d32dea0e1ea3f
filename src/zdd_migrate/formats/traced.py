"""What statements were seen to do: the JSON of `explain`, measured, and the same as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zdd_migrate.formats import explain

if TYPE_CHECKING:
    from zdd_migrate.operations.walk import Explained
    from zdd_migrate.postgres.trace import Traced


def statement(explained: Explained, traced: Traced) -> dict[str, Any]:
    """One measured statement. Call it while the walk stands at it, as for `explain.statement`."""
    return {
        **explain.statement(explained),
        **explain.effects(traced.effects),
        "reached": traced.reached,
        "probes": {str(r): kinds for r, kinds in sorted(traced.probes.items())},
        "stages": [
            {
                "in_the_way": str(stage.in_the_way),
                "locks": {str(r): str(m) for r, m in sorted(stage.locks.items())},
                "waited_for": [str(r) for r in stage.waited_for],
            }
            for stage in traced.stages
        ],
        "said": list(traced.said),
    }


def text(one: dict[str, Any]) -> str:
    """One statement's dictionary as lines for a terminal."""
    if not one["reached"]:
        flat = " ".join(one["sql"].split())
        return f"{one['path']}:{one['line']}: {flat[:87]}\n    not reached: a statement before it failed"
    lines = [explain.text({**one, "understood": True})]
    for stage in one["stages"]:
        held = ", ".join(f"{mode} on {relation}" for relation, mode in stage["locks"].items())
        lines.append(
            f"    waits for others' {stage['in_the_way']}: has or wants {held or 'nothing'}"
        )
    return "\n".join(lines)
