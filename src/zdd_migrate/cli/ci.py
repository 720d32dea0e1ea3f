"""`zdd-migrate ci`: the gate before a merge. It fails closed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zdd_migrate.cli.check import exit_status
from zdd_migrate.cli.options import (
    is_dsn,
    pg_option,
    quiet_option,
    schema_option,
    starting_schema,
    style,
    width,
)
from zdd_migrate.config import Config, load
from zdd_migrate.errors import EXIT_FINDINGS, InputError
from zdd_migrate.model.finding import Severity
from zdd_migrate.model.gate import Gate
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.schema import Schema
from zdd_migrate.model.verdict import Verdict
from zdd_migrate.operations.base import DEFAULT_PG

if TYPE_CHECKING:
    from zdd_migrate.verify.versions import CodeVersion

FORMATS = ("text", "json", "sarif", "github", "gitlab", "junit", "markdown")


@click.command(name="ci")
@click.option("--base", metavar="REF", help="What the change is merged into (default: found out).")
@schema_option
@pg_option
@click.option("--postgres", default="auto", metavar="WHERE", help="See zdd-migrate verify.")
@click.option("--no-verify", is_flag=True, help="Try no plan on a server.")
@click.option("--fail-on", type=click.Choice(("error", "warning", "info", "never")))
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text")
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FORMAT=FILE",
    help="Write this format into a file too; - for GitHub's step summary with markdown.",
)
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    base: str | None,
    schema: str | None,
    pg_version: int | None,
    postgres: str,
    no_verify: bool,
    fail_on: str | None,
    format_: str,
    output: tuple[str, ...],
    quiet: bool,
) -> None:
    """Check what this branch changes, plan what is unsafe, try the plans."""
    from zdd_migrate.integrations import git

    wanted = [_output(one) for one in output]
    config = load(Path())
    checkout = git.root(Path())
    name, fork = git.base_of(checkout, base or config.raw.get("base"))
    bar = fail_on or config.fail_on or "error"
    with ExitStack() as stack:
        gate = _gate(
            git.changed(checkout, fork),
            checkout,
            name,
            config,
            schema,
            pg_version or config.pg_version or DEFAULT_PG,
            None if bar == "never" else Severity(bar),
            None if no_verify else _verifier(stack, postgres, pg_version, config),
        )
    for form, file in wanted:
        _write(file, _render(gate, form))
    text = _render(gate, format_)
    if text and not (quiet and gate.passes):
        click.echo(text.rstrip("\n"))
    ctx.exit(_status(gate, bar))


def _gate(
    changed: list[str],
    checkout: Path,
    base: str,
    config: Config,
    schema: str | None,
    pg: int,
    bar: Severity | None,
    verify: Callable[[Plan, str], Verdict] | None,
) -> Gate:
    from zdd_migrate.integrations import gate
    from zdd_migrate.integrations.timelines import timelines

    plans = gate.plans_among(changed, checkout)
    inside = {str(p.relative_to(checkout)) for p in plans}
    loose = [p for p in changed if str(Path(p).parent) not in inside]
    migrations = gate.migrations_among(loose, config, checkout)
    given = _given(schema, config, pg)
    found = timelines(migrations, checkout, given, config.source)
    return gate.examine(base, found, plans, gate.Settings(config, pg, bar, verify))


def _given(schema: str | None, config: Config, pg: int) -> tuple[Schema, str] | None:
    """The schema that was named, with SQL that builds it; None when the history is the schema."""
    if schema is None and config.schema is None:
        return None
    found, text = starting_schema(schema, (), config, pg=pg)
    if not text and schema is not None and is_dsn(schema):
        from zdd_migrate.cli.asked import dump

        text = dump(schema)
    return found, text


def _verifier(
    stack: ExitStack, postgres: str, major: int | None, config: Config
) -> Callable[[Plan, str], Verdict]:
    """Tries plans on one server, which is started when the first is tried."""
    started: list[object] = []
    code: dict[str, Sequence[CodeVersion]] = {}

    def verify(plan: Plan, schema_sql: str) -> Verdict:
        from zdd_migrate.cli.asked import code_versions
        from zdd_migrate.postgres.servers import Server, server
        from zdd_migrate.verify.walk import Effort, verify_plan

        if not started:
            code.update(code_versions({"old": (), "new": ()}, config, stack))
            started.append(stack.enter_context(server(postgres, major=major)))
        found = started[0]
        assert isinstance(found, Server)
        return verify_plan(
            plan,
            schema_sql=schema_sql,
            server=found,
            old=code["old"],
            new=code["new"],
            effort=Effort.quick(),
        )

    return verify


def _output(text: str) -> tuple[str, str]:
    form, _, file = text.partition("=")
    if form not in FORMATS or not file:
        raise InputError(f"-o {text}: write FORMAT=FILE, with one of {', '.join(FORMATS)}")
    if file == "-":
        if form != "markdown" or not os.environ.get("GITHUB_STEP_SUMMARY"):
            raise InputError(f"-o {text}: - is GitHub's step summary, and needs markdown")
        file = os.environ["GITHUB_STEP_SUMMARY"]
    return form, file


def _write(file: str, text: str) -> None:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text if text.endswith("\n") or not text else text + "\n", encoding="utf-8")
    partial.replace(path)


def _render(gate: Gate, form: str) -> str:
    from zdd_migrate import formats
    from zdd_migrate.formats import gate as gates
    from zdd_migrate.formats import markdown

    if form == "text":
        return gates.text(gate, style=style, width=width())
    if form == "json":
        return json.dumps(gates.to_json(gate), indent=2, ensure_ascii=False)
    if form == "markdown":
        return markdown.render_gate(gate)
    return formats.render(gate.report, form, paths=[one.path for one in gate.examined])


def _status(gate: Gate, bar: str) -> int:
    """0 only when everything may be merged; 2 when the only trouble is what was not understood."""
    if gate.passes:
        return 0
    if any(one.state != "not understood" and not one.passes for one in gate.examined):
        return EXIT_FINDINGS
    return exit_status(gate.report, bar) or EXIT_FINDINGS
