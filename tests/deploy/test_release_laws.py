"""Laws of a release, whatever strategy, size and accident: tried in a simulated world."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.deploy.simulator import (
    FLAG,
    FULL,
    PACE,
    KilledError,
    Universe,
    command,
    fail_step,
    kill,
    release_of,
    run_until_ended,
    runner_in,
    universe_of,
)
from zdd_deploy.core import compose
from zdd_deploy.failures import FencedError, JournalGoneError, StepFailedError
from zdd_deploy.model import Contents, SetWeights, Stage, from_json, shares, to_json
from zdd_deploy.pace import Pace
from zdd_deploy.strategies import STRATEGIES
from zdd_migrate.errors import InputError
from zdd_migrate.model.plan import Phase

STRATEGY = st.sampled_from(sorted(STRATEGIES))
SIZES = st.integers(1, 5)
PACES = st.builds(
    lambda batch, shares, smoke: Pace(
        weights=(*sorted(shares), 100),
        batch=batch,
        judge=2,
        budget=20,
        soak=1,
        window=2,
        smoke=smoke,
    ),
    batch=st.integers(1, 3),
    shares=st.sets(st.integers(5, 99), max_size=4),
    smoke=st.booleans(),
)
CONTENTS = st.builds(
    lambda phases, reversible, final: Contents(
        frozenset(phases),
        reversible_contract=(reversible or not final) and Phase.CONTRACT in phases,
        final_contract=final and Phase.CONTRACT in phases,
    ),
    st.sets(st.sampled_from(Phase)),
    st.booleans(),
    st.booleans(),
)
ACT = st.integers(1, 160)


def ended_well(universe: Universe, *, has_contract: bool = True) -> None:
    assert universe.violations == []
    assert shares(universe.weights) == {"new": 1}
    assert {b for b, n in universe.ready.items() if n} == {"new"}
    assert not any(universe.draining.values())
    if has_contract:
        assert universe.stage is Stage.CONTRACT


@settings(deadline=None, max_examples=120)
@given(STRATEGY, SIZES, PACES, CONTENTS, st.booleans())
def test_every_release_ends_with_new_code_alone(
    strategy: str, desired: int, pace: Pace, contents: Contents, flagged: bool
) -> None:
    """No act on the way leaves too few instances, cold traffic, or code on a schema it can't use."""
    universe = universe_of(desired, contents)
    release = release_of(universe, strategy, pace, FLAG if flagged else None)

    history = runner_in(universe, release).run()

    assert history.ended == "done"
    ended_well(universe, has_contract=Phase.CONTRACT in contents.phases)
    assert universe.flag == ("on" if flagged else "off")


@settings(deadline=None, max_examples=100)
@given(STRATEGY, st.integers(1, 3), st.lists(ACT, min_size=1, max_size=4, unique=True))
def test_killed_anywhere_it_goes_on(strategy: str, desired: int, kills: list[int]) -> None:
    """A runner killed before or after any act: the next one ends where an unkilled one would."""
    universe = universe_of(desired)
    universe.happenings = dict.fromkeys(kills, kill)

    history = run_until_ended(universe, release_of(universe, strategy))

    assert history.ended == "done"
    ended_well(universe)


@settings(deadline=None, max_examples=100)
@given(STRATEGY, st.integers(1, 3), ACT, st.lists(ACT, max_size=2, unique=True))
def test_a_failing_build_is_taken_back(
    strategy: str, desired: int, since: int, kills: list[int]
) -> None:
    """From any moment new code fails one request in ten: old code serves again, or, once it was
    given up, everything stays as it is and a person is asked."""
    universe = universe_of(desired)
    universe.happenings = dict.fromkeys(kills, kill)
    universe.happenings[since] = lambda u: u.error_rate.update(new=0.1)

    history = run_until_ended(universe, release_of(universe, strategy))

    assert universe.violations == []
    if history.ended == "rolled-back":
        assert universe.weights == {"old": 100}
        assert {b for b, n in universe.ready.items() if n} == {"old"}
        assert universe.stage.number <= Stage.SWITCH.number
    elif history.ended == "done":
        assert history.world.past_return  # it began to fail when nobody looked any more
    else:
        assert history.frozen
        assert shares(universe.weights) == {"new": 1}


@settings(deadline=None, max_examples=100)
@given(STRATEGY, st.integers(1, 3), st.integers(3, 160), st.booleans(), st.lists(ACT, max_size=2))
def test_a_person_can_take_it_back(
    strategy: str, desired: int, when: int, undo_schema: bool, kills: list[int]
) -> None:
    """Abort at any moment: old code serves alone, unless the point of no return is behind."""
    universe = universe_of(desired)
    universe.happenings = dict.fromkeys((k for k in kills if k != when), kill)
    universe.happenings[when] = lambda u: command(u, "abort", undo_schema=undo_schema)

    history = run_until_ended(universe, release_of(universe, strategy))

    assert universe.violations == []
    if history.ended == "rolled-back":
        assert {b for b, n in universe.ready.items() if n} == {"old"}
        assert universe.weights == {"old": 100}
        if undo_schema:
            assert universe.stage is Stage.START
    elif history.ended == "done":
        assert not any(e.kind == "command" for e in universe.events) or history.world.past_return
    else:  # not without taking the schema back, or past the point of no return
        assert history.frozen
        assert history.world.past_return or not undo_schema or universe.stage is Stage.CONTRACT


@settings(deadline=None, max_examples=60)
@given(STRATEGY, ACT)
def test_a_failing_step_is_taken_back_or_asks(strategy: str, when: int) -> None:
    """An instance that does not start, a warm-up that fails: never half a release left alone."""
    universe = universe_of()
    universe.happenings[when] = fail_step
    release = release_of(universe, strategy)
    try:
        history = run_until_ended(universe, release)
    except StepFailedError:  # struck where no step runs: the next runner goes on
        history = run_until_ended(universe, release)

    assert universe.violations == []
    assert history.ended or history.frozen
    if history.ended == "rolled-back":
        assert universe.weights == {"old": 100}


@settings(deadline=None, max_examples=60)
@example("canary", 113, 6)
@given(STRATEGY, st.integers(1, 120), st.integers(1, 20))
def test_without_the_journal_nothing_moves(strategy: str, when: int, seconds: int) -> None:
    """The journal goes away at any moment: what was begun ends, nothing else is until it is back."""
    universe = universe_of()
    allowed: list[dict[str, int]] = []

    def gone(u: Universe) -> None:
        u.journal_gone_until = u.now + seconds
        allowed.append(dict(u.weights))

    universe.happenings[when] = gone
    release = release_of(universe, strategy)
    try:
        runner_in(universe, release).run()
    except JournalGoneError:
        # an intent that was being written when the journal went away may have got through
        begun = [e.body["step"] for e in universe.events if e.kind == "intended"]
        step = {s.id: s for s in compose(release)}[begun[-1]] if begun else None
        if isinstance(step, SetWeights):
            allowed.append(dict(step.weights))
        assert shares(universe.weights) in [shares(w) for w in allowed]
        universe.now += seconds
        assert run_until_ended(universe, release).ended == "done"
    assert universe.violations == []
    ended_well(universe)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_somebody_else_moved_the_traffic(strategy: str) -> None:
    """Neither the state before nor the one after: frozen, and nothing is touched any more."""
    universe = universe_of()

    def meddle(u: Universe) -> None:
        u.weights = {"old": 70, "new": 30} if u.ready.get("new", 0) else {"old": 1, "else": 1}

    steps = [n for n, s in enumerate(compose(release_of(universe, strategy))) if "judge" in s.id]
    assert steps
    universe.happenings[30] = kill
    with pytest.raises(KilledError):
        runner_in(universe, release_of(universe, strategy)).run()
    meddle(universe)
    left = dict(universe.weights)
    universe.ready.setdefault("new", 1)
    universe.warm.setdefault("new", 1)
    universe.violations.clear()

    history = runner_in(universe, release_of(universe, strategy)).run()

    assert "somebody else" in history.frozen or "no traffic" in history.frozen
    assert universe.weights == left


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_no_data_is_no_promotion(strategy: str) -> None:
    """A judge that hears nothing asks a person; a yes goes on, and only from there."""
    universe = universe_of()
    universe.silent = True
    release = release_of(universe, strategy)

    history = runner_in(universe, release).run()

    assert history.waiting.endswith("/judge")
    assert not history.ended
    share = dict(universe.weights)

    again = runner_in(universe, release).run()  # looks once more, hears nothing again
    assert again.waiting == history.waiting
    assert universe.weights == share

    for _ in range(20):
        command(universe, "promote")
        history = runner_in(universe, release).run()
        if history.ended:
            break
    assert history.ended == "done"
    ended_well(universe)


def test_pause_and_resume() -> None:
    """A pause stops before the next step; traffic stays; resume goes on."""
    universe = universe_of()
    universe.happenings[40] = lambda u: command(u, "pause")
    release = release_of(universe, "canary")

    history = runner_in(universe, release).run()
    assert history.paused == "paused by a person"
    before = dict(universe.weights)
    assert runner_in(universe, release).run().paused
    assert universe.weights == before

    command(universe, "resume")
    assert runner_in(universe, release).run().ended == "done"
    ended_well(universe)


def test_a_release_that_is_through_is_not_begun_again() -> None:
    """Run once more after the end, also after a kill just then: it is done, and nothing is touched."""
    universe = universe_of()
    release = release_of(universe, "rolling")
    runner_in(universe, release).run()
    events = len(universe.events)

    again = runner_in(universe, release).run()

    assert again.ended == "done"
    assert len(universe.events) == events


def test_contract_waits_for_a_person() -> None:
    """Without approval beforehand the release stops where old code is gone and nothing is lost."""
    universe = universe_of()
    release = release_of(universe, "blue-green")

    history = runner_in(universe, release, approve=False).run()
    assert history.waiting == "contract"
    assert universe.stage is Stage.SWITCH

    command(universe, "promote")
    assert runner_in(universe, release, approve=False).run().ended == "done"


def test_a_runner_that_was_overtaken_touches_nothing() -> None:
    """A second runner has a higher epoch: the first finds out before its next effect."""
    universe = universe_of()
    release = release_of(universe, "canary")

    def overtake(u: Universe) -> None:
        u.epoch += 1
        u.platform_epoch = u.epoch

    universe.happenings[60] = overtake
    with pytest.raises(FencedError):
        runner_in(universe, release).run()
    kinds = [e.kind for e in universe.events]
    assert run_until_ended(universe, release).ended == "done"
    assert kinds == [e.kind for e in universe.events][: len(kinds)]
    ended_well(universe)


def test_another_release_is_refused_while_one_is_open() -> None:
    """The run in the journal is finished first, with its own strategy."""
    universe = universe_of()
    universe.happenings[50] = kill
    with pytest.raises(KilledError):
        runner_in(universe, release_of(universe, "canary")).run()

    with pytest.raises(InputError, match="is under way here"):
        runner_in(universe, release_of(universe, "rolling")).run()


def test_instances_that_died_are_started_again() -> None:
    """A crash between two steps: the build that the journal names is whole again before the next."""
    universe = universe_of()

    def crash(u: Universe) -> None:
        u.ready["old"] -= 1
        u.warm["old"] -= 1

    universe.happenings[20] = crash
    history = runner_in(universe, release_of(universe, "blue-green")).run()

    assert history.ended == "done"
    assert universe.weights == {"new": 100}
    assert all("has 2 of 3" in v or "cold" in v for v in universe.violations)


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda u: u.ready.update(old=1), id="too few instances"),
        pytest.param(lambda u: setattr(u, "stage", Stage.CONTRACT), id="a schema too far"),
        pytest.param(lambda u: u.warm.update(old=0), id="cold traffic"),
    ],
)
def test_the_simulation_sees_what_is_wrong(plant: Callable[[Universe], None]) -> None:
    """The laws themselves can fail."""
    universe = universe_of()
    plant(universe)
    universe.act("look")
    assert universe.violations


@settings(deadline=None)
@given(STRATEGY, SIZES, PACES)
def test_steps_are_kept_as_they_are(strategy: str, desired: int, pace: Pace) -> None:
    """What the journal holds is read back as what was written; ids are unique."""
    program = compose(release_of(universe_of(desired), strategy, pace))

    assert [from_json(to_json(step)) for step in program] == list(program)
    assert len({step.id for step in program}) == len(program)


def test_a_flag_learnt_by_restart_is_a_release_of_its_own() -> None:
    """Instances are replaced one batch at a time by ones that were started with the flag on."""
    from zdd_deploy.core import Flag

    universe = universe_of()
    release = release_of(universe, "canary", PACE, Flag("read-path", by_restart=True))

    history = runner_in(universe, release).run()

    assert history.ended == "done"
    assert shares(universe.weights) == {"new@on": 1}
    assert universe.violations == []
    assert universe.contents is FULL
