"""The name format_type gives a TypeName of libpg_query, worked out on its own."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "int4": "integer", "int2": "smallint", "int8": "bigint", "float4": "real",
    "float8": "double precision", "bool": "boolean", "varchar": "character varying",
    "bpchar": "character", "varbit": "bit varying", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "time": "time without time zone",
    "timetz": "time with time zone",
}  # fmt: skip
_SERIALS = {
    "serial": "integer", "serial4": "integer", "smallserial": "smallint", "serial2": "smallint",
    "bigserial": "bigint", "serial8": "bigint",
}  # fmt: skip
#: an interval's fields as bits of its first modifier
_FIELDS = {
    4: "year", 2: "month", 8: "day", 1024: "hour", 2048: "minute", 4096: "second",
    6: "year to month", 1032: "day to hour", 3080: "day to minute", 7176: "day to second",
    3072: "hour to minute", 7168: "hour to second", 6144: "minute to second",
}  # fmt: skip


def type_name(node: Any) -> str | None:
    """None where a modifier is more than a number or a word."""
    parts = [n.string.sval for n in node.names]
    modifiers: list[str] = []
    for each in node.typmods:
        if each.WhichOneof("node") == "a_const" and each.a_const.WhichOneof("val") == "ival":
            modifiers.append(str(each.a_const.ival.ival))
        elif each.WhichOneof("node") == "column_ref":
            modifiers.append(each.column_ref.fields[0].string.sval)
        else:
            return None
    system = parts[:-1] == ["pg_catalog"]
    if parts[-1] == "char" and (system or len(parts) == 1):
        return '"char"' + ("[]" if node.array_bounds else "")
    name = parts[-1]
    fields = ""
    if name == "interval" and modifiers:
        if not system:
            return None
        bits = int(modifiers[0])
        fields = f" {_FIELDS[bits]}" if bits in _FIELDS else ""
        modifiers = modifiers[1:]
    if system or (len(parts) == 1 and name in _UNQUALIFIED):
        base = _NAMES.get(name, name)
        if name == "bpchar" and not modifiers:
            base = "bpchar"
    elif len(parts) == 1 and name in _SERIALS:
        base = _SERIALS[name]
    else:
        base = ".".join(_quoted(p) for p in parts)
    if system and name == "numeric" and len(modifiers) == 1:
        modifiers.append("0")
    given = f"({','.join(modifiers)})" if modifiers else ""
    if base.startswith(("timestamp ", "time ")) and base.endswith("time zone"):
        head, _, tail = base.partition(" ")
        text = f"{head}{given} {tail}"
    else:
        text = f"{base}{fields}{given}"
    return text + ("[]" if node.array_bounds else "")


#: names that need no schema to mean Postgres' own type
_UNQUALIFIED = frozenset(["timestamptz", "timetz", "int4", "int2", "int8", "float4", "float8",
                          "bool", "varbit", "text", "varchar", "bpchar", "timestamp", "time"])  # fmt: skip


def _quoted(part: str) -> str:
    plain = part.isascii() and part.replace("_", "a").replace("$", "a").isalnum()
    if plain and part == part.lower() and not part[0].isdigit() and part[0] != "$":
        return part
    return '"' + part.replace('"', '""') + '"'
