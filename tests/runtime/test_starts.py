"""Starts that fail, wait for a GPU, or are overtaken by a stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comfyserve.domain.errors import DeployFailed, NotReady
from comfyserve.domain.job import JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import DeploymentSpec, Resources, Scaling
from comfyserve.runtime.gpus import Gpu
from comfyserve.runtime.launchers.base import LaunchStatus
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage
from comfyserve.testing.launchers import (
    DIES_AT_ONCE,
    NEVER_READY,
    WELL_BEHAVED,
    Behaviour,
    FakeLauncher,
)
from comfyserve.testing.rig import SPEC, Rig, open_rig

L4 = Gpu(0, "GPU-4e1f", "L4", "NVIDIA L4", 23 * 1024**3)
ON_L4 = replace(SPEC, resources=Resources("L4", 1))


def starting_within(seconds: float) -> DeploymentSpec:
    return replace(SPEC, timeouts=replace(SPEC.timeouts, start_s=seconds))


def behave(rig: Rig, behaviour: Behaviour | Callable[[object], Behaviour]) -> None:
    assert isinstance(rig.launcher, FakeLauncher)
    rig.launcher._behave = behaviour


@pytest.fixture
async def one_gpu(home: Path) -> AsyncIterator[Rig]:
    """A rig whose host has one GPU."""
    async with open_rig(home, gpus=(L4,)) as rig:
        yield rig


async def test_a_job_for_which_nothing_starts_fails_with_the_reason(home: Path) -> None:
    async with open_rig(home, start_failures=1) as rig:
        deployment = await rig.deploy()
        behave(rig, replace(DIES_AT_ONCE, exit_code=3, output=b"No module named 'torch'\n"))
        failed = await rig.ended(await rig.submit(deployment))
        assert (failed.state, failed.attempts) == (JobState.FAILED, 0)
        assert failed.error is not None
        assert failed.error.code == "start_failed"
        assert failed.error.log_tail == ("No module named 'torch'",)
        error = rig.fleet(deployment).last_start_error
        assert error is not None
        assert error.code == "crashed"
        assert error.log_tail == ("No module named 'torch'",)
        [failure] = [r for r in rig.replicas(deployment) if r.state is ReplicaState.FAILED]
        assert (failure.cause, failure.exit_code) == (Cause.CRASHED, 3)
        assert await rig.store.jobs.history_entry(deployment.id, failed.id) is not None


async def test_starts_back_off_and_one_that_succeeds_makes_up_for_all(rig: Rig) -> None:
    deployment = await rig.deploy()
    moments: list[float] = []

    def fails_twice(_: object) -> Behaviour:
        moments.append(asyncio.get_running_loop().time())
        return DIES_AT_ONCE if len(moments) < 2 else WELL_BEHAVED

    behave(rig, fails_twice)
    done = await rig.ended(await rig.submit(deployment))
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert moments[1] - moments[0] >= 1.0
    assert rig.fleet(deployment).last_start_error is None


async def test_a_start_that_takes_too_long_fails_by_its_timeout(home: Path) -> None:
    async with open_rig(home, start_failures=1) as rig:
        deployment = await rig.deploy(spec=starting_within(0.3))
        behave(rig, NEVER_READY)
        failed = await rig.ended(await rig.submit(deployment))
        assert failed.error is not None
        assert "not ready within 0.3 s" in failed.error.message
        await rig.asleep(deployment)
        last = rig.replicas(deployment)[-1]
        assert (last.state, last.cause) == (ReplicaState.STOPPED, Cause.START_TIMEOUT)


async def test_an_early_end_is_no_timeout_however_late_it_is_told(home: Path) -> None:
    """The probe may see the end before the launcher's watch tells of it."""
    late = asyncio.Event()

    class LateNews(FakeLauncher):
        def _note(self, replica: object, status: LaunchStatus) -> None:
            if not status.is_gone or late.is_set():
                super()._note(replica, status)  # type: ignore[arg-type] # a FakeReplica
            else:
                replica.status = status  # type: ignore[attr-defined] # the same
                asyncio.get_running_loop().call_later(0.3, self._feed.publish, status)

    async with open_rig(
        home, start_failures=1, launcher=lambda host, servers: LateNews(host=host, servers=servers)
    ) as rig:
        late.set()
        deployment = await rig.deploy()
        late.clear()
        behave(rig, DIES_AT_ONCE)
        failed = await rig.ended(await rig.submit(deployment))
        late.set()
        assert failed.error is not None
        assert "not ready within" not in failed.error.message
        error = rig.fleet(deployment).last_start_error
        assert error is not None
        assert error.code == "crashed"


async def test_a_stop_overtakes_an_answer_that_is_on_its_way(rig: Rig) -> None:
    """READY comes too late for a replica that stops: it stops all the same."""
    deployment = await rig.deploy()
    behave(rig, replace(WELL_BEHAVED, ignores_sigterm=True))
    rig.engines.conduct = Conduct(hung=frozenset({"GET /prompt"}))
    rig.fleet(deployment).warm()
    supervisor = await rig.replica(deployment, ReplicaState.STARTING)
    await rig.until(lambda: rig.engines.of)
    engine = rig.engine(supervisor)
    await rig.until(lambda: engine.hanging)
    supervisor.stop(Cause.STOPPED_BY_USER)
    await rig.until(lambda: supervisor.state is ReplicaState.STOPPING)
    engine.behave(Conduct())
    await rig.asleep(deployment)
    assert supervisor.state is ReplicaState.STOPPED


async def test_a_launcher_that_cannot_stop_a_replica_yet_is_asked_again(home: Path) -> None:
    refusals: list[str] = []

    class Stuck(FakeLauncher):
        async def stop(self, replica_id: str, *, grace_s: float) -> LaunchStatus:
            if len(refusals) < 2:
                refusals.append(replica_id)
                raise NotReady("a process is stuck in its driver", code="stop_timeout")
            return await super().stop(replica_id, grace_s=grace_s)

    async with open_rig(
        home, launcher=lambda host, servers: Stuck(host=host, servers=servers)
    ) as rig:
        refusals += ["", ""]
        deployment = await rig.deploy()
        await rig.ended(await rig.submit(deployment))
        [supervisor] = rig.fleet(deployment).ready
        refusals.clear()
        supervisor.stop(Cause.STOPPED_BY_USER)
        await rig.asleep(deployment)
        assert refusals == [supervisor.id, supervisor.id]
        assert supervisor.state is ReplicaState.STOPPED


async def test_a_gpu_that_no_host_has_refuses_the_deployment(one_gpu: Rig) -> None:
    with pytest.raises(DeployFailed, match=r"1 x H100.*1 x L4"):
        await one_gpu.deploy(spec=replace(SPEC, resources=Resources("H100", 1)))
    assert await one_gpu.store.deployments.list() == []


async def test_two_deployments_share_one_gpu(one_gpu: Rig) -> None:
    """An idle replica gives its card up, long before its time; a busy one does not."""
    rig = one_gpu
    go = asyncio.Event()

    async def waits(stage: Stage) -> None:
        await stage.begin("1")
        await go.wait()

    first = await rig.deploy("first", ON_L4)
    second = await rig.deploy("second", ON_L4)
    rig.engines.conduct = Conduct(waits)
    held = await rig.submit(first)
    await rig.until(lambda: [m for m in rig.messages(held) if m.kind == "executing"])
    rig.engines.conduct = Conduct()
    waiting = await rig.submit(second)
    pending = await rig.replica(second, ReplicaState.PENDING)
    await rig.until(lambda: pending.waits_for_capacity)
    [busy] = rig.fleet(first).ready
    assert busy.state is ReplicaState.READY
    go.set()
    assert (await rig.ended(held)).state is JobState.SUCCEEDED
    assert (await rig.ended(waiting)).state is JobState.SUCCEEDED
    await rig.asleep(first)
    assert busy.replica.cause is Cause.IDLE
    back = await rig.ended(await rig.submit(first, a_prompt(1)))
    assert back.state is JobState.SUCCEEDED


async def test_what_must_stay_awake_is_not_taken(one_gpu: Rig) -> None:
    rig = one_gpu
    pinned = replace(ON_L4, scaling=Scaling(min_replicas=1))
    first = await rig.deploy("first", pinned)
    supervisor = await rig.replica(first, ReplicaState.READY)
    assert not rig.fleet(first).can_give
    assert not rig.runtime.relieve("another")
    assert supervisor.state is ReplicaState.READY


async def test_a_deploy_gets_the_gpu_that_another_deployment_idles_on(one_gpu: Rig) -> None:
    first = await one_gpu.deploy("first", ON_L4)
    await one_gpu.ended(await one_gpu.submit(first))
    async with asyncio.timeout(5):
        second = await one_gpu.deploy("second", ON_L4)
    assert (await one_gpu.ended(await one_gpu.submit(second))).state is JobState.SUCCEEDED


async def test_an_update_gets_the_gpu_that_its_own_replica_holds(one_gpu: Rig) -> None:
    """Also where one replica must stay awake: it makes room for its successor."""
    pinned = replace(ON_L4, scaling=Scaling(min_replicas=1))
    deployment = await one_gpu.deploy(spec=pinned)
    old = await one_gpu.replica(deployment, ReplicaState.READY)
    async with asyncio.timeout(5):
        again = await one_gpu.deploy(spec=replace(pinned, allow_routes=("/free",)))
    assert again.revision.number == 2
    await one_gpu.until(lambda: old.ended.is_set())
    await one_gpu.until(
        lambda: (
            [s.replica.revision_id for s in one_gpu.fleet(deployment).ready] == [again.revision.id]
        )
    )


async def test_a_deploy_for_which_no_gpu_comes_free_fails_in_bounded_time(one_gpu: Rig) -> None:
    rig = one_gpu
    go = asyncio.Event()

    async def waits(stage: Stage) -> None:
        await stage.begin("1")
        await go.wait()

    first = await rig.deploy("first", ON_L4)
    rig.engines.conduct = Conduct(waits)
    held = await rig.submit(first)
    await rig.until(lambda: [m for m in rig.messages(held) if m.kind == "executing"])
    quick = replace(ON_L4, timeouts=replace(SPEC.timeouts, start_s=0.5))
    with pytest.raises(DeployFailed, match="0 of 1 free"):
        await rig.deploy("second", quick)
    go.set()
    assert (await rig.ended(held)).state is JobState.SUCCEEDED
