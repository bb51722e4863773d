"""Every second has a receipt: jobs, ledger and the lives of replicas agree."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.usage import Receipt, Segment, SegmentKind, total
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.launchers import WELL_BEHAVED, FakeLauncher
from comfyserve.testing.rig import SPEC, Rig, open_rig

PRICE = 36.0  # a cent a second
SHORT = replace(SPEC, scaling=replace(SPEC.scaling, idle_timeout_s=0.1))


@pytest.fixture
async def rig(home: Path) -> AsyncIterator[Rig]:
    """A rig on which seconds cost something."""
    async with open_rig(home, prices={"cpu": PRICE}) as rig:
        yield rig


async def receipt_of(rig: Rig, job: Job) -> Receipt:
    receipt = await rig.store.jobs.receipt(job.id)
    assert receipt is not None
    parts = (receipt.queued_ms, receipt.wake_ms, receipt.load_ms, receipt.execute_ms)
    assert min(parts) >= 0
    assert sum(parts) == receipt.total_ms
    return receipt


async def lives(rig: Rig, deployment: Deployment) -> dict[str, Sequence[Segment]]:
    """The ledger by replica; each is one unbroken line from the beginning of a life to its end."""
    found: dict[str, list[Segment]] = {}
    for segment in await rig.store.usage.segments(deployment_id=deployment.id):
        found.setdefault(segment.replica_id, []).append(segment)
    for replica_id, segments in found.items():
        record = await rig.store.replicas.get(replica_id)
        assert record is not None
        assert segments[0].started_at >= record.created_at  # from its launch on
        assert segments[-1].ended_at == record.ended_at
        for one, next_one in pairwise(segments):
            assert one.ended_at == next_one.started_at
    return dict(found)


async def test_a_receipt_divides_the_life_of_a_job(rig: Rig) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    deployment = await rig.deploy(spec=SHORT)
    rig.launcher._behave = replace(WELL_BEHAVED, listens_after_s=0.3)
    job = await rig.ended(await rig.submit(deployment))
    receipt = await receipt_of(rig, job)
    assert receipt.wake_ms >= 250
    assert receipt.total_ms >= receipt.wake_ms
    assert receipt.replica_id == job.replica_id
    assert (receipt.attempts, receipt.price_per_hour) == (1, PRICE)
    assert receipt.cost == pytest.approx(receipt.billed_ms / 3.6e6 * PRICE, abs=2e-5)
    warm = await rig.ended(await rig.submit(deployment, a_prompt(1)))
    assert (await receipt_of(rig, warm)).wake_ms == 0


async def test_receipts_sum_to_the_ledger_and_the_ledger_to_the_lives(rig: Rig) -> None:
    deployment = await rig.deploy(
        spec=replace(SHORT, scaling=replace(SHORT.scaling, max_replicas=2))
    )
    jobs = [await rig.submit(deployment, a_prompt(seed)) for seed in range(6)]
    ended = [await rig.ended(job) for job in jobs]
    await rig.asleep(deployment)
    ledger = await lives(rig, deployment)
    for job in ended:
        receipt = await receipt_of(rig, job)
        [busy] = await rig.store.usage.by_job(job.id)
        assert busy.replica_id == job.replica_id
        assert receipt.billed_ms == pytest.approx(busy.seconds(0) * 1000, abs=1)
    everything = [segment for segments in ledger.values() for segment in segments]
    sums = total(everything, rig.clock.now())
    receipts = [await receipt_of(rig, job) for job in ended]
    assert sums.busy_s == pytest.approx(sum(r.billed_ms for r in receipts) / 1000, abs=0.01)
    lifetimes = 0.0
    for replica_id in ledger:
        record = await rig.store.replicas.get(replica_id)
        assert record is not None
        assert record.ended_at is not None
        lifetimes += record.ended_at - ledger[replica_id][0].started_at
    assert sums.awake_s == pytest.approx(lifetimes, abs=1e-4)
    assert sums.cost == pytest.approx(sums.billed_s / 3600 * PRICE)


async def test_a_life_in_segments(rig: Rig) -> None:
    deployment = await rig.deploy(spec=SHORT)
    job = await rig.ended(await rig.submit(deployment))
    await rig.asleep(deployment)
    ledger = await lives(rig, deployment)
    assert job.replica_id is not None
    kinds = [segment.kind for segment in ledger[job.replica_id]]
    assert kinds == [
        SegmentKind.STARTING,
        SegmentKind.IDLE,
        SegmentKind.BUSY,
        SegmentKind.IDLE,
        SegmentKind.DRAINING,
    ]


async def test_all_attempts_of_a_job_are_on_its_receipt(rig: Rig) -> None:
    never = asyncio.Event()

    async def never_ends(stage: Stage) -> None:
        await stage.begin("1")
        await never.wait()

    assert isinstance(rig.launcher, FakeLauncher)
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=SHORT)
    job = await rig.submit(deployment)
    await rig.until(lambda: [m for m in rig.messages(job) if m.kind == "executing"])
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    began = rig.clock.now()
    await rig.until(lambda: rig.clock.now() - began > 0.2)
    rig.engines.conduct = Conduct()
    await rig.launcher.crash(supervisor.id)
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    await rig.asleep(deployment)
    receipt = await receipt_of(rig, done)
    segments = await rig.store.usage.by_job(job.id)
    assert [segment.replica_id for segment in segments] == [supervisor.id, done.replica_id]
    held_s = sum(segment.seconds(0) for segment in segments)
    assert held_s >= 0.2
    assert receipt.billed_ms == pytest.approx(held_s * 1000, abs=2)
    assert receipt.attempts == 2
    await lives(rig, deployment)


async def test_a_job_that_never_had_a_slot_costs_nothing(rig: Rig) -> None:
    never = asyncio.Event()

    async def never_ends(stage: Stage) -> None:
        await never.wait()

    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=SHORT)
    running = await rig.submit(deployment)
    await rig.reaches(running, "running")
    waiting = await rig.submit(deployment, a_prompt(1))
    await rig.runtime.cancel(waiting.id)
    await rig.ended(waiting)
    assert await rig.store.usage.by_job(waiting.id) == []
    receipt = await rig.store.jobs.receipt(waiting.id)
    assert receipt is None or receipt.billed_ms == 0
    await rig.runtime.cancel(running.id)
    canceled = await rig.ended(running)
    assert (await receipt_of(rig, canceled)).billed_ms > 0


async def test_the_time_in_which_models_load_is_told_apart(rig: Rig) -> None:
    async def loads(stage: Stage) -> None:
        await stage.begin("0")
        await asyncio.sleep(0.15)
        await perform(stage)

    rig.engines.conduct = Conduct(loads)
    deployment = await rig.deploy()
    prompt = {"0": {"class_type": "FakeLoad", "inputs": {"name": "x"}}, **a_prompt()}
    job = await rig.ended(await rig.submit(deployment, prompt))
    receipt = await receipt_of(rig, job)
    assert 140 <= receipt.load_ms <= receipt.billed_ms


async def test_a_draining_replica_is_busy_until_its_job_ends(rig: Rig) -> None:
    go = asyncio.Event()

    async def waits(stage: Stage) -> None:
        await go.wait()
        await perform(stage)

    rig.engines.conduct = Conduct(waits)
    deployment = await rig.deploy(spec=SHORT)
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    supervisor.drain(Cause.UPDATED)
    await rig.until(lambda: supervisor.state is ReplicaState.DRAINING)
    go.set()
    done = await rig.ended(job)
    await rig.until(lambda: supervisor.ended.is_set())
    [busy] = await rig.store.usage.by_job(job.id)
    assert busy.ended_at == done.finished_at
    await lives(rig, deployment)


async def test_a_replica_that_never_became_ready_is_metered_and_free(home: Path) -> None:
    async with open_rig(home, prices={"cpu": PRICE}) as rig:
        deployment = await rig.deploy(spec=SHORT)
        rig.engines.conduct = Conduct(hung=frozenset({"GET /prompt"}))
        rig.fleet(deployment).warm()
        supervisor = await rig.replica(deployment, ReplicaState.STARTING)
        supervisor.stop(Cause.STOPPED_BY_USER)
        await rig.until(lambda: supervisor.ended.is_set())
        segments = await rig.store.usage.segments(replica_id=supervisor.id)
        sums = total(segments, rig.clock.now())
        assert sums.starting_s > 0
        assert sums.busy_s == 0
