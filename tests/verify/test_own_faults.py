"""What code fails by itself is left out: that, and nothing that merely looks like it."""

from __future__ import annotations

import pytest

from zdd_migrate.model.verdict import StatementError
from zdd_migrate.verify.own_faults import own_faults, told
from zdd_migrate.verify.recording import Recorder

SAID = 'new row for relation "users" violates check constraint "adult"'
OWN = own_faults(
    [StatementError("23514", SAID, "UPDATE public.users SET age = %s WHERE id = %s RETURNING *")]
)
LONG = ", ".join(f"column_{n}" for n in range(60))


@pytest.mark.parametrize(
    ("state", "message", "statement", "left_out"),
    [
        ("23514", SAID, "UPDATE public.users SET name = %s WHERE id = %s", True),
        ("23514", SAID, 'UPDATE ONLY zdd_old."users" SET name = 1', True),
        ("23514", SAID, "UPDATE zdd_view.Users SET name = 1", True),
        ("23514", SAID, 'UPDATE "Users" SET name = 1', False),
        ("23514", SAID, "INSERT INTO public.users (age) VALUES (%s)", False),
        ("23514", SAID, "COPY public.users (age) FROM STDIN", False),
        ("23514", SAID, "UPDATE public.orders SET user_id = %s", False),
        ("23514", SAID.replace("adult", "older"), "UPDATE public.users SET age = 1", False),
        ("23502", SAID, "UPDATE public.users SET age = 1", False),
    ],
)
def test_a_fault_is_of_one_kind_of_statement_on_one_table(
    state: str, message: str, statement: str, left_out: bool
) -> None:
    """Whichever columns it names; the same words from another statement are another failure."""
    recorder = Recorder(own=OWN)
    recorder.failed(state, message, statement)

    assert (recorder.take().errors == ()) is left_out


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"INSERT INTO t ({LONG}) VALUES (1)", "INSERT INTO t"),
        ("INSERT INTO a.t (x) VALUES (1) ON CONFLICT (x) DO NOTHING", "upsert into t"),
        ("COPY (SELECT a, b FROM public.t LIMIT 5) TO STDOUT", "SELECT from t"),
        ("SELECT a\n FROM t WHERE id = %s", "SELECT from t"),
        ('DELETE FROM "my ""t""" WHERE x', 'DELETE FROM my "t"'),
        ("CALL p()", "CALL p()"),
    ],
)
def test_the_notes_say_which_statements_are_left_out(statement: str, named: str) -> None:
    """By kind and table, of which code."""
    recorder = Recorder()
    recorder.failed("23514", "no", statement)

    (note,) = told(own_faults(recorder.take().errors), "made-up old code")

    assert note == f"{named} of made-up old code fails by itself with 23514 (no): left out"
