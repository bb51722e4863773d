"""A job's table, under any sequence of events."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.errors import IllegalTransition
from comfyserve.domain.job import (
    ACTIVE,
    OPEN,
    TERMINAL,
    TRANSITIONS,
    Job,
    JobError,
    JobEventKind,
    JobState,
    step,
)

ERROR = JobError("replica_lost", "it went", exit_code=9, log_tail=("last words",))
# Claims and losses more often than the rest: an end at once makes a short story.
SEQUENCES = st.lists(
    st.sampled_from([*JobEventKind, *[JobEventKind.CLAIMED, JobEventKind.LOST] * 5]), max_size=20
)
ATTEMPTS = st.integers(1, 4)
ENDS_AN_ATTEMPT = frozenset(
    {
        JobEventKind.SUCCEEDED,
        JobEventKind.FAILED,
        JobEventKind.INTERRUPTED,
        JobEventKind.LOST,
        JobEventKind.RELEASED,
    }
)


def a_job(state: JobState = JobState.QUEUED, *, attempts: int = 0, most: int = 2) -> Job:
    return Job(
        id="j",
        deployment_id="dp_1",
        revision_id="rv_1",
        prompt_id="p",
        number=1.0,
        state=state,
        created_at=1.0,
        attempts=attempts,
        max_attempts=most,
        replica_id="rp_1" if state in ACTIVE else None,
        owner="rt_1" if state in ACTIVE else None,
        lease_until=9.0 if state in ACTIVE else None,
        started_at=2.0 if state in ACTIVE else None,
    )


def lived(events: list[JobEventKind], most: int) -> list[tuple[Job, JobEventKind, Job]]:
    """Each event that the table takes, with the job before and after it."""
    job, story = a_job(most=most), []
    for at, event in enumerate(events, start=2):
        if (job.state, event) in TRANSITIONS:
            after = step(job, event, now=float(at), error=ERROR)
            story.append((job, event, after))
            job = after
    return story


@pytest.mark.parametrize(("state", "event"), list(product(JobState, JobEventKind)))
def test_a_pair_is_in_the_table_or_refused(state: JobState, event: JobEventKind) -> None:
    if (state, event) in TRANSITIONS:
        step(a_job(state, attempts=1), event, now=3.0)
        return
    with pytest.raises(IllegalTransition, match=f"cannot take '{event}' in state '{state}'"):
        step(a_job(state, attempts=1), event, now=3.0)


def test_states_are_open_or_ended() -> None:
    assert set(JobState) == OPEN | TERMINAL
    assert not OPEN & TERMINAL
    assert not [state for state, _ in TRANSITIONS if state in TERMINAL]
    assert all((state, JobEventKind.CANCEL) in TRANSITIONS for state in OPEN)


@given(SEQUENCES, ATTEMPTS)
def test_an_attempt_is_counted_when_it_begins_and_given_back_only_when_released(
    events: list[JobEventKind], most: int
) -> None:
    for before, event, after in lived(events, most):
        gained = after.attempts - before.attempts
        is_released = event is JobEventKind.RELEASED and after.state is JobState.QUEUED
        assert gained == (event is JobEventKind.CLAIMED) - is_released
        assert 0 <= after.attempts <= most


@given(SEQUENCES, ATTEMPTS)
def test_a_job_waits_again_only_while_it_has_attempts_left(
    events: list[JobEventKind], most: int
) -> None:
    for before, event, after in lived(events, most):
        if event is not JobEventKind.LOST or before.state is not JobState.RUNNING:
            continue
        if before.attempts < most:
            assert after.state is JobState.QUEUED
        else:
            assert after.state is JobState.FAILED
        assert after.error is ERROR


@given(SEQUENCES, ATTEMPTS)
def test_who_asked_to_cancel_never_sees_another_end(events: list[JobEventKind], most: int) -> None:
    story = lived(events, most)
    asked = next((at for at, item in enumerate(story) if item[1] is JobEventKind.CANCEL), None)
    if asked is not None:
        assert {after.state for _, _, after in story[asked:]} <= {
            JobState.CANCELING,
            JobState.CANCELED,
        }


@given(SEQUENCES, ATTEMPTS)
def test_the_record_says_what_its_state_says(events: list[JobEventKind], most: int) -> None:
    for _, event, after in lived(events, most):
        assert after.is_terminal == (after.finished_at is not None)
        assert (after.started_at is not None) or after.state not in ACTIVE
        if after.state is JobState.QUEUED:
            assert after.started_at is None
            assert after.replica_id is None
        if event in ENDS_AN_ATTEMPT or after.is_terminal:
            assert after.owner is None
            assert after.lease_until is None
        if after.state in {JobState.SUCCEEDED, JobState.CANCELED}:
            assert after.error is None


@given(SEQUENCES, ATTEMPTS)
def test_every_sequence_ends_at_most_once(events: list[JobEventKind], most: int) -> None:
    ends = [after for _, _, after in lived(events, most) if after.is_terminal]
    assert len(ends) <= 1


def test_canceling_twice_changes_nothing() -> None:
    canceling = step(a_job(JobState.RUNNING, attempts=1), JobEventKind.CANCEL, now=3.0)
    assert canceling.state is JobState.CANCELING
    assert canceling.owner == "rt_1"
    assert step(canceling, JobEventKind.CANCEL, now=4.0) is canceling


def test_a_claim_begins_an_attempt_and_a_new_one_forgets_the_old_start() -> None:
    first = step(a_job(), JobEventKind.CLAIMED, now=5.0)
    assert (first.started_at, first.attempts) == (5.0, 1)
    again = step(first, JobEventKind.LOST, now=6.0, error=ERROR)
    second = step(again, JobEventKind.CLAIMED, now=7.0)
    assert (second.started_at, second.attempts) == (7.0, 2)


def test_only_a_failed_or_expired_job_shows_an_error() -> None:
    expired = step(a_job(), JobEventKind.EXPIRED, now=3.0, error=ERROR)
    assert expired.error is ERROR
    done = step(a_job(JobState.RUNNING, attempts=1), JobEventKind.SUCCEEDED, now=3.0, error=ERROR)
    assert done.error is None
    assert done.finished_at == 3.0


def test_a_job_that_loses_its_last_attempt_fails_with_the_evidence() -> None:
    lost = step(a_job(JobState.RUNNING, attempts=2), JobEventKind.LOST, now=3.0, error=ERROR)
    assert (lost.state, lost.error, lost.finished_at) == (JobState.FAILED, ERROR, 3.0)
