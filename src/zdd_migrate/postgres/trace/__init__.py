"""What statements really do: measured on a scratch copy of a database, and on no other.

`trace` runs statement after statement and watches from other sessions: locks held and waited for,
files that changed, rows that were read, and who is kept waiting by real statements of their own.
"""

from zdd_migrate.postgres.trace.run import Traced, session_zone, trace

__all__ = ["Traced", "session_zone", "trace"]
