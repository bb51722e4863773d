"""Replicas come with work and go with idleness, never otherwise."""

import asyncio
from dataclasses import replace

import pytest

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.events import JobChanged, QueueChanged, ReplicaChanged
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.rig import SPEC, Rig


class Gate:
    """A play that waits for permission, and says how many prompts wait at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.most_waiting = 0
        self.order: list[str] = []

    async def __call__(self, stage: Stage) -> None:
        self.order.append(stage.prompt_id)
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        await self.open.wait()
        self.waiting -= 1
        await perform(stage)


def scaled(**scaling: float) -> DeploymentSpec:
    return replace(SPEC, scaling=replace(SPEC.scaling, **scaling))  # type: ignore[arg-type] # fields of Scaling


def states(rig: Rig, deployment: Deployment, cause: Cause) -> list[ReplicaState]:
    return [each.state for each in rig.replicas(deployment) if each.cause is cause]


async def running_at(rig: Rig, gate: Gate, count: int) -> None:
    await rig.until(lambda: gate.waiting == count)


async def test_work_wakes_a_replica_and_idleness_ends_it(rig: Rig) -> None:
    deployment = await rig.deploy(spec=scaled(idle_timeout_s=0.05))
    assert rig.fleet(deployment).supervisors == ()
    done = await rig.ended(await rig.submit(deployment))
    assert done.state is JobState.SUCCEEDED
    await rig.asleep(deployment)
    ladder = [change for change in rig.replicas(deployment) if change.cause is not Cause.RECORDING]
    assert [(each.state, each.cause) for each in ladder] == [
        (ReplicaState.STARTING, Cause.WORK),
        (ReplicaState.READY, Cause.WORK),
        (ReplicaState.DRAINING, Cause.IDLE),
        (ReplicaState.STOPPING, Cause.IDLE),
        (ReplicaState.STOPPED, Cause.IDLE),
    ]
    assert ladder[2].since - done.finished_at >= 0.05 if done.finished_at else False


async def test_an_idle_replica_stays_while_its_time_is_not_up(rig: Rig) -> None:
    deployment = await rig.deploy(spec=scaled(idle_timeout_s=60.0))
    first = await rig.ended(await rig.submit(deployment))
    second = await rig.ended(await rig.submit(deployment, a_prompt(1)))
    assert first.replica_id == second.replica_id
    assert len(rig.fleet(deployment).ready) == 1


async def test_a_long_job_keeps_its_replica_however_short_the_idle_timeout(rig: Rig) -> None:
    gate = Gate()
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy(spec=scaled(idle_timeout_s=0.0))
    job = await rig.submit(deployment)
    await running_at(rig, gate, 1)
    rig.fleet(deployment).notify()  # another look at the scale changes nothing
    await rig.until(lambda: rig.heard(QueueChanged))
    assert [s.state for s in rig.fleet(deployment).supervisors] == [ReplicaState.READY]
    gate.open.set()
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    await rig.asleep(deployment)


async def test_a_replica_runs_one_job_at_a_time(rig: Rig) -> None:
    gate = Gate()
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy()
    jobs = [await rig.submit(deployment, a_prompt(seed)) for seed in range(4)]
    await running_at(rig, gate, 1)
    [supervisor] = rig.fleet(deployment).ready
    assert len(rig.engine(supervisor).submitted) == 1
    gate.open.set()
    for job in jobs:
        assert (await rig.ended(job)).state is JobState.SUCCEEDED
    assert gate.most_waiting == 1
    assert gate.order == [job.id for job in jobs]


async def test_never_more_replicas_than_allowed_and_as_many_as_the_work_wants(rig: Rig) -> None:
    gate = Gate()
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy(spec=scaled(max_replicas=3))
    jobs = [await rig.submit(deployment, a_prompt(seed)) for seed in range(7)]
    await running_at(rig, gate, 3)
    assert len(rig.fleet(deployment).supervisors) == 3
    gate.open.set()
    ended = [await rig.ended(job) for job in jobs]
    assert {job.state for job in ended} == {JobState.SUCCEEDED}
    assert len({job.replica_id for job in ended}) == 3
    assert gate.most_waiting == 3


async def test_the_queue_goes_by_number_and_front(rig: Rig) -> None:
    gate = Gate()
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy()
    first = await rig.submit(deployment, a_prompt(0))
    await running_at(rig, gate, 1)
    last = await rig.submit(deployment, a_prompt(1), number=99.5)
    plain = await rig.submit(deployment, a_prompt(2))
    urgent = await rig.submit(deployment, a_prompt(3), front=True)
    gate.open.set()
    for job in (first, last, plain, urgent):
        await rig.ended(job)
    assert gate.order == [first.id, urgent.id, plain.id, last.id]


async def test_the_minimum_is_awake_without_work_and_never_culled(rig: Rig) -> None:
    """The replica that was started to be recorded stays."""
    deployment = await rig.deploy(spec=scaled(min_replicas=1, idle_timeout_s=0.0))
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    assert supervisor.replica.cause is Cause.RECORDING
    done = await rig.ended(await rig.submit(deployment))
    assert done.replica_id == supervisor.id
    assert supervisor.state is ReplicaState.READY


async def test_a_warm_up_wakes_once_and_idles_out(rig: Rig) -> None:
    deployment = await rig.deploy(spec=scaled(idle_timeout_s=0.05))
    rig.fleet(deployment).warm()
    rig.fleet(deployment).warm()
    await rig.replica(deployment, ReplicaState.READY)
    await rig.asleep(deployment)
    assert states(rig, deployment, Cause.WARM_UP) == [ReplicaState.STARTING, ReplicaState.READY]


async def test_a_warm_up_while_the_last_replica_goes_wakes_another(rig: Rig) -> None:
    deployment = await rig.deploy(spec=scaled(idle_timeout_s=60.0))
    rig.fleet(deployment).warm()
    first = await rig.replica(deployment, ReplicaState.READY)
    first.stop(Cause.STOPPED_BY_USER)
    await rig.until(lambda: first.state is not ReplicaState.READY)
    rig.fleet(deployment).warm()
    second = await rig.replica(deployment, ReplicaState.READY)
    assert second.id != first.id


async def test_reading_wakes_nothing(rig: Rig) -> None:
    deployment = await rig.deploy()
    await rig.runtime.snapshot(deployment.revision.snapshot_digest)
    rig.fleet(deployment).notify()
    await rig.until(lambda: rig.heard(QueueChanged))
    assert {each.cause for each in rig.replicas(deployment)} == {Cause.RECORDING}


async def test_a_burst_of_short_jobs_does_not_wake_what_would_come_too_late(rig: Rig) -> None:
    """Once jobs and wakes are measured, a second replica must be worth its wake."""
    deployment = await rig.deploy(spec=scaled(max_replicas=4))
    for seed in range(3):
        await rig.ended(await rig.submit(deployment, a_prompt(seed)))
    [supervisor] = rig.fleet(deployment).ready
    await rig.store.replicas.save(replace(supervisor.replica, created_at=0.0, ready_at=600.0))
    jobs = [await rig.submit(deployment, a_prompt(10 + seed)) for seed in range(5)]
    ended = [await rig.ended(job) for job in jobs]
    assert {job.replica_id for job in ended} == {supervisor.id}


async def test_the_length_of_the_queue_is_told(rig: Rig) -> None:
    deployment = await rig.deploy()
    await rig.ended(await rig.submit(deployment))
    await rig.until(lambda: [e.remaining for e in rig.heard(QueueChanged)][-1] == 0)
    assert 1 in [event.remaining for event in rig.heard(QueueChanged)]


async def test_a_job_that_waits_too_long_expires(rig: Rig) -> None:
    gate = Gate()
    rig.engines.conduct = Conduct(gate)
    spec = replace(SPEC, timeouts=replace(SPEC.timeouts, queue_s=0.3))
    deployment = await rig.deploy(spec=spec)
    running = await rig.submit(deployment)
    await running_at(rig, gate, 1)
    waiting = await rig.submit(deployment, a_prompt(1))
    expired = await rig.ended(waiting)
    assert expired.state is JobState.EXPIRED
    assert expired.error is not None
    assert expired.error.code == "queue_timeout"
    assert await rig.store.jobs.history_entry(deployment.id, waiting.id) is not None
    assert expired.finished_at is not None
    assert expired.finished_at - expired.created_at < 4.0  # not only at the next idle tick
    gate.open.set()
    assert (await rig.ended(running)).state is JobState.SUCCEEDED


@pytest.mark.parametrize("count", [1, 3])
async def test_every_change_is_told_after_it_is_committed(rig: Rig, count: int) -> None:
    deployment = await rig.deploy()
    jobs: list[Job] = [await rig.submit(deployment, a_prompt(seed)) for seed in range(count)]
    for job in jobs:
        await rig.ended(job)
        assert [each.state for each in rig.story(job)] == [
            JobState.QUEUED,
            JobState.RUNNING,
            JobState.SUCCEEDED,
        ]
    assert all(event.deployment_id == deployment.id for event in rig.heard(JobChanged))
    assert rig.heard(ReplicaChanged)


async def test_one_job_wakes_one_replica_whatever_the_maximum(rig: Rig) -> None:
    """Neither while it becomes ready nor while its first job is being claimed is it overlooked."""
    deployment = await rig.deploy(spec=scaled(max_replicas=5))
    for seed in range(5):
        await rig.ended(await rig.submit(deployment, a_prompt(seed)))
    woken = {each.id for each in rig.replicas(deployment) if each.cause is Cause.WORK}
    assert len(woken) == 1
