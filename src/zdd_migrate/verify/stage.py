"""The stage a trial plays on: databases with schema and rows, copied cheaply from one another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace

import psycopg

from zdd_migrate.blocks.quoting import quote_ident, quote_qname
from zdd_migrate.errors import EnvironmentFailedError, InputError
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.data_statement import DataStatement
from zdd_migrate.postgres import binaries
from zdd_migrate.postgres.catalog import read_schema
from zdd_migrate.postgres.compare import growth, snapshot
from zdd_migrate.postgres.servers import Server
from zdd_migrate.reading.schema_source import place
from zdd_migrate.reading.split import split
from zdd_migrate.reading.statements import read_sql
from zdd_migrate.verify.acknowledged import Tables, restless_columns
from zdd_migrate.verify.data import fill
from zdd_migrate.verify.objects import asked_of
from zdd_migrate.verify.own_faults import OwnFault, own_faults, told
from zdd_migrate.verify.sampling import Sample, copy_sample
from zdd_migrate.verify.shapes import Shape, changed_tables, shapes
from zdd_migrate.verify.versions import WRITER, CodeVersion, Synthetic
from zdd_migrate.verify.workers import Crew

_EXTENSION = re.compile(r'extension "([^"]+)" is not available', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Data:
    """Where rows come from: a sample of another database, else made up from a seed."""

    seed: int = 0
    sample: Sample | None = None


@dataclass(slots=True)
class Stage:
    """The starting database, and what the plain migration makes of it.

    `start` is the name of the database with schema and rows; `before`/`after` are the schemas,
    `end` the catalog that the plain migration reaches, `begin` the one it starts from. `old` and
    `new` are the tables as each code version sees them.
    """

    server: Server
    start: str
    before: Schema
    after: Schema
    begin: dict[str, str]
    end: dict[str, str] | None
    old: list[Shape]
    new: list[Shape]
    notes: list[str] = field(default_factory=list)
    #: whole statements of each made-up version about what is no table
    asks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: failures that made-up statements of a version have where nothing was changed yet (old) or
    #: all is done (new): their own fault
    own_faults: dict[str, frozenset[OwnFault]] = field(default_factory=dict)
    #: the rows of each table that has a key before anything happened, by key
    baseline: dict[QName, dict[tuple[str | None, ...], dict[str, str | None]]] = field(
        default_factory=dict
    )
    #: columns of those rows that the migration, or the code's own triggers, change themselves
    moved: frozenset[tuple[QName, str]] = frozenset()
    #: columns that change behind whoever writes a row: by the users' own triggers, or because the
    #: migration's own UPDATE overwrites them
    restless: frozenset[tuple[QName, str]] = frozenset()
    #: what the users' own triggers create when rows are written, numbers left out of the names
    grown: frozenset[str] = frozenset()
    #: what goes on finding out the rest of it: what new code does by itself, and what of the rows
    #: at the start the migration changes
    rest: Future[None] | None = None

    def whole(self) -> None:
        """Wait until all of it is known; raises what has kept that from being found out."""
        if self.rest is not None:
            self.rest.result()


def set_up(
    server: Server,
    schema_sql: str,
    sources: Sequence[str],
    *,
    seed_sql: str | None,
    rows: int,
    crew: Crew,
    given: Mapping[str, Sequence[CodeVersion]],
    beside: Executor,
    data: Data = Data(),
    origin: str = "the schema",
) -> Stage:
    """Build the starting database, fill it, and find out what the plain migration does."""
    crew.warm(WRITER, 2)
    start = server.create_database()
    with server.connect(start) as connection:
        run_script(connection, schema_sql, origin, server)
        before = read_schema(connection)
        begin = snapshot(connection)
    plain = server.create_database(template=start)
    notes: list[str] = []
    end: dict[str, str] | None
    with server.connect(plain) as connection:
        try:
            for statement in sources:
                connection.execute(_trusted(statement))
            after, end = read_schema(connection), snapshot(connection)
        except psycopg.Error as error:
            raise InputError(
                f"the migration does not run on this schema: {' '.join(str(error).split())[:200]}"
            ) from None
    server.drop_database(plain)
    written = _written(sources, before)
    old_tables, new_tables = changed_tables(before, after, [table for table, _ in written])
    with server.connect(start) as connection:
        if seed_sql is not None:
            run_script(connection, seed_sql, "the seed", server)
        if data.sample is not None:
            notes += copy_sample(connection, data.sample, before, old_tables)
        notes += _fill(
            connection, _as_both_want(before, after), old_tables, rows, sources, data.seed
        )
        # not the catalog's own tables, which is where most of the time would go
        for name, table in before.tables.items():
            if table.kind != "foreign":
                connection.execute(_trusted(f"ANALYZE {quote_qname(name)}"))
        old = [_with_nulls(connection, s) for s in shapes(before, old_tables, after)]
    stage = Stage(
        server,
        start,
        before,
        after,
        begin,
        end,
        old,
        shapes(after, new_tables, before),
        notes,
        asks={
            "old": asked_of(before, after, old_tables),
            "new": asked_of(after, before, new_tables),
        },
        restless=frozenset((table, column) for table, columns in written for column in columns),
    )
    _calibrate(stage, sources, crew, given, beside)
    return stage


def _written(sources: Sequence[str], before: Schema) -> list[tuple[QName, tuple[str, ...]]]:
    """The tables that are there before and whose rows the migration's own statements add to or
    update, with the columns that they overwrite."""
    found: list[tuple[QName, tuple[str, ...]]] = []
    for statement in read_sql(";\n".join(sources), "migration.sql").statements:
        for operation in statement.operations:
            if not isinstance(operation, DataStatement) or operation.relation is None:
                continue
            table = before.tables.get(before.resolve(operation.relation))
            named = [column.strip('"') for column, _ in operation.assignments]
            if table is None or not (operation.verb == "insert" or named):
                continue  # which rows or columns change is not known: nothing can be held to them
            found.append((table.name, tuple(c for c in named if table.column(c) is not None)))
    return found


def _fill(
    connection: psycopg.Connection,
    schema: Schema,
    tables: Sequence[QName],
    rows: int,
    sources: Sequence[str],
    seed: int,
) -> list[str]:
    """Make up rows; without the ends of ranges where those are all that the migration fails by."""
    with connection.transaction() as attempt:
        notes = fill(connection, schema, tables, rows, seed=seed)
        if _takes(connection, sources):
            return notes
        raise psycopg.Rollback(attempt)
    return fill(connection, schema, tables, rows, seed=seed, tame=True)


def _takes(connection: psycopg.Connection, sources: Sequence[str]) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            for statement in sources:
                connection.execute(_trusted(statement))
    except psycopg.errors.DataError:
        return False
    except psycopg.Error:
        return True  # it fails by something else, or runs in no transaction: seen by the walk
    return True


def _with_nulls(connection: psycopg.Connection, shape: Shape) -> Shape:
    """A shape that knows which of its columns hold NULLs."""
    able = [
        c.name
        for c in shape.columns
        if not c.not_null and c.name not in (*shape.key, *shape.checked)
    ]
    if not able:
        return shape
    tests = ", ".join(f"bool_or({quote_ident(c)} IS NULL)" for c in able)
    row = connection.execute(_trusted(f"SELECT {tests} FROM {quote_qname(shape.name)}")).fetchone()
    held = [c for c, has in zip(able, row or (), strict=False) if has]
    return replace(shape, nulls=shape.nulls | frozenset(held))


def _as_both_want(before: Schema, after: Schema) -> Schema:
    """The starting schema with what the end asks of the same columns besides.

    Rows are made up to satisfy it, as rows in production must before a constraint is validated.
    """
    merged = before.copy()
    for name, table in before.tables.items():
        later = after.tables.get(name)
        if later is None:
            continue
        names = {c.name for c in table.columns}
        columns = tuple(
            replace(c, not_null=True)
            if (found := later.column(c.name)) is not None and found.not_null
            else c
            for c in table.columns
        )
        more = tuple(
            c
            for c in later.constraints
            if table.constraint(c.name) is None and set(c.columns) <= names
        )
        merged.put_table(replace(table, columns=columns, constraints=(*table.constraints, *more)))
    for name, type_ in before.types.items():
        later_type = after.types.get(name)
        if later_type is None:
            continue
        if later_type.constrained:
            both = dict.fromkeys((*type_.constraints, *later_type.constraints))
            merged.types[name] = replace(
                type_, not_null=type_.not_null or later_type.not_null, constraints=tuple(both)
            )
        labels = tuple(label for label in type_.labels if label in later_type.labels)
        if labels:  # rows with one that goes must have got another before
            merged.types[name] = replace(type_, labels=labels)
    return merged


def _calibrate(
    stage: Stage,
    sources: Sequence[str],
    crew: Crew,
    given: Mapping[str, Sequence[CodeVersion]],
    beside: Executor,
) -> None:
    """Let each made-up version work where it must work; what fails there is not the plan's fault.

    New code is not wanted before old code has seen a few steps: its part goes on `beside`.
    """
    server = stage.server
    plain = server.create_database(template=stage.start)
    with server.connect(plain) as connection:
        tables = Tables(connection)
        stage.baseline = {shape.name: tables.of(shape) for shape in stage.old if shape.key}
    stage.own_faults["old"] = _own_faults(stage, plain, "old", crew)
    for version in given["old"]:
        stage.notes += version.prepare(server, plain, stage.before, crew)
    with server.connect(plain) as connection:
        stage.grown = growth(stage.begin, snapshot(connection))
    stage.rest = beside.submit(_calibrate_new, stage, plain, sources, crew, given["new"])


def _calibrate_new(
    stage: Stage, plain: str, sources: Sequence[str], crew: Crew, given: Sequence[CodeVersion]
) -> None:
    with stage.server.connect(plain) as connection:
        try:
            for statement in sources:
                connection.execute(_trusted(statement))
        except psycopg.Error:
            stage.baseline = {}
            return  # the rows do not fit the plain migration: said by the walk itself
        fresh = [s.name for s in stage.new if s.name not in stage.before.tables]
        stage.notes += fill(connection, stage.after, fresh, 50)
        _compare(stage, connection)
    # a trigger that goes with the migration is there until it goes: new code meets it as well
    met = {fault for fault in stage.own_faults["old"] if fault.sqlstate == "LOST"}
    stage.own_faults["new"] = frozenset(met) | _own_faults(stage, plain, "new", crew)
    for version in given:
        stage.notes += version.prepare(stage.server, plain, stage.after, crew)
    stage.server.drop_database(plain)
    for name, faults in stage.own_faults.items():
        stage.notes += told(faults, f"made-up {name} code")


def _compare(stage: Stage, migrated: psycopg.Connection) -> None:
    """Which columns of the rows there were at the start the plain migration changes."""
    later = {shape.name: shape for shape in stage.new if shape.key}
    moved: set[tuple[QName, str]] = set()
    for shape in stage.old:
        rows = stage.baseline.get(shape.name)
        if rows is None:
            continue
        after = later.get(shape.name)
        there = Tables(migrated).of(after) if after and after.key == shape.key else {}
        if there:
            rows = {key: row for key, row in rows.items() if key in there}
        moved |= {
            (shape.name, column)
            for key, row in rows.items()
            for column, value in there.get(key, {}).items()
            if column in row and row[column] != value
        }
        stage.baseline[shape.name] = rows
    stage.moved = frozenset(moved)


def _own_faults(stage: Stage, database: str, name: str, crew: Crew) -> frozenset[OwnFault]:
    tables = stage.old if name == "old" else stage.new
    ledger = crew.ledger("calibration")
    code = Synthetic(name, tables, ledger, asks=stage.asks[name])
    if not code.has_work:
        return frozenset()
    session = code.open(stage.server, database, crew)
    try:
        for _ in range(8):
            session.work_once()
        seen = session.take()
    finally:
        session.close()
    with stage.server.connect(database) as connection:
        stage.restless |= restless_columns(Tables(connection), ledger, tables)
    return own_faults(seen.errors)


def run_script(connection: psycopg.Connection, sql: str, origin: str, server: Server) -> None:
    """Run SQL statement by statement; InputError names the line that does not apply."""
    pieces = split(sql)
    for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
        if piece.kind not in ("statement", "broken"):
            continue
        data = after.text if after is not None and after.kind == "copy_data" else None
        try:
            _run(connection, piece.text, data)
        except psycopg.Error as error:
            at = place(sql, piece.start, origin)
            said = " ".join((error.diag.message_primary or str(error)).split())
            if (error.sqlstate or "08")[:2] in ("08", "53", "57", "58"):
                raise EnvironmentFailedError(f"{at}: the server gave up: {said[:200]}") from None
            missing = _EXTENSION.search(said)
            if missing is not None:
                raise EnvironmentFailedError(
                    f"{at}: extension {missing[1]} is not available on this {server.provider} "
                    f"Postgres {server.version}; {_elsewhere(missing[1])}"
                ) from None
            raise InputError(f"{at}: does not apply: {said[:200]}") from None


def _run(connection: psycopg.Connection, sql: str, data: str | None = None) -> None:
    """Run one statement of a script whose tool may have run it in a transaction.

    `data` are the lines after COPY … FROM STDIN, as in a dump.
    """
    if data is not None:
        rows = re.sub(r"^\\\.[ \t\r]*\n?\Z", "", data.removeprefix("\n"), flags=re.MULTILINE)
        with connection.cursor() as cursor, cursor.copy(_trusted(sql)) as copy:
            copy.write(rows)
        return
    try:
        connection.execute(_trusted(sql))
    except psycopg.errors.NoActiveSqlTransaction:  # LOCK TABLE, DECLARE …
        with connection.transaction():
            connection.execute(_trusted(sql))


def _elsewhere(extension: str) -> str:
    """Which servers have an extension, for people who need one that has."""
    having = {
        f"--postgres {place_.provider} --pg-version {place_.major} (it has {extension})": None
        for place_ in (*binaries.system(), *binaries.embedded())
        if place_.has_extension(extension)
    }
    if having:
        return "use " + " or ".join(having)
    return (
        f"no server on this machine has {extension}: install it, or use --postgres testcontainers "
        "or a database URL"
    )


def _trusted(sql: str) -> bytes:
    return sql.encode()
