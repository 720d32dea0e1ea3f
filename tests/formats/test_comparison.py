"""Prediction beside measurement: verdicts, and a table that fits."""

from __future__ import annotations

from typing import Any

from zdd_migrate.formats.comparison import compare, text

SEEN: dict[str, Any] = {
    "sql": "ALTER TABLE users ADD COLUMN a_rather_long_name_for_a_column uuid DEFAULT gen_random_uuid()",
    "path": "m.sql",
    "line": 1,
    "error": None,
    "locks": {"public.users": "AccessExclusiveLock"},
    "blocks": {"public.users": {"reads": True, "writes": True}},
    "rewrites": ["public.users"],
    "scans": [],
    "index_builds": [],
    "index_rebuilds": ["public.users_a_very_long_index_name_that_needs_two_lines_idx"],
    "transactional": True,
}


def verdict(field: str, predicted: Any, measured: Any) -> str:
    """The verdict on one field."""
    return str(
        compare({**SEEN, field: predicted}, {**SEEN, field: measured})["fields"][field]["verdict"]
    )


def test_verdicts_say_which_side_is_safe() -> None:
    """More is safe, less is not."""
    strong, weak = {"t": "AccessExclusiveLock"}, {"t": "ShareLock"}
    assert verdict("locks", strong, strong) == "same"
    assert verdict("locks", strong, weak) == "more"
    assert verdict("locks", weak, strong) == "less"
    assert verdict("locks", {**strong, "u": "ShareLock"}, strong) == "more"
    assert verdict("locks", strong, {**strong, "u": "AccessShareLock"}) == "less"
    assert verdict("rewrites", ["a", "b"], ["a"]) == "more"
    assert verdict("rewrites", ["a"], ["b"]) == "less"
    assert verdict("blocks", {"t": {"reads": False, "writes": True}}, SEEN["blocks"]) == "less"
    assert verdict("transactional", True, False) == "other"


def test_a_statement_that_failed_is_compared_by_its_error_alone() -> None:
    """It left nothing to measure."""
    failed = {**SEEN, "error": {"sqlstate": "23514", "message": "…"}, "locks": {}, "rewrites": []}
    found = compare(SEEN, failed)
    assert not found["same"]
    assert set(found["fields"]) == {"error", "transactional"}


def test_the_table_fits_into_a_hundred_columns() -> None:
    """Long names go on in the next line."""
    shown = text(compare(SEEN, {**SEEN, "rewrites": []}))
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "predicts more" in shown
    assert "users_a_very_long_ind" in shown
