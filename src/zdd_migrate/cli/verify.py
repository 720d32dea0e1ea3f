"""`zdd-migrate verify`: a plan or a migration tried on a real Postgres."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zdd_migrate.cli.asked import (
    Request,
    data_of,
    is_pooled,
    key_of,
    laws_of,
    left_out,
    seed_sql,
    settings_of,
    starting_sql,
)
from zdd_migrate.cli.options import (
    config_for,
    format_option,
    output_of,
    quiet_option,
    read_migrations,
    schema_option,
    starting_schema,
    style,
    width,
    write_whole,
)
from zdd_migrate.config import Config
from zdd_migrate.errors import EXIT_FINDINGS, InputError
from zdd_migrate.formats import VERDICTS
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from zdd_migrate.postgres.servers import Server


@click.command(name="verify")
@click.argument("path", type=click.Path(path_type=Path))
@schema_option
@click.option(
    "--old",
    multiple=True,
    metavar="SPEC",
    help="The old code: command:…, queries:…, models:… (repeatable).",
)
@click.option(
    "--new", multiple=True, metavar="SPEC", help="The new code, likewise; docs/verify.md has all."
)
@click.option(
    "--postgres",
    default="auto",
    metavar="WHERE",
    help="auto, embedded, system, testcontainers, or a database URL.",
)
@click.option("--pg-version", type=int, help="Which major to try it on.")
@click.option(
    "--seed",
    metavar="FILE|N",
    help="SQL or a dump (also pg_dump's archives) that fills the tables; a number: rows made up "
    "from it (default: 0).",
)
@click.option("--data", metavar="DSN", help="A database to copy a masked sample of rows from.")
@click.option(
    "--quick",
    is_flag=True,
    help="For every push: made-up statements and given queries, no programs; fewer rounds and "
    "rows, one way back.",
)
@click.option(
    "--no-cache",
    is_flag=True,
    envvar="ZDD_NO_CACHE",
    help="Try again, although nothing has changed.",
)
@click.option("--longest-wait", type=float, default=5000, help="Longest wait allowed, in ms.")
@click.option(
    "--hostile",
    metavar="LIST",
    default="",
    help="Conditions to make while steps run: all, or some of long-transaction, lock-timeout, "
    "autovacuum, deadlocks, killed-backend.",
)
@click.option(
    "--pooled",
    is_flag=True,
    help="Clients go through PgBouncer in transaction mode, which must be installed.",
)
@format_option("text", *VERDICTS)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FORMAT=FILE",
    help="Write this format into a file too: html=verdict.html.",
)
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    path: Path,
    schema: str | None,
    old: tuple[str, ...],
    new: tuple[str, ...],
    postgres: str,
    pg_version: int | None,
    seed: str | None,
    data: str | None,
    quick: bool,
    no_cache: bool,
    longest_wait: float,
    hostile: str,
    pooled: bool,
    format_: str,
    output: tuple[str, ...],
    quiet: bool,
) -> None:
    """Try a plan's directory, or a plain migration, with both code versions."""
    outputs = tuple(output_of(one, VERDICTS) for one in output)
    request = Request(
        path,
        schema,
        old,
        new,
        postgres,
        pg_version,
        seed,
        quick,
        longest_wait,
        quiet,
        outputs,
        _hostile(hostile),
        data=data,
        cache=not no_cache,
        pooled=pooled,
    )
    verdict = verify(request)
    show(verdict, format_, path)
    ctx.exit(0 if verdict.judgement is Judgement.PASS else EXIT_FINDINGS)


def _hostile(text: str) -> tuple[str, ...]:
    from zdd_migrate.verify.hostile import CONDITIONS

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if names == ("all",):
        return tuple(CONDITIONS)
    for name in names:
        if name not in CONDITIONS:
            raise InputError(f"--hostile {name}: choose all, or some of {', '.join(CONDITIONS)}")
    return tuple(dict.fromkeys(names))


def show(verdict: Verdict, format_: str, path: Path) -> None:
    """Print a verdict on what stands at `path`."""
    from zdd_migrate.formats import render_verdict
    from zdd_migrate.formats import verdict as formats

    if format_ == "text":
        click.echo(formats.render(verdict, style=style, width=width()))
    else:
        click.echo(render_verdict(verdict, format_, path.name, _plan_at(path)).rstrip("\n"))


def _plan_at(path: Path) -> Plan | None:
    from zdd_migrate.plan.directory import read

    return read(path) if (path / "plan.yaml").is_file() else None


def _write_outputs(request: Request, verdict: Verdict, plan: Plan | None) -> None:
    from zdd_migrate.formats import render_verdict

    for form, file in request.outputs:
        write_whole(file, render_verdict(verdict, form, request.path.name, plan))


def verify(request: Request) -> Verdict:
    """Do it; a plan's verdict is written into its directory."""
    if not request.path.exists():
        raise InputError(f"{request.path}: no such plan or migration")
    is_plan = (request.path / "plan.yaml").is_file()
    return _plan(request) if is_plan else _migration(request)


def _plan(request: Request) -> Verdict:
    from zdd_migrate.plan.directory import plan_hash, read
    from zdd_migrate.verify.walk import verify_plan

    plan = read(request.path)
    config = config_for([str(request.path)])
    schema_sql = starting_sql(request, config, plan.before)

    def run(stack: ExitStack) -> Verdict:
        common = _common(request, config, stack)
        found = _server(request, config, stack)
        return verify_plan(plan, schema_sql=schema_sql, server=found, **common)

    verdict = _reached(request, config, run, plan=plan_hash(request.path), schema=schema_sql)
    from zdd_migrate.formats.verdict import to_dict

    result = {**to_dict(verdict), "plan_hash": plan_hash(request.path)}
    text = json.dumps(result, indent=2, ensure_ascii=False)
    write_whole(request.path / "verdict.json", text)
    _write_outputs(request, verdict, plan)
    return verdict


def _server(request: Request, config: Config, stack: ExitStack) -> Server:
    """The server to try it on, with a pooler before it if one was asked for."""
    from zdd_migrate.postgres.servers import server

    found = stack.enter_context(server(request.postgres, major=request.major))
    if is_pooled(request, config):
        from zdd_migrate.postgres.pooler import pooled

        stack.enter_context(pooled(found))
    return found


def _migration(request: Request) -> Verdict:
    from zdd_migrate.verify.walk import verify_migration

    paths = [str(request.path)]
    config = config_for(paths)
    migrations = read_migrations(paths, config.source)
    statements = [s for m in migrations for s in m.statements]
    if not statements:
        raise InputError(f"{request.path}: nothing to verify: it holds no statement")
    _, history = starting_schema(None, paths, config) if request.schema is None else (None, "")
    schema_sql = starting_sql(request, config, history)
    in_transaction = all(s.in_transaction for s in statements)
    sources = [s.sql for s in statements]

    def run(stack: ExitStack) -> Verdict:
        common = _common(request, config, stack)
        found = _server(request, config, stack)
        return verify_migration(
            sources,
            in_transaction=in_transaction,
            schema_sql=schema_sql,
            server=found,
            **common,
        )

    verdict = _reached(request, config, run, sources=sources, one=in_transaction, schema=schema_sql)
    _write_outputs(request, verdict, None)
    return verdict


def _reached(
    request: Request, config: Config, run: Callable[[ExitStack], Verdict], **parts: object
) -> Verdict:
    """The verdict kept from the same try before, else a new one. `parts` are what is tried."""
    from zdd_migrate.verify import remembered

    key = None
    if request.cache and not request.hostile:
        key = key_of(request, config, parts)
    kept = remembered.recall(key) if key is not None else None
    if kept is not None:
        return kept
    started = time.monotonic()
    with ExitStack() as stack:
        verdict = run(stack)
    verdict = replace(
        verdict,
        took_s=round(time.monotonic() - started, 1),
        notes=(*verdict.notes, *left_out(request, config)),
    )
    if key is not None:
        remembered.remember(key, verdict)
    return verdict


def _common(request: Request, config: Config, stack: ExitStack) -> dict[str, Any]:
    from zdd_migrate.verify.judge import Limits
    from zdd_migrate.verify.specs import versions
    from zdd_migrate.verify.walk import Effort

    say = _progress(request)
    code = {}
    for name, specs in (("old", request.old), ("new", request.new)):
        wanted, root = settings_of(request, name, specs, config)
        code[name] = versions(name, wanted, root, stack, say)
    return {
        **code,
        "seed_sql": seed_sql(request, config),
        "data": data_of(request, config),
        "laws": laws_of(config),
        "effort": replace(Effort.quick() if request.quick else Effort(), hostile=request.hostile),
        "limits": Limits(longest_wait_ms=request.longest_wait_ms),
        "say": say,
    }


def _progress(request: Request) -> Any:
    if request.quiet or not sys.stderr.isatty():
        return lambda _: None
    return lambda text: click.echo(f"\r\x1b[2K{text} …", nl=False, err=True)
