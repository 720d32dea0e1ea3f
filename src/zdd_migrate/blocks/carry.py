"""What hangs on a column and is not in its definition: privileges on it alone, extended statistics.

Carried over to a column that takes its place, by functions that read the catalog where the plan
runs: they are made, called and dropped in one step. (A publication's column list follows a rename by
itself, and Postgres changes the type of no column in one.)
"""

from __future__ import annotations

from zdd_migrate.blocks.draft import Draft
from zdd_migrate.blocks.naming import ZDD_SCHEMA
from zdd_migrate.blocks.quoting import quote_literal, quote_qname
from zdd_migrate.model.names import QName

_HEAD = "RETURNS void\nLANGUAGE plpgsql SET search_path = pg_catalog AS $zdd$\nDECLARE one record;"

_GRANTS = f"""(what regclass, was text, now text) {_HEAD}
BEGIN
  FOR one IN
    SELECT x.privilege_type, x.is_grantable,
      CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS role
    FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = what AND a.attname = was
  LOOP
    EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege_type, now, what, one.role,
      CASE WHEN one.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
END
$zdd$"""

# the definition is read while the old column has the new one's name: so it names that one; a change
# of type sets their target back, too
_STATISTICS = f"""(what regclass, was text, now text) {_HEAD}
BEGIN
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO zdd_aside', what, now);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', what, was, now);
  CREATE TEMPORARY TABLE zdd_statistics ON COMMIT DROP AS
    SELECT format('%I.%I', n.nspname, s.stxname) AS name, pg_get_statisticsobjdef(s.oid) AS made,
      obj_description(s.oid, 'pg_statistic_ext') AS said,
      pg_get_userbyid(s.stxowner) AS owner
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
    WHERE s.stxrelid = what AND EXISTS (
      SELECT FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
      WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid AND d.refobjid = what
        AND a.attname = now);
  FOR one IN SELECT * FROM pg_temp.zdd_statistics LOOP
    EXECUTE 'DROP STATISTICS ' || one.name;
  END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', what, now, was);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN zdd_aside TO %I', what, now);
  FOR one IN SELECT * FROM pg_temp.zdd_statistics LOOP
    EXECUTE one.made;
    EXECUTE format('ALTER STATISTICS %s OWNER TO %I', one.name, one.owner);
    IF one.said IS NOT NULL THEN
      EXECUTE format('COMMENT ON STATISTICS %s IS %L', one.name, one.said);
    END IF;
  END LOOP;
  DROP TABLE pg_temp.zdd_statistics;
END
$zdd$"""


def has_column_grants(draft: Draft, table: QName) -> bool:
    """Whether somebody was granted something on a column of a table (its present name) alone."""
    return ("grants of columns", table) in draft.start.others


def has_statistics(draft: Draft, table: QName) -> bool:
    """Whether a table may have extended statistics."""
    return any(
        kind == "statistics" and about in ("", str(table))
        for (kind, _), about in draft.start.others.items()
    )


def carry_grants(table: QName, was: str, now: str) -> tuple[str, ...]:
    """Statements that grant on column `now` what is granted on `was`."""
    return _once("carry_grants", _GRANTS, table, was, now)


def carry_statistics(table: QName, was: str, now: str) -> tuple[str, ...]:
    """Statements that make the statistics objects with column `was` anew with `now`."""
    return _once("carry_statistics", _STATISTICS, table, was, now)


def _once(name: str, body: str, table: QName, was: str, now: str) -> tuple[str, ...]:
    arguments = ", ".join(quote_literal(text) for text in (quote_qname(table), was, now))
    return (
        f"CREATE SCHEMA IF NOT EXISTS {ZDD_SCHEMA}",
        f"CREATE OR REPLACE FUNCTION {ZDD_SCHEMA}.{name}{body}",
        f"SELECT {ZDD_SCHEMA}.{name}({arguments})",
        f"DROP FUNCTION {ZDD_SCHEMA}.{name}(regclass, text, text)",
    )
