"""One file per output format: findings, explanations, plans and verdicts as text for someone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zdd_migrate.model.finding import Report


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
