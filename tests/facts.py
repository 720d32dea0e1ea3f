"""The measured facts of `fixtures/facts`: reading them, and what effects say about the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from zdd_migrate.model.effects import Effects, merge
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay, walk
from zdd_migrate.reading.statements import read_sql

FACTS = Path(__file__).parents[1] / "fixtures" / "facts"
MAJORS = (14, 15, 16, 17, 18)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was measured: statements, what ran before them, and how they ran."""

    id: str
    sql: str
    setup: str = ""
    in_transaction: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What a case does: measured on some majors, or predicted for one."""

    error: str | None = None
    locks: dict[str, str] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    rebuilds: tuple[str, ...] = ()
    #: who waits without being locked: "reads", "writes" or "reads writes" by relation
    waits: dict[str, str] = field(default_factory=dict)
    transactional: bool = True

    @property
    def long_block(self) -> bool:
        """Whether somebody waits while rows are written, read or indexed."""
        modes = [_MODES[mode] for mode in self.locks.values()]
        works = self.rewrites or self.scans or self.builds or self.rebuilds
        return bool(works) and any(mode.blocks_writes for mode in modes)


_MODES = {str(mode): mode for mode in LockMode}
_CASE = re.compile(r"^-- case (\S+)( outside)?$")


def cases(path: Path = FACTS / "statements.sql") -> Iterator[Case]:
    """The cases of a file, in order."""
    name, outside, setup, lines = "", False, "", list[str]()
    for line in [*path.read_text(encoding="utf-8").splitlines(), "-- case end"]:
        found = _CASE.match(line)
        if found is not None:
            if name:
                yield Case(name, "\n".join(lines).strip().removesuffix(";"), setup, not outside)
            name, outside, setup, lines = found[1], found[2] is not None, "", []
        elif line.startswith("-- setup "):
            setup = line.removeprefix("-- setup ")
        elif name:
            lines.append(line)


def facts(path: Path = FACTS / "facts.jsonl") -> Iterator[tuple[Case, int, Seen]]:
    """Case, major and what was measured."""
    every = {case.id: case for case in cases()}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        seen = seen_of(row)
        for major in row["pg"]:
            yield every[row["id"]], major, seen


def seen_of(row: dict[str, Any]) -> Seen:
    """A row of the table."""
    lists = {k: tuple(row.get(k, ())) for k in ("rewrites", "scans", "builds", "rebuilds")}
    return Seen(
        error=row.get("error"),
        locks=row.get("locks", {}),
        waits=row.get("waits", {}),
        transactional=row.get("transactional", True),
        **lists,
    )


def row_of(seen: Seen) -> dict[str, Any]:
    """What stands in the table: only what is not empty."""
    found: dict[str, Any] = {
        "error": seen.error,
        "locks": seen.locks,
        "rewrites": list(seen.rewrites),
        "scans": list(seen.scans),
        "builds": list(seen.builds),
        "rebuilds": list(seen.rebuilds),
        "waits": seen.waits,
        "transactional": None if seen.transactional else False,
    }
    return {k: v for k, v in found.items() if v not in (None, [], {})}


def seen_in(parts: Iterable[Effects]) -> Seen:
    """The effects of a case's statements together, in the table's words."""
    every = list(parts)
    together = merge(every)
    error = next((e.error for e in every if e.error is not None), None)
    if error is not None and not error.rows_decide:
        return Seen(error=error.sqlstate, transactional=together.transactional)
    waits = {
        _short(relation): " ".join(w for w, on in zip(("reads", "writes"), who, strict=True) if on)
        for relation, who in together.blocked_indirectly.items()
    }
    return Seen(
        error=error.sqlstate if error is not None else None,
        locks={_short(r): str(m) for r, m in sorted(together.locks.items())},
        rewrites=tuple(sorted(_short(r) for r in together.rewrites)),
        scans=tuple(sorted(_short(r) for r in together.scans)),
        builds=tuple(sorted(_short(r) for r in together.index_builds)),
        rebuilds=tuple(sorted(_short(r) for r in together.index_rebuilds)),
        waits=dict(sorted(waits.items())),
        transactional=together.transactional,
    )


def _short(relation: object) -> str:
    return str(relation).removeprefix("public.").removeprefix("app.")


@lru_cache(maxsize=1)
def starting() -> Schema:
    """The schema of the facts, replayed from its file."""
    schema = Schema()
    text = (FACTS / "schema.sql").read_text(encoding="utf-8")
    replay(read_sql(text, "schema.sql", in_transaction=False).statements, schema)
    schema.complete = True
    schema.session_settings["timezone"] = "UTC"
    return schema


def predict(case: Case, major: int, schema: Schema | None = None) -> Seen:
    """What effects say a case does on a major."""
    start = (schema or starting()).copy()
    if case.setup:
        replay(read_sql(case.setup, "setup", in_transaction=False).statements, start)
    migration = read_sql(case.sql, case.id, in_transaction=case.in_transaction)
    parts: list[Effects] = []
    for explained in walk(migration, start, pg=major):
        parts.append(explained.effects)
        if explained.effects.error is not None and not explained.effects.error.rows_decide:
            break
    return seen_in(parts)


@dataclass(frozen=True, slots=True)
class Miss:
    """A field in which prediction and fact differ; `less` where the fact holds more."""

    case: Case
    major: int
    field: str
    predicted: Any
    measured: Any
    less: bool


_ALWAYS = ("error", "transactional")
FIELDS = ("error", "locks", "rewrites", "scans", "builds", "rebuilds", "waits", "transactional")


def misses(case: Case, major: int, predicted: Seen, measured: Seen) -> list[Miss]:
    """Where they differ. A statement that failed left only its error."""
    found = []
    for name in FIELDS:
        ours, theirs = getattr(predicted, name), getattr(measured, name)
        if ours == theirs or (measured.error is not None and name not in _ALWAYS):
            continue
        if name == "waits" and not measured.transactional:
            continue  # others are not probed while a statement runs in pieces
        found.append(Miss(case, major, name, ours, theirs, _less(name, ours, theirs)))
    return found


def _less(name: str, ours: Any, theirs: Any) -> bool:
    if name == "locks":
        return any(
            relation not in ours or _MODES[ours[relation]].strength < _MODES[mode].strength
            for relation, mode in theirs.items()
        )
    if name == "waits":
        return any(not set(w.split()) <= set(ours.get(r, "").split()) for r, w in theirs.items())
    if name in ("error", "transactional"):
        return False
    return bool(set(theirs) - set(ours))


# -- the larger table that may lie beside the checkout ---------------------------------------------


def shared_schema(directory: Path) -> Schema:
    """The schema `app` of the table beside the checkout."""
    schema = Schema()
    schema.session_path = schema.search_path = ("app", "public")
    for name in ("postgres_locks_schema.sql", "postgres_locks_setup.sql"):
        text = (directory / name).read_text(encoding="utf-8")
        for statement in read_sql(text, name, in_transaction=False).statements:
            for operation in statement.operations:
                operation.apply(schema)
    schema.complete = True
    return schema


def shared_facts(directory: Path) -> Iterator[tuple[Case, int, Seen]]:
    """Its rows of the majors that are supported, those left out whose setup needs another."""
    with (directory / "postgres_locks.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["pg"] < min(MAJORS) or (row["error"] or "").startswith("setup"):
                continue
            refused = bool(row.get("tx_block_error")) or (row["error"] or "")[:5] == "25001"
            waits = {
                relation: " ".join(w for w in ("reads", "writes") if who[w.removesuffix("s")])
                for relation, who in row["blocks"].items()
                if relation in row.get("blocked_indirectly", ())
            }
            yield (
                Case(row["id"], row["sql"], row["setup"], row["in_transaction"]),
                row["pg"],
                Seen(
                    error=row["error"][:5] if row["error"] else None,
                    locks=row["locks"],
                    rewrites=tuple(sorted(row["rewrites"])),
                    scans=tuple(sorted(row["scans"])),
                    builds=tuple(sorted(row.get("index_builds", ()))),
                    rebuilds=tuple(sorted(row["index_rebuilds"])),
                    waits=waits,
                    transactional=not refused,
                ),
            )
