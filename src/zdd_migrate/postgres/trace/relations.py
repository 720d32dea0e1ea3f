"""Files, indexes and row counts of a database's relations, and what changed between two looks."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from zdd_migrate.model.locks import LockMode, strongest
from zdd_migrate.model.names import QName

_OWN = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_MODES = {str(mode): mode for mode in LockMode}


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: `kind` as in pg_class, `file` where its rows are (0 for none)."""

    oid: int
    name: QName
    kind: str
    file: int
    table: int | None = None  # of an index
    valid: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All relations of the user's schemas, by oid."""

    relations: dict[int, Relation]

    def named(self) -> dict[QName, Relation]:
        """By name."""
        return {r.name: r for r in self.relations.values()}

    def of_kind(self, kinds: str) -> list[Relation]:
        """Those of some kinds of pg_class, by name."""
        return sorted((r for r in self.relations.values() if r.kind in kinds), key=lambda r: r.name)


def look(connection: psycopg.Connection) -> Snapshot:
    """The relations as this session sees them."""
    rows = connection.execute(
        "SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, "
        "coalesce(pg_relation_filenode(c.oid), 0)::int8, x.indrelid::int8, "
        "coalesce(x.indisvalid, true) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_index x ON x.indexrelid = c.oid "
        f"WHERE {_OWN} AND c.relkind IN ('r', 'p', 'm', 'v', 'S', 'f', 'c', 'i', 'I')".encode()
    ).fetchall()
    return Snapshot({r[0]: Relation(r[0], QName(r[1], r[2]), r[3], r[4], r[5], r[6]) for r in rows})


@dataclass(frozen=True, slots=True)
class Work:
    """What was written anew or built: tables, indexes rebuilt, indexes built."""

    rewrites: tuple[QName, ...] = ()
    rebuilds: tuple[QName, ...] = ()
    builds: tuple[QName, ...] = ()


def work(before: Snapshot, after: Snapshot, known: frozenset[int]) -> Work:
    """The work between two looks, on relations of `known` (oids: those that were there at first).

    An index that was dropped and made again under its name counts as rebuilt, unless it took the
    old one's file over: then nothing was read.
    """
    old_names = before.named()
    rewrites, rebuilds, builds = [], [], []
    for relation in after.relations.values():
        was = before.relations.get(relation.oid)
        if relation.kind in "rm":
            if was is not None and was.file != relation.file and relation.oid in known:
                rewrites.append(was.name)
        elif relation.kind == "i" and relation.table in known:
            if was is None:
                was = old_names.get(relation.name)
            if was is None or was.kind != "i":
                if relation.file not in {r.file for r in before.relations.values()}:
                    builds.append(relation.name)
            elif was.file != relation.file:
                rebuilds.append(relation.name)
    return Work(tuple(sorted(rewrites)), tuple(sorted(rebuilds)), tuple(sorted(builds)))


def rows_read(connection: psycopg.Connection) -> dict[int, int]:
    """Rows that full scans of the running transaction read so far, by the table's oid."""
    rows = connection.execute(
        "SELECT relid::int8, seq_tup_read FROM pg_stat_xact_all_tables WHERE seq_tup_read > 0"
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def locks_of(
    watcher: psycopg.Connection, pid: int, *, waiting: bool = False
) -> dict[int, LockMode]:
    """The strongest table-level mode a session holds (or, with `waiting`, waits for), by oid."""
    rows = watcher.execute(
        "SELECT relation::int8, mode FROM pg_locks WHERE locktype = 'relation' AND pid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (granted OR %s)",
        (pid, waiting),
    ).fetchall()
    found: dict[int, LockMode] = {}
    for oid, mode in rows:
        held = strongest(found.get(oid), _MODES[mode])
        assert held is not None
        found[oid] = held
    return found
