"""The rulebook for a terminal: the list, and one rule with all about it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from zdd_migrate.formats.findings_text import Style
from zdd_migrate.rulebook import Rule

#: what the first digit of an id says
FAMILIES = {
    "1": "Locks and long work",
    "2": "Breaks running code",
    "3": "Loses data",
    "4": "Transactions, order, failure",
    "5": "Servers and replication",
    "7": "Habits",
    "9": "About the check itself",
}
_GRADES = {
    "work": "Its severity follows how long the table at hand takes, where its size is known.",
    "wait": "It is a warning where the table at hand is known to be written to often.",
}


def render_list(rules: Sequence[Rule], *, style: Style, width: int) -> str:
    """A line for each rule, by family, no wider than `width`."""
    longest = max((len(rule.name) for rule in rules), default=0)
    lines: list[str] = []
    family = None
    for rule in rules:
        own = FAMILIES.get(rule.id[-3]) if rule.id.startswith("ZDD") else "Your own"
        if own != family:
            family = own
            lines += ([""] if lines else []) + [style(own or "Others", "bold")]
        room = width - len(rule.id) - 2 - 8 - longest - 2
        title = f"{rule.title}{'' if rule.default else ' (off)'}"
        lines.append(
            f"{rule.id}  {style(f'{rule.severity.value:8}', rule.severity.value)}"
            f"{rule.name:{longest}}  {style(_cut(title, room), 'dim')}".rstrip()
        )
    off = sum(1 for rule in rules if not rule.default)
    lines += ["", f"{len(rules)} rules, {off} of them off until they are selected."]
    return "\n".join(lines)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)].rstrip() + "…"


def render_rule(rule: Rule, *, style: Style, width: int) -> str:
    """Its document: what happens, what it says, what to do, and the examples."""
    lines = [
        f"{style(rule.id, 'bold')} {rule.name}  {style(rule.severity.value, rule.severity.value)}",
        style(rule.title, "bold"),
        "",
        *_prose(rule, style, width),
    ]
    notes = [_GRADES[rule.grade]] if rule.grade is not None else []
    if not rule.default:
        notes.append(f'It is off: select = ["{rule.id}"] in the configuration turns it on.')
    if rule.versions:
        notes.append(f"It applies to Postgres {', '.join(map(str, rule.versions))}.")
    for note in notes:
        lines += textwrap.wrap(note, width)
    if notes:
        lines.append("")
    quiet = f"-- zdd: ignore {rule.id} because …"
    lines.append(f"To live with it at one statement: {style(quiet, 'bold')}")
    return "\n".join(lines)


def _prose(rule: Rule, style: Style, width: int) -> Iterator[str]:
    """The text wrapped, the code of the examples as it is."""
    body = re.sub(r"^# .+\n", "", rule.text.strip(), count=1).strip()
    for part in re.split(r"(^```.*?^```)", body, flags=re.MULTILINE | re.DOTALL):
        if not part.startswith("```"):
            for paragraph in re.split(r"\n\s*\n", part.strip()):
                if paragraph:
                    yield from textwrap.wrap(
                        " ".join(paragraph.split()), width, break_on_hyphens=False
                    )
                    yield ""
            continue
        first, *code = part.strip("`").strip("\n").split("\n")
        kind = first.split()
        safe = "safe" in kind
        yield style("Instead" if safe else "What it finds", "ok" if safe else "error")
        for line in code:
            before, mark, after = line.partition("-- ")
            yield f"    {before}{style(mark + after, 'dim')}" if mark else f"    {line}"
        yield ""
