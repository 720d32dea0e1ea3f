"""Code versions: whatever reads and writes the database the way one release does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import psycopg

from zdd_migrate.blocks.quoting import quote_qname
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import Schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify import synthetic
from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.own_faults import OwnFault
from zdd_migrate.verify.recording import Recorded, Recorder
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.workers import Crew, Kind, WorkSession


class Session(Protocol):
    """A code version at work on one database, from `open` until `close`.

    `whole_runs` says that it is judged by whole runs of a program, each of which may outlast any
    step, and not by single statements.
    """

    whole_runs: bool

    def work_once(self) -> None:
        """Do one whole round now, and return when it is through."""

    def start(self) -> None:
        """Begin to work in the background, over connections opened now."""

    def settle(self, rounds: int) -> None:
        """Wait until it has done so many whole rounds from now on; a program, until it is there."""

    def last_round(self) -> None:
        """Where a round is a program's run: begin none after the one that is under way."""

    def stop(self) -> None:
        """Stop working in the background, and wait until all is still."""

    def take(self) -> Recorded:
        """What was seen since the last take."""

    def close(self) -> None:
        """Give everything back."""


class CodeVersion(Protocol):
    """One release's code: `name` is old or new, `depth` says how real it is."""

    name: str
    depth: str

    @property
    def ledger(self) -> Ledger | None:
        """What it was told was committed, where it writes that down."""

    @property
    def has_work(self) -> bool:
        """Whether there is anything that this version can do."""

    def branched(self) -> CodeVersion:
        """The same for a copy of the database: its record goes on separately."""

    def prepare(self, server: Server, database: str, schema: Schema, crew: Crew) -> list[str]:
        """See on a database of its own schema what works; notes of what is left out. InputError."""

    def open(self, server: Server, database: str, crew: Crew) -> Session:
        """Connect to a database, with processes of the crew where it needs any."""


#: what a worker process of made-up statements runs
WRITER = Kind("zdd_migrate.verify.synthetic")


@dataclass(slots=True)
class Synthetic:
    """Statements made up from the schema this version was written for.

    All its sessions on one lineage of databases share `ledger`, so that a write acknowledged in
    one phase is looked for in the next.
    """

    name: str
    shapes: Sequence[Shape]
    ledger: Ledger
    writers: int = 2
    depth: str = "synthetic"
    #: of each version, as far as they are known
    own_faults: Mapping[str, frozenset[OwnFault]] = field(default_factory=dict)
    #: whole statements about what is no table
    asks: tuple[str, ...] = ()
    #: shared with its variants and branches: no two sessions ever make up the same rows
    _opened: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def has_work(self) -> bool:
        """False where the change leaves this version nothing to work on."""
        return bool(self.shapes or self.asks)

    def branched(self) -> Synthetic:
        """The same for a copy of the database: its record goes on separately."""
        return replace(self, ledger=self.ledger.branch())

    def prepare(self, server: Server, database: str, schema: Schema, crew: Crew) -> list[str]:
        """Nothing: made-up statements are calibrated by the stage."""
        return []

    def open(self, server: Server, database: str, crew: Crew) -> SyntheticSession:
        """Open as many connections as there are writers, each in a process of its own."""
        seed = next(self._opened) * 10 + (5 if self.name == "new" else 0)
        return SyntheticSession(self, server, database, crew, seed)


class SyntheticSession(WorkSession):
    """Connections of a made-up version at work. `shapes` are its tables as the database has them."""

    def __init__(
        self, version: Synthetic, server: Server, database: str, crew: Crew, seed: int
    ) -> None:
        if version.name == "new":
            with server.connect(database) as looking:
                self.shapes = [
                    as_it_is(looking, shape, by_path=bool(server.first_schemas))
                    for shape in version.shapes
                ]
        else:
            self.shapes = list(version.shapes)
        super().__init__(
            crew,
            WRITER,
            [
                synthetic.job(
                    server.made_up_dsn(database, f"zdd-{version.name}-{i}"),
                    self.shapes,
                    marker=f"z{version.name[0]}",
                    seed=seed + i,
                    transactions=i % 2 == 1,
                    pooled=server.pooler is not None,
                    asks=version.asks,
                )
                for i in range(version.writers)
            ],
            Recorder(own=version.own_faults.get(version.name, frozenset())),
            [version.ledger.page() for _ in range(version.writers)],
        )


def as_it_is(connection: psycopg.Connection, shape: Shape, *, by_path: bool = False) -> Shape:
    """A shape with what this database offers: new code can name a unique key in ON CONFLICT only
    where there is one yet, and COPY only into a table, not through a view. `by_path`: it names its
    tables without their schema, for the search path to find a view or the table itself."""
    name = quote_qname(shape.name)
    if by_path:
        reached = QName(None, shape.name.name)
        found = connection.execute(
            "SELECT to_regclass(%s)::text, to_regclass(%s)::text", (quote_qname(reached), name)
        ).fetchone()
        if found is not None and found[0] is not None:
            shape = replace(shape, reached=reached)
            name = quote_qname(reached)
    kind = connection.execute(
        "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(%s)", (name,)
    ).fetchone()
    if kind is None:
        return shape
    if kind[0]:
        by_key = tuple(c for c in shape.conflicts if not c.by_name)
        return replace(shape, conflicts=by_key, copyable=False)
    rows = connection.execute(
        """SELECT i.indexrelid::regclass::text, c.relname, i.indpred IS NULL AND i.indexprs IS NULL,
             ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, o)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n
               WHERE u.o <= i.indnkeyatts ORDER BY u.o)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           WHERE i.indisunique AND i.indisvalid AND i.indimmediate
             AND i.indrelid = to_regclass(%s)""",
        (name,),
    ).fetchall()
    #: by name, the columns; None where they are not all there is to the index
    named = {row[1]: tuple(row[3]) if row[2] else None for row in rows}
    keys = {columns for columns in named.values() if columns is not None}
    there = tuple(
        c
        for c in shape.conflicts
        if (c.name in named and named[c.name] in (None, c.columns))
        or (not c.by_name and c.columns in keys and " WHERE " not in c.target)
    )
    return replace(shape, conflicts=there)
