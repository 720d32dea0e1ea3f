"""A schema read from a live database's catalog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Rows
from typing import Any

import psycopg

from zdd_migrate.errors import EnvironmentFailedError
from zdd_migrate.grammar.expressions import analyse
from zdd_migrate.model.names import QName
from zdd_migrate.model.schema import (
    Column,
    Constraint,
    Function,
    Index,
    Policy,
    Publication,
    Schema,
    Sequence,
    Table,
    Trigger,
    UserType,
    View,
)

#: schemas that are not the user's: Postgres' own and ours
OTHERS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname !~ '^zdd(_|$)'"
_NOT_OF_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = {0}.oid AND x.deptype = 'e')"
)
_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_MATCH = {"s": "SIMPLE", "f": "FULL", "p": "PARTIAL"}
_KINDS = {"c": "check", "f": "foreign_key", "u": "unique", "p": "primary_key", "x": "exclude"}
_IDENTITY = {"a": "always", "d": "by default"}
_REPLICA = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL", "i": "INDEX"}


def read_schema(connection: psycopg.Connection, *, sizes: bool = False) -> Schema:
    """All of the user's objects. `sizes` fills rows, bytes and writes per second of tables."""
    schema = Schema(complete=True)
    schema.schemas = {
        row[0] for row in _rows(connection, f"SELECT nspname FROM pg_namespace n WHERE {OTHERS}")
    }
    path = _rows(connection, "SELECT unnest(current_schemas(false))")
    schema.session_path = tuple(row[0] for row in path) or ("public",)
    schema.session_settings["timezone"] = _rows(connection, "SHOW timezone")[0][0]
    schema.new_session()
    schema.extensions = {row[0] for row in _rows(connection, "SELECT extname FROM pg_extension")}
    _tables(connection, schema, sizes=sizes)
    _indexes(connection, schema)
    _views(connection, schema)
    _sequences(connection, schema)
    _types(connection, schema)
    _functions(connection, schema)
    _publications(connection, schema)
    _belongings(connection, schema)
    return schema


def read_live(dsn: str) -> Schema:
    """The schema of the database at a URL, with sizes; EnvironmentFailedError when it fails."""
    return read_sizes(dsn)[0]


def read_sizes(dsn: str) -> tuple[Schema, int]:
    """The schema with sizes and the server's major, as of one moment. EnvironmentFailedError.

    Read-only, and it waits for no lock for long. What a replica counts is its own, so from there
    no write rates come.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SET LOCAL lock_timeout = '5s'")
            return read_schema(connection, sizes=True), _version(connection)
    except psycopg.Error as error:
        said = " ".join(str(error).split())[:200]
        raise EnvironmentFailedError(
            f"the schema cannot be read from the database: {said}"
        ) from None


def _rows(connection: psycopg.Connection, query: str) -> Rows[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()


def _version(connection: psycopg.Connection) -> int:
    return connection.info.server_version // 10000


def _tables(connection: psycopg.Connection, schema: Schema, *, sizes: bool) -> None:
    columns = _columns(connection)
    constraints = _constraints(connection)
    triggers = _triggers(connection)
    policies = _policies(connection)
    inherits: dict[int, list[QName]] = defaultdict(list)
    for child, parent_schema, parent in _rows(
        connection,
        "SELECT i.inhrelid::int8, n.nspname, c.relname FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhparent JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'f') ORDER BY i.inhseqno",
    ):
        inherits[child].append(QName(parent_schema, parent))
    size = "pg_total_relation_size(c.oid)" if sizes else "NULL::int8"
    for row in _rows(
        connection,
        f"""SELECT c.oid::int8, n.nspname, c.relname, c.relkind, c.relpersistence,
          c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition,
          pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), c.reloptions,
          obj_description(c.oid, 'pg_class'), c.reltuples::int8, {size},
          CASE WHEN NOT pg_is_in_recovery() THEN (s.n_tup_ins + s.n_tup_upd + s.n_tup_del) END
            / greatest(extract(epoch FROM now() - coalesce(d.stats_reset, pg_postmaster_start_time())), 1),
          (SELECT ' ' || rc.relname FROM pg_index ri JOIN pg_class rc ON rc.oid = ri.indexrelid
           WHERE ri.indrelid = c.oid AND ri.indisreplident)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
        LEFT JOIN pg_stat_database d ON d.datname = current_database()
        WHERE c.relkind IN ('r', 'p', 'f') AND {OTHERS} AND {_NOT_OF_EXTENSION.format("c")}
        ORDER BY c.oid""",
    ):
        oid, nsp, name, kind, persistence = row[:5]
        strategy, _, key = (row[10] or "").partition(" ")
        partition = bool(row[8])
        schema.put_table(
            Table(
                name=QName(nsp, name),
                columns=tuple(columns[oid]),
                constraints=tuple(constraints[oid]),
                triggers=tuple(triggers[oid]),
                policies=tuple(policies[oid]),
                kind={"r": "table", "p": "partitioned", "f": "foreign"}[kind],  # type: ignore[arg-type]
                partition_strategy=strategy or None,
                partition_key=key.strip("()") or None,
                parent=inherits[oid][0] if partition and inherits[oid] else None,
                bound=row[9],
                inherits=() if partition else tuple(inherits[oid]),
                persistence={"p": "permanent", "u": "unlogged", "t": "temporary"}[persistence],  # type: ignore[arg-type]
                row_security=row[5],
                force_row_security=row[6],
                replica_identity=_REPLICA[row[7]] + (row[16] or ""),
                options=tuple(tuple(o.split("=", 1)) for o in row[11] or ()),
                comment=row[12],
                rows=max(row[13], 0) if sizes and row[13] >= 0 else None,
                bytes=row[14],
                writes_per_second=float(row[15]) if sizes and row[15] is not None else None,
            )
        )


def _columns(connection: psycopg.Connection) -> dict[int, list[Column]]:
    out: dict[int, list[Column]] = defaultdict(list)
    for row in _rows(
        connection,
        f"""SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
          pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity,
          CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(l.collname) END,
          CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END,
          CASE WHEN a.attcompression <> '' THEN a.attcompression END,
          col_description(a.attrelid, a.attnum), nullif(a.attstattarget, -1), a.attoptions
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'c') AND {OTHERS}
        ORDER BY a.attrelid, a.attnum""",
    ):
        generated = {"s": "stored", "v": "virtual"}.get(row[5])
        out[row[0]].append(
            Column(
                name=row[1],
                type=row[2],
                not_null=row[3],
                default=None if generated else row[4],
                generated=generated,  # type: ignore[arg-type]
                generation=row[4] if generated else None,
                identity=_IDENTITY.get(row[6]),  # type: ignore[arg-type]
                collation=row[7],
                storage=_STORAGE.get(row[8]) if row[8] else None,
                compression={"p": "pglz", "l": "lz4"}.get(row[9]) if row[9] else None,
                comment=row[10],
                statistics=row[11],
                options=tuple(tuple(o.split("=", 1)) for o in row[12] or ()),
            )
        )
    return out


def _constraints(connection: psycopg.Connection) -> dict[int, list[Constraint]]:
    enforced = "k.conenforced" if _version(connection) >= 18 else "true"
    out: dict[int, list[Constraint]] = defaultdict(list)
    for row in _rows(
        connection,
        f"""SELECT k.conrelid::int8, k.conname, k.contype, pg_get_constraintdef(k.oid),
          pg_get_expr(k.conbin, k.conrelid),
          ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY u(n, i)
                JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
          rn.nspname, rc.relname,
          ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY u(n, i)
                JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i),
          k.confdeltype, k.confupdtype, k.confmatchtype, k.condeferrable, k.condeferred,
          k.convalidated, {enforced}, k.connoinherit, ic.relname, k.coninhcount > 0,
          obj_description(k.oid, 'pg_constraint'), x.indnkeyatts,
          ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY u(n, i)
                JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n
                WHERE u.i > x.indnkeyatts ORDER BY u.i)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_class rc ON rc.oid = k.confrelid
        LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
        LEFT JOIN pg_class ic ON ic.oid = k.conindid AND k.contype IN ('u', 'p', 'x')
        LEFT JOIN pg_index x ON x.indexrelid = k.conindid AND k.contype IN ('u', 'p', 'x')
        WHERE {OTHERS} AND (k.contype IN ('c', 'f', 'u', 'p', 'x')
                            OR k.contype = 'n' AND NOT k.convalidated)
        ORDER BY k.oid""",
    ):
        kind = "not_null" if row[2] == "n" else _KINDS[row[2]]
        out[row[0]].append(
            Constraint(
                name=row[1],
                kind=kind,  # type: ignore[arg-type]
                columns=tuple(row[5]),
                definition=row[3],
                expression=_bare(row[4]) if row[2] == "c" else None,
                ref_table=QName(row[6], row[7]) if row[2] == "f" else None,
                ref_columns=tuple(row[8]),
                on_delete=_ACTIONS.get(row[9], "NO ACTION"),
                on_update=_ACTIONS.get(row[10], "NO ACTION"),
                match=_MATCH.get(row[11], "SIMPLE"),
                deferrable=row[12],
                initially_deferred=row[13],
                valid=row[14],
                enforced=row[15],
                no_inherit=row[16] and row[2] == "c",
                index=row[17],
                inherited=row[18],
                comment=row[19],
                include=tuple(row[21] or ()),
                nulls_not_distinct="NULLS NOT DISTINCT" in row[3],
            )
        )
    return out


def _bare(expression: str | None) -> str | None:
    """A check's expression without the parentheses that deparsing puts around the whole."""
    if expression is None or not (expression.startswith("(") and expression.endswith(")")):
        return expression
    depth = 0
    for i, ch in enumerate(expression):
        depth += {"(": 1, ")": -1}.get(ch, 0)
        if depth == 0 and i < len(expression) - 1:
            return expression
    return expression[1:-1]


def _triggers(connection: psycopg.Connection) -> dict[int, list[Trigger]]:
    out: dict[int, list[Trigger]] = defaultdict(list)
    for row in _rows(
        connection,
        f"""SELECT t.tgrelid::int8, t.tgname, t.tgtype::int, fn.nspname, f.proname, t.tgenabled,
          pg_get_triggerdef(t.oid), t.tgconstraint <> 0,
          ARRAY(SELECT a.attname FROM unnest(t.tgattr::int2[]) u
                JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = u)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc f ON f.oid = t.tgfoid
        JOIN pg_namespace fn ON fn.oid = f.pronamespace
        WHERE NOT t.tgisinternal AND {OTHERS} ORDER BY t.tgname""",
    ):
        bits = row[2]
        timing = "BEFORE" if bits & 2 else "INSTEAD OF" if bits & 64 else "AFTER"
        events = tuple(
            word
            for bit, word in ((4, "INSERT"), (16, "UPDATE"), (8, "DELETE"), (32, "TRUNCATE"))
            if bits & bit
        )
        out[row[0]].append(
            Trigger(
                name=row[1],
                timing=timing,
                events=events,
                function=QName(row[3], row[4]),
                columns=tuple(row[8]),
                row=bool(bits & 1),
                enabled=row[5],
                definition=row[6],
                constraint=row[7],
            )
        )
    return out


def _policies(connection: psycopg.Connection) -> dict[int, list[Policy]]:
    commands = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}
    out: dict[int, list[Policy]] = defaultdict(list)
    for row in _rows(
        connection,
        """SELECT p.polrelid::int8, p.polname, p.polpermissive, p.polcmd,
          ARRAY(SELECT CASE WHEN r = 0 THEN 'public' ELSE r::regrole::text END FROM unnest(p.polroles) r),
          pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        FROM pg_policy p ORDER BY p.polname""",
    ):
        out[row[0]].append(Policy(row[1], row[2], commands[row[3]], tuple(row[4]), row[5], row[6]))
    return out


def _indexes(connection: psycopg.Connection, schema: Schema) -> None:
    distinct = "x.indnullsnotdistinct" if _version(connection) >= 15 else "false"
    for row in _rows(
        connection,
        f"""SELECT n.nspname, c.relname, tn.nspname, t.relname, x.indisunique, am.amname, x.indisvalid,
          {distinct}, pg_get_indexdef(x.indexrelid), pg_get_expr(x.indpred, x.indrelid),
          ARRAY(SELECT pg_get_indexdef(x.indexrelid, i, true) FROM generate_series(1, x.indnkeyatts) i),
          ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY u(n, i)
                JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.n
                WHERE u.i > x.indnkeyatts ORDER BY u.i),
          ARRAY(SELECT DISTINCT a.attname FROM pg_depend d JOIN pg_attribute a
                ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                WHERE d.objid = x.indexrelid AND d.refobjid = x.indrelid AND d.refobjsubid > 0),
          k.conname, pn.nspname, pc.relname, obj_description(c.oid, 'pg_class'),
          ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) u
                JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u),
          ARRAY(SELECT a.attnum::int || '=' || a.attstattarget FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum)
        FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        JOIN pg_am am ON am.oid = c.relam
        LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('u', 'p', 'x')
        LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid
        LEFT JOIN pg_class pc ON pc.oid = i.inhparent
        LEFT JOIN pg_namespace pn ON pn.oid = pc.relnamespace
        WHERE t.relkind IN ('r', 'p', 'm') AND {OTHERS} ORDER BY x.indexrelid""",
    ):
        schema.put_index(
            Index(
                name=QName(row[0], row[1]),
                table=QName(row[2], row[3]),
                keys=tuple(_key(k) for k in row[10]),
                unique=row[4],
                method=row[5],
                include=tuple(row[11]),
                predicate=row[9],
                columns=frozenset((*row[12], *row[17])),
                valid=row[6],
                constraint=row[13],
                parent=QName(row[14], row[15]) if row[14] is not None else None,
                nulls_not_distinct=row[7],
                definition=row[8],
                comment=row[16],
                statistics=tuple(
                    (int(n), int(to)) for n, _, to in (s.partition("=") for s in row[18])
                ),
            )
        )


def _key(text: str) -> str:
    """A key as the model keeps it: a plain column's bare name, else the expression's text."""
    if text.startswith('"') and text.endswith('"') and '"' not in text[1:-1].replace('""', ""):
        return text[1:-1].replace('""', '"')
    return _bare(text) or text


def _views(connection: psycopg.Connection, schema: Schema) -> None:
    reads: dict[int, set[tuple[QName, str]]] = defaultdict(set)
    for view, nsp, relation, column in _rows(
        connection,
        """SELECT r.ev_class::int8, n.nspname, c.relname, coalesce(a.attname, '')
        FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
        JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
          AND d.refobjsubid > 0""",
    ):
        reads[view].add((QName(nsp, relation), column))
    for row in _rows(
        connection,
        f"""SELECT c.oid::int8, n.nspname, c.relname, c.relkind, pg_get_viewdef(c.oid),
          c.relispopulated, obj_description(c.oid, 'pg_class'), c.reloptions,
          ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped ORDER BY a.attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {OTHERS} AND {_NOT_OF_EXTENSION.format("c")} ORDER BY c.oid""",
    ):
        found = reads[row[0]]
        schema.views[QName(row[1], row[2])] = View(
            name=QName(row[1], row[2]),
            query=row[4].strip().rstrip(";"),
            columns=tuple(row[8]),
            materialized=row[3] == "m",
            populated=row[5],
            depends_on=frozenset(r for r, _ in found),
            depends_on_columns=frozenset((r, c) for r, c in found if c),
            options=tuple(tuple(o.split("=", 1)) for o in row[7] or ()),
            comment=row[6],
        )


def _sequences(connection: psycopg.Connection, schema: Schema) -> None:
    for row in _rows(
        connection,
        f"""SELECT n.nspname, c.relname, format_type(s.seqtypid, NULL), tn.nspname, t.relname, a.attname,
          s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
          AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
        LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE {OTHERS} AND {_NOT_OF_EXTENSION.format("c")} ORDER BY c.oid""",
    ):
        schema.put_sequence(
            Sequence(
                QName(row[0], row[1]),
                type=row[2],
                owned_by=(QName(row[3], row[4]), row[5]) if row[5] is not None else None,
                options=(("increment", str(row[6])), ("cycle", str(row[9]))),
            )
        )


def _types(connection: psycopg.Connection, schema: Schema) -> None:
    checks: dict[int, list[Constraint]] = defaultdict(list)
    for oid, name, definition, expression, valid in _rows(
        connection,
        "SELECT contypid::int8, conname, pg_get_constraintdef(oid), pg_get_expr(conbin, 0), "
        "convalidated FROM pg_constraint WHERE contypid <> 0 AND contype = 'c' ORDER BY conname",
    ):
        checks[oid].append(
            Constraint(
                name,
                "check",
                columns=tuple(sorted(analyse(definition).names)),
                definition=definition,
                expression=_bare(expression),
                valid=valid,
            )
        )
    attributes = _columns(connection)
    forms = {"e": "enum", "d": "domain", "c": "composite", "r": "range", "b": "base"}
    for row in _rows(
        connection,
        f"""SELECT t.oid::int8, n.nspname, t.typname, t.typtype, t.typnotnull, t.typdefault,
          CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
               WHEN t.typtype = 'r' THEN (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r
                                          WHERE r.rngtypid = t.oid) END,
          ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
                ORDER BY e.enumsortorder), t.typrelid::int8
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE {OTHERS} AND {_NOT_OF_EXTENSION.format("t")}
          AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
        ORDER BY t.oid""",
    ):
        name = QName(row[1], row[2])
        schema.types[name] = UserType(
            name=name,
            kind=forms[row[3]],  # type: ignore[arg-type]
            labels=tuple(row[7]),
            base=row[6],
            not_null=row[4],
            default=row[5],
            constraints=tuple(checks[row[0]]),
            attributes=tuple(attributes[row[8]]) if row[8] else (),
        )


def _functions(connection: psycopg.Connection, schema: Schema) -> None:
    volatility = {"i": "immutable", "s": "stable", "v": "volatile"}
    kinds = {"f": "function", "p": "procedure", "a": "aggregate", "w": "function"}
    for row in _rows(
        connection,
        f"""SELECT n.nspname, p.proname, pg_get_function_arguments(p.oid),
          ARRAY(SELECT format_type(u, NULL) FROM unnest(p.proargtypes) u),
          pg_get_function_result(p.oid), l.lanname, p.provolatile, p.prosrc, p.prokind,
          CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE '' END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_language l ON l.oid = p.prolang
        WHERE {OTHERS} AND {_NOT_OF_EXTENSION.format("p")} ORDER BY p.oid""",
    ):
        name = QName(row[0], row[1])
        made = Function(
            name=name,
            arguments=row[2],
            argument_types=tuple(row[3]),
            returns=row[4],
            language=row[5],
            volatility=volatility[row[6]],  # type: ignore[arg-type]
            body=row[7] or "",
            kind=kinds[row[8]],  # type: ignore[arg-type]
            definition=row[9],
        )
        schema.functions[name] = (*schema.functions.get(name, ()), made)


def _publications(connection: psycopg.Connection, schema: Schema) -> None:
    tables: dict[str, list[QName]] = defaultdict(list)
    for publication, nsp, name in _rows(
        connection, "SELECT pubname, schemaname, tablename FROM pg_publication_tables"
    ):
        tables[publication].append(QName(nsp, name))
    columns: dict[str, set[tuple[QName, str]]] = defaultdict(set)
    filters: dict[str, set[tuple[QName, str]]] = defaultdict(set)
    if _version(connection) >= 15:
        for publication, nsp, name, column, filtered in _rows(
            connection,
            "SELECT p.pubname, n.nspname, c.relname, a.attname, d.refobjsubid IS NOT NULL "
            "FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid "
            "JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
            "LEFT JOIN pg_depend d ON d.classid = 'pg_publication_rel'::regclass "
            "AND d.objid = r.oid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum "
            "AND r.prqual IS NOT NULL "
            "WHERE a.attnum = ANY (r.prattrs::int2[]) OR d.refobjsubid IS NOT NULL",
        ):
            (filters if filtered else columns)[publication].add((QName(nsp, name), column))
    for name, every in _rows(connection, "SELECT pubname, puballtables FROM pg_publication"):
        schema.publications[name] = Publication(
            name,
            tuple(sorted(tables[name])),
            every,
            columns=frozenset(columns[name]),
            filters=frozenset(filters[name]),
        )


def _belongings(connection: psycopg.Connection, schema: Schema) -> None:
    """Owners, grantees, also of columns, the indexes that CLUSTER takes, and whose statistics objects are."""
    for nsp, name, owner in _rows(
        connection,
        "SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {OTHERS}",
    ):
        schema.owners[QName(nsp, name)] = owner
    for nsp, name, role in _rows(
        connection,
        "SELECT DISTINCT n.nspname, c.relname, pg_get_userbyid(a.grantee) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a "
        f"WHERE a.grantee <> 0 AND a.grantee <> c.relowner AND {OTHERS}",
    ):
        schema.granted.setdefault(role, set()).add(f"{nsp}.{name}")
    for nsp, name in _rows(
        connection,
        "SELECT DISTINCT n.nspname, c.relname FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE a.attacl IS NOT NULL AND a.attnum > 0 AND c.relkind IN ('r', 'p') AND {OTHERS}",
    ):
        schema.others["grants of columns", QName(nsp, name)] = ""
    for nsp, name, index in _rows(
        connection,
        "SELECT n.nspname, t.relname, c.relname FROM pg_index x "
        "JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid "
        f"JOIN pg_namespace n ON n.oid = t.relnamespace WHERE x.indisclustered AND {OTHERS}",
    ):
        schema.clustered[QName(nsp, name)] = index
    for nsp, name, table_schema, table in _rows(
        connection,
        "SELECT n.nspname, s.stxname, tn.nspname, t.relname FROM pg_statistic_ext s "
        "JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class t ON t.oid = s.stxrelid "
        f"JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE {OTHERS}",
    ):
        schema.others["statistics", QName(nsp, name)] = str(QName(table_schema, table))
