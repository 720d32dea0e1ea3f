"""`zdd-migrate verify`: a plan or a migration tried on a real Postgres."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zdd_migrate.cli.options import (
    config_for,
    format_option,
    is_dsn,
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
from zdd_migrate.model.plan import Law, Phase, Plan
from zdd_migrate.model.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from zdd_migrate.postgres.servers import Server
    from zdd_migrate.verify.specs import Settings
    from zdd_migrate.verify.stage import Data
    from zdd_migrate.verify.versions import CodeVersion


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify, and how."""

    path: Path
    schema: str | None
    old: tuple[str, ...]
    new: tuple[str, ...]
    postgres: str
    major: int | None
    seed: str | None
    quick: bool
    longest_wait_ms: float
    quiet: bool
    outputs: tuple[tuple[str, Path], ...] = ()
    hostile: tuple[str, ...] = ()
    #: whether a quick try runs the versions' programs too
    programs: bool = False
    cache: bool = True
    data: str | None = None
    pooled: bool = False


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
    schema_sql = _schema_sql(request, config, plan.before)

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


def _pooled(request: Request, config: Config) -> bool:
    configured = config.raw.get("verify", {}).get("pooled", False)
    if not isinstance(configured, bool):
        raise InputError(f"verify.pooled must be true or false, not {configured!r}")
    return request.pooled or configured


def _server(request: Request, config: Config, stack: ExitStack) -> Server:
    """The server to try it on, with a pooler before it if one was asked for."""
    from zdd_migrate.postgres.servers import server

    found = stack.enter_context(server(request.postgres, major=request.major))
    if _pooled(request, config):
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
    schema_sql = _schema_sql(request, config, history)
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
        key = _key(request, config, parts)
    kept = remembered.recall(key) if key is not None else None
    if kept is not None:
        return kept
    started = time.monotonic()
    with ExitStack() as stack:
        verdict = run(stack)
    verdict = replace(
        verdict,
        took_s=round(time.monotonic() - started, 1),
        notes=(*verdict.notes, *_left_out(request, config)),
    )
    if key is not None:
        remembered.remember(key, verdict)
    return verdict


def _key(request: Request, config: Config, parts: Mapping[str, object]) -> str | None:
    """What the verdict depends on; None where a version's content cannot be known beforehand."""
    from zdd_migrate.postgres.servers import version_of
    from zdd_migrate.verify import remembered

    data = _data(request, config)
    if data.sample is not None:
        return None  # nobody knows what is in the other database now
    trees = []
    content: dict[str, object] = {
        **parts,
        "seed": (_seed(request, config), data.seed),
        "laws": _laws(config),
        "effort": (request.quick, request.programs, request.longest_wait_ms),
        "pooled": _pooled(request, config),
    }
    for name, specs in (("old", request.old), ("new", request.new)):
        wanted, root = _settings(request, name, specs, config)
        content[name] = wanted
        if wanted.revision is not None:
            commit = remembered.revision_of(root / wanted.directory, wanted.revision)
            if commit is None:
                return None
            content[f"{name} commit"] = commit
        elif wanted.command or wanted.models or wanted.queries or wanted.start:
            trees.append(root / wanted.directory)
    server = version_of(request.postgres, major=request.major)
    return remembered.key_of(content, trees, server)


def _settings(
    request: Request, name: str, specs: Sequence[str], config: Config
) -> tuple[Settings, Path]:
    """What is known of a version, and where its relative paths start."""
    from zdd_migrate.verify.specs import settings

    wanted = settings(name, specs, config.versions.get(name, {}))
    if request.quick and not request.programs and not specs:
        wanted = wanted.without_programs()
    return wanted, Path.cwd() if specs else config.root


def _left_out(request: Request, config: Config) -> tuple[str, ...]:
    """What a quick try does not say anything about."""
    if not request.quick or request.programs:
        return ()
    names = [
        name
        for name, specs in (("old", request.old), ("new", request.new))
        if not specs and {"command", "models", "start"} & set(config.versions.get(name, {}))
    ]
    if not names:
        return ()
    return (f"--quick: the programs and models of {' and '.join(names)} code were not run",)


def _common(request: Request, config: Config, stack: ExitStack) -> dict[str, Any]:
    from zdd_migrate.verify.judge import Limits
    from zdd_migrate.verify.specs import versions
    from zdd_migrate.verify.walk import Effort

    say = _progress(request)
    code = {}
    for name, specs in (("old", request.old), ("new", request.new)):
        wanted, root = _settings(request, name, specs, config)
        code[name] = versions(name, wanted, root, stack, say)
    return {
        **code,
        "seed_sql": _seed(request, config),
        "data": _data(request, config),
        "laws": _laws(config),
        "effort": replace(Effort.quick() if request.quick else Effort(), hostile=request.hostile),
        "limits": Limits(longest_wait_ms=request.longest_wait_ms),
        "say": say,
    }


def _progress(request: Request) -> Any:
    if request.quiet or not sys.stderr.isatty():
        return lambda _: None
    return lambda text: click.echo(f"\r\x1b[2K{text} …", nl=False, err=True)


def _seed(request: Request, config: Config) -> str | None:
    named = request.seed
    if named is None:
        configured = config.raw.get("verify", {}).get("seed")
        named = str(config.root / configured) if isinstance(configured, str) else None
    if named is None or named.isdigit():
        return None
    from zdd_migrate.postgres.archives import is_archive, rows_of

    path = Path(named)
    if not path.exists():
        raise InputError(f"{named}: no such seed file")
    if is_archive(path):
        return rows_of(path)
    if path.is_dir():
        raise InputError(f"{named}: a directory that pg_dump did not write")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{named}: neither SQL in UTF-8 nor an archive of pg_dump") from None


def _data(request: Request, config: Config) -> Data:
    """Where rows come from besides the seed file: a number to draw from, a database to sample."""
    from zdd_migrate.verify.sampling import Sample
    from zdd_migrate.verify.stage import Data

    table = config.raw.get("verify", {})
    given = request.seed or table.get("seed")
    seed = int(given) if isinstance(given, int) or str(given or "").isdigit() else 0
    source = request.data or table.get("data")
    if source is None:
        return Data(seed)
    if not is_dsn(str(source)):
        raise InputError(f"--data {source}: write a database URL; SQL files go with --seed")
    mask = table.get("mask")
    if mask is not None and not isinstance(mask, list):
        raise InputError("verify.mask must be a list of table.column; an empty one masks nothing")
    rows = table.get("sample", 2000)
    if not isinstance(rows, int) or rows < 1:
        raise InputError(f"verify.sample must be a number of rows, not {rows!r}")
    columns = tuple(map(str, mask)) if mask is not None else None
    return Data(seed, Sample(str(source), rows, columns))


def _laws(config: Config) -> list[Law]:
    """`[[verify.laws]]`: SQL that must return no row, from a phase on."""
    found = []
    for table in config.raw.get("verify", {}).get("laws", ()):
        unknown = set(table) - {"name", "query", "since", "until"}
        query = str(table.get("query", "")).strip().rstrip(";")
        if unknown or not query:
            raise InputError(
                "verify.laws: each has a query that must return no row, and may have name, since "
                f"and until (phases){f'; {sorted(unknown)[0]} is none of them' if unknown else ''}"
            )
        try:
            since, until = (
                Phase(table.get(key, default))
                for key, default in (("since", "expand"), ("until", "contract"))
            )
        except ValueError as error:
            raise InputError(f"verify.laws: {error}: expand, migrate, switch, contract") from None
        found.append(Law(str(table.get("name", query)), query, since, until))
    return found


def code_versions(
    specs_of: Mapping[str, Sequence[str]],
    config: Config,
    stack: ExitStack,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Sequence[CodeVersion]]:
    """Both versions as options or the configuration say, checked out and set up."""
    from zdd_migrate.verify.specs import settings, versions

    found: dict[str, Sequence[CodeVersion]] = {}
    for name, specs in specs_of.items():
        wanted = settings(name, specs, config.versions.get(name, {}))
        root = Path.cwd() if specs else config.root
        found[name] = versions(name, wanted, root, stack, say)
    return found


def _schema_sql(request: Request, config: Config, otherwise: str) -> str:
    """SQL that builds the starting schema: from --schema, the configuration, or the plan itself."""
    wanted = request.schema or (str(config.root / config.schema) if config.schema else None)
    if request.schema is None and otherwise.strip():
        return otherwise
    if wanted is None:
        raise InputError(
            f"{request.path}: the starting schema is not known; give it with --schema (SQL that "
            "builds it, a directory of earlier migrations, or a database URL)"
        )
    if is_dsn(wanted):
        return dump(wanted)
    if not Path(wanted).exists():
        raise InputError(f"{wanted}: no such schema file")
    from zdd_migrate.reading.schema_source import load_schema_file

    return load_schema_file(Path(wanted))[1]


def dump(dsn: str) -> str:
    """The schema of a live database as SQL, by pg_dump."""
    import subprocess

    from zdd_migrate.errors import EnvironmentFailedError
    from zdd_migrate.postgres import binaries

    places = [*binaries.system(), *binaries.embedded()]
    for place in places:
        program = place.directory / "pg_dump"
        if not program.exists():
            continue
        done = subprocess.run(
            [str(program), "--schema-only", "--no-owner", "--no-privileges", "-N", "zdd", dsn],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            lines = done.stdout.splitlines()
            return "\n".join(line for line in lines if not line.startswith("\\"))
    raise EnvironmentFailedError(
        "the schema of the database could not be dumped: no pg_dump here fits its version"
    )
