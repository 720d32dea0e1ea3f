"""A revision as a migration: run offline, in process, each statement with its line in the file.

Nothing of the user's is connected to and env.py is not run. What needs a database while it runs (a
query whose answer decides) cannot be rendered: it is run on a scratch server, and where that does not
help either, the rest of that revision is not understood, and is said to be.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from zdd_migrate.integrations.alembic.project import Project, Revision
from zdd_migrate.model.statement import Migration, Span, Statement
from zdd_migrate.operations import NotUnderstood
from zdd_migrate.reading.statements import read_sql, remarks

READING = "zdd_reading"
"""Set in the context's options while a revision is only read."""


def render(project: Project, revisions: Sequence[Revision], scratch: str) -> list[Migration]:
    """Each revision's upgrade as a migration, in order.

    Those that ask the database while they run are run on a server for trying (`scratch`: as
    `--postgres` names it, or never).
    """
    with _importable(project):
        rendered = [_Rendered(revision, _transactional(project)) for revision in revisions]
        asking = [one for one in rendered if one.asks]
        if asking and scratch != "never":
            _run(rendered, asking, scratch)
    return [one.migration() for one in rendered]


def _run(rendered: Sequence[_Rendered], asking: Sequence[_Rendered], scratch: str) -> None:
    """Take what a real run said where a revision could not be rendered."""
    from zdd_migrate.integrations.alembic.online import capture

    last = max(rendered.index(one) for one in asking)
    history = [
        (one.revision, None if one.asks else one.capture.statements) for one in rendered[: last + 1]
    ]
    found, stopped = capture(history, scratch)
    for one in asking:
        statements = found.get(one.revision.id)
        if statements is not None:
            one.capture.statements = statements
        elif stopped:
            one.add_reason(stopped)


def _transactional(project: Project) -> bool:
    """Whether env.py leaves Alembic's transaction around the revisions."""
    for versions in project.versions:
        env = versions.parent / "env.py"
        if env.is_file() and _NOT_TRANSACTIONAL.search(env.read_text("utf-8", "replace")):
            return False
    return True


_NOT_TRANSACTIONAL = re.compile(r"^[^#\n]*\btransactional_ddl\s*=\s*False\b", re.MULTILINE)


@contextlib.contextmanager
def _importable(project: Project) -> Iterator[None]:
    """The project's own modules can be imported, as `prepend_sys_path` has it."""
    before = list(sys.path)
    sys.path[:0] = [str(project.root), str(project.root / "src")]
    try:
        yield
    finally:
        sys.path[:] = before


class _Rendered:
    """A revision rendered offline; `asks` is whether it wanted an answer from a database."""

    def __init__(self, revision: Revision, transactional: bool) -> None:
        self.revision = revision
        self.capture = Capture(revision, in_transaction=transactional)
        self.asks = False
        try:
            _render(self.capture)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | MemoryError):
                raise
            self.asks = not isinstance(error, ImportError | SyntaxError | SystemExit)
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            self.capture.lost(error, problem)

    def add_reason(self, reason: str) -> None:
        """Say why running it did not help either."""
        last = self.capture.statements.pop()
        (operation,) = last.operations
        assert isinstance(operation, NotUnderstood)
        more = replace(operation, reason=f"{operation.reason}; nor with one: {reason}")
        self.capture.statements.append(replace(last, operations=(more,)))

    def migration(self) -> Migration:
        """The revision's upgrade as a migration."""
        python = "\n".join(_as_sql_comment(line) for line in self.revision.text.split("\n"))
        suppressions, answers, wrong = remarks(python)
        return Migration(
            name=self.revision.path.stem,
            path=self.capture.path,
            statements=tuple(self.capture.statements),
            suppressions=tuple(suppressions),
            answers=tuple(answers),
            problems=tuple(wrong),
            planned=self.capture.planned,
        )


def _as_sql_comment(line: str) -> str:
    """A Python comment's line as SQL's; other lines are emptied: their text is no remark."""
    match = re.search(r"#\s*(zdd:.*|\s{2,}\S.*)$", line)
    return f"--{match[0][1:]}" if match else ""


def _shown(path: Path) -> str:
    """The path as people type it: relative to here where it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _render(capture: Capture) -> None:
    """Run `upgrade()` against a context that only writes down."""
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(capture.revision.path.parent))
    with (
        open(os.devnull, "w") as nowhere,  # noqa: PTH123  os.devnull is a name, no path
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        EnvironmentContext(Config(), script, as_sql=True) as environment,
    ):
        environment.configure(
            dialect_name="postgresql",
            literal_binds=True,
            output_buffer=io.StringIO(),
        )
        context = environment.get_context()
        context.opts[READING] = True
        impl: Any = context.impl
        impl.static_output = capture.statement
        impl.emit_begin = capture.begin_transaction
        impl.emit_commit = capture.end_transaction
        with Operations.context(context):
            module = import_revision(capture.revision)
            module.upgrade()
        capture.planned = bool(context.opts.get("zdd_planned"))


class Capture:
    """What one revision says to the database, with the line that said it."""

    def __init__(self, revision: Revision, *, in_transaction: bool = True) -> None:
        self.revision = revision
        self.path = _shown(revision.path)
        self.file = str(revision.path.resolve())
        self.statements: list[Statement] = []
        self.planned = False
        self.wrapped = self.in_transaction = in_transaction
        self.transaction = 0
        self.line = 1
        self._spans = _statement_spans(revision.text)

    def begin_transaction(self) -> None:
        """A transaction begins (again), where there is one around the revision."""
        self.in_transaction = self.wrapped
        self.transaction += 1

    def end_transaction(self) -> None:
        """What follows runs outside of it."""
        self.in_transaction = False

    def statement(self, text: str) -> None:
        """One `op` call's SQL, which may hold several statements."""
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way to a caller
        while frame is not None:
            if _same_file(frame.f_code, self.file):
                self.line = frame.f_lineno
                break
            frame = frame.f_back
        span = self._span(self.line)
        read = read_sql(text, self.path, in_transaction=self.in_transaction)
        for statement in read.statements:
            number = self.transaction if self.in_transaction else None
            self.statements.append(replace(statement, span=span, transaction=number))

    def lost(self, error: BaseException, problem: str) -> None:
        """From here on nothing of the revision is known."""
        trace = error.__traceback__
        while trace is not None:
            if _same_file(trace.tb_frame.f_code, self.file):
                self.line = trace.tb_lineno
            trace = trace.tb_next
        reason = (
            "this revision cannot be rendered without a database, and what follows is not known "
            f"({problem})"
        )
        self.statements.append(self.not_understood(reason))

    def not_understood(self, reason: str) -> Statement:
        """A statement that stands for what is not known, at the line where the revision is."""
        return Statement(
            sql=f"-- {self.revision.text.split(chr(10))[self.line - 1].strip()}",
            span=self._span(self.line),
            operations=(NotUnderstood(reason=reason),),
            in_transaction=self.in_transaction,
            understood=False,
        )

    def _span(self, line: int) -> Span:
        """The Python statement that covers a line."""
        found = [s for s in self._spans if s[0] <= line <= s[2]]
        first, column, last, end = max(found) if found else (line, 1, line, 1)
        lines = self.revision.text.split("\n")
        start = sum(len(one) + 1 for one in lines[: first - 1]) + column - 1
        return Span(self.path, first, column, last, end, start, start + 1)


def _same_file(code: CodeType, file: str) -> bool:
    return code.co_filename == file


def _statement_spans(text: str) -> list[tuple[int, int, int, int]]:
    """(line, column, end line, end column) of every simple statement."""
    return [
        (node.lineno, node.col_offset + 1, node.end_lineno or node.lineno, node.end_col_offset or 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    ]


def import_revision(revision: Revision) -> ModuleType:
    """The revision's module, fresh, under a name of its own."""
    path = revision.path.resolve()
    spec = importlib.util.spec_from_file_location(f"zdd_revision_{revision.id}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
