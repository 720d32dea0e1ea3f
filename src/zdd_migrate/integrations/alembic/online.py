"""Revisions that ask the database while they run: run on a scratch server, statements written down.

The history before them runs on an empty database of our own, as it was rendered; they themselves run
for real, each in its own transaction; env.py is not run. What a revision reads from tables decides what it does on real rows, which an
empty database cannot show: from there on it is not understood.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zdd_migrate.errors import ZddError
from zdd_migrate.grammar.queries import relations_read
from zdd_migrate.integrations.alembic.render import Capture, import_revision
from zdd_migrate.integrations.scratch import scratch_database
from zdd_migrate.model.names import QName
from zdd_migrate.model.statement import Statement
from zdd_migrate.operations import Operation
from zdd_migrate.operations.bodies import is_harmless
from zdd_migrate.operations.data_statement import DataStatement

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

    from zdd_migrate.integrations.alembic.project import Revision

#: no statement of a revision takes longer than this on an empty database, in milliseconds
_PATIENCE_MS = 30_000
_CATALOGS = ("pg_catalog", "information_schema")


def capture(
    history: Sequence[tuple[Revision, list[Statement] | None]], spec: str
) -> tuple[dict[str, list[Statement]], str]:
    """Statements of revisions by id, and why there are no more of them ("" when there are).

    `history` is everything up to the last of them, in order, with what each was rendered as; None
    asks for it. `spec` is the server, as `--postgres` names it.
    """
    found: dict[str, list[Statement]] = {}
    revision = history[0][0]
    try:
        with scratch_database(spec) as (running, database):
            for revision, statements in history:
                if statements is not None:
                    with running.connect(database) as raw:
                        for statement in statements:
                            raw.execute(statement.sql.encode())
                    continue
                one = _Recorder(revision)
                with _connected(running.dsn(database)) as connection:
                    one.run(connection)
                found[revision.id] = one.capture.statements
    except ZddError as error:
        return found, str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | MemoryError):
            raise
        return found, f"{revision.path.name} fails on an empty database: {_one_line(error)}"
    return found, ""


@contextlib.contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        dsn.replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=NullPool,
        connect_args={"options": f"-c statement_timeout={_PATIENCE_MS}"},
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


class _Recorder:
    """One revision, run for real."""

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.capture = Capture(revision)
        self.context: MigrationContext | None = None

    def run(self, connection: Connection) -> None:
        """Run `upgrade()`, writing down what it says to the database."""
        from alembic.config import Config
        from alembic.operations import Operations
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory
        from sqlalchemy import event

        script = ScriptDirectory(str(self.revision.path.parent))
        with (
            open(os.devnull, "w") as nowhere,  # noqa: PTH123  os.devnull is a name, no path
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            EnvironmentContext(Config(), script) as environment,
        ):
            environment.configure(connection=connection, transaction_per_migration=True)
            context = environment.get_context()
            event.listen(connection, "before_cursor_execute", self._executes)
            with (
                context.begin_transaction(_per_migration=True),
                Operations.context(context),
            ):
                import_revision(self.revision).upgrade()

    def _executes(
        self, connection: Connection, cursor: Any, text: str, parameters: Any, *_: Any
    ) -> None:
        sets = parameters if isinstance(parameters, list) else [parameters]
        for values in sets[:1] or [None]:
            self._statement(connection, _literal(cursor, text, values))

    def _statement(self, connection: Connection, text: str) -> None:
        driver = connection.connection.driver_connection
        alone = bool(getattr(driver, "autocommit", False))
        if alone and self.capture.in_transaction:
            self.capture.end_transaction()
        elif not alone and not self.capture.in_transaction:
            self.capture.begin_transaction()
        before = len(self.capture.statements)
        self.capture.statement(text)
        fresh = self.capture.statements[before:]
        if fresh and all(_asks_the_catalogs(o) for s in fresh for o in s.operations):
            del self.capture.statements[before:]
        elif any(_reads_rows(o) for s in fresh for o in s.operations):
            self.capture.statements.append(
                self.capture.not_understood(
                    "what this revision does depends on rows that it reads here, and was seen on "
                    "an empty database only"
                )
            )


def _literal(cursor: Any, text: str, values: Any) -> str:
    """The statement as Postgres gets to see it, values in their places."""
    if not values:
        return text
    import psycopg

    return psycopg.ClientCursor(cursor.connection).mogrify(text, values)


def _asks_the_catalogs(operation: Operation) -> bool:
    """Whether it is a SELECT of nothing but the catalogs: an inspector's."""
    return (
        isinstance(operation, DataStatement)
        and operation.doing.verb == "select"
        and all(is_harmless(name) for name in operation.calls)
        and not _tables_read(operation)
    )


def _reads_rows(operation: Operation) -> bool:
    return (
        isinstance(operation, DataStatement)
        and operation.doing.verb == "select"
        and bool(_tables_read(operation))
    )


def _tables_read(operation: DataStatement) -> list[QName]:
    """Tables it reads, the catalogs left out."""
    return [
        name
        for name in relations_read(operation.text)
        if name.schema not in _CATALOGS
        and not (name.schema is None and name.name.startswith("pg_"))
    ]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
