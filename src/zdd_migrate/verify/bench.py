"""Where trials run: code versions opened on a database, watched, and judged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Backfill, Phase, Plan
from zdd_migrate.model.verdict import LawResult, Rollback, Trial, When
from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.clock import Clock
from zdd_migrate.verify.code import Code, Effort, label
from zdd_migrate.verify.data import fill
from zdd_migrate.verify.hostile import LOST, hostile
from zdd_migrate.verify.judge import Limits, trial
from zdd_migrate.verify.runner import Runner
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.stage import Stage
from zdd_migrate.verify.versions import CodeVersion, Session, SyntheticSession
from zdd_migrate.verify.watching import Watcher
from zdd_migrate.verify.workers import Crew, WorkSession

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Living:
    """A code version that is there in a phase, at all its depths; `works`: it is meant to."""

    name: str
    code: Code
    works: bool = True


def start(sessions: Mapping[str, Session], rounds: int) -> None:
    """Have all work in the background: programs first, which take long until they are connected."""
    for session in sorted(sessions.values(), key=lambda one: not one.whole_runs):
        session.start()
        if session.whole_runs:
            session.settle(rounds)
    settle(sessions, rounds)


def settle(sessions: Mapping[str, Session], rounds: int, *, last: bool = False) -> None:
    """Let every client do so many whole rounds from now on; after the `last`, no change comes."""
    for session in sessions.values():
        if last:
            session.last_round()
    for session in sessions.values():
        session.settle(rounds)


@dataclass(slots=True)
class Bench:
    """One verification under way, and what it has seen so far."""

    server: Server
    crew: Crew
    stage: Stage
    plan: Plan
    code: Code
    effort: Effort
    limits: Limits
    say: Say
    trials: list[Trial] = field(default_factory=list)
    laws: list[LawResult] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: what new code can count on before contract: it must do with that when contract is undone
    floor: list[Shape] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    #: the clocks of the ways back, which are walked beside; `way_back` is the longest one's
    clocks: list[Clock] = field(default_factory=list)
    way_back: Clock | None = None
    #: how often each hostile condition came to pass
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def filled(self) -> frozenset[tuple[QName, str]]:
        """Columns whose NULLs the plan is meant to fill."""
        tables = {quote_qname(name): name for name in self.stage.before.tables}
        return frozenset(
            (tables[step.table], column)
            for _, step in self.plan.all_steps()
            if isinstance(step, Backfill) and step.table in tables
            for column, _ in step.assignments
        )

    def runner(self, database: str, name: str) -> Runner:
        """Whoever runs the plan's steps on a database."""
        return Runner(
            self.server,
            database,
            name,
            self.plan.touches,
            self.effort,
            self.clock,
        )

    @contextmanager
    def watching(self, database: str) -> Iterator[Watcher]:
        """While steps run: a watcher of the locks, and the conditions that were asked for."""
        with (
            Watcher(self.server, database, self.clock) as watcher,
            hostile(self.effort.hostile, self.server, database, self.plan.touches) as done,
        ):
            yield watcher
        self.happened.update(done)

    def steady(
        self, database: str, phase: str, living: Sequence[Living], when: When = "steady"
    ) -> None:
        """What lives in a phase, side by side as in production, while nothing changes."""
        if any(one.name == "new" for one in living):
            self._fill_new_tables(database)
        tried = [(v, one.works) for one in living for v in one.code.of(one.name) if v.has_work]
        with ThreadPoolExecutor(max_workers=max(1, len(tried))) as pool:
            running = [pool.submit(self._steady, database, phase, v, w, when) for v, w in tried]
        self.trials += [one.result() for one in running]

    def _steady(
        self, database: str, phase: str, version: CodeVersion, works: bool, when: When
    ) -> Trial:
        session = self._opened(version, database)
        began = time.monotonic()
        if phase == Phase.SWITCH.value and isinstance(session, SyntheticSession):
            last = version.name == "new" and not any(s.mirror for s in session.shapes)
            self.floor = session.shapes if last else self.floor
        try:
            for _ in range(1 if session.whole_runs else self.effort.rounds):
                session.work_once()
            seen = session.take()
        finally:
            session.close()
        said = f"{label(version)}, steady" if when == "steady" else f"{label(version)}, undone"
        self.clock.span(said, phase, "steady", began)
        return trial(
            seen,
            phase=phase,
            when=when,
            code=label(version),
            expected=works,
            limits=self._limits_of(session),
        )

    def _fill_new_tables(self, database: str) -> None:
        """Rows to work from in tables that the migration creates."""
        fresh = [s.name for s in self.stage.new if s.name not in self.stage.before.tables]
        if fresh:
            with self.server.connect(database) as connection:
                here = [n for n in fresh if n in read_schema(connection).tables]
                self.notes += fill(connection, self.stage.after, here, 50)

    def open(self, database: str, names: Sequence[str], code: Code) -> dict[str, Session]:
        opened: dict[str, Session] = {}
        for name in names:
            for version in code.of(name):
                if version.has_work:
                    opened[label(version)] = self._opened(version, database)
        return opened

    def _opened(self, version: CodeVersion, database: str) -> Session:
        server = self.server
        if version.name == "new":
            self.stage.whole()
        if version.name == "new" and self.plan.search_path:
            server = server.looking_into(self.plan.search_path)
        session = version.open(server, database, self.crew)
        if isinstance(session, WorkSession):
            if "killed-backend" in self.effort.hostile:
                session.recorder.ignored |= LOST
            session.recorder.listener = partial(self.clock.ran, label(version))
        return session

    def collect(
        self, sessions: dict[str, Session], phase: str, when: When, step: str | None
    ) -> None:
        """What made-up versions did while a step ran; commands are judged by whole runs."""
        for name, session in sessions.items():
            if session.whole_runs:
                continue
            self.trials.append(
                trial(
                    session.take(),
                    phase=phase,
                    when=when,
                    code=name,
                    expected=True,
                    limits=self.limits,
                    step=step,
                )
            )

    def close(self, sessions: dict[str, Session], phase: str, when: When) -> None:
        for name, session in sessions.items():
            session.stop()
            left = session.take()
            session.close()
            if not session.whole_runs and not left.errors:
                continue
            limits = self._limits_of(session)
            self.trials.append(
                trial(left, phase=phase, when=when, code=name, expected=True, limits=limits)
            )

    def _limits_of(self, session: Session) -> Limits:
        """One run of a program may outlast any step: its own limit applies, not a statement's."""
        return Limits(longest_wait_ms=float("inf")) if session.whole_runs else self.limits
