"""A job can be canceled in every state, and canceled is what it then is."""

import asyncio
import json
from dataclasses import replace

import pytest

from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.runtime.jobs import Order
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.launchers import NEVER_READY, FakeLauncher
from comfyserve.testing.rig import SPEC, Rig

IMPATIENT = replace(SPEC, timeouts=replace(SPEC.timeouts, stop_s=0.2))
PATIENT = replace(SPEC, timeouts=replace(SPEC.timeouts, stop_s=30.0))


async def never_ends(stage: Stage) -> None:
    await stage.begin("1")
    await asyncio.Event().wait()


async def at_work(rig: Rig, job: Job) -> None:
    """Wait until the engine runs the job."""
    await rig.until(lambda: [m for m in rig.messages(job) if m.kind == "executing"])


async def test_a_job_that_waits_is_canceled_at_once(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=PATIENT)
    running = await rig.submit(deployment)
    await at_work(rig, running)
    waiting = await rig.submit(deployment, a_prompt(1))
    canceled = await rig.runtime.cancel(waiting.id)
    assert canceled is not None
    assert (canceled.state, canceled.attempts) == (JobState.CANCELED, 0)
    assert (await rig.ended(waiting)).state is JobState.CANCELED
    assert (await rig.job(running)).state is JobState.RUNNING
    assert await rig.store.jobs.history_entry(deployment.id, waiting.id) is None
    await rig.runtime.cancel(running.id)
    await rig.ended(running)


async def test_a_job_that_runs_is_interrupted_and_its_replica_stays(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=PATIENT)
    job = await rig.submit(deployment)
    await at_work(rig, job)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    canceling = await rig.runtime.cancel(job.id)
    assert canceling is not None
    assert canceling.state is JobState.CANCELING
    canceled = await rig.ended(job)
    assert canceled.state is JobState.CANCELED
    assert canceled.error is None
    assert rig.engine(supervisor).interrupted == [job.id]
    assert [m.kind for m in rig.messages(job)][-2:] == ["execution_interrupted", "executing"]
    entry = await rig.store.jobs.history_entry(deployment.id, job.id)
    assert entry is not None
    assert json.loads(entry)["status"]["messages"][-1][0] == "execution_interrupted"
    rig.engine(supervisor).behave(Conduct())
    again = await rig.ended(await rig.submit(deployment, a_prompt(2)))
    assert (again.state, again.replica_id) == (JobState.SUCCEEDED, supervisor.id)


async def test_an_engine_that_does_not_stop_loses_its_replica(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends, heeds_interrupt=False)
    deployment = await rig.deploy(spec=IMPATIENT)
    job = await rig.submit(deployment)
    await at_work(rig, job)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.runtime.cancel(job.id)
    assert (await rig.ended(job)).state is JobState.CANCELED
    await rig.asleep(deployment)
    assert supervisor.state is ReplicaState.STOPPED


async def test_a_job_whose_replica_starts_is_canceled_without_it(rig: Rig) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    deployment = await rig.deploy()
    rig.launcher._behave = NEVER_READY
    job = await rig.submit(deployment)
    await rig.replica(deployment, ReplicaState.STARTING)
    await rig.runtime.cancel(job.id)
    assert (await rig.ended(job)).state is JobState.CANCELED


async def test_a_cancel_between_claim_and_submission_is_not_forgotten(rig: Rig) -> None:
    rig.engines.conduct = Conduct(perform, hung=frozenset({"GET /ws"}))
    deployment = await rig.deploy(spec=PATIENT)
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    engine = rig.engine(supervisor)
    await rig.runtime.cancel(job.id)
    assert (await rig.job(job)).state is JobState.CANCELING
    engine.behave(Conduct(never_ends))  # from now on it would run for ever
    assert (await rig.ended(job)).state is JobState.CANCELED
    assert engine.interrupted in ([], [job.id])
    assert supervisor.state is ReplicaState.READY


async def test_a_cancel_right_after_the_claim_finds_its_attempt(rig: Rig) -> None:
    """The claim is on disk before its attempt has begun; a cancel in between must reach it."""
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=PATIENT)
    for seed in range(5):
        job = await rig.submit(deployment, a_prompt(seed))
        while (await rig.job(job)).state is JobState.QUEUED:
            pass  # the first look after the commit, before the bus tells of it
        await rig.runtime.cancel(job.id)
        canceled = await rig.ended(job)
        assert (canceled.state, canceled.attempts) == (JobState.CANCELED, 1)


async def test_a_job_that_ends_while_it_is_canceled_is_canceled(rig: Rig) -> None:
    go = asyncio.Event()

    async def finishes(stage: Stage) -> None:
        await go.wait()
        await perform(stage)

    rig.engines.conduct = Conduct(finishes, heeds_interrupt=False)
    deployment = await rig.deploy(spec=PATIENT)
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.until(lambda: rig.engine(supervisor).submitted)
    await rig.runtime.cancel(job.id)
    await rig.until(lambda: rig.engine(supervisor).interrupted)
    go.set()
    canceled = await rig.ended(job)
    assert (canceled.state, canceled.attempts) == (JobState.CANCELED, 1)
    assert supervisor.state is ReplicaState.READY


async def test_a_job_that_loses_its_replica_while_it_is_canceled_is_not_tried_again(
    rig: Rig,
) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    rig.engines.conduct = Conduct(never_ends, heeds_interrupt=False)
    deployment = await rig.deploy(spec=PATIENT)
    job = await rig.submit(deployment)
    await at_work(rig, job)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.runtime.cancel(job.id)
    await rig.launcher.crash(supervisor.id)
    canceled = await rig.ended(job)
    assert (canceled.state, canceled.attempts) == (JobState.CANCELED, 1)
    await rig.asleep(deployment)


async def test_an_ended_job_stays_what_it_is(rig: Rig) -> None:
    deployment = await rig.deploy()
    done = await rig.ended(await rig.submit(deployment))
    told = len(rig.story(done))
    after = await rig.runtime.cancel(done.id)
    assert after == done
    assert [each.state for each in rig.story(done)[told:]] in ([], [JobState.SUCCEEDED])
    assert await rig.runtime.cancel("00000000-0000-4000-8000-000000000000") is None


async def test_a_prompt_that_still_waits_inside_its_engine_is_taken_out(rig: Rig) -> None:
    """Somebody else's prompt runs there: ours ends without a word about it, and not the replica."""
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=PATIENT)
    rig.fleet(deployment).warm()
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    engine = rig.engine(supervisor)
    status, _ = await supervisor.client.post(
        "/prompt", {"prompt": a_prompt(7), "prompt_id": "foreign"}
    )
    assert status == 200
    job = await rig.submit(deployment)
    await rig.until(lambda: len(engine.submitted) == 2)
    await rig.runtime.cancel(job.id)
    assert (await rig.ended(job)).state is JobState.CANCELED
    assert supervisor.state is ReplicaState.READY
    assert await supervisor.client.knows("foreign")


@pytest.mark.parametrize("times", [2, 5])
async def test_canceling_again_changes_nothing(rig: Rig, times: int) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=PATIENT)
    job = await rig.submit(deployment)
    await at_work(rig, job)
    for _ in range(times):
        await rig.runtime.cancel(job.id)
    assert (await rig.ended(job)).state is JobState.CANCELED
    [supervisor] = rig.fleet(deployment).ready
    assert rig.engine(supervisor).interrupted == [job.id]


async def test_an_order_that_comes_too_late_is_nothing(rig: Rig) -> None:
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    attempt = rig.fleet(deployment).attempt_at(job.id)
    await rig.ended(job)
    if attempt is not None:
        attempt.order(Order.GIVE_UP)
    rig.fleet(deployment).cancel(job.id)
    [supervisor] = rig.fleet(deployment).ready
    assert supervisor.replica.cause is Cause.WORK
