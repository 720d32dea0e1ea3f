"""How long one changed file takes: check alone, and through pre-commit, beside peers.

    python benchmarks/startup.py [RUNS]

Peers are measured when they are on the PATH (`pip install squawk-cli`). The floor is
`python -c "import sqlglot.dialects.postgres"`, which any tool on sqlglot has to pay.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Command, in_turn, machine, table

HERE = Path(__file__).resolve().parent.parent
#: a history as projects have it: tables, then changes of them; the last file is the changed one
HISTORY = [
    "CREATE TABLE customers (id bigserial PRIMARY KEY, email text NOT NULL, name text);",
    "CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id bigint REFERENCES customers);",
    *(f"ALTER TABLE orders ADD COLUMN note_{n} text;" for n in range(40)),
    "ALTER TABLE orders ADD COLUMN state text;\nCREATE INDEX orders_state_idx ON orders (state);",
]


def repository(root: Path) -> Path:
    """A git repository with the history, and the hook of this checkout in its configuration."""
    migrations = root / "migrations"
    migrations.mkdir()
    for number, sql in enumerate(HISTORY):
        (migrations / f"{number:04}.sql").write_text(sql + "\n")
    git = ["git", "-C", str(root), "-c", "user.name=b", "-c", "user.email=b@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    revision = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (root / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {HERE.as_uri()}\n  rev: {revision}\n  hooks:\n  - id: zdd-migrate\n"
    )
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "history"], check=True)
    return migrations / f"{len(HISTORY) - 1:04}.sql"


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        changed = repository(root)
        python, bin_ = sys.executable, Path(sys.executable).parent
        floor = "import sqlglot.dialects.postgres"
        alone = root / "one.sql"
        alone.write_text(HISTORY[-1] + "\n")
        commands = {
            floor: Command([python, "-c", floor], root),
            "zdd-migrate check one.sql, alone": Command(
                [str(bin_ / "zdd-migrate"), "check", str(alone)], root
            ),
            "zdd-migrate check FILE, after 42 others": Command(
                [str(bin_ / "zdd-migrate"), "check", str(changed)], root
            ),
            "zdd-migrate check, through pre-commit": Command(
                [str(bin_ / "pre-commit"), "run", "zdd-migrate", "--files", str(changed)], root
            ),
        }
        nothing = root / "nothing.txt"
        nothing.write_text("")
        commands["pre-commit with nothing to check"] = Command(
            [str(bin_ / "pre-commit"), "run", "zdd-migrate", "--files", str(nothing)], root
        )
        if (squawk := shutil.which("squawk")) is not None:
            commands["squawk FILE"] = Command([squawk, str(changed)], root)
        figures = in_turn(commands, runs)
    print(f"{machine()}, median of {runs} runs in turn\n")
    print(table(figures, floor))


if __name__ == "__main__":
    main()
