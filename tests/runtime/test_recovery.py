"""A server that is killed, and the one that comes after it: nothing is lost, nothing ends twice."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.job import Job, JobDocuments, JobEventKind, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import Limits
from comfyserve.runtime.launchers.base import LaunchState
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.store.jobs import NewJob
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.launchers import FakeLauncher
from comfyserve.testing.rig import SPEC, Rig, open_rig


class Gate:
    """A play that reports half of its outputs, then waits for permission."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, stage: Stage) -> None:
        await stage.begin("1")
        await stage.report("1", {"images": [stage.write(b"first half")]})
        await self.open.wait()
        await perform(stage)


async def at_half(rig: Rig, conduct: Conduct, deployment: Deployment) -> tuple[Job, Supervisor]:
    """A job of which one output is stored, and its replica."""
    rig.engines.conduct = conduct
    job = await rig.submit(deployment)
    await rig.until(lambda: [m for m in rig.messages(job) if m.kind == "executed"])
    return job, await rig.replica(deployment, ReplicaState.READY)


async def test_a_running_job_goes_on_under_the_next_server(rig: Rig) -> None:
    gate = Gate()
    deployment = await rig.deploy()
    job, before = await at_half(rig, Conduct(gate), deployment)
    await rig.crash()
    await rig.start()
    after = await rig.replica(deployment, ReplicaState.READY)
    assert (after.id, after is before) == (before.id, False)
    gate.open.set()
    done = await rig.ended(job)
    assert (done.state, done.attempts, done.replica_id) == (JobState.SUCCEEDED, 1, before.id)
    assert len(rig.engine(after).submitted) == 1
    assets = await rig.store.assets.of_job(job.id)
    assert sorted(asset.node_id for asset in assets) == ["1", "9"]


async def test_a_job_that_ended_while_no_server_ran_is_taken_over_complete(rig: Rig) -> None:
    gate = Gate()
    deployment = await rig.deploy()
    job, supervisor = await at_half(rig, Conduct(gate), deployment)
    engine = rig.engine(supervisor)
    await rig.crash()
    gate.open.set()
    await rig.until(lambda: engine.history)
    await rig.start()
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert len(await rig.store.assets.of_job(job.id)) == 2
    receipt = await rig.store.jobs.receipt(job.id)
    assert receipt is not None
    assert receipt.attempts == 1


async def test_a_job_that_was_claimed_but_never_sent_goes_on_in_the_same_attempt(rig: Rig) -> None:
    deployment = await rig.deploy()
    first = await rig.ended(await rig.submit(deployment))
    owner = rig.runtime.owner
    await rig.crash()
    now = rig.clock.now()
    job = (await rig.store.jobs.enqueue(a_new_job(deployment), now)).job
    claimed = await rig.store.jobs.claim(
        deployment.id,
        revision_id=deployment.revision.id,
        replica_id=str(first.replica_id),
        owner=owner,
        lease_until=now + 30,
        now=now,
    )
    assert claimed is not None
    await rig.start()
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert done.replica_id == first.replica_id


def a_new_job(deployment: Deployment) -> NewJob:
    job_id = str(uuid4())
    return NewJob(
        id=job_id,
        deployment_id=deployment.id,
        revision_id=deployment.revision.id,
        prompt_id=job_id,
        documents=JobDocuments(a_prompt(7), {}, ("9",)),
    )


async def test_an_idle_replica_is_used_again_and_none_is_woken_beside_it(rig: Rig) -> None:
    deployment = await rig.deploy()
    first = await rig.ended(await rig.submit(deployment))
    await rig.crash()
    await rig.start()
    second = await rig.ended(await rig.submit(deployment, a_prompt(1)))
    assert (second.state, second.replica_id) == (JobState.SUCCEEDED, first.replica_id)


async def test_an_adopted_replica_idles_out_after_a_whole_timeout(rig: Rig) -> None:
    spec = replace(SPEC, scaling=replace(SPEC.scaling, idle_timeout_s=0.3))
    deployment = await rig.deploy(spec=spec)
    await rig.ended(await rig.submit(deployment))
    await rig.crash()
    await rig.start()
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.asleep(deployment)
    assert time.clock_gettime(time.CLOCK_MONOTONIC) - began >= 0.3
    assert supervisor.replica.cause is Cause.IDLE


async def test_a_job_whose_replica_is_lost_too_is_tried_again(rig: Rig) -> None:
    deployment = await rig.deploy()
    job, supervisor = await at_half(rig, Conduct(Gate()), deployment)
    await rig.crash()
    await lose(rig, supervisor)
    rig.engines.conduct = Conduct()
    await rig.start()
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert len(await rig.store.assets.of_job(job.id)) == 1
    record = await rig.store.replicas.get(supervisor.id)
    assert record is not None
    assert (record.state, record.cause) == (ReplicaState.FAILED, Cause.LOST)
    segments = await rig.store.usage.segments(replica_id=supervisor.id)
    assert all(segment.ended_at is not None for segment in segments)


async def test_a_job_without_attempts_left_fails_with_the_reason(rig: Rig) -> None:
    deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=1)))
    job, supervisor = await at_half(rig, Conduct(Gate()), deployment)
    await rig.crash()
    await lose(rig, supervisor)
    await rig.start()
    failed = await rig.job(job)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "replica_lost"
    assert await rig.store.jobs.history_entry(deployment.id, job.id) is not None


async def test_a_cancel_that_was_on_its_way_is_carried_out(rig: Rig) -> None:
    spec = replace(SPEC, timeouts=replace(SPEC.timeouts, stop_s=30.0))
    deployment = await rig.deploy(spec=spec)
    job, supervisor = await at_half(rig, Conduct(Gate()), deployment)
    await rig.crash()
    await rig.store.jobs.cancel(job.id, rig.clock.now())
    await rig.start()
    assert (await rig.ended(job)).state is JobState.CANCELED
    assert rig.engine(supervisor).interrupted == [job.id]


async def test_waiting_jobs_are_run_by_the_next_server(rig: Rig) -> None:
    deployment = await rig.deploy()
    await rig.crash()
    new = await rig.store.jobs.counts(deployment.id)
    assert new.queued == 0
    rig.runtime.accepted = lambda job: None  # type: ignore[method-assign] # the dead hear nothing
    jobs = [await rig.submit(deployment, a_prompt(seed)) for seed in range(3)]
    await rig.start()
    for job in jobs:
        assert (await rig.ended(job)).state is JobState.SUCCEEDED


async def test_a_replica_that_was_starting_does_not_stay(rig: Rig) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    deployment = await rig.deploy()
    rig.engines.conduct = Conduct(hung=frozenset({"GET /prompt"}))
    rig.fleet(deployment).warm()
    supervisor = await rig.replica(deployment, ReplicaState.STARTING)
    await rig.crash()
    rig.engines.conduct = Conduct()
    await rig.start()
    record = await rig.store.replicas.get(supervisor.id)
    status = await rig.launcher.get(supervisor.id)
    assert record is not None
    if record.is_live:  # it listened already: taken over, and probed on
        [adopted] = rig.fleet(deployment).supervisors
        assert adopted.id == supervisor.id
    else:
        assert status is None or status.state is LaunchState.GONE


async def test_an_orphan_without_a_record_is_ended(rig: Rig) -> None:
    deployment = await rig.deploy()
    await rig.ended(await rig.submit(deployment))
    [supervisor] = rig.fleet(deployment).ready
    await rig.launcher.start("rp_nobodys", supervisor.terms.spec)
    await rig.until(lambda: "rp_nobodys" in rig.engines.of)
    await rig.crash()
    await rig.start()
    status = await rig.launcher.get("rp_nobodys")
    assert status is not None
    assert status.is_gone
    assert "rp_nobodys" not in rig.engines.of


async def test_replicas_of_what_was_changed_meanwhile_are_not_taken_over(rig: Rig) -> None:
    deployment = await rig.deploy()
    job, supervisor = await at_half(rig, Conduct(Gate()), deployment)
    await rig.crash()
    await rig.store.deployments.set_state(deployment.id, DeploymentState.STOPPED, rig.clock.now())
    await rig.start()
    status = await rig.launcher.get(supervisor.id)
    assert status is not None
    assert status.is_gone
    assert (await rig.job(job)).state is JobState.QUEUED
    assert rig.fleet(deployment).supervisors == ()


async def test_a_server_that_lost_a_job_to_another_ends_it_not(rig: Rig) -> None:
    """A process that was frozen, say, while another took its job over."""
    gate = Gate()
    deployment = await rig.deploy()
    job, _ = await at_half(rig, Conduct(gate), deployment)
    now = rig.clock.now()
    adopted = await rig.store.jobs.adopt(job.id, owner="rt_another", lease_until=now + 30, now=now)
    assert adopted is not None
    gate.open.set()
    await rig.until(lambda: not rig.fleet(deployment).running)
    current = await rig.job(job)
    assert (current.state, current.owner) == (JobState.RUNNING, "rt_another")
    kinds = [message.kind for message in rig.messages(job)]
    assert "execution_success" not in kinds
    assert not [each for each in rig.story(job) if each.is_terminal]
    finished = await rig.store.jobs.finish(
        job.id, owner="rt_another", attempt=1, event=JobEventKind.LOST, now=now + 1
    )
    assert finished is not None


async def test_two_servers_that_both_saw_the_end_commit_it_once(rig: Rig) -> None:
    gate = Gate()
    deployment = await rig.deploy()
    job, _ = await at_half(rig, Conduct(gate), deployment)
    frozen = rig.runtime
    await rig.start()  # beside the first, which has not been told to end
    await rig.until(lambda: rig.fleet(deployment).running)
    gate.open.set()
    done = await rig.ended(job)
    await rig.until(lambda: not frozen.fleet(deployment.id).running)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert [each.state for each in rig.story(job)].count(JobState.SUCCEEDED) == 1
    current, rig.runtime = rig.runtime, frozen
    await rig.crash()
    rig.runtime = current


@pytest.mark.parametrize("rounds", [3])
async def test_many_crashes_in_a_row_lose_nothing(rig: Rig, rounds: int) -> None:
    deployment = await rig.deploy(
        spec=replace(
            SPEC,
            scaling=replace(SPEC.scaling, max_replicas=2),
            limits=Limits(max_attempts=100),
        )
    )
    jobs = [await rig.submit(deployment, a_prompt(seed)) for seed in range(12)]
    for ended in range(rounds):
        await rig.settled(jobs[ended * 2])
        await rig.crash()
        for supervisor_id in tuple(rig.engines.of)[: ended % 2]:
            await lose_id(rig, supervisor_id)
        await rig.start()
    for job in jobs:
        done = await rig.settled(job)
        assert done.state is JobState.SUCCEEDED
        assert len(await rig.store.assets.of_job(job.id)) == 1
        assert [each.state for each in rig.story(job)].count(JobState.SUCCEEDED) <= 1


async def test_a_server_that_stops_waits_for_its_jobs(home: Path) -> None:
    gate = Gate()
    async with open_rig(home, stop_timeout_s=30.0) as rig:
        deployment = await rig.deploy()
        job, _ = await at_half(rig, Conduct(gate), deployment)
        waiting = await rig.submit(deployment, a_prompt(1))
        asyncio.get_running_loop().call_later(0.2, gate.open.set)
        await rig.stop()
        assert (await rig.job(job)).state is JobState.SUCCEEDED
        assert (await rig.job(waiting)).state is JobState.QUEUED
        assert rig.engines.of == {}


async def test_a_server_that_stops_gives_back_what_takes_too_long_uncounted(home: Path) -> None:
    gate = Gate()
    async with open_rig(home, stop_timeout_s=0.2) as rig:
        deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=1)))
        job, supervisor = await at_half(rig, Conduct(gate, heeds_interrupt=False), deployment)
        async with asyncio.timeout(5):
            await rig.stop()
        waiting = await rig.job(job)
        assert (waiting.state, waiting.attempts, waiting.owner) == (JobState.QUEUED, 0, None)
        assert supervisor.state is ReplicaState.STOPPED
        assert supervisor.replica.cause is Cause.SHUTDOWN
        assert rig.engines.of == {}
        segments = await rig.store.usage.segments()
        assert all(segment.ended_at is not None for segment in segments)
        gate.open.set()
        await rig.start()
        done = await rig.ended(job)
        assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)


async def test_a_stop_that_was_not_announced_begins_nothing_new(home: Path) -> None:
    async with open_rig(home) as rig:
        deployment = await rig.deploy()
        job, supervisor = await at_half(rig, Conduct(Gate()), deployment)
        waiting = await rig.submit(deployment, a_prompt(1))
        woken = {each.id for each in rig.replicas(deployment)}
        await rig.runtime.stop()
        for each in (job, waiting):
            assert (await rig.job(each)).state is JobState.QUEUED
        assert {each.id for each in rig.replicas(deployment)} == woken
        assert supervisor.state is ReplicaState.STOPPED


async def test_a_server_may_leave_its_replicas_at_work(home: Path) -> None:
    gate = Gate()
    async with open_rig(home, detach_replicas=True) as rig:
        deployment = await rig.deploy()
        job, supervisor = await at_half(rig, Conduct(gate), deployment)
        async with asyncio.timeout(5):
            await rig.stop()
        assert supervisor.id in rig.engines.of
        gate.open.set()
        await rig.start()
        done = await rig.ended(job)
        assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
        for each in rig.fleet(deployment).supervisors:
            each.stop(Cause.STOPPED_BY_USER)
        await rig.asleep(deployment)


async def test_leases_are_renewed_long_before_they_lapse(home: Path) -> None:
    gate = Gate()
    async with open_rig(home, lease_s=0.6) as rig:
        deployment = await rig.deploy()
        job, supervisor = await at_half(rig, Conduct(gate), deployment)
        first = (await rig.job(job)).lease_until
        assert first is not None
        until = time.clock_gettime(time.CLOCK_MONOTONIC) + 1.5
        await rig.until(lambda: time.clock_gettime(time.CLOCK_MONOTONIC) > until)
        assert supervisor.state is ReplicaState.READY
        later = (await rig.job(job)).lease_until
        assert later is not None
        assert later > first
        gate.open.set()
        assert (await rig.ended(job)).attempts == 1


async def lose(rig: Rig, supervisor: Supervisor) -> None:
    await lose_id(rig, supervisor.id)


async def lose_id(rig: Rig, replica_id: str) -> None:
    """A replica ends while no server looks."""
    helper = rig.new_launcher()
    assert isinstance(helper, FakeLauncher)
    await helper.crash(replica_id)
    await helper.close()
