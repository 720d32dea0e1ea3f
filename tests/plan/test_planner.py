"""What each kind of change becomes."""

from __future__ import annotations

import pytest

from tests.story import plan_of
from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Phase, Plan, Sql
from zdd_migrate.plan.planner import already_safe, parse_answer


def sql(plan: Plan, phase: Phase) -> str:
    """A phase's SQL."""
    return "\n".join(
        s for step in plan.steps[phase] if isinstance(step, Sql) for s in step.statements
    )


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE users ADD COLUMN city text",
        "ALTER TABLE users ADD COLUMN city text NOT NULL DEFAULT ''",
        "CREATE INDEX users_age_idx ON users (age)",
        "CREATE TABLE invoices (id bigint PRIMARY KEY)",
        "ALTER TABLE users ALTER COLUMN email TYPE varchar(300)",
        "COMMENT ON TABLE users IS 'x'",
    ],
)
def test_what_old_code_does_not_notice_is_one_phase(migration: str) -> None:
    """Expand alone: no release in between."""
    assert already_safe(plan_of(migration))


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0)",
        "ALTER TABLE orders ADD CONSTRAINT c FOREIGN KEY (user_id) REFERENCES users (id)",
        "ALTER TABLE users ADD CONSTRAINT c UNIQUE (age)",
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        "ALTER TABLE users DROP COLUMN age",
        "DROP TABLE orders",
        "ALTER TABLE users RENAME TO people",
    ],
)
def test_what_restricts_old_code_waits_for_contract(migration: str) -> None:
    """After the release, never before."""
    plan = plan_of(migration)

    assert plan.breaks_old or plan.restricts_old
    assert plan.steps[Phase.CONTRACT]
    assert plan.steps[Phase.SWITCH]


def test_a_missing_value_is_one_question() -> None:
    """And an answer makes the plan."""
    asked = plan_of("ALTER TABLE users ADD COLUMN city text NOT NULL")
    answered = plan_of("ALTER TABLE users ADD COLUMN city text NOT NULL", fill__users__city="'?'")

    assert [q.about for q in asked.questions] == ["users.city"]
    assert not any(asked.steps.values())
    assert not answered.questions
    assert "DEFAULT '?' NOT NULL" in sql(answered, Phase.EXPAND)


def test_an_update_beside_the_ddl_is_the_answer() -> None:
    """UPDATE t SET new = expr says what the rows get."""
    plan = plan_of(
        "ALTER TABLE users ADD COLUMN name_key text NOT NULL; "
        "UPDATE users SET name_key = lower(user_name);"
    )

    assert not plan.questions
    assert "lower(user_name)" in sql(plan, Phase.EXPAND)


def test_a_comment_is_an_answer() -> None:
    """-- zdd: fill."""
    plan = plan_of(
        "-- zdd: fill users.city = 'Rome'\nALTER TABLE users ADD COLUMN city text NOT NULL"
    )

    assert "DEFAULT 'Rome' NOT NULL" in sql(plan, Phase.EXPAND)


@pytest.mark.parametrize(
    ("migration", "reason"),
    [
        ("ALTER TABLE orders ALTER COLUMN note TYPE int USING note::int", "42804"),
        ("TRUNCATE users", "for good"),
        ("ALTER TABLE users ADD EXCLUDE USING gist (age WITH =)", "exclusion"),
        ("ALTER TABLE users ADD COLUMN g int GENERATED ALWAYS AS (age + 1) STORED", "stored"),
        ("ALTER TABLE nobody RENAME a TO b", "not known"),
    ],
)
def test_no_safe_way_is_refused(migration: str, reason: str) -> None:
    """With the reason and what to do instead; nothing is planned."""
    plan = plan_of(migration)

    assert reason in plan.refusals[0].reason
    assert plan.refusals[0].instead
    assert not any(plan.steps.values())


def test_what_is_not_understood_is_never_planned_around() -> None:
    """Not even when everything else is fine."""
    with pytest.raises(InputError, match=r"m.sql:2: not understood"):
        plan_of("ALTER TABLE users ADD COLUMN a int;\nALTER TABLE users FROBNICATE;")


def test_an_answer_is_table_dot_column_equals_expression() -> None:
    """Anything else says how to write it."""
    assert parse_answer("up", 'Users."A" = b = c') == (("up", "users.a"), "b = c")
    with pytest.raises(InputError, match=r"table.column=expression"):
        parse_answer("up", "nonsense")


def test_an_index_that_the_migration_drops_is_not_copied() -> None:
    """Dropped before the rename, it has no place on the new column."""
    plan = plan_of("DROP INDEX users_user_name_idx; ALTER TABLE users RENAME user_name TO username")

    assert "CREATE INDEX" not in sql(plan, Phase.MIGRATE)
    assert "users_user_name_idx" not in sql(plan, Phase.MIGRATE)


def test_a_select_that_writes_in_its_with_is_a_statement_of_its_own() -> None:
    """Left out as one that changes nothing, its rows would be missing."""
    plan = plan_of(
        "WITH old AS (UPDATE users SET age = 0 WHERE age IS NULL RETURNING id) SELECT * FROM old"
    )

    assert "UPDATE users" in sql(plan, Phase.MIGRATE)


def test_a_block_copies_no_rows_that_old_code_goes_on_writing() -> None:
    """What is refused by itself is refused in a block and in a procedure, too."""
    copy = "INSERT INTO mails (id, mail) SELECT id, email FROM users"
    made = "CREATE TABLE mails (id bigint PRIMARY KEY, mail text);"
    procedure = f"CREATE PROCEDURE copy() LANGUAGE plpgsql AS $$ BEGIN {copy}; END $$; CALL copy()"
    for statement in (copy, f"DO $$ BEGIN {copy}; END $$", procedure):
        plan = plan_of(f"{made} {statement}")
        assert [r.reason.split(" come")[0] for r in plan.refusals] == ["the rows of public.mails"]


def test_a_function_that_goes_again_stays_as_long_as_it_is_called() -> None:
    """In migrate by a backfill, until contract by a trigger."""
    made = (
        "CREATE FUNCTION tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT trim($1) $$;"
    )
    gone = "DROP FUNCTION tidy(text)"
    corrected = plan_of(f"{made} UPDATE users SET user_name = tidy(email) WHERE age > 3; {gone}")
    filled = plan_of(
        f"{made} ALTER TABLE users ADD COLUMN tidied text; UPDATE users SET tidied = tidy(email); {gone}"
    )

    assert gone in sql(corrected, Phase.MIGRATE)
    assert gone in sql(filled, Phase.CONTRACT)


@pytest.mark.parametrize(
    "done", ["ALTER TABLE users ADD COLUMN x int", "PERFORM other()", "EXECUTE 'a' || 'b'"]
)
def test_a_procedure_that_does_more_than_write_rows_is_not_called(done: str) -> None:
    plan = plan_of(
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN UPDATE users SET age = 1; "
        f"{done}; END $$; CALL p()"
    )
    assert [r.reason.split("()")[0] for r in plan.refusals] == ["CALL runs p"]


def test_of_two_updates_none_is_what_every_row_gets() -> None:
    """Lent as a default, the second's value would stand in every row before the first looks."""
    plan = plan_of(
        "ALTER TABLE users ADD COLUMN standing text; "
        "UPDATE users SET standing = 'old' WHERE age > 40; "
        "UPDATE users SET standing = 'young' WHERE standing IS NULL"
    )

    assert "DEFAULT" not in sql(plan, Phase.EXPAND)
    assert len(plan.steps[Phase.MIGRATE]) == 2
