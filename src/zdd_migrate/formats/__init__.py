"""One file per output format: findings, explanations, plans and verdicts as text for someone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zdd_migrate.model.finding import Report

if TYPE_CHECKING:  # a check prints findings, and need not import what verdicts are made of
    from zdd_migrate.model.plan import Plan
    from zdd_migrate.model.verdict import Verdict


def _json(report: Report, _: Sequence[str]) -> str:
    from zdd_migrate.formats import findings_json

    return findings_json.render(report)


def _sarif(report: Report, _: Sequence[str]) -> str:
    from zdd_migrate.formats import sarif
    from zdd_migrate.rulebook import load_rules

    return sarif.render(report, load_rules())


def _github(report: Report, _: Sequence[str]) -> str:
    from zdd_migrate.formats import github

    return github.render(report)


def _gitlab(report: Report, _: Sequence[str]) -> str:
    from zdd_migrate.formats import gitlab

    return gitlab.render(report)


def _junit(report: Report, paths: Sequence[str]) -> str:
    from zdd_migrate.formats import junit

    return junit.render(report, paths)


def _markdown(report: Report, _: Sequence[str]) -> str:
    from zdd_migrate.formats import markdown

    return markdown.render(report)


#: formats of findings for other programs, by name; text needs a terminal's width and colours too
FINDINGS: dict[str, Callable[[Report, Sequence[str]], str]] = {
    "json": _json,
    "sarif": _sarif,
    "github": _github,
    "gitlab": _gitlab,
    "junit": _junit,
    "markdown": _markdown,
}


def render(report: Report, form: str, paths: Sequence[str] = ()) -> str:
    """Findings in a format of `FINDINGS`. `paths`: the files that were looked at."""
    return FINDINGS[form](report, paths)


#: formats of verdicts for other programs and people
VERDICTS = ("json", "junit", "markdown", "html")


def render_verdict(verdict: Verdict, form: str, name: str, plan: Plan | None = None) -> str:
    """A verdict in a format of `VERDICTS`. `name` is what was tried; its plan's SQL goes along."""
    import json

    from zdd_migrate.formats import verdict as verdicts
    from zdd_migrate.formats import verdict_html, verdict_junit, verdict_markdown

    if form == "junit":
        return verdict_junit.render(verdict, name)
    if form == "markdown":
        return verdict_markdown.render(verdict, name)
    if form == "html":
        return verdict_html.render(verdict, name, plan)
    return json.dumps(verdicts.to_dict(verdict), indent=2, ensure_ascii=False)
