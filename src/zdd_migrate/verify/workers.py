"""Worker processes: forked once, given one piece of work after another, always stopped."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from psycopg.conninfo import conninfo_to_dict

from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.recording import Recorded, Recorder

_LOOP = Path(__file__).parent / "children" / "loop.py"
#: an order that takes longer has hung: a statement of ours ends after 20 s, a round has some dozens
_ORDER_SECONDS = 180.0
#: rounds that are still awaited after this long are held up by something that is seen elsewhere
_SETTLE_SECONDS = 10.0
_LOOK_S = 0.003


class WorkerGoneError(Exception):
    """The process ended, or does not answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which program a worker runs: a Python, the module or file it works at, where it stands."""

    work: str
    python: str = sys.executable
    directory: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()

    def variables(self) -> dict[str, str]:
        """Its environment: ours, with this package to be found in it."""
        found = {**os.environ, **dict(self.environment)}
        if not self.work.endswith(".py"):
            ours = str(Path(__file__).parents[2])
            found["PYTHONPATH"] = os.pathsep.join(filter(None, (found.get("PYTHONPATH"), ours)))
        return found

    def argv(self, descriptor: int) -> list[str]:
        """The command that forks workers for whoever asks through a descriptor."""
        return [self.python, str(_LOOP), str(descriptor), self.work]


class Nursery:
    """The process of a kind that workers are forked from: what they import is imported once."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._asking, asked = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                kind.argv(asked.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                cwd=kind.directory,
                env=kind.variables(),
                pass_fds=(asked.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            self._asking.close()
            self._stderr.close()
            raise InputError(f"{kind.python} does not start: {error.strerror}") from None
        finally:
            asked.close()

    @property
    def there(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """What it wrote last: why it has ended."""
        return _last_line(self._stderr)

    def fork(self, given: Sequence[int]) -> None:
        """Have a worker of these standard descriptors; where none comes, they are closed."""
        with suppress(OSError):
            socket.send_fds(self._asking, [b"1"], given)

    def end(self) -> None:
        """End it; its workers have ended."""
        self._asking.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


class Worker:
    """One process. `recorder` gets what it reports while it works for a session."""

    def __init__(self, nursery: Nursery) -> None:
        self.kind = nursery.kind
        self._nursery = nursery
        self.recorder: Recorder | None = None
        #: what its connection to the database is called there
        self.client = ""
        self.notes: dict[str, None] = {}
        self.broken = False
        self.busy = False
        #: how many rounds of work it has been through, ever
        self.rounds = 0
        self._numbered: dict[int, str] = {}
        self._replies: queue.SimpleQueue[tuple[str, str | None] | None] = queue.SimpleQueue()
        #: answers that came while another was waited for: work that ended by itself
        self._early: dict[str, str | None] = {}
        #: of the process, once it has told it; 0 when it ended before
        self._pid = 0
        self._known = threading.Event()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        nursery.fork((orders, reports, self._stderr.fileno()))
        os.close(orders)
        os.close(reports)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process, 0 where it never came to be."""
        self._known.wait(_ORDER_SECONDS)
        return self._pid

    @property
    def ended(self) -> bool:
        """Whether there is nobody who could answer."""
        return not self._reader.is_alive()

    @property
    def statements(self) -> list[str]:
        """Every statement that it has run, once."""
        return list(self._numbered.values())

    def ask(self, do: str, **fields: Any) -> None:
        """Give an order and wait until it is done; InputError says why it could not be."""
        self.tell(do, **fields)
        self.wait(do)

    def tell(self, do: str, **fields: Any) -> None:
        """Give an order."""
        order = (json.dumps({"do": do, **fields}) + "\n").encode()
        try:
            while order:
                order = order[os.write(self._orders, order) :]
        except OSError:
            self._gone()

    def wait(self, do: str) -> None:
        """Until the answer to an order came."""
        while do not in self._early:
            try:
                reply = self._replies.get(timeout=_ORDER_SECONDS)
            except queue.Empty:
                self._gone(f"a worker process did not answer in {_ORDER_SECONDS:.0f} s")
            if reply is None:
                self._gone()
            self._early[reply[0]] = reply[1]
        problem = self._early.pop(do)
        if problem is not None:
            raise InputError(problem)

    def _gone(self, why: str = "a worker process ended by itself") -> NoReturn:
        self.broken = True
        said = _last_line(self._stderr) or self._nursery.said
        raise WorkerGoneError(f"{why}{': ' + said if said else ''}")

    def _read(self) -> None:
        with os.fdopen(self._reports, "rb") as reports:
            for line in reports:
                if line.endswith(b"\n"):  # else it was cut off with its process
                    self._take_in(json.loads(line))
        self._known.set()
        self._replies.put(None)

    def _take_in(self, event: list[Any]) -> None:
        kind, *rest = event
        recorder = self.recorder
        if kind == "reply":
            self._replies.put((rest[0], rest[1]))
        elif kind == "statements":
            self._numbered.update(rest[0])
        elif kind == "round":
            self.rounds += 1
            if recorder is not None:
                recorder.round_done()
        elif kind == "note":
            self.notes[rest[0]] = None
        elif kind == "pid":
            self._pid = rest[0]
            self._known.set()
        elif recorder is None:
            return
        elif kind == "ran":
            runs = [(self._numbered[n], took / 1e6, ended / 1e6) for n, took, ended in rest[0]]
            recorder.ran_all(runs, self._pid, self.client)
        elif kind == "failed":
            recorder.failed(rest[0], rest[1], self._numbered[rest[2]])
        elif kind == "replanned":
            recorder.replanned()
        elif kind == "unclear":
            recorder.unclear(rest[0])

    def end(self) -> None:
        """Close its standard input, which ends it; kill its group when it does not."""
        os.close(self._orders)
        self._reader.join(timeout=2)
        if self._reader.is_alive() and self._pid:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            self._reader.join(timeout=2)
        self._stderr.close()


def _last_line(written: IO[bytes]) -> str:
    written.seek(0)
    lines = written.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


@dataclass(slots=True)
class Crew:
    """All worker processes of one verification. Those that are free are used again."""

    _workers: list[Worker] = field(default_factory=list)
    _nurseries: dict[Kind, Nursery] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _directory: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="zdd-crew-")
    )

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        for nursery in self._nurseries.values():
            nursery.end()
        self._directory.cleanup()

    def ledger(self, name: str) -> Ledger:
        """An empty record for a code version, its files beside those of the others."""
        return Ledger(Path(self._directory.name) / f"{name}-{secrets.token_hex(4)}")

    def hire(self, kind: Kind) -> Worker:
        """A free process of that kind, else a new one."""
        with self._lock:
            for worker in self._workers:
                if worker.kind == kind and not worker.busy and not worker.broken:
                    worker.busy = True
                    return worker
            nursery = self._nurseries.get(kind)
            if nursery is None or not nursery.there:
                if nursery is not None:
                    nursery.end()
                nursery = self._nurseries[kind] = Nursery(kind)
            worker = Worker(nursery)
            worker.busy = True
            self._workers.append(worker)
            return worker

    def warm(self, kind: Kind, count: int) -> None:
        """Start processes now, so that they are there when they are wanted."""
        for worker in [self.hire(kind) for _ in range(count)]:
            worker.busy = False


class WorkSession:
    """A session of several worker processes at one database."""

    whole_runs = False

    def __init__(
        self,
        crew: Crew,
        kind: Kind,
        jobs: Sequence[Mapping[str, Any]],
        recorder: Recorder,
        records: Sequence[Path | None] = (),
        what: str = "",
    ) -> None:
        self.recorder = recorder
        self.what = what
        self.running = False
        #: whether it was started just now: the first round is a whole one
        self.fresh = False
        self.workers = [crew.hire(kind) for _ in jobs]
        for worker in self.workers:
            worker.recorder = recorder
        try:
            for i, (worker, job) in enumerate(zip(self.workers, jobs, strict=True)):
                record = records[i] if records else None
                worker.client = str(conninfo_to_dict(job["dsn"]).get("application_name", ""))
                worker.tell("open", job=job, record=str(record) if record else None)
            for worker in self.workers:
                worker.wait("open")
        except (InputError, WorkerGoneError) as error:
            self.close()
            raise (InputError if what else EnvironmentFailedError)(f"{what}{error}") from None

    def work_once(self) -> None:
        """One round of each, all at the same time."""
        try:
            for worker in self.workers:
                worker.tell("round")
            for worker in self.workers:
                worker.wait("round")
        except (WorkerGoneError, InputError) as error:
            self.recorder.unclear(str(error))

    def start(self) -> None:
        """Work in the background; returns when each is about to begin."""
        try:
            for worker in self.workers:
                worker.tell("start")
            for worker in self.workers:
                worker.wait("started")
            self.running = self.fresh = True
        except WorkerGoneError as error:
            self.recorder.unclear(str(error))

    def settle(self, rounds: int) -> None:
        """Until each has done so many whole rounds, the one that is under way not counted."""
        if not self.running:
            return
        under_way = 0 if self.fresh else 1
        self.fresh = False
        aims = [(worker, worker.rounds + under_way + rounds) for worker in self.workers]
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until and any(
            worker.rounds < aim and not worker.ended for worker, aim in aims
        ):
            time.sleep(_LOOK_S)

    def last_round(self) -> None:
        """Rounds are short: they go on."""

    def stop(self) -> None:
        """Let each finish its round."""
        if not self.running:
            return
        self.running = False
        for worker in self.workers:
            try:
                worker.tell("stop")
            except WorkerGoneError as error:
                self.recorder.unclear(str(error))
        for worker in self.workers:
            try:
                worker.wait("start")
            except (WorkerGoneError, InputError) as error:
                self.recorder.unclear(str(error))

    def take(self) -> Recorded:
        """What was recorded since the last take, all that was reported until now included."""
        for worker in self.workers:
            if worker.broken:
                continue
            try:
                worker.ask("mark")
            except WorkerGoneError as error:
                self.recorder.unclear(str(error))
        return self.recorder.take()

    @property
    def notes(self) -> list[str]:
        """What the processes wanted to be known."""
        return list(dict.fromkeys(note for worker in self.workers for note in worker.notes))

    def close(self) -> None:
        """Give connections and processes back."""
        self.stop()
        for worker in self.workers:
            if not worker.broken:
                with suppress(WorkerGoneError, InputError):
                    worker.ask("close")
            worker.recorder = None
            worker.busy = False
        self.workers = []
