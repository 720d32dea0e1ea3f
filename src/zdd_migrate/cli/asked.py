"""What verify is asked to try, from its options and from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_migrate.cli.options import is_dsn
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Law, Phase

if TYPE_CHECKING:
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


def is_pooled(request: Request, config: Config) -> bool:
    """Whether clients go through a pooler: as the option or the configuration says."""
    configured = config.raw.get("verify", {}).get("pooled", False)
    if not isinstance(configured, bool):
        raise InputError(f"verify.pooled must be true or false, not {configured!r}")
    return request.pooled or configured


def key_of(request: Request, config: Config, parts: Mapping[str, object]) -> str | None:
    """What the verdict depends on; None where a version's content cannot be known beforehand."""
    from zdd_migrate.postgres.servers import version_of
    from zdd_migrate.verify import remembered

    data = data_of(request, config)
    if data.sample is not None:
        return None  # nobody knows what is in the other database now
    trees = []
    content: dict[str, object] = {
        **parts,
        "seed": (seed_sql(request, config), data.seed),
        "laws": laws_of(config),
        "effort": (request.quick, request.programs, request.longest_wait_ms),
        "pooled": is_pooled(request, config),
    }
    for name, specs in (("old", request.old), ("new", request.new)):
        wanted, root = settings_of(request, name, specs, config)
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


def settings_of(
    request: Request, name: str, specs: Sequence[str], config: Config
) -> tuple[Settings, Path]:
    """What is known of a version, and where its relative paths start."""
    from zdd_migrate.verify.specs import settings

    wanted = settings(name, specs, config.versions.get(name, {}))
    if request.quick and not request.programs and not specs:
        wanted = wanted.without_programs()
    return wanted, Path.cwd() if specs else config.root


def left_out(request: Request, config: Config) -> tuple[str, ...]:
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


def seed_sql(request: Request, config: Config) -> str | None:
    """SQL that fills the tables, from a file or an archive; None where only a number is given."""
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


def data_of(request: Request, config: Config) -> Data:
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


def laws_of(config: Config) -> list[Law]:
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


def starting_sql(request: Request, config: Config, otherwise: str) -> str:
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
