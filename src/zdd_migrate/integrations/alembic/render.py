"""A revision as a migration: run offline, in process, each statement with its line in the file.

Nothing is connected to and env.py is not run. What needs a database while it runs (a query whose
answer decides) cannot be rendered: the rest of that revision is not understood, and is said to be.
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


def render(project: Project, revisions: Sequence[Revision]) -> list[Migration]:
    """Each revision's upgrade as a migration, in order."""
    with _importable(project):
        return [_render(revision) for revision in revisions]


@contextlib.contextmanager
def _importable(project: Project) -> Iterator[None]:
    """The project's own modules can be imported, as `prepend_sys_path` has it."""
    before = list(sys.path)
    sys.path[:0] = [str(project.root), str(project.root / "src")]
    try:
        yield
    finally:
        sys.path[:] = before


def _render(revision: Revision) -> Migration:
    path = _shown(revision.path)
    capture = _Capture(revision, path)
    problem = ""
    try:
        capture.run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | MemoryError):
            raise
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        capture.lost(error, problem)
    python = "\n".join(_as_sql_comment(line) for line in revision.text.split("\n"))
    suppressions, answers, wrong = remarks(python)
    return Migration(
        name=revision.path.stem,
        path=path,
        statements=tuple(capture.statements),
        suppressions=tuple(suppressions),
        answers=tuple(answers),
        problems=tuple(wrong),
        planned=capture.planned,
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


class _Capture:
    """What one revision says to the database, with the line that said it."""

    def __init__(self, revision: Revision, path: str) -> None:
        self.revision = revision
        self.path = path
        self.file = str(revision.path.resolve())
        self.statements: list[Statement] = []
        self.planned = False
        self.in_transaction = True
        self.transaction = 0
        self.line = 1
        self._spans = _statement_spans(revision.text)

    def run(self) -> None:
        """Run `upgrade()` against a context that only writes down."""
        from alembic.config import Config
        from alembic.operations import Operations
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(str(self.revision.path.parent))
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
            impl.static_output = self._statement
            impl.emit_begin = self._begin
            impl.emit_commit = self._commit
            with Operations.context(context):
                module = _import(self.revision)
                module.upgrade()
            self.planned = bool(context.opts.get("zdd_planned"))

    def _begin(self) -> None:
        self.in_transaction = True
        self.transaction += 1

    def _commit(self) -> None:
        self.in_transaction = False

    def _statement(self, text: str) -> None:
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
        self.statements.append(
            Statement(
                sql=f"-- {self.revision.text.split(chr(10))[self.line - 1].strip()}",
                span=self._span(self.line),
                operations=(NotUnderstood(reason=reason),),
                understood=False,
            )
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


def _import(revision: Revision) -> ModuleType:
    """The revision's module, fresh, under a name of its own."""
    path = revision.path.resolve()
    spec = importlib.util.spec_from_file_location(f"zdd_revision_{revision.id}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
