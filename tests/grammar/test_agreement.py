"""Our reader against Postgres' own parser: they agree, or we say that we do not understand."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import postgast
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grammar.oracle import ours, trees
from tests.grammar.oracle.compare import differences
from tests.grammar.oracle.theirs import Fact
from zdd_migrate.grammar.tokens import OP, WORD, tokenise
from zdd_migrate.operations import NotUnderstood, Operation, read_statement
from zdd_migrate.reading.split import split

HERE = Path(__file__).parent / "adversarial"
#: what nobody can tell from the statement alone
BEYOND = "beyond.sql"


def statements(path: Path) -> list[str]:
    """The statements of one file."""
    return [p.text for p in split(path.read_text(encoding="utf-8")) if p.kind == "statement"]


ADVERSARIAL = [(p.name, sql) for p in sorted(HERE.glob("*.sql")) for sql in statements(p)]
TRICKY = [sql for name, sql in ADVERSARIAL if name != BEYOND]


def test_there_are_enough_of_them() -> None:
    """At least four hundred, no two alike."""
    assert len({sql for _, sql in ADVERSARIAL}) == len(ADVERSARIAL) >= 400


@pytest.mark.parametrize("path", sorted(HERE.glob("*.sql")), ids=lambda p: p.stem)
def test_statements_made_to_fool_a_reader(path: Path) -> None:
    """Each is read as libpg_query reads it; what is beyond any reader is not understood."""
    wrong = []
    for sql in statements(path):
        found = differences(sql)
        if path.name == BEYOND:
            wrong += [f"{sql}: was understood"] if found is not None else []
        elif found is None:
            wrong.append(f"{sql}: not understood: {read_statement(sql)}")
        else:
            wrong += [f"{sql}: {each}" for each in found]

    assert wrong == []


def test_real_statements(shared_data: Path) -> None:
    """Every fourth statement of real migrations: 99.8 % understood, all of those alike.

    `benchmarks/coverage.py` asks it of all of them.
    """
    accepted = unread = 0
    wrong: list[str] = []
    with (shared_data / "migrations_corpus.jsonl").open(encoding="utf-8") as rows:
        for number, line in enumerate(rows):
            if number % 4:
                continue
            sql = json.loads(line)["sql"]
            try:
                found = differences(sql)
            except trees.UnparsedError:
                continue
            accepted += 1
            unread += found is None
            wrong += [f"{sql[:200]}: {each}" for each in found or ()]

    assert wrong == []
    assert accepted > 2_500
    assert unread / accepted <= 0.002


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("ALTER TABLE t RENAME a TO b", "ALTER TABLE t RENAME TO a"),
        ("ALTER TABLE t RENAME a TO b", "ALTER TABLE t RENAME CONSTRAINT a TO b"),
        ("ALTER TABLE t ADD CHECK (a) NOT VALID", "ALTER TABLE t ADD CHECK (a)"),
        (
            "ALTER TABLE t ADD CHECK (a), ADD CHECK (b) NOT VALID",
            "ALTER TABLE t ADD CHECK (a) NOT VALID, ADD CHECK (b)",
        ),
        ("CREATE INDEX CONCURRENTLY ON t (a)", "CREATE INDEX ON t (a)"),
        ("CREATE INDEX i ON t (a) WHERE b", "CREATE INDEX i ON t (a)"),
        ("ALTER TABLE ONLY t ADD a int", "ALTER TABLE t ADD a int"),
        ("ALTER TABLE IF EXISTS t DROP a", "ALTER TABLE t DROP a"),
        ("ALTER TABLE t DROP IF EXISTS a", "ALTER TABLE t DROP a"),
        ("ALTER TABLE t DROP a CASCADE", "ALTER TABLE t DROP a"),
        ("ALTER TABLE t ADD a varchar(3)", "ALTER TABLE t ADD a varchar(4)"),
        ("ALTER TABLE t ADD a timestamptz", "ALTER TABLE t ADD a timestamp"),
        ("ALTER TABLE t ADD a int DEFAULT 1", "ALTER TABLE t ADD a int"),
        ("ALTER TABLE t ADD a int DEFAULT 1 NOT NULL", "ALTER TABLE t ADD a int DEFAULT 1"),
        ("ALTER TABLE t ADD a text DEFAULT 'a  b'", "ALTER TABLE t ADD a text DEFAULT 'a b'"),
        ("ALTER TABLE t ADD a int REFERENCES b", "ALTER TABLE t ADD a int"),
        (
            "ALTER TABLE t ADD a int REFERENCES b ON DELETE SET DEFAULT",
            "ALTER TABLE t ADD a int REFERENCES b DEFAULT 1",
        ),
        ("ALTER TABLE t ALTER a TYPE int USING b", "ALTER TABLE t ALTER a TYPE int"),
        (
            "ALTER TABLE t ALTER CONSTRAINT a DEFERRABLE",
            "ALTER TABLE t ALTER CONSTRAINT a ENFORCED",
        ),
        ("CREATE TABLE t (LIKE a INCLUDING ALL)", "CREATE TABLE t (LIKE a)"),
        ("SELECT * INTO t FROM a", "SELECT * FROM a"),
        ("UPDATE t SET a = 1 WHERE b", "UPDATE t SET a = 1"),
        ("WITH a AS (DELETE FROM b) SELECT 1", "WITH a AS (SELECT 1 FROM b) SELECT 1"),
        ("EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN DELETE FROM t"),
        ("DROP TABLE a, b", "DROP TABLE a"),
        ('DROP TABLE "A"', "DROP TABLE A"),
        ("GRANT SELECT ON a, b TO c", "GRANT SELECT ON a TO c"),
        ("LOCK a IN SHARE MODE", "LOCK a"),
        ("VACUUM FULL a", "VACUUM a"),
        ("SET LOCAL lock_timeout = 1", "SET lock_timeout = 1"),
    ],
)
def test_a_misreading_would_be_noticed(written: str, read_as: str) -> None:
    """The comparison itself: were the one read as the other, it would say so."""
    assert differences(written) == []
    assert differences(written, read_as)


# -- tokens ------------------------------------------------------------------------------------

_COMMENTS = {"SQL_COMMENT", "C_COMMENT"}
_TOKEN_NAMES = {number: name for name, number in postgast.pg_query_pb2.Token.items()}


def scanned(sql: str) -> list[str]:
    """The tokens that Postgres' scanner cuts, comments left out."""
    data = sql.encode()
    return [
        data[t.start : t.end].decode()
        for t in postgast.scan(sql).tokens
        if _TOKEN_NAMES[t.token] not in _COMMENTS
    ]


def test_tokens_are_cut_as_postgres_cuts_them() -> None:
    """But for U&"…", which is one name here and may be three tokens there, and N'…'."""
    texts = [sql for sql in TRICKY if not re.search(r"\b([Uu]&\"|[Nn]')", sql)]
    assert [[t.text for t in tokenise(sql)] for sql in texts] == [scanned(sql) for sql in texts]


@given(st.text(alphabet="aE'\"$-/*+<>=@#.:1_0x&u ()\n\\ä", max_size=30))
@settings(max_examples=500)
def test_tokens_of_any_text(text: str) -> None:
    """What both can cut they cut alike: where a string ends decides what is SQL."""
    try:
        mine = [t.text for t in tokenise(text) if t.text[:2].upper() != "U&"]
        theirs = [t for t in scanned(text) if t[:2].upper() != "U&"]
    except Exception as error:
        if type(error).__name__ not in ("UnreadError", "PgQueryError"):
            raise
        return
    if "'" in "".join(mine) and "\n" in text:
        return  # libpg_query cuts a literal that goes on behind a comment in two; Postgres does not
    assert mine == theirs


# -- mutations ---------------------------------------------------------------------------------

_BETWEEN = (
    " ",
    "\n",
    "\t",
    "  \n ",
    "/**/",
    " /* x, y */ ",
    " -- ADD COLUMN z int\n",
    "/*/**/*/",
    " /* ' */ ",
)


def mutated(sql: str, random_: random.Random) -> str:
    """The same tokens with other white space, comments and, for bare words, other capitals."""
    tokens = tokenise(sql)
    parts: list[str] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        text = sql[token.start : token.end]
        if token.kind == WORD and text.isascii() and random_.random() < 0.5:
            text = random_.choice((text.upper(), text.lower(), text.title()))
        if before is not None:
            glued = before.end == token.start
            operators = before.kind == OP and token.kind == OP
            if not glued or (not operators and random_.random() < 0.2):
                parts.append(random_.choice(_BETWEEN))
        parts.append(text)
    return (
        random_.choice(("", "-- x\n", "/* ; */ ")) + "".join(parts) + random_.choice(("", "\n--y"))
    )


#: settings keep their capitals, and so does what a cast or a body in SQL says
FIXED = re.compile(r"^(SET|RESET|SHOW|\w+ CAST)\b|\bRETURN 1|ATOMIC|UESCAPE")


@given(st.sampled_from(TRICKY), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_comments_blanks_and_capitals_change_nothing(sql: str, random_: random.Random) -> None:
    """What stands between tokens has no meaning: it never changes what is read."""
    if FIXED.search(sql):
        return
    changed = mutated(sql, random_)

    assert not any(isinstance(o, NotUnderstood) for o in read_statement(changed)), changed
    assert _meaning(changed) == _meaning(sql), changed


def _meaning(sql: str) -> list[Fact]:
    """What is read, keys of indexes and statistics as trees: their text keeps its capitals."""
    found = ours.facts(read_statement(sql))
    for fact in found:
        for key in ("keys", "expressions"):
            if key in fact:
                fact[key] = tuple(trees.expression(text) for text in fact[key])
    return found


def test_every_kind_of_operation_is_tried() -> None:
    """The adversarial set meets every room that reads."""
    kinds = Counter(o.kind for sql in TRICKY for o in read_statement(sql))
    known = {c.kind for c in _operations()} - {"not_understood"}
    assert known - kinds.keys() == set()


def _operations() -> list[type[Operation]]:
    found: list[type[Operation]] = []
    todo = list(Operation.__subclasses__())
    while todo:
        one = todo.pop()
        found.append(one)
        todo += one.__subclasses__()
    return found
