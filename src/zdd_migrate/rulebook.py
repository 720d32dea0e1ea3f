"""The rulebook: rules read from their documents, one Markdown file each.

Front matter between `+++` lines is TOML: id, name, severity, operation, where, check, message,
fix, versions, default, over, grade. The prose and the ```sql safe / unsafe blocks follow; the blocks are the rule's
tests. Nothing of a rule is anywhere else, save at most one function in `checks`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.model.finding import Severity

_ID = re.compile(r"[A-Z]{2,6}\d{3}")
_KEYS = {
    "id",
    "name",
    "severity",
    "operation",
    "where",
    "check",
    "message",
    "fix",
    "versions",
    "default",
    "over",
    "grade",
}
_BLOCK = re.compile(r"^```sql (unsafe|safe)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """A fenced block of a rule's document. `options` are the words after safe/unsafe."""

    safe: bool
    sql: str
    line: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `operations` are the kinds it looks at (empty: every one), `where` what must be
    equal on the operation's fields and its effects, `check` the function that decides the rest.

    `versions` is the majors it applies to, empty for all. `default` False means off unless
    selected. `over` are more general rules that are quiet about an operation where this one speaks.
    `grade` says what its severity follows where sizes are known: the `work` done under a lock, or
    who has to `wait` for a short one. `text` is the document's prose.
    """

    id: str
    name: str
    severity: Severity
    message: str
    fix: str
    operations: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    check: str | None = None
    versions: tuple[int, ...] = ()
    default: bool = True
    over: tuple[str, ...] = ()
    grade: str | None = None
    text: str = ""
    path: str = ""

    @property
    def title(self) -> str:
        """The document's heading."""
        match = re.search(r"^# (.+)$", self.text, re.MULTILINE)
        return match[1] if match else self.name

    def examples(self) -> tuple[Example, ...]:
        """The document's safe and unsafe blocks, in order."""
        return tuple(
            Example(
                safe=match[1] == "safe",
                sql=match[3],
                line=self.text[: match.start()].count("\n") + 1,
                options=tuple(match[2].split()),
            )
            for match in _BLOCK.finditer(self.text)
        )


def rules_dir() -> Path:
    """Where the rules are: in the package when installed, beside `src/` in a checkout."""
    packaged = Path(__file__).parent / "rules"
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[2] / "rules"


def parse_rule(text: str, path: str) -> Rule:
    """A rule from its document's text; InputError names the file and what is wrong."""
    parts = text.split("+++\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise InputError(f"{path}: a rule starts with TOML between two +++ lines")
    try:
        head = tomllib.loads(parts[1])
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: the front matter is not TOML: {error}") from None
    missing = {"id", "name", "severity", "message", "fix"} - head.keys()
    unknown = head.keys() - _KEYS
    if missing or unknown:
        what = f"lacks {sorted(missing)[0]}" if missing else f"has unknown {sorted(unknown)[0]}"
        raise InputError(f"{path}: the front matter {what}")
    if not _ID.fullmatch(head["id"]):
        raise InputError(f"{path}: {head['id']!r} is not a rule id such as ZDD101")
    operation = head.get("operation", [])
    try:
        severity = Severity(head["severity"])
    except ValueError:
        raise InputError(f"{path}: severity is error, warning or info") from None
    if head.get("grade") not in (None, "work", "wait"):
        raise InputError(f"{path}: grade is work or wait")
    return Rule(
        id=head["id"],
        name=head["name"],
        severity=severity,
        message=head["message"],
        fix=head["fix"],
        operations=(operation,) if isinstance(operation, str) else tuple(operation),
        where=head.get("where", {}),
        check=head.get("check"),
        versions=tuple(head.get("versions", ())),
        default=head.get("default", True),
        over=tuple(head.get("over", ())),
        grade=head.get("grade"),
        text=parts[2],
        path=path,
    )


@lru_cache(maxsize=1)
def own_rules() -> tuple[Rule, ...]:
    """The rules that come with the tool, by id."""
    return _load(rules_dir())


def load_rules(directories: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The tool's rules and a team's own, by id. A team's id may not be one of ours."""
    rules = list(own_rules())
    for directory in directories:
        path = Path(directory)
        if not path.is_dir():
            raise InputError(f"{path}: the directory of rules does not exist")
        rules.extend(_load(path))
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.id in seen:
            raise InputError(f"{rule.path}: {rule.id} is also the id of {seen[rule.id].path}")
        seen[rule.id] = rule
    return tuple(sorted(seen.values(), key=lambda rule: rule.id))


def _load(directory: Path) -> tuple[Rule, ...]:
    found = [
        parse_rule(entry.read_text(encoding="utf-8"), f"rules/{entry.name}")
        for entry in directory.iterdir()
        if entry.name.endswith(".md") and entry.name[0].isupper() and entry.name != "README.md"
    ]
    return tuple(sorted(found, key=lambda rule: rule.id))
