"""A replica's table: every walk through it ends once, and what it asks for fits where it is."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.errors import IllegalTransition
from comfyserve.domain.replica import (
    LIVE,
    TERMINAL,
    TRANSITIONS,
    Cause,
    Effect,
    Replica,
    ReplicaEvent,
    ReplicaState,
    step,
)

NEW = Replica("rp_1", "dp_1", "rv_1", ReplicaState.PENDING, Cause.WORK, since=1.0, created_at=1.0)
EVENTS = st.sampled_from(ReplicaEvent)
ALL_PAIRS = list(product(ReplicaState, ReplicaEvent))


def in_state(state: ReplicaState) -> Replica:
    return Replica("rp_1", "dp_1", "rv_1", state, Cause.WORK, since=1.0, created_at=1.0)


@st.composite
def walks(draw: st.DrawFn) -> list[ReplicaEvent]:
    """Events that the table has, one after the other, from a new replica on."""
    walk: list[ReplicaEvent] = []
    replica = NEW
    for _ in range(draw(st.integers(0, 12))):
        possible = sorted(event for state, event in TRANSITIONS if state is replica.state)
        if not possible:
            break
        event = draw(st.sampled_from(possible))
        replica, _ = step(replica, event, now=2.0)
        walk.append(event)
    return walk


@pytest.mark.parametrize(("state", "event"), ALL_PAIRS)
def test_a_pair_is_in_the_table_or_refused(state: ReplicaState, event: ReplicaEvent) -> None:
    if (state, event) in TRANSITIONS:
        step(in_state(state), event, now=2.0)
        return
    with pytest.raises(IllegalTransition) as refusal:
        step(in_state(state), event, now=2.0)
    assert (refusal.value.subject, refusal.value.state, refusal.value.event) == (
        "rp_1",
        state,
        event,
    )


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_end_is_final(state: ReplicaState) -> None:
    assert not [event for at, event in TRANSITIONS if at is state]
    assert not in_state(state).is_live


@pytest.mark.parametrize("state", sorted(LIVE))
def test_whatever_lives_can_be_ended(state: ReplicaState) -> None:
    """From anywhere, the end of the process or a stop leads to an end."""
    replica = in_state(state)
    assert replica.is_live
    replica, _ = step(replica, ReplicaEvent.EXITED, now=2.0)
    if replica.is_live:
        replica, _ = step(replica, ReplicaEvent.GONE, now=3.0)
    assert replica.state in TERMINAL
    assert (state, ReplicaEvent.STOP) in TRANSITIONS


@given(walks())
def test_times_follow_the_states(walk: list[ReplicaEvent]) -> None:
    replica, was_ready_at, now = NEW, None, 1.0
    for event in walk:
        now += 1.0
        before = replica
        replica, effects = step(replica, event, now=now)
        if replica.state is before.state:
            assert replica is before
            assert effects == ()
            continue
        if replica.state is ReplicaState.READY:
            was_ready_at = now
        assert replica.since == now
        assert replica.ready_at == was_ready_at
        assert replica.ended_at == (None if replica.is_live else now)
        assert (Effect.OFFER in effects) == (replica.state is ReplicaState.READY)
        assert (Effect.TERMINATE in effects) == (replica.state is ReplicaState.STOPPING)
        assert (Effect.PROBE in effects) == (replica.state is ReplicaState.STARTING)


@given(walks())
def test_it_is_terminated_at_most_once_and_never_offered_after_a_withdrawal(
    walk: list[ReplicaEvent],
) -> None:
    replica = NEW
    effects: list[Effect] = []
    for event in walk:
        replica, some = step(replica, event, now=2.0)
        effects += some
    assert effects.count(Effect.TERMINATE) <= 1
    assert effects.count(Effect.OFFER) <= 1
    if Effect.WITHDRAW in effects:
        assert Effect.OFFER not in effects[effects.index(Effect.WITHDRAW) :]


def test_a_cause_is_kept_until_there_is_another() -> None:
    starting, _ = step(NEW, ReplicaEvent.LAUNCHED, now=2.0)
    assert starting.cause is Cause.WORK
    failed, _ = step(starting, ReplicaEvent.EXITED, now=3.0, cause=Cause.CRASHED)
    assert failed.cause is Cause.CRASHED


@given(EVENTS)
def test_a_step_leaves_its_argument_alone(event: ReplicaEvent) -> None:
    before = in_state(ReplicaState.READY)
    if (before.state, event) in TRANSITIONS:
        step(before, event, now=5.0, cause=Cause.IDLE)
    assert before == in_state(ReplicaState.READY)
