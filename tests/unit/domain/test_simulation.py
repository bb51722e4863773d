"""Replays: no job is lost, no second is lost, and the arithmetic is that of a hand calculation."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Arrival, Policy, quantile, simulate
from comfyserve.domain.spec import Scaling

TRACES = st.lists(
    st.builds(Arrival, at=st.floats(0, 10_000), busy_s=st.floats(0, 500)), min_size=1, max_size=40
)
SCALINGS = st.builds(
    lambda least, more, idle: Scaling(least, least + more, idle),
    st.integers(0, 2),
    st.integers(1, 3),
    st.floats(0, 1000),
)


@given(TRACES, SCALINGS, st.floats(0, 120), st.booleans())
def test_every_job_runs_and_every_second_is_somewhere(
    trace: list[Arrival], scaling: Scaling, wake_s: float, bills_wake: bool
) -> None:
    policy = Policy("p", scaling, 3600.0, wake_s, bills_wake=bills_wake)
    outcome = simulate(trace, policy)
    assert outcome.jobs == len(trace)
    assert outcome.busy_s == pytest.approx(math.fsum(job.busy_s for job in trace), abs=1e-6)
    assert outcome.starting_s == pytest.approx(outcome.wakes * wake_s, abs=1e-6)
    billed = outcome.busy_s + outcome.idle_s + (outcome.starting_s if bills_wake else 0.0)
    assert outcome.cost == pytest.approx(billed)
    assert 0 <= outcome.wait_p50_s <= outcome.wait_p95_s <= outcome.wait_max_s
    if not scaling.min_replicas:
        assert outcome.wakes >= 1


@given(TRACES, st.floats(0, 120))
def test_what_is_always_on_never_waits_for_a_wake(trace: list[Arrival], wake_s: float) -> None:
    outcome = simulate(trace, Policy("on", Scaling(len(trace), len(trace)), 1.0, wake_s))
    assert (outcome.wakes, outcome.wait_max_s) == (0, 0.0)


def test_the_arithmetic() -> None:
    trace = [Arrival(0.0, 10.0), Arrival(100.0, 10.0)]
    asleep = Policy("asleep", Scaling(idle_timeout_s=30.0), 3600.0, wake_s=5.0)
    outcome = simulate(trace, asleep)
    assert (outcome.wakes, outcome.starting_s, outcome.busy_s, outcome.idle_s) == (2, 10, 20, 60)
    assert (outcome.cost, outcome.wait_p50_s, outcome.wait_max_s) == (80.0, 5.0, 5.0)
    on = simulate(trace, replace(asleep, scaling=Scaling(1, 1, 30.0)))
    assert (on.wakes, on.idle_s, on.cost, on.wait_max_s) == (0, 90.0, 110.0, 0.0)
    billed = simulate(trace, replace(asleep, bills_wake=True, cost_per_job=1.0))
    assert billed.cost == 80.0 + 10.0 + 2.0


def test_jobs_queue_at_one_replica() -> None:
    trace = [Arrival(0.0, 10.0), Arrival(0.0, 10.0), Arrival(1.0, 10.0)]
    outcome = simulate(trace, Policy("one", Scaling(), 1.0, wake_s=2.0))
    assert (outcome.wakes, outcome.wait_p50_s, outcome.wait_max_s) == (1, 12.0, 21.0)
    three = simulate(trace, Policy("three", Scaling(max_replicas=3), 1.0, wake_s=2.0))
    assert (three.wakes, three.wait_max_s) == (3, 2.0)


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no jobs"):
        simulate([], Policy("p", Scaling(), 1.0))


def test_quantiles() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.51, 0.95, 1.0)] == [1, 2, 3, 4, 4]
