"""A migration against the rulebook: findings, with suppressions applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from zdd_migrate.config import Config
from zdd_migrate.model.effects import Effects
from zdd_migrate.model.finding import Finding, Report, Severity
from zdd_migrate.model.locks import strongest
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.statement import Migration, Span
from zdd_migrate.operations.base import DEFAULT_PG, NotUnderstood, Operation
from zdd_migrate.operations.walk import Explained, replay, walk
from zdd_migrate.rulebook import Rule, load_rules

#: a rule's function: more facts for its message when it finds something, None when not
Check = Callable[[Explained, Operation, Effects], "Mapping[str, Any] | None"]

#: what a way back does on purpose: rules about breaking the running code and about losing data
_FORWARD_ONLY = ("ZDD2", "ZDD3")
#: kinds that say nothing about a table, so "new table" never quiets them
_NEVER_QUIET = ("not_understood",)


class Checker:
    """Rules and configuration, ready to be run over migrations one after another."""

    def __init__(
        self,
        config: Config,
        *,
        pg: int = DEFAULT_PG,
        rules: Sequence[Rule] | None = None,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        from zdd_migrate.checks import CHECKS

        self.config = config
        self.pg = pg
        self.checks: dict[str, Check] = {**CHECKS, **(checks or {})}
        every = load_rules(config.rules) if rules is None else tuple(rules)
        self.rules = [rule for rule in every if self._wanted(rule)]
        self._by_kind: dict[str, list[Rule]] = {}
        self._for_all = [r for r in self.rules if not r.operations]
        for rule in self.rules:
            for kind in rule.operations:
                self._by_kind.setdefault(kind, []).append(rule)
        self._rule = {rule.id: rule for rule in every}

    def _wanted(self, rule: Rule) -> bool:
        if rule.id in self.config.ignore or rule.name in self.config.ignore:
            return False
        if rule.versions and self.pg not in rule.versions:
            return False
        return rule.default or rule.id in self.config.select or rule.name in self.config.select

    def run(self, migrations: Iterable[Migration], schema: Schema) -> Report:
        """Check migrations in order; `schema` is changed in place as they are applied."""
        report = Report()
        for migration in migrations:
            report.files += 1
            report.statements += len(migration.statements)
            report.findings.extend(self._check(migration, schema, report))
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

    def _check(self, migration: Migration, schema: Schema, report: Report) -> list[Finding]:
        findings: list[Finding] = []
        for explained in walk(migration, schema, pg=self.pg):
            if not explained.understood:
                report.not_understood += 1
            if migration.planned:
                continue
            for operation, effects in explained.parts:
                findings.extend(self._judge(explained, operation, effects))
        if migration.direction == "down":
            findings = [f for f in findings if not f.rule.startswith(_FORWARD_ONLY)]
        for line, message in migration.problems:
            findings.append(self._problem("ZDD903", migration, line, message))
        return self._suppress(migration, _distinct(findings))

    def _judge(
        self, explained: Explained, operation: Operation, effects: Effects
    ) -> Iterable[Finding]:
        facts: dict[str, Any] | None = None
        for rule in (*self._by_kind.get(operation.kind, ()), *self._for_all):
            if facts is None:
                facts = describe(explained, operation, effects)
            if facts["new"] and operation.kind not in _NEVER_QUIET and "new" not in rule.where:
                continue
            if not _matches(rule.where, facts):
                continue
            more: Mapping[str, Any] | None = {}
            if rule.check is not None:
                more = self.checks[rule.check](explained, operation, effects)
            if more is not None:
                yield self._finding(rule, explained, operation, effects, {**facts, **more})

    def _finding(
        self,
        rule: Rule,
        explained: Explained,
        operation: Operation,
        effects: Effects,
        facts: Mapping[str, Any],
    ) -> Finding:
        span = explained.statement.span
        severity = self._severity(rule, span.path, facts.get("severity"))
        return Finding(
            rule=rule.id,
            name=rule.name,
            severity=severity,
            span=span,
            statement=explained.statement.sql,
            message=_fill(rule.message, facts),
            fix=_fill(rule.fix, facts),
            relation=facts.get("relation") or None,
            assumed=effects.assumed,
        )

    def _severity(self, rule: Rule, path: str, graded: Severity | None) -> Severity:
        for glob, table in self.config.paths.items():
            if fnmatch(path, glob):
                named = table.get("severity", {}).get(rule.id)
                if named is not None:
                    return Severity(named)
        named = self.config.severity.get(rule.id) or self.config.severity.get(rule.name)
        return Severity(named) if named is not None else (graded or rule.severity)

    def _problem(self, rule_id: str, migration: Migration, line: int, message: str) -> Finding:
        rule = self._rule[rule_id]
        return Finding(
            rule=rule.id,
            name=rule.name,
            severity=rule.severity,
            span=Span(migration.path, line, 1, line, 1),
            statement="",
            message=_fill(rule.message, {"problem": message}),
            fix=_fill(rule.fix, {"problem": message}),
        )

    def _suppress(self, migration: Migration, findings: list[Finding]) -> list[Finding]:
        """Apply `-- zdd: ignore …`; one that suppresses nothing is a finding itself."""
        out: list[Finding] = []
        used: set[int] = set()
        ignored = [
            rule
            for glob, table in self.config.paths.items()
            if fnmatch(migration.path, glob)
            for rule in table.get("ignore", ())
        ]
        for finding in findings:
            if finding.rule in ignored or finding.name in ignored:
                continue
            for i, suppression in enumerate(migration.suppressions):
                if suppression.rule not in (finding.rule, finding.name):
                    continue
                if suppression.line and not (
                    suppression.line <= finding.span.end_line
                    and suppression.line >= _first_line(migration, finding)
                ):
                    continue
                used.add(i)
                finding = replace(finding, suppressed=True, reason=suppression.reason)
                break
            out.append(finding)
        for i, suppression in enumerate(migration.suppressions):
            if i not in used and "ZDD902" in self._rule and self._wanted(self._rule["ZDD902"]):
                what = f"{suppression.rule} is ignored here but nothing was found"
                out.append(self._problem("ZDD902", migration, suppression.line or 1, what))
        return sorted(out, key=lambda f: (f.span.line, f.span.column, f.rule))


def _first_line(migration: Migration, finding: Finding) -> int:
    """The first line a suppression of this statement may stand on: after the one before it."""
    previous = 0
    for statement in migration.statements:
        if statement.span.start >= finding.span.start:
            break
        previous = statement.span.end_line
    return previous + 1 if previous < finding.span.line else finding.span.line


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a rule, statement and message; a broken rule is said once."""
    seen: dict[tuple[str, int, str], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.rule, finding.span.start, finding.message), finding)
    return list(seen.values())


def _matches(where: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Equality on every named fact; on a set of facts, membership. Nothing cleverer, ever."""
    for key, wanted in where.items():
        value = facts.get(key)
        if isinstance(value, (set, frozenset)):
            if not (set(wanted) if isinstance(wanted, list) else {wanted}) & value:
                return False
        elif isinstance(wanted, list):
            if value not in wanted:
                return False
        elif isinstance(wanted, bool):
            if bool(value) is not wanted:
                return False
        elif value != wanted:
            return False
    return True


def describe(explained: Explained, operation: Operation, effects: Effects) -> dict[str, Any]:
    """The facts a rule may ask for and its message may name.

    The operation's own fields, and from its effects: `new` (everything it locks was created by the
    same migration), `rewrites`, `scans`, `builds`, `rebuilds`, `blocks_reads`, `blocks_writes`,
    `long` (blocks writes while it works through the table), `fails` (an SQLSTATE), `loses`,
    `breaks` (set of kinds that old code suffers), and words: `relation`, `lock`, `who`, `others`.
    """
    facts: dict[str, Any] = operation.describe(explained.schema)
    constraint = facts.get("constraint")
    if isinstance(constraint, dict):
        facts.update({f"constraint_{k}": v for k, v in constraint.items()})
        facts["constraint"] = constraint.get("name") or "the constraint"
    locks = {r: m for r, m in effects.locks.items() if r not in explained.created}
    held = strongest(*locks.values())
    relation = facts.get("relation", "")
    own = QName(*relation.split(".", 1)) if relation.count(".") == 1 else None
    subject = own is not None and own in explained.created
    reads = any(m.blocks_reads for m in locks.values())
    writes = any(m.blocks_writes for m in locks.values())
    work = bool(
        set(effects.rewrites)
        | set(effects.scans)
        | set(effects.index_builds)
        | set(effects.index_rebuilds)
    )
    others = sorted(str(r) for r in locks if r != own)
    facts.update(
        new=bool(subject and not isinstance(operation, NotUnderstood)),
        rewrites=bool(effects.rewrites),
        scans=bool(effects.scans),
        builds=bool(effects.index_builds),
        rebuilds=bool(effects.index_rebuilds),
        blocks_reads=reads,
        blocks_writes=writes,
        long=bool(work and writes),
        fails=effects.error.sqlstate if effects.error is not None else None,
        error=effects.error.message if effects.error is not None else "",
        loses=bool(effects.loses),
        lost=", ".join(effects.loses),
        breaks=frozenset(b.kind for b in effects.breaks if b.code == "old"),
        breaks_new=frozenset(b.kind for b in effects.breaks if b.code == "new"),
        broken="; ".join(
            b.what for b in effects.breaks if b.code == "old" and b.kind != "cached_plan"
        ),
        lock=str(held) if held is not None else "",
        locked=", ".join(str(r) for r in locks),
        who="reads and writes" if reads else "writes" if writes else "nobody",
        others=", ".join(others),
        why="; ".join(dict.fromkeys(effects.scans.values())),
        transactional=effects.transactional,
        in_transaction=explained.statement.in_transaction,
    )
    return facts


def _fill(template: str, facts: Mapping[str, Any]) -> str:
    """The template with facts in their places; an unknown one is empty."""

    class _Facts(dict[str, Any]):
        def __missing__(self, key: str) -> str:
            return ""

    words = {
        k: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in facts.items()
    }
    return " ".join(template.format_map(_Facts(words)).split())
