"""The house is in order: layers hold, every room is listed, start-up stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from zdd_migrate import operations

ROOT = Path(__file__).parents[1]
#: modules of `operations` that are no rooms
SHARED = {
    "__init__",
    "base",
    "bodies",
    "bounds",
    "builtins",
    "facts",
    "heads",
    "partition_makers",
    "refusals",
    "renaming",
    "rows",
    "waiting",
    "walk",
}


def test_layers_hold() -> None:
    """import-linter's contracts are kept, and every module is placed."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:]


def test_every_room_is_listed() -> None:
    """A file in operations/ that is not in ROOMS would read nothing, silently."""
    there = {p.stem for p in (ROOT / "src/zdd_migrate/operations").glob("*.py")} - SHARED

    assert there == set(operations.ROOMS)
    assert list(operations.ROOMS) == sorted(operations.ROOMS)


def test_heads_are_what_the_rooms_read() -> None:
    """Words lead to the room that reads them, without importing the others."""
    for table in ("READS", "TABLE_ACTIONS", "COLUMN_ACTIONS"):
        written = getattr(operations.heads, table)
        assert written == operations.offered(table), f"{table}: run python tools/heads"


def test_check_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    """`check` imports click and our own code: no driver, ORM, YAML or terminal library, no planning,
    and sqlglot where an expression or a query is to be understood.
    """
    migration = tmp_path / "1.sql"
    migration.write_text("ALTER TABLE users ADD COLUMN a int;\n")
    program = (
        "import sys\n"
        "from zdd_migrate.cli import cli\n"
        f"cli.main(['check', {str(migration)!r}, '--fail-on', 'never'], standalone_mode=False)\n"
        "heavy = {'sqlalchemy', 'alembic', 'psycopg', 'rich', 'yaml', 'sqlglot', 'hashlib',\n"
        "         'zdd_migrate.model.plan', 'zdd_migrate.blocks.draft',\n"
        "         'zdd_migrate.operations.create_view'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_every_verb_has_its_module_or_says_so() -> None:
    """A verb in the help either works or ends with one line, never a traceback."""
    from click.testing import CliRunner

    from zdd_migrate.cli import VERBS, cli

    for verb in VERBS:
        result = CliRunner().invoke(cli, [verb, "--help"])
        assert result.exit_code == 0, verb
