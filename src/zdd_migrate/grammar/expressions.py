"""What an expression reads and how volatile it is, by sqlglot's parser.

`columns` and `volatility` are asked of defaults, checks, USING clauses and backfill expressions.
Where the parser gives up, the answer is the unsafe one: `understood` is False, volatility is
"volatile".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from zdd_migrate.grammar.errors import UnreadError
from zdd_migrate.grammar.tokens import QUOTED, WORD, Token, squeezed, tokenise

if TYPE_CHECKING:
    from zdd_migrate.model.schema import Schema

Volatility = Literal["immutable", "stable", "volatile"]

#: functions of Postgres itself that are volatile (pg_proc.provolatile = 'v'), those that
#: migrations use; source: pg_proc of majors 14 to 18
_VOLATILE = frozenset(
    """random random_normal gen_random_uuid uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4
    uuidv4 uuidv7 clock_timestamp timeofday nextval setval currval lastval pg_sleep pg_sleep_for
    gen_random_bytes gen_salt setseed set_config pg_advisory_lock
    pg_advisory_xact_lock pg_try_advisory_lock pg_notify lo_create lo_import query_to_xml dblink
    dblink_exec pg_backend_pid_volatile nanoid ulid uuid_generate_v7 uuid_generate_v1mc""".split()
)
#: functions and special words that are stable
_STABLE = frozenset(
    """now current_timestamp current_date current_time localtime localtimestamp
    transaction_timestamp statement_timestamp txid_current pg_current_xact_id current_user session_user user current_role
    current_schema current_catalog current_database current_setting to_char to_timestamp to_date
    date_part_tz age pg_get_expr concat concat_ws format to_json to_jsonb row_to_json
    json_build_object jsonb_build_object array_to_string string_to_table timezone inet_client_addr
    inet_server_addr version pg_backend_pid quote_ident_stable to_tsvector to_tsquery
    plainto_tsquery date_trunc make_timestamptz has_table_privilege obj_description""".split()
)
#: functions of Postgres itself that are immutable, those that migrations use
_IMMUTABLE = frozenset(
    """lower upper length char_length character_length octet_length trim btrim ltrim rtrim substr
    substring left right replace split_part regexp_replace regexp_match regexp_matches coalesce
    nullif greatest least abs ceil ceiling floor round trunc mod power sqrt sign md5 sha256 sha224
    sha384 sha512 encode decode digest concat_immutable array_length cardinality array_append
    array_prepend array_cat array_remove array_position unnest string_to_array jsonb_typeof
    json_typeof jsonb_array_length json_array_length jsonb_extract_path jsonb_extract_path_text
    json_extract_path_text jsonb_set jsonb_object_keys jsonb_array_elements_text lpad rpad initcap
    reverse repeat strpos position overlay extract date_part isfinite justify_hours make_interval
    make_date make_time make_timestamp int4range int8range numrange daterange lower_inc upper_inc
    isempty num_nonnulls num_nulls ascii chr translate regexp_split_to_array starts_with exp ln log
    width_bucket to_hex bit_length jsonb_strip_nulls hashtext cast tsrange tstzrange row array
    similar_to_escape like_escape quote_literal quote_ident quote_nullable unaccent_immutable
    exists any all some""".split()
)
_SPECIAL_WORDS = frozenset(
    """current_timestamp current_date current_time localtime localtimestamp current_user
    session_user user current_role current_schema current_catalog""".split()
)
#: words that are never a bare column name in an expression
_NOT_COLUMNS = (
    frozenset(
        """and or not null true false is in like ilike between case when then else end as cast from
        distinct any all some array similar to symmetric asymmetric collate default for select where
        using both leading trailing isnull notnull placing order asc desc with union except
        intersect limit offset group having on only into variadic lateral""".split()
    )
    | _SPECIAL_WORDS
)
_FIELDS = ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
#: words that are a column's name unless they stand beside these: (words before, words after)
_SOFT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "at": ((), ("TIME", "LOCAL")),
    "by": (("ORDER", "PARTITION"), ()),
    "document": (("IS", "NOT"), ()),
    "escape": ((), ("string",)),
    "first": (("NULLS",), ()),
    "json": (("IS", "NOT"), ()),
    "last": (("NULLS",), ()),
    "local": (("AT",), ()),
    "normalized": (("IS", "NOT"), ()),
    "nulls": ((), ("FIRST", "LAST")),
    "object": (("JSON",), ()),
    "partition": ((), ("BY",)),
    "scalar": (("JSON",), ()),
    "time": (("AT", "WITH", "WITHOUT"), ()),
    "unknown": (("IS", "NOT"), ()),
    "without": ((), ("TIME",)),
    "zone": (("TIME",), ()),
    **{field.lower(): (("string", "TO"), ("FROM",)) for field in _FIELDS},
}


@dataclass(frozen=True, slots=True)
class Expression:
    """What an expression is made of.

    `names` are the bare column names it may read (folded); `functions` the functions it calls
    (folded, unqualified); `qualifiers` table names or aliases before a dot; `constant` whether it
    names no column and calls nothing; `understood` whether the text could be cut at all.
    """

    names: frozenset[str]
    functions: frozenset[str]
    qualifiers: frozenset[str]
    has_subquery: bool
    understood: bool = True

    @property
    def constant(self) -> bool:
        """Whether it is a literal or built of literals and casts alone."""
        return self.understood and not (self.names or self.functions or self.has_subquery)


@lru_cache(maxsize=8192)
def analyse(text: str) -> Expression:
    """Names, functions and subqueries of an expression's text, from its tokens."""
    try:
        tokens = tokenise(text)
    except UnreadError:
        return Expression(frozenset(), frozenset(), frozenset(), False, understood=False)
    names: set[str] = set()
    functions: set[str] = set()
    qualifiers: set[str] = set()
    subquery = False
    count = len(tokens)
    in_type = False
    for i, token in enumerate(tokens):
        if token.kind not in (WORD, QUOTED):
            if token.up not in ("(", ")", "[", "]", ",", ".") or token.up == ",":
                in_type = token.up == "::"
            continue
        if token.up == "SELECT":
            subquery = True
        following = tokens[i + 1].up if i + 1 < count else ""
        before = tokens[i - 1].up if i else ""
        if in_type:  # words after `::` spell a type, until an operator
            if token.up in (
                "AND",
                "OR",
                "IS",
                "NOT",
                "THEN",
                "ELSE",
                "END",
                "WHEN",
                "IN",
                "COLLATE",
            ):
                in_type = False
            continue
        if before == "COLLATE" or (before == "AS" and _inside_cast(tokens, i)):
            in_type = before == "AS"
            continue
        if following == ".":
            qualifiers.add(token.name)
            continue
        name = token.name
        if following == "(" and not (
            token.kind == WORD
            and name
            in (
                "in",
                "and",
                "or",
                "not",
                "any",
                "all",
                "some",
                "exists",
                "array",
                "row",
                "when",
                "then",
                "else",
                "case",
                "is",
                "like",
                "between",
                "values",
                "filter",
                "over",
            )
        ):
            functions.add(name)
            continue
        if token.kind == WORD and name in _SPECIAL_WORDS:
            functions.add(name)
            continue
        if token.kind == WORD and (name in _NOT_COLUMNS or _is_keyword(tokens, i)):
            continue
        if token.kind == WORD and i + 1 < count and tokens[i + 1].kind == "string":
            continue  # a typed literal: date '2024-01-01'
        names.add(name)
    return Expression(frozenset(names), frozenset(functions), frozenset(qualifiers), subquery)


def _is_keyword(tokens: Sequence[Token], i: int) -> bool:
    """Whether a word that can be a name is part of some syntax here: AT TIME ZONE, NULLS FIRST …"""
    soft = _SOFT.get(tokens[i].name)
    if soft is None:
        return False
    before, after = soft
    left = tokens[i - 1] if i else None
    right = tokens[i + 1] if i + 1 < len(tokens) else None
    return (left is not None and (left.up or left.kind) in before) or (
        right is not None and (right.up or right.kind) in after
    )


def _inside_cast(tokens: Sequence[Token], i: int) -> bool:
    depth = 0
    for k in range(i - 1, -1, -1):
        up = tokens[k].up
        if up == ")":
            depth += 1
        elif up == "(":
            if depth == 0:
                return k > 0 and tokens[k - 1].up in ("CAST", "XMLCAST", "TREAT")
            depth -= 1
    return False


def volatility(text: str, schema: Schema | None = None) -> tuple[Volatility, str | None]:
    """How volatile an expression is, and the function that had to be assumed volatile, if any.

    Functions of the schema count as declared; functions nobody knows count as volatile.
    """
    expression = analyse(text)
    if not expression.understood:
        return "volatile", "an expression that could not be read"
    worst: Volatility = "immutable"
    unknown: str | None = None
    for function in sorted(expression.functions):
        found = _function_volatility(function, schema)
        if found is None:
            return "volatile", function
        if found == "volatile":
            return "volatile", None
        if found == "stable":
            worst = "stable"
    if expression.has_subquery:
        worst = "stable"
    return worst, unknown


def _function_volatility(name: str, schema: Schema | None) -> Volatility | None:
    if schema is not None:
        for qname, overloads in schema.functions.items():
            if qname.name == name:
                kinds = {f.volatility for f in overloads}
                return (
                    "volatile"
                    if "volatile" in kinds
                    else "stable"
                    if "stable" in kinds
                    else "immutable"
                )
    if name in _VOLATILE:
        return "volatile"
    if name in _STABLE:
        return "stable"
    if name in _IMMUTABLE or name in _TYPE_FUNCTIONS:
        return "immutable"
    return None


#: function-style casts: text(x), int4(x), date(x)
_TYPE_FUNCTIONS = frozenset(
    "text int4 int8 int2 float4 float8 numeric bool varchar bpchar uuid jsonb json interval date time timestamp timestamptz bytea inet cidr decimal character char varbit bit point box".split()
)


def rename_names(text: str, renamed: Mapping[str, str]) -> str:
    """`text` with column names replaced, everything else as it was.

    `renamed` maps folded names to SQL text already quoted. Only tokens that stand where a column
    can stand are touched: not functions, types, literals or qualifiers.
    """
    tokens = tokenise(text)
    out: list[str] = []
    at = 0
    for i, token in enumerate(tokens):
        if token.kind not in (WORD, QUOTED) or token.name not in renamed:
            continue
        following = tokens[i + 1].up if i + 1 < len(tokens) else ""
        before = tokens[i - 1].up if i else ""
        if following in ("(", ".") or before in ("::", "COLLATE"):
            continue
        if before == "AS" and _inside_cast(tokens, i):
            continue
        out.append(text[at : token.start])
        out.append(renamed[token.name])
        at = token.end
    out.append(text[at:])
    return "".join(out)


_SPACES = re.compile(r"\s+")
_QUOTING = re.compile(r"['\"$]|--|/\*")


def squeeze(text: str) -> str:
    """White space between tokens folded to single blanks, comments left out; literals stay."""
    if _QUOTING.search(text) is None:
        return _SPACES.sub(" ", text).strip()
    try:
        tokens = tokenise(text)
    except UnreadError:
        return text.strip()
    return squeezed(text, tokens)
