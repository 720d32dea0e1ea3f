"""Advisory locks that a session holds for as long as it lives: one run at a time."""

from __future__ import annotations

import time

import psycopg

_TRIES, _PAUSE_S = 20, 0.1


def locked(connection: psycopg.Connection, key: int) -> bool:
    """Take a session's advisory lock; False where somebody else goes on holding it.

    Whoever has just ended, or was killed, holds it until the server has noticed: so it is asked for
    again for two seconds.
    """
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE_S)
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
        if row and row[0]:
            return True
    return False
