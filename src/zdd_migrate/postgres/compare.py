"""Two databases' schemas compared: what is different, in plain words.

A snapshot maps each object's identity to a normalised definition; column order and OIDs do not
count, nor do schemas of our own (`zdd…`).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import psycopg

from zdd_migrate.postgres.catalog import OTHERS

_QUERIES: Mapping[str, str] = {
    "table": f"""
        SELECT n.nspname || '.' || c.relname,
          concat_ws(' ', c.relkind, c.relpersistence, 'rls', c.relrowsecurity,
            c.relforcerowsecurity, 'ident', c.relreplident, c.reloptions::text,
            pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
            'owner', c.relowner::regrole, 'am', am.amname, 'comment',
            obj_description(c.oid, 'pg_class'))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_am am ON am.oid = c.relam
        WHERE c.relkind IN ('r', 'p', 'f') AND {OTHERS}""",
    "column": f"""
        SELECT n.nspname || '.' || c.relname || '.' || a.attname,
          concat_ws(' ', format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'default',
            pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity, a.attcollation::regcollation,
            a.attstorage, a.attcompression, 'statistics', nullif(a.attstattarget, -1),
            a.attoptions::text,
            'acl', a.attacl::text, 'comment', col_description(a.attrelid, a.attnum))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'c', 'v', 'm')
          AND {OTHERS}""",
    "constraint": f"""
        SELECT n.nspname || '.' || c.relname || '.' || k.conname,
          pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END
            || coalesce(' comment ' || obj_description(k.oid, 'pg_constraint'), '')
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OTHERS} AND k.contype IN ('c', 'f', 'u', 'p', 'x')""",
    "index": f"""
        SELECT n.nspname || '.' || c.relname,
          pg_get_indexdef(c.oid) || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END
            || CASE WHEN x.indisreplident THEN ' replica identity' ELSE '' END
            || CASE WHEN x.indisclustered THEN ' clustered' ELSE '' END
            || coalesce(' comment ' || obj_description(c.oid, 'pg_class'), '')
            || coalesce((SELECT ' statistics ' || string_agg(a.attnum || '=' || a.attstattarget, ',')
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0), '')
        FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OTHERS}""",
    "view": f"""
        SELECT n.nspname || '.' || c.relname,
          concat_ws(' ', c.relkind, c.relispopulated, pg_get_viewdef(c.oid), c.reloptions::text,
            c.relowner::regrole)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {OTHERS}""",
    "grant": f"""
        SELECT n.nspname || '.' || c.relname || ' ' || x.privilege_type || ' ' || coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC'),
          'granted' || CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
          LATERAL aclexplode(c.relacl) x
        WHERE {OTHERS} AND x.grantee <> c.relowner""",
    "sequence": f"""
        SELECT n.nspname || '.' || c.relname,
          concat_ws(' ', format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax,
            s.seqcycle, 'owned by', d.refobjid::regclass, a.attname)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
          AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
        LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE {OTHERS}""",
    "trigger": f"""
        SELECT n.nspname || '.' || c.relname || '.' || t.tgname,
          pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {OTHERS}""",
    "policy": f"""
        SELECT n.nspname || '.' || c.relname || '.' || p.polname,
          concat_ws(' ', p.polpermissive, p.polcmd, p.polroles::regrole[]::text,
            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OTHERS}""",
    "function": f"""
        SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
          CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OTHERS} AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = p.oid AND x.deptype = 'e')""",
    "type": f"""
        SELECT n.nspname || '.' || t.typname,
          concat_ws(' ', t.typtype, t.typnotnull, t.typdefault,
            CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
            (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e
             WHERE e.enumtypid = t.oid),
            (SELECT string_agg(k.conname || ' ' || pg_get_constraintdef(k.oid) || ' ' || k.convalidated, ','
                               ORDER BY k.conname)
             FROM pg_constraint k WHERE k.contypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE {OTHERS} AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
          AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = t.oid AND x.deptype = 'e')""",
    "cast": """
        SELECT format_type(k.castsource, NULL) || ' as ' || format_type(k.casttarget, NULL),
          concat_ws(' ', k.castcontext, k.castmethod, nullif(k.castfunc, 0)::regprocedure)
        FROM pg_cast k WHERE k.oid >= 16384
          AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = k.oid AND x.deptype = 'e')""",
    "schema": f"SELECT n.nspname, n.nspowner::regrole::text FROM pg_namespace n WHERE {OTHERS}",
    "extension": "SELECT extname, extversion FROM pg_extension",
    "publication": """
        SELECT p.pubname, concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete,
          (SELECT string_agg(t.schemaname || '.' || t.tablename, ',' ORDER BY 1)
           FROM pg_publication_tables t WHERE t.pubname = p.pubname))
        FROM pg_publication p""",
    # by way of JSON, for Postgres 14 has neither column lists nor filters
    "published": """
        SELECT t.pubname || ' ' || t.schemaname || '.' || t.tablename,
          concat_ws(' ', (SELECT string_agg(c.name, ',' ORDER BY c.name)
             FROM jsonb_array_elements_text(j.row->'attnames') AS c (name)), 'where', j.row->>'rowfilter')
        FROM pg_publication_tables t, LATERAL (SELECT to_jsonb(t)) AS j (row)""",
    "statistics": f"""
        SELECT n.nspname || '.' || s.stxname,
          concat_ws(' ', s.stxrelid::regclass, s.stxkind::text,
            (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
             WHERE a.attrelid = s.stxrelid AND a.attnum = ANY (s.stxkeys::int2[])),
            pg_get_statisticsobjdef_expressions(s.oid)::text, 'target', nullif(s.stxstattarget, -1),
            'owner', s.stxowner::regrole, 'comment', obj_description(s.oid, 'pg_statistic_ext'))
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {OTHERS}""",
}


def snapshot(connection: psycopg.Connection) -> dict[str, str]:
    """Every object of the user's as `kind name` → normalised definition."""
    out: dict[str, str] = {}
    for kind, query in _QUERIES.items():
        for name, definition in connection.execute(query.encode()):
            out[f"{kind} {name}"] = definition or ""
    return out


def differences(
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    grown: frozenset[str] = frozenset(),
    leaving: Container[str] = (),
) -> list[str]:
    """What `after` lacks, has besides, or has otherwise, one line each; empty when equal.

    `grown` are objects that the users' own triggers make while rows are written (see `growth`):
    more of their kind are no difference. Objects named in `leaving` may have changed, or be there
    besides: a plan says so beforehand.
    """
    after = {k: v if k not in leaving else before.get(k, v) for k, v in after.items()}
    after = {k: v for k, v in after.items() if k in before or k not in leaving}
    out = [f"{name} is missing" for name in sorted(before.keys() - after.keys())]
    out += [
        f"{name} was not there"
        for name in sorted(after.keys() - before.keys())
        if _numberless(name) not in grown
    ]
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            out.append(f"{name} was {_flat(before[name])}, is {_flat(after[name])}")
    return out


def growth(before: Mapping[str, str], after: Mapping[str, str]) -> frozenset[str]:
    """The objects that came between two snapshots, with `#` for the numbers in their names."""
    return frozenset(_numberless(name) for name in after.keys() - before.keys())


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _flat(text: str) -> str:
    return " ".join(text.split())
