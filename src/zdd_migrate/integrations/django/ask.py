"""Run inside the user's project by `manage.py shell`: asks Django for its migrations' SQL.

What is asked stands in the environment as JSON: `wanted` (paths of migration files; none for all),
`database` (parameters of a scratch database; none for the project's own). The answer is one line
of JSON behind a mark. Nothing of zdd-migrate is imported: it need not be installed there.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import Any

MARK = "zdd-migrate:"


def main() -> None:
    """Answer."""
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader

    asked = json.loads(os.environ["ZDD_MIGRATE_DJANGO"])
    if connection.vendor != "postgresql":
        _answer({"error": f"the project's default database is {connection.vendor}, not Postgres"})
        return
    if asked["database"]:
        connection.settings_dict.update(asked["database"])
    loader = MigrationLoader(None, replace_migrations=False)
    files = {
        key: os.path.realpath(inspect.getfile(type(migration)))
        for key, migration in loader.graph.nodes.items()
        if migration is not None
    }
    wanted = {os.path.realpath(path) for path in asked["wanted"]}
    chosen = [key for key in files if not wanted or files[key] in wanted]
    order: dict[tuple[str, str], None] = {}
    for key in sorted(chosen):
        order.update(dict.fromkeys(loader.graph.forwards_plan(key)))
    rendered = _render([loader.graph.nodes[key] for key in order], run=bool(asked["database"]))
    migrations = [
        {
            "app": app,
            "name": name,
            "path": files[app, name],
            "wanted": (app, name) in chosen,
            "atomic": loader.graph.nodes[app, name].atomic,
            "sql": sql,
            "error": error,
        }
        for (app, name), (sql, error) in zip(order, rendered, strict=True)
    ]
    _answer({"migrations": migrations})


def _render(migrations: list[Any], *, run: bool) -> list[tuple[str, str]]:
    """(what sqlmigrate would print, why it cannot) of each migration, in order.

    Operations look constraints up in the database and leave out, in silence, what they do not find:
    it has to be where they begin, so each migration is run after it was rendered.
    """
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.state import ProjectState

    executor = MigrationExecutor(connection)
    state = ProjectState()
    found: list[tuple[str, str]] = []
    stopped = ""
    for migration in migrations:
        try:
            if stopped:
                found.append(("", stopped))
                continue
            with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
                after = migration.apply(state.clone(), editor, collect_sql=True)
            found.append(("\n".join(editor.collected_sql), ""))
        except BaseException as error:
            _let_go(error)
            found.append(("", _one_line(error)))
            after = migration.mutate_state(state, preserve=True)
        if run:
            try:
                after = executor.apply_migration(state, migration)
            except BaseException as error:
                _let_go(error)
                stopped = (
                    f"{migration} before it does not run on a scratch database: {_one_line(error)}"
                )
        state = after
    return found


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _let_go(error: BaseException) -> None:
    """Migrations can raise anything, and that is the answer; what stops the process is not."""
    if isinstance(error, KeyboardInterrupt | MemoryError):
        raise error


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")


if __name__ != "zdd_migrate.integrations.django.ask":  # that is: where it is run, not imported
    main()
