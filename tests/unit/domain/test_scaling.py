"""The rule of scaling, as properties over any load."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.scaling import (
    Decision,
    Load,
    backoff_s,
    decide,
    desired,
    has_had_its_turn,
    next_cull_in,
)
from comfyserve.domain.spec import Scaling

SECONDS = st.floats(0, 1e6)
KNOWN = st.none() | st.floats(0, 1e4)


@st.composite
def scalings(draw: st.DrawFn) -> Scaling:
    most = draw(st.integers(1, 8))
    return Scaling(draw(st.integers(0, most)), most, draw(st.floats(0, 1e4)))


@st.composite
def loads(draw: st.DrawFn) -> Load:
    idle = draw(st.lists(SECONDS, max_size=5))
    return Load(
        queued=draw(st.integers(0, 50)),
        busy=draw(st.integers(0, 8)),
        starting=draw(st.integers(0, 8)),
        idle=tuple((f"rp_{number}", seconds) for number, seconds in enumerate(idle)),
        expected_job_s=draw(KNOWN),
        wake_s=draw(KNOWN),
        is_active=draw(st.booleans()),
    )


def active(load: Load) -> Load:
    return replace(load, is_active=True)


@given(loads(), scalings())
def test_desired_is_within_its_bounds(load: Load, scaling: Scaling) -> None:
    want = desired(active(load), scaling)
    assert scaling.min_replicas <= want <= scaling.max_replicas


@given(loads(), scalings())
def test_a_stopped_deployment_wants_none_and_drains_what_is_idle(
    load: Load, scaling: Scaling
) -> None:
    stopped = replace(load, is_active=False)
    assert desired(stopped, scaling) == 0
    decision = decide(stopped, scaling)
    assert decision.start == 0
    assert set(decision.drain) == {replica_id for replica_id, _ in load.idle}


@given(loads(), scalings())
def test_waiting_work_has_a_replica(load: Load, scaling: Scaling) -> None:
    assume(load.queued)
    decision = decide(active(load), scaling)
    assert load.observed + decision.start >= 1


@given(loads(), scalings())
def test_starts_never_pass_the_maximum(load: Load, scaling: Scaling) -> None:
    decision = decide(active(load), scaling)
    assert decision.start >= 0
    if decision.start:
        assert load.observed + decision.start <= scaling.max_replicas


@given(loads(), scalings())
def test_only_idle_replicas_are_drained_each_once(load: Load, scaling: Scaling) -> None:
    drained = decide(load, scaling).drain
    assert len(set(drained)) == len(drained)
    assert set(drained) <= {replica_id for replica_id, _ in load.idle}


@given(loads(), scalings())
def test_nothing_is_drained_while_work_waits(load: Load, scaling: Scaling) -> None:
    assume(load.queued)
    assert decide(active(load), scaling).drain == ()


@given(loads(), scalings())
def test_nothing_is_both_started_and_drained(load: Load, scaling: Scaling) -> None:
    decision = decide(load, scaling)
    assert not (decision.start and decision.drain)
    assert decision.is_nothing == (decision == Decision())


@given(loads(), scalings())
def test_a_drained_replica_was_idle_for_the_whole_timeout(load: Load, scaling: Scaling) -> None:
    idle = dict(load.idle)
    for replica_id in decide(active(load), scaling).drain:
        assert idle[replica_id] >= scaling.idle_timeout_s


@given(loads(), scalings())
def test_the_longest_idle_goes_first(load: Load, scaling: Scaling) -> None:
    decision, idle = decide(active(load), scaling), dict(load.idle)
    kept = idle.keys() - set(decision.drain)
    if decision.drain and kept:
        assert min(idle[each] for each in decision.drain) >= max(idle[each] for each in kept)


@given(loads(), scalings())
def test_the_minimum_stays(load: Load, scaling: Scaling) -> None:
    decision = decide(active(load), scaling)
    left = load.observed + decision.start - len(decision.drain)
    assert left >= scaling.min_replicas


@given(loads(), scalings(), st.integers(1, 20))
def test_more_waiting_work_never_means_fewer_replicas(
    load: Load, scaling: Scaling, more: int
) -> None:
    now = active(load)
    later = replace(now, queued=now.queued + more)
    assert desired(later, scaling) >= desired(now, scaling)


@given(loads(), scalings())
def test_acting_on_a_decision_settles_it(load: Load, scaling: Scaling) -> None:
    """Once the started ones are starting and the drained ones gone, there is nothing left to do."""
    now = active(load)
    decision = decide(now, scaling)
    after = replace(
        now,
        starting=now.starting + decision.start,
        idle=tuple(item for item in now.idle if item[0] not in decision.drain),
    )
    assert decide(after, scaling).is_nothing


@given(loads(), scalings())
def test_the_next_look_is_when_something_is_ripe(load: Load, scaling: Scaling) -> None:
    pause = next_cull_in(load, scaling)
    if pause is None:
        assert not load.idle or load.observed <= scaling.min_replicas
        return
    assert 0 <= pause <= scaling.idle_timeout_s
    waited = replace(
        active(load),
        queued=0,
        idle=tuple((replica_id, idle + pause + 0.01) for replica_id, idle in load.idle),
    )
    if desired(waited, scaling) < load.observed:
        assert decide(waited, scaling).drain


@pytest.mark.parametrize(
    ("load", "scaling", "start"),
    [
        (Load(queued=1), Scaling(), 1),
        (Load(queued=5), Scaling(max_replicas=3), 3),
        (Load(queued=1, idle=(("rp_1", 9.0),)), Scaling(max_replicas=3), 0),
        (Load(queued=4, busy=1), Scaling(max_replicas=8), 4),
        # Twenty short jobs are done before a second replica would be awake.
        (Load(queued=20, busy=1, expected_job_s=0.1, wake_s=30.0), Scaling(max_replicas=8), 0),
        (Load(queued=20, busy=1, expected_job_s=4.0, wake_s=30.0), Scaling(max_replicas=8), 2),
        (Load(queued=20, busy=1, expected_job_s=60.0, wake_s=30.0), Scaling(max_replicas=8), 7),
        (Load(queued=3, expected_job_s=0.0, wake_s=30.0), Scaling(max_replicas=8), 1),
        (Load(queued=3, expected_job_s=5.0, wake_s=0.0), Scaling(max_replicas=8), 3),
        (Load(queued=3, expected_job_s=1e300, wake_s=1e-300), Scaling(max_replicas=8), 3),
        (Load(), Scaling(min_replicas=2, max_replicas=2), 2),
        (Load(queued=9, is_active=False), Scaling(), 0),
    ],
)
def test_how_many_are_started(load: Load, scaling: Scaling, start: int) -> None:
    assert decide(load, scaling).start == start


def test_back_off_doubles_up_to_its_cap() -> None:
    assert [backoff_s(failures) for failures in (-1, 0, 1, 2, 3, 4)] == [0, 0, 1, 2, 4, 8]
    assert backoff_s(10_000) == 60.0
    assert backoff_s(3, base_s=0.5, cap_s=1.5) == 1.5


def test_a_turn_is_long_against_the_wake_that_it_cost() -> None:
    woken = Replica(
        "rp", "dp", "rv", ReplicaState.READY, Cause.WORK, 10.0, created_at=6.0, ready_at=10.0
    )
    assert not has_had_its_turn(woken, 29.9)
    assert has_had_its_turn(woken, 30.0)
    quick = replace(woken, created_at=10.0)
    assert not has_had_its_turn(quick, 10.9)
    assert has_had_its_turn(quick, 11.0)
    assert not has_had_its_turn(replace(woken, state=ReplicaState.DRAINING), 99.0)
    assert not has_had_its_turn(replace(woken, ready_at=None), 99.0)
