"""The ledger: segments without gaps, and the averages read off them."""

from dataclasses import replace

import pytest

from comfyserve.domain.budget import Budget, BudgetKind
from comfyserve.domain.errors import ComfyserveError
from comfyserve.domain.usage import Segment, SegmentKind, total
from comfyserve.store import Store
from comfyserve.testing.store_data import a_new_job, a_replica

_STARTING = Segment("rp_2", "dp_1", SegmentKind.STARTING, 100.0, gpu="H100", price_per_hour=3600.0)


async def test_a_life_without_gaps(store: Store) -> None:
    await store.usage.open(_STARTING)
    await store.usage.switch("rp_2", SegmentKind.IDLE, None, 110.0)
    await store.usage.switch("rp_2", SegmentKind.IDLE, None, 112.0)
    await store.usage.switch("rp_2", SegmentKind.BUSY, "j1", 115.0)
    await store.usage.switch("rp_2", SegmentKind.BUSY, "j1", 116.0)
    await store.usage.switch("rp_2", SegmentKind.BUSY, "j2", 120.0)
    await store.usage.switch("rp_2", SegmentKind.DRAINING, None, 130.0)
    await store.usage.close("rp_2", 131.0)
    await store.usage.close("rp_2", 140.0)
    await store.usage.switch("rp_2", SegmentKind.IDLE, None, 150.0)
    segments = await store.usage.segments(replica_id="rp_2")
    assert [(s.kind, s.started_at, s.ended_at, s.job_id) for s in segments] == [
        (SegmentKind.STARTING, 100.0, 110.0, None),
        (SegmentKind.IDLE, 110.0, 115.0, None),
        (SegmentKind.BUSY, 115.0, 120.0, "j1"),
        (SegmentKind.BUSY, 120.0, 130.0, "j2"),
        (SegmentKind.DRAINING, 130.0, 131.0, None),
    ]
    assert {(s.gpu, s.price_per_hour, s.deployment_id) for s in segments} == {
        ("H100", 3600.0, "dp_1")
    }
    sums = total(segments, 200.0)
    assert (sums.awake_s, sums.billed_s, sums.cost) == (31.0, 21.0, 21.0)


async def test_a_clock_that_was_set_back(store: Store) -> None:
    await store.usage.open(_STARTING)
    await store.usage.switch("rp_2", SegmentKind.IDLE, None, 90.0)
    await store.usage.close("rp_2", 80.0)
    segments = await store.usage.segments(replica_id="rp_2")
    assert [(s.started_at, s.ended_at) for s in segments] == [(100.0, 100.0), (100.0, 100.0)]


async def test_only_one_segment_is_open(store: Store) -> None:
    await store.usage.open(_STARTING)
    with pytest.raises(ComfyserveError):
        await store.usage.open(_STARTING)


async def test_segments_by_deployment_and_time(store: Store) -> None:
    await store.usage.close("rp_1", 10.0)
    for start in (20.0, 40.0):
        await store.usage.open(Segment("rp_2", "dp_1", SegmentKind.STARTING, start))
        await store.usage.close("rp_2", start + 10)
    await store.usage.open(Segment("rp_3", "dp_2", SegmentKind.STARTING, 60.0))

    async def starts(**chosen: object) -> list[float]:
        found = await store.usage.segments(**chosen)  # type: ignore[arg-type] # its keyword arguments
        return [segment.started_at for segment in found]

    assert await starts() == [1.0, 20.0, 40.0, 60.0]
    assert await starts(deployment_id="dp_1") == [1.0, 20.0, 40.0]
    assert await starts(replica_id="rp_2") == [20.0, 40.0]
    assert await starts(since=30.0) == [40.0, 60.0]
    assert await starts(until=40.0) == [1.0, 20.0]
    assert await starts(since=25.0, until=45.0) == [20.0, 40.0]


async def test_segments_of_a_job(store: Store) -> None:
    await store.usage.switch("rp_1", SegmentKind.BUSY, "j1", 10.0)
    await store.usage.switch("rp_1", SegmentKind.BUSY, "j2", 12.0)
    await store.usage.switch("rp_1", SegmentKind.BUSY, "j1", 15.0)
    assert [(s.started_at, s.ended_at) for s in await store.usage.by_job("j1")] == [
        (10.0, 12.0),
        (15.0, None),
    ]


async def test_averages_are_of_the_last_twenty(store: Store) -> None:
    assert await store.usage.wake_seconds("dp_1") is None
    assert await store.usage.job_seconds("dp_1") is None
    for number in range(30):
        start = 100.0 * number
        seconds = 50.0 if number < 10 else 4.0
        await store.replicas.save(
            a_replica(f"rp_a{number}", created_at=start, ready_at=start + seconds)
        )
        await store.usage.open(
            Segment("rp_9", "dp_1", SegmentKind.BUSY, start, start + seconds / 2, f"j{number}")
        )
    assert await store.usage.wake_seconds("dp_1") == 4.0
    assert await store.usage.job_seconds("dp_1") == 2.0
    assert await store.usage.job_seconds("dp_2") is None


async def test_what_was_spent_since_a_moment(store: Store) -> None:
    await store.jobs.enqueue(a_new_job(id="j1", principal="tk_1"), 1.0)
    await store.usage.close("rp_1", 1.0)
    await store.usage.open(replace(_STARTING, started_at=100.0))
    await store.usage.switch("rp_2", SegmentKind.BUSY, "j1", 110.0)
    await store.usage.switch("rp_2", SegmentKind.IDLE, None, 120.0)
    spent = await store.usage.spent(115.0, 123.0)
    assert spent.deployments == {"dp_1": pytest.approx(5.0 + 3.0)}
    assert spent.principals == {"tk_1": pytest.approx(5.0)}
    assert (await store.usage.spent(0.0, 123.0)).deployments == {"dp_1": pytest.approx(13.0)}
    segments = await store.usage.segments(replica_id="rp_2")
    assert await store.usage.principals(segments) == {"j1": "tk_1"}


async def test_budgets_are_set_replaced_and_lifted(store: Store) -> None:
    cap = Budget(BudgetKind.DEPLOYMENT, "dp_1", 5.0)
    await store.budgets.put(cap)
    await store.budgets.put(replace(cap, monthly_cost=7.0))
    await store.budgets.put(Budget(BudgetKind.TOKEN, "tk_1", 1.0))
    assert [item.monthly_cost for item in await store.budgets.list()] == [7.0, 1.0]
    assert await store.budgets.delete(BudgetKind.DEPLOYMENT, "dp_1")
    assert not await store.budgets.delete(BudgetKind.DEPLOYMENT, "dp_1")
    assert await store.budgets.list() == [Budget(BudgetKind.TOKEN, "tk_1", 1.0)]
