"""`zdd-deploy`: arguments in, exit status out. One module a verb, imported when called."""

from __future__ import annotations

from importlib import import_module

import click

from zdd_migrate import __version__
from zdd_migrate.cli import run

#: verb → (its module, one line of help)
VERBS = {
    "run": ("run", "release a verified plan, or go on with a release"),
    "status": ("status", "say where the release stands, and what runs"),
    "pause": ("commands", "stop the release before its next step"),
    "resume": ("commands", "let a paused or frozen release go on"),
    "promote": ("commands", "say yes to what the release waits for"),
    "abort": ("commands", "take the release back: traffic first"),
    "demo": ("demo", "release the web shop's rename under load"),
}


class _Verbs(click.Group):
    """The group; a verb's module is imported when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(import_module(f"zdd_deploy.cli.{VERBS[cmd_name][0]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, words) for verb, (_, words) in VERBS.items()])


@click.group(
    cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="zdd-deploy")
def cli() -> None:
    """Release a verified plan and its code together, without one failed request."""


def main() -> None:
    """Entry point of `zdd-deploy`: every error becomes one line and its exit status."""
    run(cli, "zdd-deploy")
