"""Running a plan's phases on a real database: locks had gently, rows moved in batches, a journal."""
