"""Labels of libpg_query's tree: everything but tables and their actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postgast import pg_query_pb2 as pb

from tests.grammar.oracle import reads
from tests.grammar.oracle.theirs import OBJECTS, Fact, constraint, persistence, view
from tests.grammar.oracle.trees import (
    Value,
    canon,
    given,
    path,
    relation,
    strings,
    unwrap,
)
from tests.grammar.oracle.type_names import type_name

_WORDS = {
    "MATVIEW": "MATERIALIZED VIEW", "FDW": "FOREIGN DATA WRAPPER", "FOREIGN_SERVER": "SERVER",
    "OPCLASS": "OPERATOR CLASS", "OPFAMILY": "OPERATOR FAMILY", "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "CONSTRAINT", "DOMCONSTRAINT": "DOMAIN CONSTRAINT",
    "LARGEOBJECT": "LARGE OBJECT", "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY", "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
}  # fmt: skip
_ON_TABLE = ("TRIGGER", "POLICY", "RULE", "CONSTRAINT")
_LOCKS = ("", "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE",
          "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")  # fmt: skip


def words(objtype: int) -> str:
    """Our name of an ObjectType."""
    name = pb.ObjectType.Name(objtype).removeprefix("OBJECT_")
    return _WORDS.get(str(name), str(name).replace("_", " "))


def object_(objtype: int, node: Any) -> Fact:
    """An object by kind and name."""
    kind = words(objtype)
    found = unwrap(node)
    shape = found.DESCRIPTOR.name
    out: Fact = {"object": kind, "on": None, "name": None, "arguments": None}
    if shape == "String":
        out["name"] = found.sval
    elif shape == "TypeName":
        out["on"], out["name"] = path(found.names), found.names[-1].string.sval
    elif shape == "ObjectWithArgs":
        out["name"] = found.objname[-1].string.sval
        if kind != "OPERATOR":
            out["on"], out["arguments"] = path(found.objname), canon(found)
    elif (shape == "List" and kind in _ON_TABLE) or (shape == "List" and kind == "COLUMN"):
        out["on"], out["name"] = path(found.items[:-1]), found.items[-1].string.sval
    elif shape == "List" and kind in ("OPERATOR CLASS", "OPERATOR FAMILY"):
        out["name"] = found.items[-1].string.sval
    elif shape == "List" and found.items[0].HasField("string"):
        out["on"], out["name"] = path(found.items), found.items[-1].string.sval
    return out


def _drop(stmt: Any) -> list[Fact]:
    kind = words(stmt.remove_type)
    flags = {"if_exists": stmt.missing_ok, "cascade": stmt.behavior == pb.DROP_CASCADE}
    if kind in ("TABLE", "FOREIGN TABLE"):
        return [{"is": "drop_table", "relation": path(n.list.items), **flags} for n in stmt.objects]
    if kind == "INDEX":
        return [
            {"is": "drop_index", "relation": path(n.list.items), **flags,
             "concurrently": stmt.concurrent} for n in stmt.objects
        ]  # fmt: skip
    return [{"is": "drop_object", **object_(stmt.remove_type, n), **flags} for n in stmt.objects]


def _rename(stmt: Any) -> list[Fact]:
    kind = words(stmt.rename_type)
    if kind == "COLUMN":
        return [{"is": "rename_column", "relation": relation(stmt.relation), "column": stmt.subname,
                 "to": stmt.newname, "only": not stmt.relation.inh,
                 "absent_ok": stmt.missing_ok}]  # fmt: skip
    if kind in ("TABLE", "FOREIGN TABLE"):
        return [{"is": "rename_table", "relation": relation(stmt.relation), "to": stmt.newname,
                 "absent_ok": stmt.missing_ok}]  # fmt: skip
    if kind == "ATTRIBUTE":
        return [{"is": "alter_attribute", "relation": relation(stmt.relation), "act": "rename",
                 "attribute": stmt.subname, "to": stmt.newname, "if_exists": False,
                 "cascade": stmt.behavior == pb.DROP_CASCADE}]  # fmt: skip
    kind = "ROLE" if kind in ("USER", "GROUP") else kind
    out: Fact = {"is": "rename_object", "object": kind, "to": stmt.newname, "on": None}
    if kind in OBJECTS.values():
        return [out | {"on": relation(stmt.relation), "name": stmt.relation.relname}]
    if kind == "DOMAIN CONSTRAINT":
        return [out | {"on": path(stmt.object.list.items), "name": stmt.subname}]
    if stmt.HasField("relation"):
        return [out | {"on": relation(stmt.relation), "name": stmt.subname}]
    if not stmt.HasField("object"):
        return [out | {"name": stmt.subname}]
    found = object_(stmt.rename_type, stmt.object)
    return [out | {"on": found["on"], "name": found["name"]}]


def _alter_enum(stmt: Any) -> list[Fact]:
    if stmt.old_val:
        return [{"is": "rename_object", "object": "ENUM VALUE", "on": path(stmt.type_name),
                 "name": stmt.old_val, "to": stmt.new_val}]  # fmt: skip
    side = ("after" if stmt.new_val_is_after else "before") if stmt.new_val_neighbor else None
    return [{"is": "add_enum_value", "relation": path(stmt.type_name), "label": stmt.new_val,
             "side": side, "neighbour": stmt.new_val_neighbor or None,
             "if_not_exists": stmt.skip_if_new_val_exists}]  # fmt: skip


_DOMAIN = {"T": "default", "N": "drop not null", "O": "set not null", "C": "add", "X": "drop",
           "V": "validate"}  # fmt: skip


def _alter_domain(stmt: Any) -> list[Fact]:
    act = _DOMAIN[stmt.subtype]
    definition = given(stmt, "def")
    if act == "default":
        act = "set default" if definition is not None else "drop default"
    made = constraint(definition) if act == "add" else None
    return [{
        "is": "alter_domain", "relation": path(stmt.type_name), "act": act,
        "constraint": made["name"] if made else stmt.name or None,
        "expression": made["expression"] if made else None,
        "valid": made["valid"] if made else None,
        "default": canon(definition) if act == "set default" else None,
        "if_exists": stmt.missing_ok, "cascade": stmt.behavior == pb.DROP_CASCADE,
    }]  # fmt: skip


def _create_domain(stmt: Any) -> list[Fact]:
    not_null, default, checks = False, None, []
    for node in stmt.constraints:
        c = node.constraint
        if c.contype == pb.CONSTR_NOTNULL:
            not_null = True
        elif c.contype == pb.CONSTR_DEFAULT:
            default = canon(given(c, "raw_expr"))
        elif c.contype == pb.CONSTR_CHECK:
            checks.append((c.conname or None, canon(given(c, "raw_expr"))))
    return [{"is": "create_object", "object": "DOMAIN", "relation": path(stmt.domainname),
             "base": type_name(stmt.type_name), "not_null": not_null, "default": default,
             "checks": tuple(checks), "if_not_exists": False}]  # fmt: skip


def _made(kind: str, name: Value, *, if_not_exists: bool = False) -> Fact:
    return {"is": "create_object", "object": kind, "relation": name, "base": None,
            "not_null": False, "default": None, "checks": (),
            "if_not_exists": if_not_exists}  # fmt: skip


def _create_schema(stmt: Any) -> list[Fact]:
    name = stmt.schemaname or stmt.authrole.rolename
    made = _made("SCHEMA", (None, name), if_not_exists=stmt.if_not_exists)
    if not stmt.schema_elts:
        return [made]
    return [made, {"is": "not_understood"}]


def _sequence(stmt: Any) -> list[Fact]:
    owned = next(((*path(n.def_elem.arg.list.items[:-1]), n.def_elem.arg.list.items[-1].string.sval)
                  for n in stmt.options
                  if n.def_elem.defname == "owned_by" and len(n.def_elem.arg.list.items) > 1), None)  # fmt: skip
    return [{"is": "alter_sequence", "relation": relation(stmt.sequence), "owned": owned,
             "absent_ok": stmt.missing_ok}]  # fmt: skip


def _create_type(stmt: Any) -> list[Fact]:
    out: Fact = {"is": "create_type", "labels": (), "attributes": (), "subtype": None}
    if stmt.DESCRIPTOR.name == "CreateEnumStmt":
        return [
            out | {"relation": path(stmt.type_name), "form": "enum", "labels": strings(stmt.vals)}
        ]
    if stmt.DESCRIPTOR.name == "CompositeTypeStmt":
        attributes = tuple((n.column_def.colname, canon(n.column_def.type_name))
                           for n in stmt.coldeflist)  # fmt: skip
        return [out | {"relation": relation(stmt.typevar), "form": "composite",
                       "attributes": attributes}]  # fmt: skip
    subtype = next((type_name(n.def_elem.arg.type_name) for n in stmt.params
                    if n.def_elem.defname == "subtype"), None)  # fmt: skip
    return [out | {"relation": path(stmt.type_name), "form": "range", "subtype": subtype}]


def _define(stmt: Any) -> list[Fact]:
    kind = words(stmt.kind)
    if kind == "TYPE":
        form = "base" if stmt.definition else "shell"
        return [{"is": "create_type", "relation": path(stmt.defnames), "form": form, "labels": (),
                 "attributes": (), "subtype": None}]  # fmt: skip
    return [_defined(kind, strings(stmt.defnames)[-1])]


def _defined(kind: str, name: str | None) -> Fact:
    return {"is": "define_object", "object": kind, "name": name}


def _function(stmt: Any) -> list[Fact]:
    options = {n.def_elem.defname: n.def_elem.arg for n in stmt.options}
    body = strings(options["as"].list.items)[0] if "as" in options else ""
    language = options["language"].string.sval if "language" in options else "sql"
    return [{
        "is": "create_function", "relation": path(stmt.funcname),
        "arguments": tuple(canon(n.function_parameter) for n in stmt.parameters
                           if n.function_parameter.mode != pb.FUNC_PARAM_TABLE),
        "language": language.lower(), "body": None if stmt.HasField("sql_body") else body,
        "volatility": options["volatility"].string.sval if "volatility" in options else "volatile",
        "procedure": stmt.is_procedure, "or_replace": stmt.replace,
    }]  # fmt: skip


def _trigger(stmt: Any) -> list[Fact]:
    events = tuple(e for e, bit in (("INSERT", 4), ("DELETE", 8), ("UPDATE", 16), ("TRUNCATE", 32))
                   if stmt.events & bit)  # fmt: skip
    return [{
        "is": "create_trigger", "relation": relation(stmt.relation), "name": stmt.trigname,
        "timing": {2: "BEFORE", 64: "INSTEAD OF", 0: "AFTER"}[stmt.timing],
        "events": tuple(sorted(events)), "columns": strings(stmt.columns), "row": stmt.row,
        "function": path(stmt.funcname), "constraint": stmt.isconstraint,
        "or_replace": stmt.replace,
    }]  # fmt: skip


def role(node: Any) -> str:
    """A RoleSpec's name."""
    spec = node.role_spec if node.DESCRIPTOR.name == "Node" else node
    special = {pb.ROLESPEC_PUBLIC: "public", pb.ROLESPEC_CURRENT_USER: "current_user",
               pb.ROLESPEC_SESSION_USER: "session_user",
               pb.ROLESPEC_CURRENT_ROLE: "current_role"}  # fmt: skip
    return str(special.get(spec.roletype, spec.rolename))


def _policy(stmt: Any) -> list[Fact]:
    new = stmt.DESCRIPTOR.name == "CreatePolicyStmt"
    return [{
        "is": "create_policy", "relation": relation(stmt.table), "name": stmt.policy_name,
        "alter": not new, "permissive": stmt.permissive if new else True,
        "command": stmt.cmd_name.upper() if new else "ALL",
        "roles": tuple(role(n) for n in stmt.roles),
        "using": canon(given(stmt, "qual")), "with_check": canon(given(stmt, "with_check")),
    }]  # fmt: skip


def _rule(stmt: Any) -> list[Fact]:
    event = {pb.CMD_SELECT: "SELECT", pb.CMD_UPDATE: "UPDATE", pb.CMD_INSERT: "INSERT",
             pb.CMD_DELETE: "DELETE"}[stmt.event]  # fmt: skip
    return [{"is": "create_rule", "relation": relation(stmt.relation), "rule": stmt.rulename,
             "event": event, "instead": stmt.instead, "or_replace": stmt.replace}]  # fmt: skip


def _statistics(stmt: Any) -> list[Fact]:
    keys = tuple((e.name or canon(given(e, "expr"))) for e in (n.stats_elem for n in stmt.exprs))
    return [{"is": "create_statistics", "relation": relation(stmt.relations[0].range_var),
             "statistics": path(stmt.defnames) if stmt.defnames else None, "expressions": keys,
             "if_not_exists": stmt.if_not_exists}]  # fmt: skip


def _publication(stmt: Any) -> list[Fact]:
    if stmt.options and stmt.DESCRIPTOR.name == "AlterPublicationStmt":
        return [_altered("PUBLICATION", None, stmt.pubname, "options")]
    tables, schemas, before = [], [], None
    for node in stmt.pubobjects:
        each = node.publication_obj_spec
        kind = each.pubobjtype
        if kind == pb.PUBLICATIONOBJ_CONTINUATION:
            kind = before
        before = kind
        if kind == pb.PUBLICATIONOBJ_TABLE:
            tables.append(relation(each.pubtable.relation) if each.HasField("pubtable")
                          else (None, each.name))  # fmt: skip
        elif kind == pb.PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA:
            schemas.append("current_schema")
        else:
            schemas.append(each.name)
    act = "create"
    if stmt.DESCRIPTOR.name == "AlterPublicationStmt":
        act = {pb.AP_AddObjects: "add", pb.AP_DropObjects: "drop", pb.AP_SetObjects: "set"}[
            stmt.action
        ]
    return [{"is": "publish", "publication": stmt.pubname, "act": act, "tables": tuple(tables),
             "schemas": tuple(schemas), "all_tables": stmt.for_all_tables}]  # fmt: skip


_TRANSACTION = {
    "BEGIN": "begin", "START": "begin", "COMMIT": "commit", "ROLLBACK": "rollback",
    "SAVEPOINT": "savepoint", "RELEASE": "savepoint", "ROLLBACK_TO": "savepoint",
    "PREPARE": "commit", "COMMIT_PREPARED": "commit", "ROLLBACK_PREPARED": "rollback",
}  # fmt: skip


def _transaction(stmt: Any) -> list[Fact]:
    verb = pb.TransactionStmtKind.Name(stmt.kind).removeprefix("TRANS_STMT_")
    return [{"is": "transaction", "verb": _TRANSACTION[verb], "chain": stmt.chain,
             "name": stmt.savepoint_name or None}]  # fmt: skip


def _set(stmt: Any) -> list[Fact]:
    kind = pb.VariableSetKind.Name(stmt.kind).removeprefix("VAR_")
    value = None
    if kind == "SET_VALUE":
        values = []
        for node in stmt.args:
            c = node.a_const
            which = c.WhichOneof("val")
            if which == "sval":
                values.append(c.sval.sval)
            elif which in ("ival", "fval"):
                values.append(str(c.ival.ival) if which == "ival" else c.fval.fval)
            else:
                values.append("?")
        value = ", ".join(values)
    name = "all" if kind == "RESET_ALL" else stmt.name.lower()
    if kind == "SET_MULTI":
        name, value = "transaction", ""
    return [{"is": "set_parameter", "parameter": name, "local": stmt.is_local or kind == "SET_MULTI",
             "value": value}]  # fmt: skip


def _maintain(verb: str, rel: Any, **more: Value) -> Fact:
    return {"is": "maintain", "verb": verb, "relation": relation(rel) if rel is not None else None,
            "concurrently": False, "full": False} | more  # fmt: skip


def _on(options: Any, name: str) -> bool:
    """Whether an option is on: the last word counts."""
    for node in reversed(options):
        if node.def_elem.defname == name:
            arg = given(node.def_elem, "arg")
            if arg is None:
                return True
            said = (
                getattr(arg, "sval", None)
                or getattr(arg, "ival", None)
                or getattr(arg, "boolval", 0)
            )
            return str(said).lower() in ("true", "on", "1", "yes")
    return False


def _vacuum(stmt: Any) -> list[Fact]:
    verb = "VACUUM" if stmt.is_vacuumcmd else "ANALYZE"
    full = _on(stmt.options, "full")
    rels = [n.vacuum_relation.relation for n in stmt.rels] or [None]
    return [_maintain(verb, rel, full=full) for rel in rels]


def _reindex(stmt: Any) -> list[Fact]:
    rel = given(stmt, "relation")
    return [_maintain("REINDEX", rel, concurrently=_on(stmt.params, "concurrently"))]


def _grant(stmt: Any) -> list[Fact]:
    named = stmt.targtype == pb.ACL_TARGET_OBJECT and stmt.objtype in (
        pb.OBJECT_TABLE,
        pb.OBJECT_SEQUENCE,
    )
    return [{"is": "grant", "give": stmt.is_grant,
             "relations": tuple(relation(n.range_var) for n in stmt.objects) if named else ()}]  # fmt: skip


def _copy(stmt: Any) -> list[Fact]:
    return [{"is": "copy", "relation": relation(stmt.relation) if stmt.HasField("relation") else None,
             "into": stmt.is_from, "columns": strings(stmt.attlist),
             "query": canon(given(stmt, "query"))}]  # fmt: skip


def _comment(stmt: Any) -> list[Fact]:
    found = object_(stmt.objtype, stmt.object)
    return [{"is": "comment", "object": found["object"].replace("DOMAIN CONSTRAINT", "CONSTRAINT"),
             "relation": found["on"] if found["object"] in
             (*OBJECTS.values(), *_ON_TABLE, "COLUMN") else None,
             "column": found["name"] if found["object"] == "COLUMN" else None,
             "text": stmt.comment or None}]  # fmt: skip


def _altered(kind: str, on: Value, name: str, change: str, to: str | None = None) -> Fact:
    return {
        "is": "alter_object",
        "object": kind,
        "on": on,
        "name": name,
        "change": change,
        "to": to,
    }


def _new_schema(stmt: Any) -> list[Fact]:
    kind = words(stmt.object_type)
    if kind in OBJECTS.values():
        return [{"is": "set_schema", "relation": relation(stmt.relation), "to": stmt.newschema,
                 "absent_ok": stmt.missing_ok}]  # fmt: skip
    found = object_(stmt.object_type, stmt.object)
    return [_altered(kind, found["on"], found["name"], "schema", stmt.newschema)]


def _owner(stmt: Any) -> list[Fact]:
    found = object_(stmt.object_type, stmt.object)
    return [_altered(found["object"], found["on"], found["name"], "owner", role(stmt.newowner))]


def _explain(stmt: Any) -> list[Fact]:
    inner = facts_of(given(stmt, "query"))
    if _on(stmt.options, "analyze"):
        return inner
    return [{"is": "explain", "inner": tuple(inner)}]


def _do(stmt: Any) -> list[Fact]:
    options = {n.def_elem.defname: n.def_elem.arg.string.sval for n in stmt.args}
    return [{"is": "do_block", "language": options.get("language", "plpgsql").lower(),
             "body": options["as"]}]  # fmt: skip


def _data(stmt: Any) -> list[Fact]:
    return reads.data(stmt)


_LABELS: dict[str, Callable[[Any], list[Fact]]] = {}


def facts_of(stmt: Any) -> list[Fact]:
    """The labels of one statement's tree."""
    label = _LABELS.get(stmt.DESCRIPTOR.name)
    return label(stmt) if label is not None else [{"is": None, "node": stmt.DESCRIPTOR.name}]


def _tables() -> None:
    from tests.grammar.oracle import theirs

    _LABELS.update({
        "AlterTableStmt": theirs.alter_table,
        "CreateStmt": theirs.create_table,
        "CreateForeignTableStmt": lambda s: theirs.create_table(s.base_stmt, foreign=True),
        "CreateTableAsStmt": theirs.create_table_as,
        "IndexStmt": theirs.create_index,
        "ViewStmt": lambda s: [view(s.view, s.aliases, given(s, "query"), or_replace=s.replace)],
        "DropStmt": _drop,
        "RenameStmt": _rename,
        "AlterEnumStmt": _alter_enum,
        "AlterDomainStmt": _alter_domain,
        "CreateDomainStmt": _create_domain,
        "CreateSchemaStmt": _create_schema,
        "CreateSeqStmt": lambda s: [
            _made("SEQUENCE", relation(s.sequence), if_not_exists=s.if_not_exists)
        ],
        "CreateExtensionStmt": lambda s: [
            _made("EXTENSION", (None, s.extname), if_not_exists=s.if_not_exists)
        ],
        "AlterSeqStmt": _sequence,
        "CreateEnumStmt": _create_type,
        "CompositeTypeStmt": _create_type,
        "CreateRangeStmt": _create_type,
        "DefineStmt": _define,
        "CreateRoleStmt": lambda s: [
            _defined({1: "ROLE", 2: "USER", 3: "GROUP"}[s.stmt_type], s.role)
        ],
        "CreatedbStmt": lambda s: [_defined("DATABASE", s.dbname)],
        "CreateFdwStmt": lambda s: [_defined("FOREIGN DATA WRAPPER", s.fdwname)],
        "CreateForeignServerStmt": lambda s: [_defined("SERVER", s.servername)],
        "CreateEventTrigStmt": lambda s: [_defined("EVENT TRIGGER", s.trigname)],
        "CreatePLangStmt": lambda s: [_defined("LANGUAGE", s.plname)],
        "CreateSubscriptionStmt": lambda s: [_defined("SUBSCRIPTION", s.subname)],
        "CreateTableSpaceStmt": lambda s: [_defined("TABLESPACE", s.tablespacename)],
        "CreateAmStmt": lambda s: [_defined("ACCESS METHOD", s.amname)],
        "CreateFunctionStmt": _function,
        "CreateTrigStmt": _trigger,
        "CreatePolicyStmt": _policy,
        "AlterPolicyStmt": _policy,
        "RuleStmt": _rule,
        "CreateStatsStmt": _statistics,
        "CreatePublicationStmt": _publication,
        "AlterPublicationStmt": _publication,
        "TransactionStmt": _transaction,
        "VariableSetStmt": _set,
        "ConstraintsSetStmt": lambda s: [
            {"is": "set_parameter", "parameter": "constraints", "local": True, "value": ""}
        ],
        "TruncateStmt": lambda s: [
            {"is": "truncate", "relation": relation(n.range_var), "only": not n.range_var.inh,
             "cascade": s.behavior == pb.DROP_CASCADE} for n in s.relations
        ],
        "LockStmt": lambda s: [
            {"is": "lock_table", "relation": relation(n.range_var), "mode": _LOCKS[s.mode],
             "only": not n.range_var.inh} for n in s.relations
        ],
        "VacuumStmt": _vacuum,
        "ReindexStmt": _reindex,
        "ClusterStmt": lambda s: [_maintain("CLUSTER", given(s, "relation"))],
        "RefreshMatViewStmt": lambda s: [
            _maintain("REFRESH", s.relation, concurrently=s.concurrent)
        ],
        "GrantStmt": _grant,
        "GrantRoleStmt": lambda s: [{"is": "grant", "give": s.is_grant, "relations": ()}],
        "CopyStmt": _copy,
        "CommentStmt": _comment,
        "AlterObjectSchemaStmt": _new_schema,
        "AlterOwnerStmt": _owner,
        "ExplainStmt": _explain,
        "DoStmt": _do,
        "CallStmt": lambda s: [{"is": "call", "calls": (path(s.funccall.funcname)[1],)}],
        "SelectStmt": _data,
        "InsertStmt": _data,
        "UpdateStmt": _data,
        "DeleteStmt": _data,
        "MergeStmt": _data,
    })  # fmt: skip


_tables()
__all__ = ["facts_of", "persistence"]
