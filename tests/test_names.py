"""Public words: what scripts and CI jobs call does not change by accident."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from zdd_migrate import errors
from zdd_migrate.cli import VERBS, cli
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.plan import Phase

ROOT = Path(__file__).parents[1]


def _command(verb: str) -> click.Command:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command


def _options(verb: str) -> dict[str, click.Parameter]:
    return {name: p for p in _command(verb).params for name in p.opts}


def test_the_promised_commands_are_there() -> None:
    """Each can be loaded; what is listed in the help is what there is."""
    promised = {"check", "explain", "plan", "verify", "apply", "status", "undo", "rules", "init"}

    assert promised | {"doctor", "demo"} <= set(VERBS)
    for verb in VERBS:
        assert _command(verb).name == verb


@pytest.mark.parametrize(
    "verb", ["check", "explain", "plan", "verify", "apply", "status", "undo", "rules", "doctor"]
)
def test_a_command_speaks_text_and_json(verb: str) -> None:
    """`--format text|json` and `--quiet`, text being the default."""
    options = _options(verb)

    kind = options["--format"].type
    assert isinstance(kind, click.Choice)
    assert {"text", "json"} <= set(kind.choices)
    assert options["--format"].default == "text"
    assert "--quiet" in options


@pytest.mark.parametrize(
    ("verb", "wanted"),
    [
        ("check", {"--schema", "--history", "--pg-version", "--source", "--fail-on"}),
        ("explain", {"--schema", "--pg-version"}),
        ("plan", {"-o", "--schema", "--up", "--down", "--fill"}),
        ("verify", {"--schema", "--old", "--new", "--postgres", "--pg-version"}),
        ("apply", {"--phase", "--database", "--dry-run", "--approve"}),
        ("status", {"--database"}),
        ("undo", {"--database", "--to"}),
    ],
)
def test_a_command_takes_the_options_that_scripts_use(verb: str, wanted: set[str]) -> None:
    """An option that is renamed breaks somebody's gate."""
    assert wanted <= set(_options(verb))


def test_exit_statuses() -> None:
    """0 safe or done, 1 findings, 2 input, 3 environment; each error ends with its own."""
    assert (errors.EXIT_OK, errors.EXIT_FINDINGS) == (0, 1)
    assert (errors.EXIT_INPUT, errors.EXIT_ENVIRONMENT) == (2, 3)
    assert errors.FindingsError("").exit_status == 1
    assert errors.PlanMovedError("").exit_status == 2
    assert errors.NoServerError("").exit_status == 3
    assert errors.LockNotObtainedError("").exit_status == 3


def test_phases_and_lock_modes_are_spelled_as_promised() -> None:
    """Phases in their order; lock modes as pg_locks spells them, weakest first."""
    assert [phase.value for phase in Phase] == ["expand", "migrate", "switch", "contract"]
    assert [str(mode) for mode in sorted(LockMode, key=lambda mode: mode.strength)] == [
        "AccessShareLock",
        "RowShareLock",
        "RowExclusiveLock",
        "ShareUpdateExclusiveLock",
        "ShareLock",
        "ShareRowExclusiveLock",
        "ExclusiveLock",
        "AccessExclusiveLock",
    ]


def test_names_say_what_a_thing_is() -> None:
    """No class or module is named after nothing in particular."""
    vague = re.compile(r"^\s*class \w*(Manager|Handler|Helper|Util)s?\b", re.MULTILINE)
    files = [
        p
        for package in ("zdd_migrate", "zdd_deploy")
        for p in (ROOT / "src" / package).rglob("*.py")
    ]

    assert len(files) > 50
    assert [p.name for p in files if p.stem in {"utils", "util", "helpers", "common", "misc"}] == []
    assert [p.name for p in files if vague.search(p.read_text("utf-8"))] == []
