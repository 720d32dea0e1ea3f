"""How precise the findings are: measured statements that hurt, and those that hurt nobody.

    python benchmarks/checks.py [TABLE.jsonl] [--list] [--postgres SPEC]

TABLE holds what Postgres did, one row for each statement and major, and beside it lies the SQL of the
schema they ran on (`…_schema.sql`, `…_setup.sql`). The words, over the statements that succeeded on a
major:

- **long-blocking**: reads or writes of some relation wait (`blocks`), and some relation that was there
  before is read in full, rewritten or indexed meanwhile (`scans`, `rewrites`, `index_builds`,
  `index_rebuilds`, less what the statement itself made: `created`).
- **breaking**: not long-blocking, and old code notices. That is tried here, on a real server: some
  hundred statements over the schema are run before and after, and one of them fails, or finds fewer
  rows (unless the statement is about rows), that did not before. Each column is read, counted where it
  is not NULL, written (as it is, NULL, negative, large, as in another row) and left out of an INSERT;
  rows are inserted and deleted, also one that a column `…_id` of another table names; every plain
  unique key is an ON CONFLICT target; the trigger does something that shows; views, sequences, types
  and their attributes, labels, calls, another role and the tables of publications are asked for. What
  runs CONCURRENTLY is tried without the word. A statement about rows is breaking too if afterwards
  every row of a table is locked: whoever writes one of them waits for its transaction. All is tried on
  one major and taken for all; what fails on that major is in no column, and counted.
- **harmless**: the rest. Nobody waits for long, and nothing that worked fails.

A statement is *flagged* by a finding of warning or error at it. squawk (`pip install squawk-cli`) is
asked the same in the same run, without its rules of style and timeouts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from zdd_migrate.check import Checker
from zdd_migrate.config import Config
from zdd_migrate.model.finding import Severity
from zdd_migrate.model.schema import Schema
from zdd_migrate.operations.walk import replay
from zdd_migrate.postgres.servers import Server, server
from zdd_migrate.reading.statements import read_sql

TABLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "postgres_locks.jsonl"
MAJORS = (14, 15, 16, 17, 18)
#: squawk's rules that are not about what the statement does
STYLE = re.compile(r"^prefer-|timeout|^ban-char|^identifier|^require-|-naming")
Row = dict[str, Any]


def long_blocking(row: Row) -> bool:
    """Somebody waits while a relation that was there is worked through."""
    made = set(row.get("created", ()))
    work = [
        name
        for key in ("scans", "rewrites", "index_builds", "index_rebuilds")
        for name in row.get(key, ())
        if key == "index_builds" or name not in made
    ]
    if not row.get("scans") and not row.get("rewrites") and not row.get("index_rebuilds"):
        # an index of a table that the statement makes is built over nothing
        work = [] if any(name in made for name in _tables(row)) else work
    return bool(work) and any(b["read"] or b["write"] for b in row["blocks"].values())


def _tables(row: Row) -> list[str]:
    return re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", row["sql"])


def schema_of(table: Path) -> tuple[str, str]:
    """What is set up once for a server, and the SQL of the schema."""
    stem = table.with_suffix("")
    return Path(f"{stem}_setup.sql").read_text(), Path(f"{stem}_schema.sql").read_text()


def flagged(rows: list[Row], table: Path) -> dict[tuple[str, int], list[str]]:
    """Our warnings and errors for each (statement, major)."""
    setup, sql = schema_of(table)
    base = Schema(complete=True)
    for text in (setup, sql):
        replay(read_sql(text, "schema.sql").statements, base)
    base.session_path = ("app", "public")
    base.complete = True
    checkers = {pg: Checker(Config(root=Path()), pg=pg) for pg in MAJORS}
    out = {}
    for row in rows:
        schema = base.copy()
        replay(read_sql(row["setup"], "setup.sql").statements, schema)
        schema.complete = True
        read = read_sql(row["sql"], "m.sql", in_transaction=row["in_transaction"])
        found = checkers[row["pg"]].run([read], schema).findings
        out[row["id"], row["pg"]] = [
            f"{f.rule} {f.name}" for f in found if f.severity is not Severity.INFO
        ]
    return out


def squawked(rows: list[Row]) -> dict[tuple[str, int], list[str]] | None:
    """squawk's, for each (statement, major); None where it is not installed."""
    squawk = shutil.which("squawk")
    if squawk is None:
        return None
    out: dict[tuple[str, int], list[str]] = {}
    with tempfile.TemporaryDirectory() as made:
        for pg in MAJORS:
            names = {}
            for i, row in enumerate(r for r in rows if r["pg"] == pg):
                path = Path(made) / f"{pg}_{i:05}.sql"
                path.write_text(row["sql"] + ";\n")
                names[str(path)] = row["id"], pg
            command = [squawk, "--reporter", "json", "--pg-version", f"{pg}.0", *names]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            out |= {key: [] for key in names.values()}
            for finding in json.loads(done.stdout):
                if not STYLE.search(finding["rule_name"]):
                    out[names[finding["file"]]].append(finding["rule_name"])
    return out


# -- what old code notices ---------------------------------------------------------------------

_PROBES = """
WITH col AS MATERIALIZED (
  SELECT c.oid, relname, relkind, attname, attnum, attnotnull, attgenerated, typcategory,
    relkind IN ('r', 'p') AS stored, attgenerated = '' AND attidentity <> 'a' AS given,
    coalesce(nullif(t.typbasetype, 0), t.oid) AS type,
    EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = c.oid AND attnum = ANY (conkey)) AS refers,
    format('WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM app.%I ORDER BY %I DESC NULLS LAST LIMIT 1)',
      relname, first_value(attname) OVER (PARTITION BY c.oid ORDER BY attnum)) AS last
  FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_type t ON t.oid = atttypid
  WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped),
value AS MATERIALIZED (
  SELECT col.*, n, CASE WHEN refers THEN '1' WHEN typcategory = 'N' THEN n::text
    WHEN typcategory = 'S' THEN quote_literal('x') WHEN typcategory = 'B' THEN 'true'
    ELSE quote_literal('2024-03-01') END AS value
  FROM col, generate_series(10001, 10004) n WHERE stored AND given AND typcategory IN ('N', 'S', 'B', 'D'))
SELECT format('SELECT %s FROM app.%I', string_agg(quote_ident(attname), ', ' ORDER BY attnum), relname)
FROM col GROUP BY relname
UNION ALL
SELECT format('SELECT 1 FROM app.%I WHERE %I IS NOT NULL', relname, attname) FROM col
UNION ALL
SELECT format('UPDATE app.%I SET %I = %2$I %s', relname, attname, last) FROM col WHERE stored AND given
UNION ALL
SELECT format('UPDATE app.%I SET %I = NULL %s', relname, attname, last) FROM col
WHERE stored AND NOT attnotnull AND attgenerated = ''
UNION ALL
SELECT format('UPDATE app.%I SET %I = %s %s', relname, attname, new, last)
FROM col, LATERAL (VALUES (format('-%I', attname)), ('100007')) v (new)
WHERE stored AND given AND type IN ('int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
UNION ALL
SELECT format('UPDATE app.%I SET %I = (SELECT min(%2$I) FROM app.%1$I) %3$s', relname, attname, last) FROM col
WHERE stored AND given AND type IN ('int4'::regtype, 'int8'::regtype, 'text'::regtype, 'varchar'::regtype)
UNION ALL
SELECT format('INSERT INTO app.%I DEFAULT VALUES', relname) FROM col WHERE stored GROUP BY relname
UNION ALL
SELECT format('INSERT INTO app.%I (%s) VALUES (%s)', relname, string_agg(quote_ident(attname), ', ' ORDER BY attnum),
  string_agg(value, ', ' ORDER BY attnum)) FROM value GROUP BY relname, n
UNION ALL
SELECT format('INSERT INTO app.%I (%s) VALUES (%s); SELECT 1 FROM app.%1$I WHERE %4$I IS NOT NULL', v.relname,
  string_agg(quote_ident(v.attname), ', ' ORDER BY v.attnum), string_agg(value, ', ' ORDER BY v.attnum), o.attname)
FROM value v JOIN col o ON o.oid = v.oid AND o.attname <> v.attname WHERE n = 10001 GROUP BY v.relname, o.attname
UNION ALL
SELECT format('EXPLAIN INSERT INTO app.%I (%s) SELECT %2$s FROM app.%1$I LIMIT 1 ON CONFLICT (%3$s) DO NOTHING',
  c.relname, (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
  (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
    WHERE attrelid = c.oid AND attnum = ANY (x.indkey::int2[])))
FROM pg_index x JOIN pg_class c ON c.oid = indrelid
WHERE c.relnamespace = 'app'::regnamespace AND c.relkind IN ('r', 'p') AND indisunique AND indpred IS NULL AND indexprs IS NULL
UNION ALL
SELECT format('DELETE FROM app.%I %s', relname, last) FROM col WHERE stored GROUP BY relname, last
UNION ALL
SELECT format('UPDATE app.%I SET %I = (SELECT max(%I) FROM app.%I) %s; DELETE FROM app.%4$I %6$s',
  f.relname, f.attname, k.attname, k.relname, f.last, k.last)
FROM col f, col k JOIN pg_index x ON indrelid = k.oid AND indisprimary AND indkey::text = k.attnum::text
WHERE f.stored AND f.attname ~ '_id$' AND f.oid <> k.oid
UNION ALL
SELECT format('UPDATE app.%I SET %I = %2$I; SELECT 1 FROM public.fired', relname, attname)
FROM col JOIN pg_trigger ON tgrelid = col.oid WHERE NOT tgisinternal AND attnum = 1
UNION ALL
SELECT format('SELECT nextval(%L) > 0', 'app.' || relname) FROM pg_class
WHERE relnamespace = 'app'::regnamespace AND relkind = 'S'
UNION ALL
SELECT format('SELECT %L::app.%I', enumlabel, typname) FROM pg_enum e JOIN pg_type t ON t.oid = enumtypid
UNION ALL
SELECT format('SELECT NULL::app.%I', typname) FROM pg_type
WHERE typnamespace = 'app'::regnamespace AND typtype IN ('c', 'd', 'e') AND typname !~ '^_'
UNION ALL
SELECT format('SELECT (NULL::app.%I).%I', relname, attname) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'app'::regnamespace AND relkind = 'c' AND NOT attisdropped
UNION ALL
SELECT format('SELECT app.%I(%s)', proname, CASE pronargs WHEN 1 THEN 'NULL' ELSE '' END) FROM pg_proc
WHERE pronamespace = 'app'::regnamespace AND prorettype <> 'trigger'::regtype AND pronargs < 2
UNION ALL
SELECT format('SET LOCAL ROLE alice; SELECT 1 FROM app.%I', relname) FROM pg_class
WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT format('SELECT 1 FROM pg_publication_tables WHERE schemaname = %L AND tablename = %L', 'app', relname)
FROM col WHERE stored GROUP BY relname
"""
#: the schema's trigger does nothing: here it leaves a row behind, so that its absence is noticed
_TRIGGER = """
CREATE TABLE public.fired (what text); GRANT INSERT ON public.fired TO PUBLIC;
CREATE OR REPLACE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO public.fired VALUES (TG_TABLE_NAME); RETURN NEW; END$$;
"""
_GRANTS = "GRANT USAGE ON SCHEMA app TO alice; GRANT SELECT ON ALL TABLES IN SCHEMA app TO alice;"


#: runs each probe in a subtransaction that is taken back: "" and the rows it touched, or its SQLSTATE
_ASK = """
CREATE FUNCTION public.ask(probes text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE one text; part text; n bigint; out text[] := '{}'; answer text;
BEGIN
  FOREACH one IN ARRAY probes LOOP
    BEGIN
      FOREACH part IN ARRAY string_to_array(one, '; ') LOOP
        EXECUTE part;
        GET DIAGNOSTICS n = ROW_COUNT;
      END LOOP;
      RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = n;
    EXCEPTION
      WHEN SQLSTATE 'ZZ000' THEN answer := 'works ' || SQLERRM;
      WHEN OTHERS THEN answer := SQLSTATE;
    END;
    out := out || answer;
  END LOOP;
  RETURN out;
END$$
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """What old code noticed of each statement, by its id; and those that could not be tried."""

    noticed: dict[str, str]
    failed: dict[str, str]


def breaking(rows: list[Row], table: Path, found: Server) -> Tried:
    """What fails, or finds fewer rows, after each statement; VACUUM and its like are not tried."""
    setup, sql = schema_of(table)
    noticed: dict[str, str] = {}
    failed: dict[str, str] = {}
    with (
        found.scratch_database() as name,
        found.connect(name) as connection,
        found.connect(name) as other,
    ):
        for text in (setup, sql, _TRIGGER, _ASK):
            connection.execute(text.encode())
        other.execute("SET lock_timeout = '100ms'")
        for i, row in enumerate(rows, start=1):
            if sys.stderr.isatty() or i % 50 == 0:
                print(f"\r{i} of {len(rows)} tried", end="", file=sys.stderr)
            if not row["in_transaction"] and "CONCURRENTLY" not in row["sql"]:
                continue
            try:
                what = _noticed(connection, other, row)
            except psycopg.Error as error:
                failed[row["id"]] = str(error).partition("\n")[0]
            else:
                noticed |= {row["id"]: what} if what else {}
    return Tried(noticed, failed)


def _noticed(connection: psycopg.Connection, other: psycopg.Connection, row: Row) -> str:
    """The first thing that worked before the statement and does not after; "" if there is none.

    What CONCURRENTLY leaves behind is what the statement leaves without the word.
    """
    ask = "SELECT public.ask(%s)"
    data = re.match(r"(INSERT|UPDATE|DELETE|MERGE|WITH|DO|COPY|TRUNCATE)\b", row["sql"]) is not None
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = app, public")
        for text in (row["setup"], _GRANTS):
            if text:
                connection.execute(text.encode())
        probes = [probe for (probe,) in connection.execute(_PROBES.encode()).fetchall()]
        before = connection.execute(ask, (probes,)).fetchone()
        connection.execute(re.sub(r"\bCONCURRENTLY\b", "", row["sql"]).encode())
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL search_path = app, public")
        after = connection.execute(ask, (probes,)).fetchone()
        locked = _rows_locked(other) if data and not row["setup"] else ""
    assert before is not None
    assert after is not None
    if locked:
        return f"every row of {locked} is locked"
    for probe, was, now in zip(probes, before[0], after[0], strict=True):
        if was.startswith("works") and (
            not now.startswith("works") or (not data and _fewer(now, was))
        ):
            return f"{probe}: {was}, then {now}"
    return ""


def _rows_locked(other: psycopg.Connection) -> str:
    """A table with rows none of which another session can lock now; "" if there is none."""
    tables = other.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r'"
    ).fetchall()
    for (name,) in tables:
        try:
            with other.transaction():
                free = other.execute(
                    f"SELECT EXISTS (SELECT FROM {name}), (SELECT count(*) FROM"
                    f" (SELECT FROM {name} FOR NO KEY UPDATE SKIP LOCKED) free)".encode()
                ).fetchone()
        except psycopg.errors.LockNotAvailable:
            continue  # the table itself is locked: that is measured elsewhere
        if free is not None and free[0] and not free[1]:
            return str(name)
    return ""


def _fewer(now: str, was: str) -> bool:
    """Whether a statement touches fewer rows than it did."""
    return int(now.split()[1]) < int(was.split()[1])


# -- the table ---------------------------------------------------------------------------------


def main() -> None:
    """Print what was counted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", nargs="?", type=Path, default=TABLE)
    parser.add_argument(
        "--list", action="store_true", help="every statement that is on the wrong side"
    )
    parser.add_argument("--postgres", default="embedded")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.table.read_text().splitlines()]
    rows = [r for r in rows if r["pg"] in MAJORS and r["error"] is None]
    with server(given.postgres) as found:
        major = found.major
        once = {r["id"]: r for r in rows if r["pg"] == major and not long_blocking(r)}
        tried = breaking(list(once.values()), given.table, found)
    sets: dict[str, set[tuple[str, int]]] = {
        "long-blocking": set(),
        "breaking": set(),
        "harmless": set(),
    }
    untried = set()
    for row in rows:
        key = row["id"], row["pg"]
        if long_blocking(row):
            sets["long-blocking"].add(key)
        elif row["id"] in tried.noticed:
            sets["breaking"].add(key)
        elif row["id"] in once and row["id"] not in tried.failed:
            sets["harmless"].add(key)
        else:
            untried.add(key)
    print(
        f"{len(rows)} statements that succeed on majors {MAJORS[0]} to {MAJORS[-1]}; breaking tried on"
        f" {major}; {len(untried)} that could not be tried there are in no column\n"
    )
    print("| | long-blocking flagged | breaking flagged | harmless flagged |\n|---|---|---|---|")
    ours, theirs = flagged(rows, given.table), squawked(rows)
    for tool, said in (("zdd-migrate", ours), ("squawk", theirs)):
        if said is None:
            print(f"| {tool} | not installed | | |")
            continue
        cells = []
        for kind in sets:
            hit = sum(1 for key in sets[kind] if said[key])
            cells.append(f"{hit} of {len(sets[kind])} ({100 * hit / len(sets[kind]):.1f} %)")
        print(f"| {tool} | {' | '.join(cells)} |")
    if given.list:
        for line in wrong(rows, sets, ours, tried.noticed):
            print(line)
        for id_ in sorted({i for i, _ in untried}):
            print(f"not tried: {id_} ({tried.failed.get(id_, 'not measured on that major')})")


def wrong(
    rows: list[Row],
    sets: dict[str, set[tuple[str, int]]],
    said: dict[tuple[str, int], list[str]],
    noticed: dict[str, str],
) -> Iterator[str]:
    """Missed ones and false alarms of ours, once for each statement, with the majors."""
    sql = {r["id"]: (r["sql"], r["setup"]) for r in rows}
    for title, keys in (
        ("missed", [k for k in sets["long-blocking"] if not said[k]]),
        ("missed, breaking", [k for k in sets["breaking"] if not said[k]]),
        ("false alarm", [k for k in sets["harmless"] if said[k]]),
    ):
        for id_, count in sorted(Counter(i for i, _ in keys).items()):
            rules = sorted({r for k in keys if k[0] == id_ for r in said[k]})
            print_ = f"{title} ({count} majors) {id_}: {sql[id_][0]}"
            why = noticed.get(id_, "")
            yield f"{print_}  -- after: {sql[id_][1][:120] or 'nothing'}  {rules or ''} {why}"


if __name__ == "__main__":
    main()
