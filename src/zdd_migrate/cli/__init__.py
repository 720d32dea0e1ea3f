"""The command line: arguments in, exit status out. One module a verb, imported when called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from zdd_migrate import __version__
from zdd_migrate.errors import EXIT_ENVIRONMENT, EXIT_INPUT, ZddError

#: verb → one line of help; the module of that name holds `command`
VERBS = {
    "check": "say what a migration breaks, locks and loses",
    "explain": "say what Postgres will do, statement by statement",
    "trace": "measure what Postgres does, on a scratch database",
    "plan": "rewrite a migration into expand, migrate, switch, contract",
    "verify": "try a plan or a migration on a real Postgres with both code versions",
    "ci": "check what a branch changes, plan what is unsafe, try the plans",
    "apply": "run one phase of a plan on a database",
    "status": "say how far a plan has come on a database",
    "undo": "walk a plan back",
    "snapshot": "save a database's schema and sizes to a file that a repository can keep",
    "rules": "list the rules, or show one",
    "init": "write a first configuration",
    "doctor": "say what this machine has for each part of the tool",
    "demo": "run the whole idea on a small web shop",
}


class _Verbs(click.Group):
    """The group; a verb's module is imported when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name = f"zdd_migrate.cli.{cmd_name}"
        try:
            command = import_module(name).command
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise click.UsageError(f"{cmd_name} is not part of this installation") from None
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="zdd-migrate")
def cli() -> None:
    """Schema migrations for Postgres that never break the version still running."""


def main() -> None:
    """Entry point of `zdd-migrate`: every error becomes one line and its exit status."""
    run(cli, "zdd-migrate")


def run(group: click.Group, program: str) -> None:
    """Run a command group; errors become one line on stderr and the contract's exit status."""
    try:
        result = group.main(prog_name=program, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        _say(program, "interrupted")
        sys.exit(130)
    except KeyboardInterrupt:
        _say(program, "interrupted")
        sys.exit(130)
    except click.ClickException as error:
        _say(program, error.format_message())
        sys.exit(EXIT_INPUT)
    except ZddError as error:
        _say(program, str(error))
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        _say(program, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(EXIT_ENVIRONMENT)


def _say(program: str, message: str) -> None:
    click.echo(f"{program}: {' '.join(message.split())}", err=True)
