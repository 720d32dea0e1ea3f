"""Migrations of a Django project, as `manage.py sqlmigrate` renders them.

Django is asked in a process of its own, with the project's interpreter, and with a scratch database
in place of the project's. Each statement stands at its operation in the migration's file. What only
Python does (RunPython) is not understood.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from zdd_migrate.config import load
from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.model.statement import Migration, Span, Statement
from zdd_migrate.operations import NotUnderstood
from zdd_migrate.reading.statements import read_sql, remarks

_ASK = Path(__file__).with_name("ask.py")
_MARK = "zdd-migrate:"
_PATIENCE_S = 600


def is_migration(path: Path) -> bool:
    """Whether a file looks like a migration of Django."""
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return "migrations.Migration" in text and "django" in text


def project_of(paths: Sequence[str], source: str | None = None) -> Path | None:
    """The directory of manage.py above all paths; None where they are something else."""
    if not paths or (source is None and not all(_belongs(Path(p)) for p in paths)):
        return None
    start = Path(paths[0]).resolve()
    for directory in (start, *start.parents):
        if (directory / "manage.py").is_file():
            return directory
    if source is None:
        return None
    raise InputError(f"{paths[0]}: no manage.py here or above: give a directory of the project")


def _belongs(path: Path) -> bool:
    if path.is_dir():
        inside = path.name == "migrations" and any(is_migration(p) for p in path.glob("*.py"))
        return (path / "manage.py").is_file() or inside
    return is_migration(path)


def read(project: Path, paths: Sequence[str]) -> tuple[list[Migration], list[Migration]]:
    """(the migrations that the paths name, everything that runs before them). InputError."""
    wanted = [str(file) for path in paths for file in _files(Path(path))]
    answer = _ask(project, wanted)
    if "error" in answer:
        raise InputError(f"{project / 'manage.py'}: {answer['error']}")
    chosen: list[Migration] = []
    before: list[Migration] = []
    for one in answer["migrations"]:
        (chosen if one["wanted"] else before).append(_migration(one))
    if not chosen:
        raise InputError(f"{paths[0]}: no migrations of this project")
    return chosen, before


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.rglob("*.py") if is_migration(p) and _own(p))
    elif path.exists():
        yield path
    else:
        raise InputError(f"{path}: no such file or directory")


def _own(path: Path) -> bool:
    return "site-packages" not in path.parts


def _ask(project: Path, wanted: list[str]) -> dict[str, Any]:
    with _scratch(load(project).scratch) as database:
        asked = {"wanted": wanted, "database": database}
        command = [_python(project), "manage.py", "shell", "-c", _ASK.read_text(encoding="utf-8")]
        try:
            done = subprocess.run(
                command,
                cwd=project,
                env={**os.environ, "ZDD_MIGRATE_DJANGO": json.dumps(asked)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentFailedError(
                f"{project / 'manage.py'}: no answer in {_PATIENCE_S} seconds"
            ) from None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            answer: dict[str, Any] = json.loads(line[len(_MARK) :])
            return answer
    said = (done.stderr.strip().splitlines() or ["it ended without an answer"])[-1]
    raise InputError(f"{project / 'manage.py'}: Django does not run: {said[:300]}")


def _python(project: Path) -> str:
    """The project's own interpreter where it has one, else this one."""
    own = project / ".venv" / "bin" / "python"
    return str(own) if own.is_file() else sys.executable


@contextmanager
def _scratch(spec: str) -> Iterator[dict[str, str] | None]:
    """Parameters of a scratch database as Django has them; None leaves the project's own."""
    if spec == "never":
        yield None
        return
    from psycopg.conninfo import conninfo_to_dict

    from zdd_migrate.integrations.scratch import scratch_database

    with scratch_database(spec) as (running, name):
        parts = conninfo_to_dict(running.dsn(name))
        yield {
            key: str(parts.get(parameter) or "")
            for key, parameter in (
                ("NAME", "dbname"),
                ("HOST", "host"),
                ("PORT", "port"),
                ("USER", "user"),
                ("PASSWORD", "password"),
            )
        }


_HEADER = re.compile(r"^--\n-- (.*)\n--$", re.MULTILINE)
_PYTHON = re.compile(r"^-- .*CANNOT BE WRITTEN AS SQL.*$", re.MULTILINE)


def _migration(one: dict[str, Any]) -> Migration:
    path = Path(one["path"])
    shown = _shown(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    places = _operations(text, shown)
    statements = [] if one["error"] else list(_statements(one, shown, places))
    if one["error"]:
        reason = f"sqlmigrate does not render this migration: {one['error']}"
        statements = [_not_understood(reason, _top(shown), one["atomic"])]
    python = "\n".join(_as_sql_comment(line) for line in text.split("\n"))
    suppressions, answers, wrong = remarks(python)
    return Migration(
        name=f"{one['app']}.{one['name']}",
        path=shown,
        statements=tuple(statements),
        suppressions=tuple(suppressions),
        answers=tuple(answers),
        problems=tuple(wrong),
    )


def _statements(one: dict[str, Any], shown: str, places: list[Span]) -> Iterator[Statement]:
    """The rendered statements, each at the operation whose heading stands above it."""
    sql: str = one["sql"]
    heads = [match.start() for match in _HEADER.finditer(sql)]
    rendered = read_sql(sql, shown, in_transaction=False).statements
    found = [(s.span.start, s) for s in rendered if s.operations[0].kind != "transaction"]
    for match in _PYTHON.finditer(sql):
        what = "an operation in Python, which is not written as SQL: what it does is not known"
        found.append((match.start(), _not_understood(what, places[0], one["atomic"])))
    for start, statement in sorted(found, key=lambda pair: pair[0]):
        above = sum(1 for head in heads if head <= start)
        span = places[min(max(above, 1), len(places)) - 1]
        yield replace(
            statement,
            span=span,
            in_transaction=one["atomic"],
            transaction=0 if one["atomic"] else None,
        )


def _not_understood(reason: str, span: Span, atomic: bool) -> Statement:
    return Statement(
        sql="",
        span=span,
        operations=(NotUnderstood(reason=reason),),
        in_transaction=atomic,
        understood=False,
    )


def _operations(text: str, shown: str) -> list[Span]:
    """The span of each element of `operations`; the whole file's first line where there is none."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InputError(f"{shown}:{error.lineno}: this is not Python: {error.msg}") from None
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.List)):
            continue
        if any(isinstance(t, ast.Name) and t.id == "operations" for t in node.targets):
            starts = _line_starts(text)
            return [_span(e, shown, starts) for e in node.value.elts] or [_top(shown)]
    return [_top(shown)]


def _top(shown: str) -> Span:
    return Span(shown, 1, 1, 1, 1)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _span(node: ast.expr, shown: str, starts: list[int]) -> Span:
    start = starts[node.lineno - 1] + node.col_offset
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 1
    return Span(shown, node.lineno, node.col_offset + 1, end_line, end_column, start, start + 1)


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
