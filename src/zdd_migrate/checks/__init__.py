"""The few rules that a comparison of facts cannot say: functions that return more facts, or None."""

from __future__ import annotations

from zdd_migrate.checks import compatibility, design, locks, order
from zdd_migrate.checks.case import Check

CHECKS: dict[str, Check] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *locks.CHECKS,
        *compatibility.CHECKS,
        *order.CHECKS,
        *design.CHECKS,
    )
}
