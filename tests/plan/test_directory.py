"""A plan's directory: written whole, read back the same, edits count, breakage is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.story import plan_of, write_plan
from zdd_migrate.errors import InputError
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import Backfill, Gate, Law, Phase, Plan, Release, Sql, Step, Validate
from zdd_migrate.plan.directory import plan_hash, read, write

WORDS = st.text("abcdefgh xyz:'\"#äß-", min_size=1, max_size=30).map(str.strip).filter(bool)
SQL = st.sampled_from(
    [
        "ALTER TABLE a ADD COLUMN b int",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $zdd$\nBEGIN\n  -- x;\n  RETURN NEW;\nEND\n$zdd$",
        "UPDATE t SET a = 'it''s; fine'",
        'DROP INDEX CONCURRENTLY "A b"',
    ]
)


def step_of(id_: str) -> st.SearchStrategy[Step]:
    """Any step with this id."""
    undo = st.one_of(st.none(), st.just(()), st.lists(SQL, min_size=1, max_size=3).map(tuple))
    return st.one_of(
        st.builds(
            Sql,
            id=st.just(id_),
            statements=st.lists(SQL, min_size=1, max_size=3).map(tuple),
            undo=undo,
            why=WORDS,
            lock=st.one_of(st.none(), st.sampled_from(LockMode)),
            relation=st.one_of(st.none(), st.just("public.t")),
        ),
        st.builds(
            Backfill,
            id=st.just(id_),
            table=st.just("public.t"),
            key=st.just(("id",)),
            assignments=st.just((("b", "a || 'x'"),)),
            where=WORDS,
            why=WORDS,
        ),
        st.builds(Validate, id=st.just(id_), table=st.just("t"), constraint=WORDS, why=WORDS),
        st.builds(Gate, id=st.just(id_), query=WORDS, message=WORDS, why=WORDS),
        st.builds(Release, id=st.just(id_), code=st.just("new"), why=WORDS),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan."""
    steps = {}
    for phase in Phase:
        count = draw(st.integers(0, 3))
        steps[phase] = tuple(draw(step_of(f"{phase.value}-{n}")) for n in range(1, count + 1))
    return Plan(
        name=draw(WORDS),
        schema_hash="0123456789abcdef",
        steps=steps,
        laws=(Law(draw(WORDS), "SELECT 1"),),
        notes=tuple(draw(st.lists(WORDS, max_size=2))),
        sources=tuple(draw(st.lists(SQL, max_size=2))),
        before=draw(WORDS),
        touches=(QName("public", "t"),),
        breaks_old=draw(st.booleans()),
        restricts_old=draw(st.booleans()),
        pg_version=16,
    )


@given(plan=plans())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    """read(write(plan)) is the plan: undo that undoes nothing and no undo at all stay apart."""
    path = tmp_path_factory.mktemp("plan") / "p"

    write(plan, path)
    found = read(path)

    assert {**found.steps} == {**plan.steps} or _undone_validate(plan)
    assert found.laws == plan.laws
    assert found.sources == plan.sources
    assert found.touches == plan.touches


def _undone_validate(plan: Plan) -> bool:
    """Only Sql steps carry SQL to undo them."""
    return any(s.undo and not isinstance(s, Sql) for _, s in plan.all_steps())


def test_an_edit_of_the_sql_counts(tmp_path: Path) -> None:
    """What stands in the file is what the plan is, and its hash moves."""
    path = write_plan(tmp_path / "plan")
    before = plan_hash(path)
    script = path / "1_expand.sql"
    text = script.read_text()
    start = text.index("CREATE TRIGGER")
    script.write_text(text[:start] + text[text.index(";\n", start) + 2 :])

    step = read(path).steps[Phase.EXPAND][0]

    assert isinstance(step, Sql)
    assert not any("CREATE TRIGGER" in s for s in step.statements)
    assert plan_hash(path) != before


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("plan.yaml", lambda t: "{[", "plan.yaml"),
        ("plan.yaml", lambda t: t.replace("schema_hash", "hash"), "schema_hash is missing"),
        ("1_expand.sql", lambda t: t.replace("expand-1", "expand-9"), "knows no step expand-9"),
        ("1_expand.sql", lambda t: t.replace("$zdd$", "$zdd", 1), "never ends"),
        ("1_expand.sql", lambda t: "SELECT 1;\n" + t, "before the first"),
        (
            "2_migrate.sql",
            lambda t: t.replace("-- in batches", "\n/* so */ UPDATE users SET age = 1;\n-- in"),
            r"2_migrate\.sql:6: migrate-1 is a backfill step, .* no SQL from here",
        ),
        (
            "3_switch.sql",
            lambda t: t + "DROP TABLE users;\n",
            r"3_switch\.sql:\d+: switch-\d is a release step",
        ),
        (
            "4_contract.undo.sql",
            lambda t: t + "-- step: contract-2\nSELECT 1;\n",
            r"contract\.undo\.sql:\d+: contract-2 has no way back",
        ),
    ],
)
def test_breakage_is_named(tmp_path: Path, file: str, change: object, says: str) -> None:
    """One clear line with the file."""
    path = write_plan(tmp_path / "plan")
    target = path / file
    target.write_text(change(target.read_text()))  # type: ignore[operator]

    with pytest.raises(InputError, match=says):
        read(path)


def test_only_a_plan_is_replaced(tmp_path: Path) -> None:
    """A directory with something else in it is left alone."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "precious").touch()

    with pytest.raises(InputError, match="holds no plan"):
        write(plan_of("ALTER TABLE users ADD COLUMN x int"), tmp_path / "x")

    assert (tmp_path / "x" / "precious").exists()


def test_no_step_before_the_point_of_no_return_lacks_an_undo() -> None:
    """And that point is the last step of contract."""
    plan = plan_of("ALTER TABLE users RENAME user_name TO username; ALTER TABLE orders DROP note")
    steps = [step for _, step in plan.all_steps()]
    first = next(i for i, s in enumerate(steps) if s.undo is None)

    assert all(s.undo is None for s in steps[first:])
    assert plan.point_of_no_return == steps[first].id
