"""A migration against the rulebook: findings, with suppressions applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from string import Formatter
from typing import Any, NamedTuple

from zdd_migrate.check.breaking import Affected, Watch
from zdd_migrate.check.custom import functions
from zdd_migrate.check.suppression import suppress
from zdd_migrate.checks.case import Case, Check, Still, Story
from zdd_migrate.checks.compatibility import dropped
from zdd_migrate.checks.facts import SHAPE, Facts
from zdd_migrate.checks.order import at_the_end
from zdd_migrate.checks.rooms import is_add_column, is_add_enum_value, is_drop_constraint
from zdd_migrate.config import Config
from zdd_migrate.model.cost import grade_work, in_bytes, in_words, measured, work
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.model.names import QName
from zdd_migrate.model.query import Query
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration, Span, Suppression
from zdd_migrate.operations.base import DEFAULT_PG, NotUnderstood, Operation
from zdd_migrate.operations.walk import Explained, replay, unfold, walk
from zdd_migrate.rulebook import Rule, load_rules

#: what a way back does on purpose: rules about breaking the running code and about losing data
_FORWARD_ONLY = ("ZDD2", "ZDD3")
#: kinds that say nothing about a table, so "new table" never quiets them
_NEVER_QUIET = ("not_understood", "nothing")
#: a fact and the values one of which it must have, or be in, or (a bool) be taken for
_Condition = tuple[str, bool | None, frozenset[Any]]
_Ready = tuple[Rule, tuple[_Condition, ...]]


class _Found(NamedTuple):
    """A finding on its way; it stays only if `still` holds at the migration's end."""

    finding: Finding
    still: Still | None = None


class Checker:
    """Rules and configuration, ready to be run over migrations one after another."""

    def __init__(
        self,
        config: Config,
        *,
        pg: int = DEFAULT_PG,
        rules: Sequence[Rule] | None = None,
        checks: Mapping[str, Check] | None = None,
        queries: Sequence[Query] = (),
    ) -> None:
        self.config = config
        self.queries = queries
        self.pg = pg
        self.prices = config.prices
        every = load_rules(config.rule_directories) if rules is None else tuple(rules)
        self.checks = functions(every, config, checks or {})
        self.sizes = _sizes(config)
        config.refuse_strangers({r.id for r in every} | {r.name for r in every})
        self._rule = {rule.id: rule for rule in every}
        self.rules = [rule for rule in every if self._wanted(rule)]
        self._asked: dict[tuple[str, object], tuple[_Ready, ...]] = {}

    def _wanted(self, rule: Rule) -> bool:
        if rule.id in self.config.ignore or rule.name in self.config.ignore:
            return False
        if rule.versions and self.pg not in rule.versions:
            return False
        return rule.default or rule.id in self.config.select or rule.name in self.config.select

    def run(self, migrations: Iterable[Migration], schema: Schema) -> Report:
        """Check migrations in order; `schema` is changed in place as they are applied."""
        report = Report()
        watch = Watch.of(self.queries, schema)
        for migration in migrations:
            report.files += 1
            report.statements += len(migration.statements)
            report.findings.extend(self._check(migration, schema, report, watch))
        report.findings.extend(self._of_query(one) for one in watch.affected())
        return report

    def run_all(
        self, histories: Iterable[tuple[Schema, Iterable[tuple[Migration, bool]]]]
    ) -> Report:
        """Check the migrations marked True, each where it stands in its history."""
        report = Report()
        for schema, moments in histories:
            for migration, wanted in moments:
                if wanted:
                    report.add(self.run([migration], schema))
                else:
                    replay(migration.statements, schema)
        return report

    def _check(
        self, migration: Migration, schema: Schema, report: Report, watch: Watch
    ) -> list[Finding]:
        found: list[_Found] = []
        story = Story()
        if self.sizes is not None:
            measured(schema, self.sizes)
        for explained in walk(migration, schema, pg=self.pg, waiting=False):
            if not explained.understood:
                report.not_understood += 1
            if migration.planned:
                continue
            for one in unfold(explained):
                for operation, effects in one.parts:
                    self._judge(one, operation, effects, story, found)
            _tell(story, explained)
            if migration.direction == "up":
                watch.see(explained)
        findings = [f.finding for f in found if f.still is None or f.still(schema)]
        if migration.direction == "down":
            findings = [f for f in findings if not f.rule.startswith(_FORWARD_ONLY)]
        for line, message in migration.problems:
            findings.append(self._problem("ZDD903", migration, line, message))
        for rule, line, message in () if migration.planned else at_the_end(migration):
            if rule in self._rule and self._wanted(self._rule[rule]):
                findings.append(self._problem(rule, migration, line, message))
        return suppress(migration, _distinct(findings), self._ignored(migration.path), self._unused)

    def _judge(
        self,
        explained: Explained,
        operation: Operation,
        effects: Effects,
        story: Story,
        found: list[_Found],
    ) -> None:
        """Add what is found at one operation; where a special rule speaks, the general one is quiet."""
        facts = Facts(explained, operation, effects)
        case = Case(explained, operation, effects, facts, story)
        speaking: list[tuple[Rule, Mapping[str, Any]]] = []
        for rule, conditions in self._rules_for(facts):
            if conditions and not _matches(conditions, facts):
                continue
            more = self.checks[rule.check](case) if rule.check is not None else {}
            if more is not None:
                speaking.append((rule, more))
        silenced = {name for rule, _ in speaking for name in rule.over}
        for rule, said in speaking:
            if rule.id not in silenced and not story.has_said(rule.id, said.get("once")):
                found.append(_Found(self._finding(rule, case, said), said.get("still")))

    def _rules_for(self, facts: Facts) -> tuple[_Ready, ...]:
        """The rules that can speak: those for the kind, then those for all, with what is left to ask."""
        kind = facts.operation.kind
        key = kind, facts.shape()
        found = self._asked.get(key)
        if found is None:
            quiet = facts["new"] and kind not in _NEVER_QUIET
            own = [r for r in self.rules if kind in r.operations]
            found = self._asked[key] = tuple(
                (rule, _conditions(rule, shape=False))
                for rule in (*own, *(r for r in self.rules if not r.operations))
                if ("new" in rule.where or not quiet)
                and _matches(_conditions(rule, shape=True), facts)
            )
        return found

    def _finding(self, rule: Rule, case: Case, said: Mapping[str, Any]) -> Finding:
        """`said` is what the rule's function adds to the facts."""
        span = case.explained.statement.span
        words = _Words(said, case.facts)
        message, assumed = _fill(rule.message, words), case.effects.assumed
        graded: Severity | None = said.get("severity")
        if rule.grade == "work":
            graded, message, assumed = self._by_work(case, message, assumed)
        elif rule.grade == "wait":
            graded, message = self._by_traffic(rule, case, message)
        return Finding(
            rule=rule.id,
            name=rule.name,
            severity=self._severity(rule, span.path, graded),
            span=span,
            statement=case.explained.statement.sql,
            message=message + _where(case),
            fix=_fill(rule.fix, words),
            relation=words["relation"] or None,
            assumed=assumed,
        )

    def _by_work(
        self, case: Case, message: str, assumed: tuple[str, ...]
    ) -> tuple[Severity | None, str, tuple[str, ...]]:
        """By how long the tables at hand take; where a size is not known, it is taken to be large."""
        found = work(case.effects, case.schema, self.prices, case.explained.created)
        if found.unknown or not found.bytes:
            large = tuple(f"{name} is large: its size is not known" for name in found.unknown)
            return None, message, (*assumed, *large)
        busy = bool(self._busy(case))
        said = f"{message} At {in_bytes(found.bytes)} that is {in_words(found.seconds)}."
        return grade_work(found, busy, self.prices), said, assumed

    def _by_traffic(self, rule: Rule, case: Case, message: str) -> tuple[Severity | None, str]:
        """A short lock matters where somebody is known to be in its way."""
        busy = self._busy(case)
        if not busy:
            return None, message
        name, rate = max(busy.items(), key=lambda item: item[1])
        said = f"{message} {name} takes about {rate:.0f} writes a second."
        return max(rule.severity, Severity.WARNING, key=lambda s: s.rank), said

    def _busy(self, case: Case) -> dict[QName, float]:
        """Tables that somebody would wait for, and that are written to often: writes a second."""
        out = {}
        for name, mode in case.effects.locks.items():
            table = case.schema.tables.get(name)
            rate = table.writes_per_second if table is not None and mode.blocks_writes else None
            if rate is not None and rate >= self.prices.busy_writes_per_second:
                out[name] = rate
        return out

    def _severity(self, rule: Rule, path: str, graded: Severity | None) -> Severity:
        for table in self.config.overrides(path):
            severities = table.get("severity", {})
            named = severities.get(rule.id) or severities.get(rule.name)
            if named is not None:
                return Severity(named)
        named = self.config.severity.get(rule.id) or self.config.severity.get(rule.name)
        return Severity(named) if named is not None else (graded or rule.severity)

    def _problem(self, rule_id: str, migration: Migration, line: int, message: str) -> Finding:
        rule = self._rule[rule_id]
        return Finding(
            rule=rule.id,
            name=rule.name,
            severity=self._severity(rule, migration.path, None),
            span=Span(migration.path, line, 1, line, 1),
            statement="",
            message=_fill(rule.message, _Words({"problem": message})),
            fix=_fill(rule.fix, _Words({"problem": message})),
        )

    def _of_query(self, one: Affected) -> Finding:
        """A query of running code, and what becomes of it."""
        rule = self._rule[one.rule]
        facts = _Words({"cause": one.cause, "why": one.why, "sqlstate": one.sqlstate})
        query = one.query
        lines = query.sql.split("\n")
        end = query.line + len(lines) - 1
        return Finding(
            rule=rule.id,
            name=rule.name,
            severity=self._severity(rule, query.path, None),
            span=Span(query.path, query.line, 1, end, max(1, len(lines[-1]))),
            statement=query.sql,
            message=_fill(rule.message, facts),
            fix=_fill(rule.fix, facts),
            relation=one.relation,
        )

    def _unused(self, migration: Migration, suppression: Suppression) -> Finding | None:
        """A suppression that suppresses nothing is a finding itself."""
        if "ZDD902" not in self._rule or not self._wanted(self._rule["ZDD902"]):
            return None
        what = f"{suppression.rule} is ignored here but nothing was found"
        return self._problem("ZDD902", migration, suppression.line or 1, what)

    def _ignored(self, path: str) -> frozenset[str]:
        """Rules that the configuration ignores in files of this path."""
        return frozenset(
            rule for table in self.config.overrides(path) for rule in table.get("ignore", ())
        )


def _where(case: Case) -> str:
    """Where in the statement: the place that was not understood, the body that holds it."""
    parts = []
    operation, statement = case.operation, case.explained.statement
    span = statement.span
    offset = operation.offset if isinstance(operation, NotUnderstood) else 0
    if offset and span.end - span.start >= len(statement.sql):
        at = span.inner(statement.sql, offset, offset + 1)
        parts.append(f"at line {at.line}, column {at.column}")
    if operation.hidden is not None:
        parts.append(f"in {operation.hidden.where}")
        if not operation.hidden.certain:
            parts.append("where it may not run")
    return f" ({', '.join(parts)})" if parts else ""


def _tell(story: Story, explained: Explained) -> None:
    """Add to the story what this statement does, for those after it."""
    schema = explained.schema
    for operation in explained.statement.operations:
        if operation.relation is None:
            continue
        if is_add_column(operation):
            story.columns.add((schema.resolve(operation.relation), operation.column))
        elif is_add_enum_value(operation):
            story.labels[operation.label] = explained.statement.transaction
        elif is_drop_constraint(operation):
            replaced = dropped(operation, schema)
            story.replaced |= {replaced} if replaced is not None else set()
    effects = explained.effects
    if any(mode.blocks_writes for mode in effects.locks.values()):
        for name in (*effects.rewrites, *effects.scans):
            story.worked.setdefault(name, explained.statement.span.line)


def _sizes(config: Config) -> Schema | None:
    """The sizes in the snapshot that the configuration names."""
    if config.snapshot is None:
        return None
    from zdd_migrate.reading.snapshot import load

    return load(config.root / config.snapshot).schema


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a rule, statement and message; a broken rule is said once."""
    seen: dict[tuple[str, int, str], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.rule, finding.span.start, finding.message), finding)
    return list(seen.values())


def _conditions(rule: Rule, *, shape: bool) -> tuple[_Condition, ...]:
    """A rule's conditions on the facts in SHAPE, or those on other facts, prepared for asking often."""
    return tuple(
        (
            key,
            wanted if isinstance(wanted, bool) else None,
            frozenset(wanted if isinstance(wanted, list) else [wanted]),
        )
        for key, wanted in rule.where.items()
        if (key in SHAPE) is shape
    )


def _matches(conditions: Iterable[_Condition], facts: Facts) -> bool:
    """Equality on every named fact; on a set of facts, membership. Nothing cleverer, ever."""
    for key, truth, wanted in conditions:
        value = facts.get(key)
        if isinstance(value, frozenset):
            if wanted.isdisjoint(value):
                return False
        elif truth is not None:
            if bool(value) is not truth:
                return False
        elif isinstance(value, (list, dict)) or value not in wanted:
            return False
    return True


class _Words:
    """Facts as words for a template, from the first mapping that has them; else they are empty."""

    __slots__ = ("facts",)

    def __init__(self, *facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def __getitem__(self, key: str) -> str:
        for facts in self.facts:
            value = facts.get(key)
            if value is not None:
                if isinstance(value, str):
                    return value
                many = isinstance(value, (list, tuple))
                return ", ".join(map(str, value)) if many else str(value)
        return ""


@cache
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """A rule's text taken apart: words, and the name of the fact that follows them."""
    return tuple((text, name) for text, name, _, _ in Formatter().parse(template))


def _fill(template: str, words: _Words) -> str:
    """The template with facts in their places, in one line."""
    said: list[str] = []
    for text, name in _pieces(template):
        said.append(text)
        if name is not None:
            said.append(words[name])
    return " ".join("".join(said).split())
