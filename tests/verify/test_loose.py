"""What old code could write, though no row shows it."""

from __future__ import annotations

import pytest

from tests.story import plan_on
from zdd_migrate.model.verdict import Judgement
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.walk import Effort, verify_plan

pytestmark = pytest.mark.pg
BEFORE = "CREATE TABLE items (id int PRIMARY KEY, code text NOT NULL, short varchar(2), note text);"
SEED = "INSERT INTO items SELECT g, g::text, g % 10 FROM generate_series(1, 50) g;"
MIGRATION = "".join(
    f"ALTER TABLE items ADD COLUMN {column}_number int; "
    f"UPDATE items SET {column}_number = {column}::int; "
    f"ALTER TABLE items DROP COLUMN {column};"
    for column in ("code", "short")
)


@pytest.mark.parametrize("major", [15, 16])
def test_a_text_that_no_row_holds_is_told_of(major: int, pg_server: Server) -> None:
    """Planned for 15 the cast cannot be tested beforehand; for 16 it is, and there is nothing to tell."""
    plan = plan_on(major, MIGRATION, BEFORE, down__items__code="coalesce(code_number::text, '0')")
    assert not plan.questions

    verdict = verify_plan(
        plan,
        schema_sql=BEFORE,
        server=pg_server,
        seed_sql=SEED,
        effort=Effort(rounds=1, settle=1, rows=20, every_undo=False),
    )

    assert verdict.judgement is Judgement.PASS
    told = [note for note in verdict.notes if "old code fails that writes a text" in note]
    names = [note.split(" into ")[1].split(":")[0] for note in told]
    assert names == (["public.items.code", "public.items.short"] if major == 15 else [])
    assert all("22P02" in note for note in told)
