"""Replicas that die under a job: tried again, then failed with the evidence; full disks; defects."""

import asyncio
from dataclasses import replace

import pytest

from comfyserve.domain.job import JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import Limits
from comfyserve.runtime.launchers.base import GoneReason
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage
from comfyserve.testing.launchers import FakeLauncher
from comfyserve.testing.rig import SPEC, Rig


async def never_ends(stage: Stage) -> None:
    await stage.begin("1")
    await stage.report("1", {"images": [stage.write(b"half done")]})
    await asyncio.Event().wait()


async def crash(rig: Rig, supervisor: Supervisor, *, log: bytes = b"") -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    rig.host.replicas[supervisor.id].log += log
    await rig.launcher.crash(supervisor.id)


async def test_a_job_outlives_its_replica_once(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    await rig.until(lambda: [m for m in rig.messages(job) if m.kind == "executed"])
    first = await rig.replica(deployment, ReplicaState.READY)
    rig.engines.conduct = Conduct()
    await crash(rig, first)
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert done.replica_id != first.id
    assert [each.state for each in rig.story(job)] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    [asset] = await rig.store.assets.of_job(job.id)
    assert await rig.store.blobs.read_bytes(asset.digest) != b"half done"
    await rig.until(lambda: first.ended.is_set())
    assert (first.state, first.replica.cause) == (ReplicaState.FAILED, Cause.CRASHED)


async def test_a_job_that_kills_every_replica_fails_with_the_evidence(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=3)))
    job = await rig.submit(deployment)
    for attempt in range(1, 4):
        await rig.until(lambda n=attempt: [j.attempts for j in rig.story(job)].count(n))  # type: ignore[misc] # binds the loop's value
        supervisor = await rig.replica(deployment, ReplicaState.READY)
        await rig.until(lambda s=supervisor: rig.engine(s).submitted)  # type: ignore[misc] # the same
        await crash(rig, supervisor, log=f"attempt {attempt}: Segmentation fault\n".encode())
        await rig.until(lambda s=supervisor: s.ended.is_set())  # type: ignore[misc] # the same
    failed = await rig.ended(job)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 3)
    assert failed.error is not None
    assert failed.error.code == "replica_lost"
    assert "crashed" in failed.error.message
    assert failed.error.log_tail == ("attempt 3: Segmentation fault",)
    assert await rig.store.assets.of_job(job.id) == []
    assert [m.kind for m in rig.messages(job)][-2:] == ["execution_error", "executing"]


async def test_the_next_job_is_not_blamed(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=1)))
    killer, other = await rig.submit(deployment), await rig.submit(deployment, a_prompt(1))
    await rig.reaches(killer, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    rig.engines.conduct = Conduct()
    await crash(rig, supervisor)
    assert (await rig.ended(killer)).state is JobState.FAILED
    assert (await rig.ended(other)).state is JobState.SUCCEEDED
    assert (await rig.job(other)).attempts == 1


async def test_a_replica_killed_for_its_memory_is_told_apart(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=1)))
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    assert isinstance(rig.launcher, FakeLauncher)
    await rig.launcher._end(rig.host.replicas[supervisor.id], GoneReason.OOM, term_signal=9)
    failed = await rig.ended(job)
    assert failed.error is not None
    assert failed.error.code == "out_of_memory"
    assert supervisor.replica.cause is Cause.OOM


async def test_an_engine_that_stops_answering_is_found_by_its_probes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyserve.runtime.probes._ANSWER_TIMEOUT_S", 0.05)
    rig.settings = replace(rig.settings, probe_interval_s=0.05, probe_failures=2)
    await rig.crash()
    await rig.start()
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.until(lambda: rig.engine(supervisor).submitted)
    rig.engines.conduct = Conduct()
    rig.engine(supervisor).behave(Conduct(hung=frozenset({"GET /prompt"})))
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert supervisor.replica.cause is Cause.UNRESPONSIVE


async def test_a_replica_that_is_stopped_by_hand_gives_its_job_back(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.until(lambda: rig.engine(supervisor).submitted)
    rig.engines.conduct = Conduct()
    supervisor.stop(Cause.STOPPED_BY_USER)
    assert (await rig.ended(job)).state is JobState.SUCCEEDED


async def test_a_full_disk_delays_a_job_and_loses_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be written neither the job nor its deployment's loops are given up."""
    monkeypatch.setattr("comfyserve.runtime.jobs._PAUSE_WHEN_FULL_S", 0.05)
    monkeypatch.setattr("comfyserve.runtime.tasks._PAUSE_AFTER_DEATH_S", 0.05)
    go = asyncio.Event()

    async def waits(stage: Stage) -> None:
        await go.wait()
        await stage.report("9", {"text": ["x" * 200_000]})

    rig.engines.conduct = Conduct(waits)
    deployment = await rig.deploy()
    running = await rig.submit(deployment)
    waiting = await rig.submit(deployment, a_prompt(1))
    await rig.reaches(running, "running")
    await fill_disk(rig)
    go.set()
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    await rig.until(lambda: supervisor.lost.is_set() or not rig.fleet(deployment).running)
    rig.engines.conduct = Conduct()
    await free_disk(rig)
    for job in (running, waiting):
        assert (await rig.ended(job)).state is JobState.SUCCEEDED


async def fill_disk(rig: Rig) -> None:
    """Let the database grow no more, as on a full disk."""
    await rig.store.database.write(
        lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1").close()
    )


async def free_disk(rig: Rig) -> None:
    """Let the database grow again."""
    await rig.store.database.write(
        lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000").close()
    )
