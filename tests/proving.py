"""A plan run on a real server: all the way back, then all the way through, compared by catalog."""

from __future__ import annotations

from zdd_migrate.apply.steps import run_step, undo_step
from zdd_migrate.model.plan import Plan
from zdd_migrate.postgres.compare import differences, snapshot
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.statements import read_sql


def run_script(server: Server, database: str, sql: str) -> None:
    """Run SQL statement by statement, each by itself."""
    with server.connect(database) as connection:
        for statement in read_sql(sql, "script.sql").statements:
            connection.execute(statement.sql.encode())


def there_and_back(
    plan: Plan, migration: str, server: Server, start: str
) -> tuple[list[str], list[str]]:
    """What differs from the start once all that can be undone is, and from the plain migration's
    end once all is done. `start` is a database that nobody is connected to."""
    steps = [step for _, step in plan.all_steps()]
    reversible = [step for step in steps if step.undo is not None]
    plain, trial = (server.create_database(template=start) for _ in range(2))
    run_script(server, plain, migration)
    with server.connect(plain) as connection:
        end = snapshot(connection)
    with server.connect(trial) as connection:
        begin = snapshot(connection)
        for step in reversible:
            run_step(connection, step)
        for step in reversed(reversible):
            undo_step(connection, step)
        undone = differences(begin, snapshot(connection), leaving=dict(plan.leaves))
        for step in steps:
            run_step(connection, step)
        done = differences(end, snapshot(connection))
    server.drop_database(plain)
    server.drop_database(trial)
    return undone, done
