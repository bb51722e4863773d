"""Deployments come, change, stop, start again and go; their jobs are safe through all of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import Conflict, DeployFailed, Gone, InvalidInput, NotFound
from comfyserve.domain.job import JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec, Scaling
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import OBJECT_INFO, a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.launchers import DIES_AT_ONCE, WELL_BEHAVED, FakeLauncher
from comfyserve.testing.rig import SPEC, Rig


class Gate:
    """A play that waits for permission."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, stage: Stage) -> None:
        await stage.begin("1")
        await self.open.wait()
        await perform(stage)


@pytest.fixture
async def gate(rig: Rig) -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def test_a_deploy_records_what_the_engine_says_and_leaves_nothing_running(rig: Rig) -> None:
    rig.engines.conduct = Conduct(version="0.33.0")
    deployment = await rig.deploy()
    assert (deployment.name, deployment.state) == ("demo", DeploymentState.ACTIVE)
    assert (deployment.revision.number, deployment.revision.engine_version) == (1, "0.33.0")
    snapshot = await rig.runtime.snapshot(deployment.revision.snapshot_digest)
    assert snapshot.classes == OBJECT_INFO
    assert snapshot.catalog.get("FakeSave") is not None
    assert rig.engines.of == {}
    assert rig.runtime.deployments == (deployment,)
    assert await rig.deployer.find("demo") == deployment


async def test_a_deploy_whose_engine_ends_is_refused_with_its_log(rig: Rig) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    log = b"starting\nModuleNotFoundError: No module named 'torch'\n"
    rig.launcher._behave = replace(DIES_AT_ONCE, output=log)
    with pytest.raises(DeployFailed, match="has no module 'torch'") as refusal:
        await rig.deploy()
    assert refusal.value.log_tail == tuple(log.decode().splitlines())
    assert rig.runtime.deployments == ()
    assert await rig.store.deployments.list() == []
    rig.launcher._behave = WELL_BEHAVED
    assert (await rig.deploy()).revision.number == 1


@pytest.mark.parametrize("route", ["GET /object_info", "GET /system_stats"])
async def test_a_deploy_whose_engine_answers_nonsense_is_refused_or_goes_without(
    rig: Rig, route: str
) -> None:
    rig.engines.conduct = Conduct(broken=frozenset({route}))
    if route == "GET /object_info":
        with pytest.raises(DeployFailed, match="500 to GET /object_info"):
            await rig.deploy()
        return
    assert (await rig.deploy()).revision.engine_version == ""


async def test_custom_nodes_that_do_not_load_are_named(rig: Rig) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    log = b"   0.1 seconds (IMPORT FAILED): /opt/custom_nodes/broken\n"
    rig.launcher._behave = replace(WELL_BEHAVED, output=log)
    deployed = await rig.deployer.deploy("demo", SPEC)
    [warning] = deployed.warnings
    assert "/opt/custom_nodes/broken" in warning


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("Not A Name", SPEC),
        ("demo", replace(SPEC, scaling=Scaling(max_replicas=0))),
        ("demo", DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI, "/nowhere/at/all"))),
    ],
)
async def test_nonsense_is_refused_before_anything_starts(
    rig: Rig, name: str, spec: DeploymentSpec
) -> None:
    with pytest.raises(InvalidInput):
        await rig.deploy(name, spec)
    assert isinstance(rig.launcher, FakeLauncher)
    assert rig.launcher.started == 0


async def test_one_change_at_a_time_for_each_name(rig: Rig) -> None:
    rig.engines.conduct = Conduct(hung=frozenset({"GET /object_info"}))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(rig.deploy("demo"))
        await rig.until(lambda: rig.engines.of)
        [engine] = rig.engines.of.values()
        await rig.until(lambda: engine.hanging)
        with pytest.raises(Conflict, match="being changed") as refusal:
            await rig.deploy("demo")
        assert refusal.value.code == "deploy_in_progress"
        with pytest.raises(Conflict):
            await rig.deployer.delete("demo")
        rig.engines.conduct = Conduct()
        other = await rig.deploy("other")
        engine.behave(Conduct())
    assert {d.id for d in rig.runtime.deployments} == {first.result().id, other.id}


async def test_a_deploy_that_is_given_up_stops_its_replica(rig: Rig) -> None:
    rig.engines.conduct = Conduct(hung=frozenset({"GET /object_info"}))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await rig.deploy()
    await rig.until(lambda: not rig.engines.of)
    rig.engines.conduct = Conduct()
    assert (await rig.deploy()).revision.number == 1


async def test_an_update_lets_the_old_replica_finish_and_the_new_one_take_over(
    rig: Rig, gate: Gate
) -> None:
    rig.engines.conduct = Conduct(gate)
    first = await rig.deploy()
    running = await rig.submit(first)
    old = await rig.replica(first, ReplicaState.READY)
    await rig.until(lambda: rig.engine(old).submitted)
    rig.engines.conduct = Conduct()
    second = await rig.deploy()
    assert (second.id, second.revision.number) == (first.id, 2)
    await rig.until(lambda: old.state is ReplicaState.DRAINING)
    waiting = await rig.submit(second, a_prompt(1))
    done = await rig.ended(waiting)
    assert (done.state, done.revision_id) == (JobState.SUCCEEDED, second.revision.id)
    assert done.replica_id != old.id
    assert (await rig.job(running)).state is JobState.RUNNING
    gate.open.set()
    finished = await rig.ended(running)
    assert (finished.state, finished.attempts) == (JobState.SUCCEEDED, 1)
    await rig.until(lambda: old.ended.is_set())
    assert (old.state, old.replica.cause) == (ReplicaState.STOPPED, Cause.UPDATED)


async def test_two_updates_in_a_row_do_not_end_the_job_of_the_first(rig: Rig, gate: Gate) -> None:
    rig.engines.conduct = Conduct(gate)
    first = await rig.deploy()
    running = await rig.submit(first)
    old = await rig.replica(first, ReplicaState.READY)
    await rig.until(lambda: rig.engine(old).submitted)
    rig.engines.conduct = Conduct()
    for _ in range(2):
        await rig.deploy()
    await rig.deployer.set_state("demo", DeploymentState.STOPPED)
    await rig.until(lambda: old.state is ReplicaState.DRAINING)
    gate.open.set()
    finished = await rig.ended(running)
    assert (finished.state, finished.attempts) == (JobState.SUCCEEDED, 1)


async def test_a_stopped_deployment_finishes_its_job_and_begins_no_other(
    rig: Rig, gate: Gate
) -> None:
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy()
    running = await rig.submit(deployment)
    waiting = await rig.submit(deployment, a_prompt(1))
    await rig.reaches(running, "running")
    stopped = await rig.deployer.set_state("demo", DeploymentState.STOPPED)
    assert stopped.state is DeploymentState.STOPPED
    gate.open.set()
    assert (await rig.ended(running)).state is JobState.SUCCEEDED
    await rig.asleep(deployment)
    assert (await rig.job(waiting)).state is JobState.QUEUED
    await rig.deployer.set_state("demo", DeploymentState.ACTIVE)
    assert (await rig.ended(waiting)).state is JobState.SUCCEEDED


async def test_a_stopped_deployment_stays_stopped_over_a_restart(rig: Rig) -> None:
    deployment = await rig.deploy(spec=replace(SPEC, scaling=Scaling(min_replicas=1)))
    await rig.replica(deployment, ReplicaState.READY)
    await rig.deployer.set_state("demo", DeploymentState.STOPPED)
    await rig.asleep(deployment)
    await rig.crash()
    await rig.start()
    [found] = rig.runtime.deployments
    assert found.state is DeploymentState.STOPPED
    assert rig.fleet(deployment).supervisors == ()


async def test_a_deleted_deployment_takes_its_jobs_and_replicas_along(rig: Rig, gate: Gate) -> None:
    rig.engines.conduct = Conduct(gate)
    deployment = await rig.deploy()
    running = await rig.submit(deployment)
    waiting = await rig.submit(deployment, a_prompt(1))
    await rig.reaches(running, "running")
    async with asyncio.timeout(10):
        await rig.deployer.delete("demo")
    for job in (running, waiting):
        assert (await rig.job(job)).state is JobState.CANCELED
    assert rig.engines.of == {}
    assert rig.runtime.deployments == ()
    with pytest.raises(NotFound):
        rig.runtime.fleet(deployment.id)
    rig.engines.conduct = Conduct()
    again = await rig.deploy()
    assert again.id != deployment.id
    assert (await rig.ended(await rig.submit(again))).state is JobState.SUCCEEDED


async def test_a_replica_that_starts_is_stopped_by_a_delete(rig: Rig) -> None:
    deployment = await rig.deploy()
    rig.engines.conduct = Conduct(hung=frozenset({"GET /prompt"}))
    job = await rig.submit(deployment)
    await rig.replica(deployment, ReplicaState.STARTING)
    async with asyncio.timeout(10):
        await rig.deployer.delete("demo")
    assert (await rig.job(job)).state is JobState.CANCELED
    assert rig.engines.of == {}


async def test_what_is_not_there_is_named_with_what_is(rig: Rig) -> None:
    with pytest.raises(NotFound, match="none yet"):
        await rig.deployer.find("demo")
    await rig.deploy("one")
    await rig.deploy("two")
    with pytest.raises(NotFound, match="there is: one, two"):
        await rig.deployer.set_state("three", DeploymentState.STOPPED)
    with pytest.raises(NotFound):
        await rig.deployer.delete("three")


async def test_deployments_do_not_wait_for_each_other(rig: Rig, gate: Gate) -> None:
    rig.engines.conduct = Conduct(gate)
    busy, other = await rig.deploy("busy"), await rig.deploy("other")
    held = await rig.submit(busy)
    await rig.until(lambda: [m for m in rig.messages(held) if m.kind == "executing"])
    rig.engines.conduct = Conduct()
    assert (await rig.ended(await rig.submit(other))).state is JobState.SUCCEEDED
    assert (await rig.job(held)).state is JobState.RUNNING


async def test_a_home_remembers_what_is_gone(rig: Rig) -> None:
    await rig.deploy("brief")
    await rig.deployer.delete("brief")
    await rig.stop()
    await rig.start()
    with pytest.raises(Gone, match="for good"):
        await rig.deployer.find("brief")
    with pytest.raises(NotFound):
        await rig.deployer.find("never")
    await rig.deploy("brief")
    assert (await rig.deployer.find("brief")).name == "brief"
    assert not rig.runtime.is_gone("brief")


async def test_an_update_while_awake_hands_over_to_the_replica_that_was_recorded(rig: Rig) -> None:
    first = await rig.deploy()
    await rig.ended(await rig.submit(first))
    old = await rig.replica(first, ReplicaState.READY)
    second = await rig.deploy(spec=replace(SPEC, port=None, scaling=Scaling(idle_timeout_s=30.0)))
    await rig.until(lambda: old not in rig.fleet(second).supervisors)
    new = await rig.replica(second, ReplicaState.READY)
    assert new.replica.revision_id == second.revision.id
    assert (new.replica.cause, new.id == old.id) == (Cause.RECORDING, False)
    done = await rig.ended(await rig.submit(second))
    assert done.replica_id == new.id
    await rig.until(lambda: rig.fleet(second).supervisors == (new,))
    back = await rig.deployer.rollback("demo")
    assert back.revision.id == first.revision.id
    done = await rig.ended(await rig.submit(back))
    assert done.revision_id == first.revision.id
    assert (await rig.deploy()).revision.number == 3
