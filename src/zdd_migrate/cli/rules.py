"""`zdd-migrate rules`: the list of rules, or one rule's document."""

from __future__ import annotations

import json
from pathlib import Path

import click

from zdd_migrate.cli.options import format_option, quiet_option, style, width
from zdd_migrate.config import load
from zdd_migrate.errors import InputError
from zdd_migrate.rulebook import Rule, load_rules


@click.command(name="rules")
@click.argument("rule", required=False)
@format_option("text", "json")
@quiet_option
def command(rule: str | None, format_: str, quiet: bool) -> None:
    """List the rules; with a RULE's id or name, say all about it."""
    rules = load_rules(load(Path()).rule_directories)
    if rule is not None:
        wanted = [r for r in rules if rule.upper() == r.id or rule == r.name]
        if not wanted:
            raise InputError(f"there is no rule {rule}; zdd-migrate rules lists them")
        rules = tuple(wanted)
    if format_ == "json":
        click.echo(json.dumps({"version": 1, "rules": [_to_dict(r) for r in rules]}, indent=2))
    elif rule is not None:
        from zdd_migrate.formats import rules_text

        click.echo(rules_text.render_rule(rules[0], style=style, width=width()))
    else:
        from zdd_migrate.formats import rules_text

        click.echo(rules_text.render_list(rules, style=style, width=width()))


def _to_dict(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "name": rule.name,
        "severity": rule.severity.value,
        "title": rule.title,
        "default": rule.default,
        "message": rule.message,
        "fix": rule.fix,
        "text": rule.text.strip(),
    }
