"""A verdict as JUnit XML: a suite for each phase, for the laws and for the ways back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from zdd_migrate.formats.junit import clean
from zdd_migrate.formats.verdict import cell, codes, columns, of_cell, where
from zdd_migrate.model.verdict import Trial, Verdict


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    failure: str = ""
    #: could not be told: an error, in JUnit's words, for it must not count as passed
    error: str = ""


def render(verdict: Verdict, name: str = "plan") -> str:
    """What came out as expected passes, what could not be told is an error."""
    root = ET.Element("testsuites", name=f"zdd-migrate verify {clean(name)}")
    totals = [0, 0, 0]
    suites = [(phase, list(_trials(verdict, phase))) for phase, _ in columns(verdict)]
    suites += [("laws", list(_laws(verdict))), ("ways back", list(_rollbacks(verdict)))]
    for title, cases in suites:
        if not cases:
            continue
        suite = ET.SubElement(root, "testsuite", name=clean(title))
        for case in cases:
            element = ET.SubElement(suite, "testcase", name=clean(case.name), classname=title)
            for tag, text in (("failure", case.failure), ("error", case.error)):
                if text:
                    ET.SubElement(element, tag, message=clean(text.splitlines()[0])).text = clean(
                        text
                    )
        counts = [
            len(cases),
            sum(bool(c.failure) for c in cases),
            sum(bool(c.error) for c in cases),
        ]
        suite.attrib.update(zip(("tests", "failures", "errors"), map(str, counts), strict=True))
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
    root.attrib.update(zip(("tests", "failures", "errors"), map(str, totals), strict=True))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _trials(verdict: Verdict, phase: str) -> Iterator[_Case]:
    for code in codes(verdict):
        for when in dict(columns(verdict))[phase]:
            trials = of_cell(verdict, code, phase, when)
            word = cell(trials)
            if not word:
                continue
            name = f"{code} code {when}"
            if word == "FAILS":
                said = [
                    f"{f.sqlstate} {f.message}\n{where(f)}\n{f.statement}".strip()
                    for f in verdict.failures
                    if (f.code, f.phase, f.when) == (code, phase, when)
                ]
                # one kind of failure is told once, where it was first seen
                yield _Case(name, "\n\n".join(said) or _seen(trials))
            elif word == "?":
                yield _Case(name, error="; ".join(t.detail for t in trials if t.detail) or "?")
            else:
                yield _Case(name)


def _seen(trials: Sequence[Trial]) -> str:
    errors = [e for t in trials for e in t.errors]
    if errors:
        return "\n".join(f"{e.sqlstate} {e.message}\n{e.statement}" for e in errors[:5])
    return "; ".join(t.detail for t in trials if t.detail) or "not as expected"


def _laws(verdict: Verdict) -> Iterator[_Case]:
    for law in verdict.laws:
        text = f"{law.violations} violations {law.detail}".strip()
        yield _Case(f"{law.name} (after {law.phase})", "" if law.holds else text)


def _rollbacks(verdict: Verdict) -> Iterator[_Case]:
    for one in verdict.rollbacks:
        good = one.schema_restored and not one.rows_lost
        restored = "restored" if one.schema_restored else "not restored"
        text = f"schema {restored}, {one.rows_lost} rows lost: {one.detail}"
        yield _Case(f"from {one.start} to {one.to}", "" if good else text)
