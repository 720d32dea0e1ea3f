"""Running a plan's phases on a real database: locks had gently, rows moved in batches, a journal."""

from zdd_migrate.apply.run import Result, Status, run_phase, status, undo
from zdd_migrate.apply.steps import Policy, run_step, undo_step

__all__ = ["Policy", "Result", "Status", "run_phase", "run_step", "status", "undo", "undo_step"]
