"""The CI gate: what a branch changes is checked where it stands in its history, planned, tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.integrations.timelines import Timeline
from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.model.gate import Examined, Gate, State
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration
from zdd_migrate.model.verdict import Judgement, Verdict
from zdd_migrate.operations.walk import replay
from zdd_migrate.plan.directory import read as read_plan
from zdd_migrate.plan.planner import make_plan
from zdd_migrate.reading.statements import decode, read_sql

USUAL = re.compile(r"(^|/)(migrations?|migrate|versions)/(.*/)?[^/]+\.(sql|py)$")
"""Where migrations usually are, when the configuration's `migrations` does not say."""

_ASIDE = re.compile(
    r"(^|/)((tests?|testdata|specs?|fixtures|examples?|seeds?|docs?)/"
    r"|(schema|structure|dump|snapshot|seeds?|fixtures?)\.sql$)"
)
"""Where SQL is that no database of anybody's meets, and what a dump of the end is called."""
_HARMLESS = ("data_statement", "transaction", "session", "set_parameter", "explain", "copy")

Verify = Callable[[Plan, str], Verdict]
"""Tries a plan on a starting schema given as SQL."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`bar`: findings at least this bad stop a merge (None: none does). `verify` None: not tried."""

    config: Config
    pg: int
    bar: Severity | None
    verify: Verify | None


def migrations_among(paths: Sequence[str], config: Config, checkout: Path) -> list[str]:
    """Those of the changed files that are migrations, by the configuration or as is usual.

    Where nothing is configured, SQL that stands elsewhere and changes a schema is one too: what
    nobody looks at must not pass.
    """
    patterns = config.raw.get("migrations", [])
    if isinstance(patterns, str):
        patterns = [patterns]
    if patterns:
        return [p for p in paths if any(fnmatch(p, str(pattern)) for pattern in patterns)]
    return [p for p in paths if USUAL.search(p) or _changes_schema(p, checkout)]


def _changes_schema(path: str, checkout: Path) -> bool:
    if not path.endswith(".sql") or _ASIDE.search(path):
        return False
    try:
        text = decode((checkout / path).read_bytes(), path)
    except (InputError, OSError):
        return False  # no SQL that anything could run
    statements = read_sql(text, path).statements
    return any(o.kind not in _HARMLESS for s in statements for o in s.operations)


def plans_among(paths: Sequence[str], checkout: Path) -> list[Path]:
    """The plan directories of which a file was changed."""
    found = {(checkout / p).parent for p in paths}
    return sorted(d for d in found if (d / "plan.yaml").is_file())


def examine(
    base: str, timelines: Sequence[Timeline], plans: Sequence[Path], settings: Settings
) -> Gate:
    """Judge every changed migration, and try every changed plan."""
    tried = [_try_plan(path, settings) for path in plans]
    report = Report()
    examined = [e for t in timelines for e in _walk(t, tried, report, settings)]
    return Gate(base, (*examined, *(one for one, _ in tried)), report)


def _try_plan(path: Path, settings: Settings) -> tuple[Examined, Plan]:
    plan = read_plan(path)
    shown = _shown(path)
    if settings.verify is None:
        return Examined(shown, "planned", plan=plan, note="not tried: --no-verify"), plan
    if not plan.before.strip():
        raise InputError(f"{path}: the plan has no before.sql, so that it cannot be tried here")
    return Examined(shown, "planned", plan=plan, verdict=settings.verify(plan, plan.before)), plan


def _walk(
    timeline: Timeline,
    tried: Sequence[tuple[Examined, Plan]],
    report: Report,
    settings: Settings,
) -> Iterator[Examined]:
    schema, text = timeline.start, [timeline.start_sql]
    checker = Checker(settings.config, pg=settings.pg)
    for moment in timeline.moments:
        migration = moment.migration
        if not moment.changed:
            replay(migration.statements, schema)
        else:
            before = schema.copy()
            own = checker.run([migration], schema)
            report.add(own)
            yield _judge(migration, own.findings, before, "\n".join(text), tried, settings)
        text += [f"{s.sql.rstrip().rstrip(';')};" for s in migration.statements]


def _judge(
    migration: Migration,
    findings: Sequence[Finding],
    before: Schema,
    before_sql: str,
    tried: Sequence[tuple[Examined, Plan]],
    settings: Settings,
) -> Examined:
    found = tuple(findings)
    state = _state(found, settings.bar)
    if state == "safe":
        return Examined(migration.path, state, found)
    for one, plan in tried:
        if _same(plan.sources, migration):
            works = one.verdict is None or one.verdict.judgement is Judgement.PASS
            covered: State = "planned" if works else "unsafe"
            return Examined(migration.path, covered, found, note=f"planned in {one.path}")
    if state == "not understood":
        return Examined(migration.path, state, found, note="no plan: it is not understood")
    return _planned(migration, found, before, before_sql, settings)


def _state(findings: Sequence[Finding], bar: Severity | None) -> State:
    if bar is None:
        return "safe"
    worse = [f for f in findings if not f.suppressed and f.severity.rank >= bar.rank]
    if not worse:
        return "safe"
    return "not understood" if all(f.rule == "ZDD901" for f in worse) else "unsafe"


def _same(sources: Sequence[str], migration: Migration) -> bool:
    """Whether a plan was made from this migration."""
    own = [_flat(s.sql) for s in migration.statements]
    return bool(own) and [_flat(s) for s in sources] == own


def _flat(sql: str) -> str:
    return " ".join(sql.split()).rstrip(";").rstrip()


def _planned(
    migration: Migration,
    findings: tuple[Finding, ...],
    before: Schema,
    before_sql: str,
    settings: Settings,
) -> Examined:
    """An unsafe migration with the plan that could stand in its place, tried."""
    try:
        plan = make_plan(
            [migration], before, name=migration.name, before=before_sql, pg=settings.pg
        )
    except InputError as error:
        return Examined(migration.path, "unsafe", findings, note=f"no plan: {error}")
    if plan.questions or plan.refusals:
        asked = [q.ask for q in plan.questions] + [r.reason for r in plan.refusals]
        return Examined(
            migration.path, "unsafe", findings, plan, note=f"no plan yet: {'; '.join(asked)}"
        )
    note = f"zdd-migrate plan {migration.path} -o plans/{migration.name} writes the safe way"
    if settings.verify is None:
        return Examined(migration.path, "unsafe", findings, plan, note=note)
    if not before_sql.strip():
        note += "; not tried: the schema before is not known as SQL (give --schema FILE)"
        return Examined(migration.path, "unsafe", findings, plan, note=note)
    return Examined(
        migration.path, "unsafe", findings, plan, settings.verify(plan, before_sql), note
    )


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
