"""What a code version did while it was watched: statements, failures, waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zdd_migrate.model.verdict import StatementError
from zdd_migrate.verify.own_faults import OwnFault, own_fault

#: so many statements of each worker are kept, to see which ran at the same time
_LAST = 300


@dataclass(frozen=True, slots=True)
class Recorded:
    """A window of observation. `longest_wait_ms` is the slowest statement's whole time.

    `replanned` counts prepared statements that had to be prepared anew (0A000), as drivers do by
    themselves; `rounds` whole rounds of work done; `unclear` says why nothing could be told.
    """

    statements: int = 0
    errors: tuple[StatementError, ...] = ()
    longest_wait_ms: float = 0.0
    replanned: int = 0
    rounds: int = 0
    unclear: str = ""
    #: how many worker processes were seen to have a statement under way at the same moment
    at_once: int = 0
    #: the statement that took longest
    slowest: str = ""


@dataclass(slots=True)
class Recorder:
    """Collects from several threads; `take` gives what came since the last take."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _statements: int = 0
    _errors: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _longest: float = 0.0
    _slowest: str = ""
    _replanned: int = 0
    _rounds: int = 0
    _unclear: str = ""
    _at_once: int = 0
    #: when each worker's last statements began and ended
    _last: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    #: failures that the code had where nothing was changed
    own: frozenset[OwnFault] = frozenset()
    #: failures of any statement, by SQLSTATE and message, that are of our own making
    ignored: frozenset[tuple[str, str]] = frozenset()
    #: told of each statement: the connection it ran on, its text, when it ended (time.monotonic)
    #: and how many seconds it took
    listener: Callable[[str, str, float, float], None] | None = None

    def ran(self, seconds: float, statement: str = "") -> None:
        """A statement took this long, and ended now."""
        self.ran_all([(statement, seconds, time.monotonic())])

    def ran_all(
        self, runs: Sequence[tuple[str, float, float]], worker: int = 0, client: str = ""
    ) -> None:
        """Statements of one connection: their texts, how many seconds each took, and when it ended
        by the clock that all processes share (monotonic)."""
        if self.listener is not None:
            for statement, seconds, ended in runs:
                self.listener(client, statement, ended, seconds)
        slowest, longest, until = max(runs, key=lambda run: run[1])
        with self._lock:
            self._statements += len(runs)
            if longest * 1000 > self._longest:
                self._longest, self._slowest = longest * 1000, slowest
            if worker:
                mine = self._last.setdefault(worker, deque(maxlen=_LAST))
                mine.extend((ended - seconds, ended) for _, seconds, ended in runs)
                beside = sum(
                    any(b < until and until - longest < e for b, e in each)
                    for each in self._last.values()
                )
                self._at_once = max(self._at_once, beside)

    def failed(self, sqlstate: str, message: str, statement: str) -> None:
        """A statement failed."""
        said = " ".join(message.split())[:200]
        key = (sqlstate, said, " ".join(statement.split())[:300])
        if (sqlstate, said) in self.ignored:
            return
        if self.own and own_fault(StatementError(*key)) in self.own:
            return
        with self._lock:
            self._errors[key] = self._errors.get(key, 0) + 1

    def replanned(self) -> None:
        """A prepared statement was stale and was prepared anew."""
        with self._lock:
            self._replanned += 1

    def round_done(self) -> None:
        """A whole round of work is through."""
        with self._lock:
            self._rounds += 1

    def unclear(self, why: str) -> None:
        """Nothing can be told, and why."""
        with self._lock:
            self._unclear = self._unclear or why

    @property
    def rounds(self) -> int:
        """Rounds since the last take."""
        return self._rounds

    def take(self) -> Recorded:
        """Everything since the last take."""
        with self._lock:
            errors = tuple(
                StatementError(state, message, statement, count)
                for (state, message, statement), count in self._errors.items()
            )
            out = Recorded(
                self._statements,
                errors,
                round(self._longest, 1),
                self._replanned,
                self._rounds,
                self._unclear,
                self._at_once,
                " ".join(self._slowest.split())[:300],
            )
            self._statements = self._replanned = self._rounds = self._at_once = 0
            self._errors, self._longest, self._slowest, self._unclear = {}, 0.0, "", ""
            return out
