"""A sample of the facts, measured anew: the table is what servers do, and effects foretell it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import facts
from tests.measuring import measure
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.pg

#: every how many-th case is measured
STEP = 52


@pytest.mark.parametrize("major", [16, 18])
def test_a_sample_is_measured_as_the_table_says(
    server_of: Callable[[int], Server], major: int
) -> None:
    """Each case of the sample on a live server, beside its row."""
    rows = {case.id: seen for case, of, seen in facts.facts() if of == major}
    sample = [case for case in facts.cases() if case.id in rows][major % STEP :: STEP]
    assert len(sample) >= 20
    found = dict(measure(server_of(major), sample))
    different = {
        case.id: (rows[case.id], found[case.id])
        for case in sample
        if found[case.id] != rows[case.id]
    }
    assert different == {}


def test_effects_foretell_what_a_live_server_does(server_of: Callable[[int], Server]) -> None:
    """Prediction against measurement, with no table between them."""
    cases = {case.id: case for case in list(facts.cases())[7::90]}
    for case_id, seen in measure(server_of(16), cases.values()):
        if seen is not None:
            case = cases[case_id]
            missed = facts.misses(case, 16, facts.predict(case, 16), seen)
            assert [m for m in missed if m.less] == []
