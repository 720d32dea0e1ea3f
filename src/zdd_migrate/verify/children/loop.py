"""Worker processes: each takes orders on standard input, reports on standard output, line by line.

`loop.py FD WORK` loads what is to be worked at once, and then forks a worker whenever it is sent
three descriptors through the socket FD: a worker's standard input, output and error.

Standard library only, so that it runs in any environment that has a Python. What it works at is
loaded by name or by file: a module with `make(job, report)`, whose result has `round()` and
`close()`; a round is `steady` where nothing changes while it lasts. A worker ends when its standard
input does, and the one that forks when its socket does, so that none outlives who started it.
"""

from __future__ import annotations

import array
import gc
import importlib
import importlib.util
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

#: between two rounds, so that the load leaves the processor to the real programs beside it
BREATH_S = 0.02
#: statements are told of together, at the end of each round and at least this often
_TOLD_S = 0.05


class Report:
    """What happened, told to the parent. The same methods as the parent's recorder.

    A statement's text is sent once and numbered; that it ran is told together with others, failures
    at once. `acknowledged` is different: it goes to a file of this process alone, one line for each
    thing the server said was committed, before anything else is done, so that it outlives this
    process; what was under way when the connection went is written down as doubtful.
    """

    def __init__(self, out: int, record: str | None = None) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        #: texts and runs that the parent does not know of yet
        self._texts: list[tuple[int, str]] = []
        self._runs: list[tuple[int, float, float]] = []
        self._due = time.monotonic() + _TOLD_S
        self._record = (
            os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if record else -1
        )

    def send(self, *event: Any) -> None:
        """One line, after all that ran until now."""
        with self._lock:
            data = b"".join(
                json.dumps(one, separators=(",", ":")).encode() + b"\n"
                for one in (*self._untold(), event)
                if one
            )
            while data:
                data = data[os.write(self._out, data) :]
            self._due = time.monotonic() + _TOLD_S

    def _untold(self) -> Iterator[tuple[str, Any]]:
        # another thread may append meanwhile: what it does then stays for the next time
        runs = self._runs[:]
        del self._runs[: len(runs)]
        texts = self._texts[:]
        del self._texts[: len(texts)]
        if texts:
            yield "statements", texts
        if runs:
            yield "ran", [(n, int(took * 1e6), int(ended * 1e6)) for n, took, ended in runs]

    def _number(self, statement: str) -> int:
        number = self._numbers.get(statement)
        if number is None:
            number = self._numbers[statement] = len(self._numbers)
            self._texts.append((number, statement))
        return number

    def ran(self, seconds: float, statement: str = "") -> None:
        """A statement took this long, and ended now."""
        now = time.monotonic()
        self._runs.append((self._number(statement), seconds, now))
        if now > self._due:
            self.send()

    def failed(self, sqlstate: str, message: str, statement: str) -> None:
        """A statement failed."""
        self.send("failed", sqlstate, message, self._number(statement))

    def replanned(self) -> None:
        """A prepared statement was stale and was prepared anew."""
        self.send("replanned")

    def round_done(self) -> None:
        """A whole round of work is through."""
        self.send("round")

    def unclear(self, why: str) -> None:
        """Nothing can be told, and why."""
        self.send("unclear", why)

    def noted(self, what: str) -> None:
        """Something a reader of the verdict should know."""
        self.send("note", what)

    def acknowledged(self, act: str, table: Any, key: Any, values: Any) -> None:
        """The server said that this is committed (`put`, `drop`), or we cannot know (`doubt`)."""
        if self._record >= 0:
            os.write(self._record, (json.dumps([act, table, key, values]) + "\n").encode())

    def close(self) -> None:
        """Tell the rest, and close the record."""
        self.send()
        if self._record >= 0:
            os.close(self._record)
            self._record = -1


class _Loop:
    def __init__(self, module: ModuleType, out: int) -> None:
        self.module = module
        self.out = out
        self.report = Report(out)
        self.work: Any = None
        self.stopping = threading.Event()
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen(self) -> NoReturn:
        self.report.send("pid", os.getpid())
        threading.Thread(target=self._obey, daemon=True).start()
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "mark":
                self.report.send("reply", "mark", None)
                continue
            if order["do"] == "stop":
                self.stopping.set()
                continue
            self.orders.put(order)
        os._exit(0)  # whoever started us is gone or done: whatever is under way does not matter

    def _obey(self) -> None:
        while True:
            order = self.orders.get()
            problem = None
            try:
                getattr(self, f"_{order['do']}")(order)
            except Exception as error:  # the boundary: the parent gets every failure in one line
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            self.report.send("reply", order["do"], problem)

    def _open(self, order: dict[str, Any]) -> None:
        self.report = Report(self.out, order.get("record"))
        self.work = self.module.make(order["job"], self.report)

    def _round(self, _order: dict[str, Any]) -> None:
        self.work.round(steady=True)

    def _start(self, _order: dict[str, Any]) -> None:
        self.stopping.clear()
        self.report.send("reply", "started", None)
        while not self.stopping.is_set():
            if self.work.round() is False:
                return
            self.stopping.wait(BREATH_S)

    def _close(self, _order: dict[str, Any]) -> None:
        if self.work is not None:
            self.work.close()
        self.work = None
        self.report.close()
        self.report = Report(self.out)


def _load(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("zdd_child_work", name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(descriptor: int, name: str) -> None:
    """Load the module of that name (or file), and fork a worker whenever one is asked for."""
    here = Path(__file__).resolve().parent  # not a place to import from: its names are common
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != here]
    module = _load(name)
    gc.freeze()
    asked = socket.socket(fileno=descriptor)
    while True:
        asking, given = _receive(asked)
        _reap(os.WNOHANG if asking else 0)
        if not asking:
            return
        if os.fork() == 0:
            asked.close()
            _work(module, given)
        for fd in given:
            os.close(fd)


def _receive(asked: socket.socket) -> tuple[bytes, list[int]]:
    """The next message with its descriptors; socket.recv_fds is not in every Python yet."""
    message, rest, _, _ = asked.recvmsg(1, socket.CMSG_LEN(3 * array.array("i").itemsize))
    given = array.array("i")
    for level, kind, data in rest:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            given.frombytes(data)
    return message, list(given)


def _work(module: ModuleType, given: list[int]) -> NoReturn:
    """Be a worker. Reports go where stdout goes; whatever the code under test prints is none."""
    os.setsid()
    for standard, fd in enumerate(given):
        os.dup2(fd, standard)
        os.close(fd)
    out = os.dup(1)
    os.dup2(2, 1)
    _Loop(module, out).listen()


def _reap(flags: int) -> None:
    """Let workers go that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, flags)[0]:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
