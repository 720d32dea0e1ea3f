"""A plan as JSON, in the shape of the public contract."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zdd_migrate.model.plan import (
    Alternative,
    Backfill,
    DualWrite,
    Gate,
    Phase,
    Plan,
    Release,
    Sql,
    Step,
    Validate,
)


def to_json(plan: Plan) -> dict[str, Any]:
    """`{"version": 1, "name": …, "schema_hash": …, "phases": […], "questions": […], …}`."""
    return {
        "version": 1,
        "name": plan.name,
        "schema_hash": plan.schema_hash,
        "pg_version": plan.pg_version,
        "phases": [
            {"phase": phase.value, "steps": [step_to_json(s) for s in plan.steps.get(phase, ())]}
            for phase in Phase
            if plan.steps.get(phase)
        ],
        "point_of_no_return": plan.point_of_no_return,
        "questions": [
            {"about": q.about, "ask": q.ask, "answer_with": q.answer_with} for q in plan.questions
        ],
        "refusals": [
            {"statement": r.statement, "reason": r.reason, "instead": r.instead}
            for r in plan.refusals
        ],
        "notes": list(plan.notes),
        "alternatives": [alternative_to_json(one) for one in plan.alternatives],
        "search_path": list(plan.search_path),
        "dual_writes": [dual_to_json(one) for one in plan.dual_writes],
        "leaves": [{"object": key, "what": what} for key, what in plan.leaves],
    }


def alternative_to_json(one: Alternative) -> dict[str, Any]:
    """One way among several; sizes are null where nobody measured the table."""
    return {**asdict(one), "text": one.text}


def dual_to_json(one: DualWrite) -> dict[str, Any]:
    """What the code keeps in step itself: for each column, what it is of the other side's."""
    return {
        "table": list(one.table),
        **{
            side: [{"column": c, "type": t, "from": e} for c, t, e in columns]
            for side, columns in (("old", one.old), ("new", one.new))
        },
    }


def step_to_json(step: Step) -> dict[str, Any]:
    """One step. `undo` is null at the point of no return."""
    out: dict[str, Any] = {"id": step.id, "kind": KINDS[type(step)], "why": step.why}
    out["undo"] = None if step.undo is None else list(step.undo)
    match step:
        case Sql():
            out["sql"] = list(step.statements)
            out["transactional"] = step.transactional
            out["lock"] = str(step.lock) if step.lock is not None else None
            out["relation"] = step.relation
            out["lock_timeout_ms"] = step.lock_timeout_ms
            out["statement_timeout_ms"] = step.statement_timeout_ms
            out["after_days"] = step.after_days
        case Validate():
            out["sql"] = list(step.statements)
            out["transactional"] = True
            out["lock"] = str(step.lock)
        case Backfill():
            out["table"] = step.table
            out["key"] = list(step.key)
            out["set"] = dict(step.assignments)
            out["where"] = step.where
            out["batch"] = step.batch
        case Gate():
            out["query"] = step.query
            out["message"] = step.message
        case Release():
            out["code"] = step.code
            out["flag"] = step.flag
    return out


KINDS: dict[type[Step], str] = {
    Sql: "sql",
    Backfill: "backfill",
    Validate: "validate",
    Gate: "gate",
    Release: "release",
}
