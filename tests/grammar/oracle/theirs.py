"""Labels of libpg_query's tree: tables, columns, constraints and indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postgast import pg_query_pb2 as pb

from tests.grammar.oracle.trees import (
    Value,
    action,
    canon,
    given,
    path,
    relation,
    strings,
    unwrap,
    walk,
)
from tests.grammar.oracle.type_names import type_name

Fact = dict[str, Value]

_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_MATCH = {"s": "SIMPLE", "f": "FULL", "p": "PARTIAL"}
_KINDS = {
    pb.CONSTR_CHECK: "check",
    pb.CONSTR_PRIMARY: "primary_key",
    pb.CONSTR_UNIQUE: "unique",
    pb.CONSTR_EXCLUSION: "exclude",
    pb.CONSTR_FOREIGN: "foreign_key",
    pb.CONSTR_NOTNULL: "not_null",
}
_PERSISTENCE = {"p": "permanent", "u": "unlogged", "t": "temporary"}
_STRATEGY = {1: "LIST", 2: "RANGE", 3: "HASH"}
_LIKE = ("COMMENTS", "COMPRESSION", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES",
         "STATISTICS", "STORAGE")  # fmt: skip


def column_names(message: Any) -> tuple[str, ...]:
    """The columns an expression names."""
    found = set()
    for node in walk(message):
        if node.DESCRIPTOR.name == "ColumnRef" and node.fields[-1].HasField("string"):
            found.add(node.fields[-1].string.sval)
    return tuple(sorted(found))


def persistence(var: Any) -> str:
    """permanent, unlogged or temporary."""
    return "temporary" if var.schemaname == "pg_temp" else _PERSISTENCE[var.relpersistence]


def constraint(c: Any, column: str | None = None) -> Fact:
    """A constraint; `column` is where an inline one stands."""
    kind = _KINDS[c.contype]
    own = (column,) if column is not None else ()
    columns = strings(c.fk_attrs if kind == "foreign_key" else c.keys) or own
    if kind == "check" and column is None:
        columns = column_names(c.raw_expr)
    if kind == "exclude":
        elements = (each.list.items[0].index_elem for each in c.exclusions)
        columns = tuple(e.name for e in elements if e.name)
    on_delete = _ACTIONS.get(c.fk_del_action, "NO ACTION")
    if c.fk_del_set_cols:
        on_delete += f" ({', '.join(strings(c.fk_del_set_cols))})"
    return {
        "kind": kind,
        "name": c.conname or None,
        "columns": columns,
        "expression": canon(given(c, "raw_expr"))
        if kind == "check"
        else tuple(canon(e) for e in c.exclusions)
        if kind == "exclude"
        else None,
        "ref_table": relation(c.pktable) if c.HasField("pktable") else None,
        "ref_columns": strings(c.pk_attrs),
        "on_delete": on_delete,
        "on_update": _ACTIONS.get(c.fk_upd_action, "NO ACTION"),
        "match": _MATCH.get(c.fk_matchtype, "SIMPLE"),
        "deferrable": c.deferrable or c.initdeferred,
        "initially_deferred": c.initdeferred,
        "valid": not c.skip_validation and (c.is_enforced or kind not in ("check", "foreign_key")),
        "enforced": c.is_enforced or kind not in ("check", "foreign_key"),
        "no_inherit": c.is_no_inherit,
        "include": strings(c.including),
        "nulls_not_distinct": c.nulls_not_distinct,
        "without_overlaps": c.without_overlaps,
        "using_index": c.indexname or None,
        "method": (c.access_method or "btree") if kind == "exclude" else None,
        "where": canon(given(c, "where_clause")),
    }


def _attribute(found: Fact, contype: int) -> None:
    if contype == pb.CONSTR_ATTR_DEFERRABLE:
        found["deferrable"] = True
    elif contype == pb.CONSTR_ATTR_NOT_DEFERRABLE:
        found["deferrable"] = False
    elif contype == pb.CONSTR_ATTR_DEFERRED:
        found["deferrable"] = found["initially_deferred"] = True
    elif contype == pb.CONSTR_ATTR_NOT_ENFORCED:
        found["enforced"] = found["valid"] = False


def column(definition: Any) -> Fact:
    """A column with what stands beside it."""
    typed = definition.HasField("type_name")
    out: Fact = {
        "name": definition.colname,
        "type": canon(definition.type_name) if typed else None,
        "type_name": type_name(definition.type_name) if typed else None,
        "collation": path(definition.coll_clause.collname)
        if definition.HasField("coll_clause")
        else None,
        "storage": (definition.storage_name or "").lower() or None,
        "compression": definition.compression or None,
        "not_null": None, "not_null_name": None, "default": None, "generated": None,
        "generation": None, "identity": None, "identity_options": (),
    }  # fmt: skip
    constraints: list[Fact] = []
    for node in definition.constraints:
        c = node.constraint
        if c.contype in _KINDS and c.contype != pb.CONSTR_NOTNULL:
            constraints.append(constraint(c, definition.colname))
        elif c.contype == pb.CONSTR_NOTNULL:
            out["not_null"], out["not_null_name"] = True, c.conname or None
        elif c.contype == pb.CONSTR_NULL:
            out["not_null"] = False
        elif c.contype == pb.CONSTR_DEFAULT:
            out["default"] = canon(given(c, "raw_expr"))
        elif c.contype == pb.CONSTR_IDENTITY:
            out["identity"] = "always" if c.generated_when == "a" else "by default"
            out["identity_options"] = tuple(canon(o) for o in c.options)
            out["not_null"] = True
        elif c.contype == pb.CONSTR_GENERATED:
            out["generated"] = "stored" if c.generated_kind == "s" else "virtual"
            out["generation"] = canon(given(c, "raw_expr"))
        elif constraints:
            _attribute(constraints[-1], c.contype)
    out["constraints"] = tuple(constraints)
    return out


def create_table(stmt: Any, *, foreign: bool = False) -> list[Fact]:
    """CREATE TABLE and CREATE FOREIGN TABLE."""
    columns, constraints, like = [], [], []
    for node in stmt.table_elts:
        element = unwrap(node)
        if element.DESCRIPTOR.name == "ColumnDef":
            columns.append(column(element))
        elif element.DESCRIPTOR.name == "Constraint":
            constraints.append(constraint(element))
        else:
            options = tuple(o for i, o in enumerate(_LIKE) if element.options >> i & 1)
            like.append((relation(element.relation), options))
    parents = tuple(relation(n.range_var) for n in stmt.inh_relations)
    partition = stmt.HasField("partbound")
    spec = given(stmt, "partspec")
    return [
        {
            "is": "create_table",
            "relation": relation(stmt.relation),
            "columns": tuple(columns),
            "constraints": tuple(constraints),
            "like": tuple(like),
            "inherits": () if partition else parents,
            "partition_of": parents[0] if partition else None,
            "bound": canon(given(stmt, "partbound")),
            "strategy": _STRATEGY[spec.strategy] if spec is not None else None,
            "key": canon(spec),
            "of_type": path(stmt.of_typename.names) if stmt.HasField("of_typename") else None,
            "query": None,
            "if_not_exists": stmt.if_not_exists,
            "persistence": persistence(stmt.relation),
            "foreign": foreign,
        }
    ]


def create_table_as(stmt: Any) -> list[Fact]:
    """CREATE TABLE AS, SELECT INTO and CREATE MATERIALIZED VIEW."""
    into = stmt.into
    if stmt.objtype == pb.OBJECT_MATVIEW:
        return [view(into.rel, into.col_names, given(stmt, "query"), materialized=True,
                     if_not_exists=stmt.if_not_exists, with_data=not into.skip_data)]  # fmt: skip
    return [table_of_query(into, canon(given(stmt, "query")), if_not_exists=stmt.if_not_exists)]


def table_of_query(into: Any, query: Value, *, if_not_exists: bool = False) -> Fact:
    """The table that a query makes."""
    return {
        "is": "create_table",
        "relation": relation(into.rel),
        "columns": (), "constraints": (), "like": (), "inherits": (), "partition_of": None,
        "bound": None, "strategy": None, "key": None, "of_type": None,
        "query": query,
        "if_not_exists": if_not_exists,
        "persistence": persistence(into.rel),
        "foreign": False,
    }  # fmt: skip


def view(var: Any, names: Any, query: Any, *, materialized: bool = False, or_replace: bool = False,
         if_not_exists: bool = False, with_data: bool = True) -> Fact:  # fmt: skip
    """A view of either kind."""
    return {
        "is": "create_view",
        "relation": relation(var),
        "columns": strings(names),
        "query": canon(query),
        "materialized": materialized,
        "or_replace": or_replace,
        "if_not_exists": if_not_exists,
        "with_data": with_data,
        "temporary": persistence(var) == "temporary",
    }


def create_index(stmt: Any) -> list[Fact]:
    """CREATE INDEX."""
    return [
        {
            "is": "create_index",
            "relation": relation(stmt.relation),
            "index": stmt.idxname or None,
            "keys": tuple(
                e.name or canon(given(e, "expr")) for e in (n.index_elem for n in stmt.index_params)
            ),
            "unique": stmt.unique,
            "concurrently": stmt.concurrent,
            "if_not_exists": stmt.if_not_exists,
            "only": not stmt.relation.inh,
            "method": stmt.access_method or "btree",
            "include": tuple(n.index_elem.name for n in stmt.index_including_params),
            "nulls_not_distinct": stmt.nulls_not_distinct,
            "where": canon(given(stmt, "where_clause")),
        }
    ]


# -- ALTER TABLE -------------------------------------------------------------------------------

OBJECTS = {
    pb.OBJECT_TABLE: "TABLE",
    pb.OBJECT_VIEW: "VIEW",
    pb.OBJECT_MATVIEW: "MATERIALIZED VIEW",
    pb.OBJECT_INDEX: "INDEX",
    pb.OBJECT_SEQUENCE: "SEQUENCE",
    pb.OBJECT_FOREIGN_TABLE: "FOREIGN TABLE",
}


def alter_table(stmt: Any) -> list[Fact]:
    """ALTER of a relation: one label per action."""
    if stmt.objtype == pb.OBJECT_TYPE:
        return [_attribute_action(stmt, n.alter_table_cmd) for n in stmt.cmds]
    head = {
        "relation": relation(stmt.relation),
        "only": not stmt.relation.inh,
        "absent_ok": stmt.missing_ok,
    }
    return [{**head, **_action(n.alter_table_cmd)} for n in stmt.cmds]


def _attribute_action(stmt: Any, cmd: Any) -> Fact:
    kind = pb.AlterTableType.Name(cmd.subtype)
    act = {"AT_AddColumn": "add", "AT_DropColumn": "drop", "AT_AlterColumnType": "retype"}[kind]
    definition = given(cmd, "def")
    return {
        "is": "alter_attribute",
        "relation": relation(stmt.relation),
        "act": act,
        "attribute": definition.colname if act == "add" else cmd.name,
        "to": canon(definition.type_name) if definition is not None else None,
        "cascade": cmd.behavior == pb.DROP_CASCADE,
        "if_exists": cmd.missing_ok,
    }


def _action(cmd: Any) -> Fact:
    kind = pb.AlterTableType.Name(cmd.subtype)
    label = _ACTION_LABELS.get(kind)
    if label is not None:
        return label(cmd)
    return {"is": "switch_table", "action": canon(cmd)}


def _with_column(name: str, *wanted: str) -> Callable[[Any], Fact]:
    def label(cmd: Any) -> Fact:
        out: Fact = {"is": name, "column": cmd.name}
        if "if_exists" in wanted:
            out["if_exists"] = cmd.missing_ok
        if "cascade" in wanted:
            out["cascade"] = cmd.behavior == pb.DROP_CASCADE
        return out

    return label


def _retype(cmd: Any) -> Fact:
    definition = given(cmd, "def")
    return {
        "is": "alter_column_type",
        "column": cmd.name,
        "type": canon(definition.type_name),
        "type_name": type_name(definition.type_name),
        "using": canon(given(definition, "raw_default")),
        "collation": path(definition.coll_clause.collname)
        if definition.HasField("coll_clause")
        else None,
    }


def _expression(cmd: Any) -> Fact:
    return {"is": "alter_expression", "column": cmd.name, "expression": canon(given(cmd, "def")),
            "if_exists": cmd.missing_ok}  # fmt: skip


def _identity(cmd: Any) -> Fact:
    act = {"AT_AddIdentity": "add", "AT_SetIdentity": "set", "AT_DropIdentity": "drop"}
    which = None
    definition = given(cmd, "def")
    if definition is not None and definition.DESCRIPTOR.name == "Constraint":
        which = definition.generated_when
    elif definition is not None:
        for option in definition.items:
            if option.def_elem.defname == "generated":
                which = chr(option.def_elem.arg.integer.ival)
    done = act[pb.AlterTableType.Name(cmd.subtype)]
    return {
        "is": "alter_identity",
        "column": cmd.name,
        "act": done,
        "identity": {"a": "always", "d": "by default", None: None}[which],
        "if_exists": cmd.missing_ok,
        "action": None if done == "drop" else canon(cmd),
    }


def _alter_constraint(cmd: Any) -> Fact:
    change = given(cmd, "def")
    return {
        "is": "alter_constraint",
        "constraint": change.conname,
        "deferrable": change.deferrable if change.alter_deferrability else None,
        "initially_deferred": change.initdeferred if change.alter_deferrability else None,
        "enforced": change.is_enforced if change.alter_enforceability else None,
        "inherit": not change.noinherit if change.alter_inheritability else None,
    }


def _partition(cmd: Any) -> Fact:
    part = given(cmd, "def")
    kind = pb.AlterTableType.Name(cmd.subtype)
    if kind == "AT_AttachPartition":
        attached = canon(given(part, "bound"))
        return {"is": "attach_partition", "partition": relation(part.name), "bound": attached}
    how = "finalize" if kind.endswith("Finalize") else "concurrently" if part.concurrent else None
    return {"is": "detach_partition", "partition": relation(part.name), "how": how}


def _move(what: str, to: str | None = None) -> Callable[[Any], Fact]:
    return lambda cmd: {"is": "move_table", "what": what, "to": to or cmd.name or "default"}


_ACTION_LABELS: dict[str, Callable[[Any], Fact]] = {
    "AT_AddColumn": lambda cmd: {
        "is": "add_column",
        "if_not_exists": cmd.missing_ok,
        "column": column(given(cmd, "def")),
    },
    "AT_DropColumn": _with_column("drop_column", "if_exists", "cascade"),
    "AT_ColumnDefault": lambda cmd: {
        "is": "set_default", "column": cmd.name, "default": canon(given(cmd, "def")),
    },
    "AT_SetNotNull": _with_column("set_not_null"),
    "AT_DropNotNull": _with_column("drop_not_null"),
    "AT_AlterColumnType": _retype,
    "AT_SetExpression": _expression,
    "AT_DropExpression": _expression,
    "AT_AddIdentity": _identity,
    "AT_SetIdentity": _identity,
    "AT_DropIdentity": _identity,
    "AT_AddConstraint": lambda cmd: {
        "is": "add_constraint", "constraint": constraint(given(cmd, "def")),
    },
    "AT_AlterConstraint": _alter_constraint,
    "AT_ValidateConstraint": lambda cmd: {"is": "validate_constraint", "constraint": cmd.name},
    "AT_DropConstraint": lambda cmd: {
        "is": "drop_constraint", "constraint": cmd.name, "if_exists": cmd.missing_ok,
        "cascade": cmd.behavior == pb.DROP_CASCADE,
    },
    "AT_AttachPartition": _partition,
    "AT_DetachPartition": _partition,
    "AT_DetachPartitionFinalize": _partition,
    "AT_AddInherit": lambda cmd: {
        "is": "inherit", "parent": relation(given(cmd, "def")), "joins": True,
    },
    "AT_DropInherit": lambda cmd: {
        "is": "inherit", "parent": relation(given(cmd, "def")), "joins": False,
    },
    "AT_AddOf": lambda cmd: {"is": "set_of", "type": path(given(cmd, "def").names)},
    "AT_DropOf": lambda cmd: {"is": "set_of", "type": None},
    "AT_SetLogged": _move("persistence", "logged"),
    "AT_SetUnLogged": _move("persistence", "unlogged"),
    "AT_SetTableSpace": _move("tablespace"),
    "AT_SetAccessMethod": _move("access method"),
}  # fmt: skip

__all__ = ["OBJECTS", "Fact", "action", "alter_table", "column", "constraint", "create_index",
           "create_table", "create_table_as", "persistence", "table_of_query", "view"]  # fmt: skip
