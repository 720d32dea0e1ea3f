"""What is shipped: the wheel holds what the checkout holds, and works from where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]
#: directories of the checkout that the wheel holds inside the package
INCLUDED: dict[str, str] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]


def _run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as an index's users get it, not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(out), cwd=ROOT)
    (sdist,) = out.glob("*.tar.gz")
    _run(sys.executable, "-m", "tarfile", "-e", str(sdist), str(out), cwd=out)
    unpacked = out / sdist.name.removesuffix(".tar.gz")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out), cwd=unpacked)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_rule_and_the_story(wheel: Path) -> None:
    """A wheel without its rules would find nothing and say all is well."""
    assert set(INCLUDED) >= {"rules", "fixtures/shop"}
    for source, target in INCLUDED.items():
        ours = {f"{target}/{name}" for name in _files(ROOT / source)}
        shipped = {name for name in _names(wheel) if name.startswith(f"{target}/")}

        assert shipped == ours, source
    rules = [name for name in _names(wheel) if name.startswith("zdd_migrate/rules/ZDD")]
    assert len(rules) >= 15


def test_the_wheel_holds_both_packages_whole(wheel: Path) -> None:
    """Every module of the checkout, the typing markers, and nothing that is not ours."""
    packages = ("zdd_migrate", "zdd_deploy")
    ours = {f"{package}/{name}" for package in packages for name in _files(ROOT / "src" / package)}

    shipped = set(_names(wheel))

    assert {"zdd_migrate/py.typed", "zdd_deploy/py.typed"} <= ours
    assert ours <= shipped
    roots = {name.split("/")[0] for name in shipped}
    assert roots == {*packages, f"zdd_migrate-{PROJECT['version']}.dist-info"}


def test_the_wheel_offers_the_commands_that_the_project_declares(wheel: Path) -> None:
    """Every declared entry point, under its name, and each is there to be imported."""
    text = _read(wheel, f"zdd_migrate-{PROJECT['version']}.dist-info/entry_points.txt")
    parser = ConfigParser(delimiters=("=",))
    parser.read_string(text)

    assert dict(parser["console_scripts"]) == PROJECT["scripts"]
    for group, declared in PROJECT.get("entry-points", {}).items():
        assert dict(parser[group]) == declared
    for reference in PROJECT["scripts"].values():
        module, name = reference.split(":")
        _run(sys.executable, "-c", f"from {module} import {name}", cwd=wheel.parent)


def test_the_installed_wheel_finds_its_rules(wheel: Path, tmp_path: Path) -> None:
    """Away from any checkout, the command lists the rules that came with it."""
    site = tmp_path / "site"
    _run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(site), cwd=tmp_path)

    listed = _run(
        sys.executable,
        "-c",
        "import zdd_migrate, zdd_migrate.rulebook as book;"
        "print(zdd_migrate.__file__, zdd_migrate.__version__, *(r.id for r in book.own_rules()))",
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )

    where, version, *rules = listed.split()
    assert Path(where).is_relative_to(tmp_path)
    assert version == PROJECT["version"]
    assert rules == sorted(path.name[:6] for path in (ROOT / "rules").glob("ZDD*.md"))


def test_the_sdist_is_the_source_and_nothing_else(wheel: Path) -> None:
    """No environment, cache or output of a run is shipped with the source."""
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = ["/".join(name.split("/")[1:]) for name in archive.getnames()]

    unwanted = re.compile(r"(^|/)(\.venv|__pycache__|\.\w+_cache|\.hypothesis|demo-output)(/|$)")
    assert [name for name in names if unwanted.search(name)] == []
    assert {"LICENSE", "README.md", "pyproject.toml"} <= set(names)


def test_the_pre_commit_hooks_start_a_command_that_exists() -> None:
    """A hook whose entry is not installed fails in every repository that uses it."""
    for hook in _hooks().values():
        program, verb = hook["entry"].split()

        assert program in PROJECT["scripts"]
        assert (ROOT / "src/zdd_migrate/cli" / f"{verb}.py").is_file()


def test_the_pre_commit_hooks_run_where_they_can() -> None:
    """SQL is read in an environment of its own; revisions import the project, so in its own."""
    languages = {name: hook["language"] for name, hook in _hooks().items()}

    assert languages == {"zdd-migrate": "python", "zdd-migrate-alembic": "system"}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("migrations/0002_rename.sql", {"zdd-migrate"}),
        ("db/migration/V2__rename.sql", {"zdd-migrate"}),
        ("prisma/migrations/2_rename/migration.sql", {"zdd-migrate"}),
        ("alembic/versions/8c1f_rename.py", {"zdd-migrate-alembic"}),
        ("shop/models.py", set()),
        ("docs/migrations.md", set()),
    ],
)
def test_the_pre_commit_hooks_are_given_migrations(path: str, wanted: set[str]) -> None:
    """SQL and revisions where migrations live, and nothing that is none."""
    given = {name for name, hook in _hooks().items() if re.search(hook["files"], path)}

    assert given == wanted


def _hooks() -> dict[str, dict[str, str]]:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    return {hook["id"]: hook for hook in hooks}


def _files(directory: Path) -> set[str]:
    """Files below a directory, without what running them leaves behind."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not {"__pycache__", ".zdd"} & set(path.parts)
    }


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()
