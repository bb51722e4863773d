"""The runtime over real processes: the launcher of this host and the embedded engine."""

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyserve.domain.errors import DeployFailed
from comfyserve.domain.job import JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import DeploymentSpec, EngineSpec, Limits
from comfyserve.runtime.launchers.local import LocalLauncher
from comfyserve.testing.rig import SPEC, Rig, open_rig

pytestmark = pytest.mark.e2e

SINGLE: DeploymentSpec = replace(SPEC, limits=Limits(max_attempts=1))


def only(class_type: str, **inputs: object) -> Mapping[str, Any]:
    """A prompt of one output node."""
    return {"9": {"class_type": class_type, "inputs": inputs}}


@pytest.fixture
async def rig(home: Path) -> AsyncIterator[Rig]:
    """A rig whose replicas are processes."""
    async with open_rig(
        home,
        launcher=lambda _host, _servers: LocalLauncher(home / "replicas", environ=os.environ),
        confine="off",
    ) as rig:
        yield rig


async def test_a_crash_leaves_exit_code_and_log(rig: Rig) -> None:
    deployment = await rig.deploy(spec=replace(SPEC, limits=Limits(max_attempts=2)))
    job = await rig.submit(deployment, only("TestingCrash", exit_code=7, by_signal="none", once=""))
    failed = await rig.ended(job)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 2)
    assert failed.error is not None
    assert (failed.error.code, failed.error.exit_code) == ("replica_lost", 7)
    assert any("got prompt" in line for line in failed.error.log_tail)
    replicas = await rig.store.replicas.list(deployment.id)
    causes = [each.cause for each in replicas if each.state is ReplicaState.FAILED]
    assert causes == [Cause.CRASHED, Cause.CRASHED]


async def test_a_job_survives_a_crash_that_happens_once(rig: Rig) -> None:
    deployment = await rig.deploy()
    crash = only("TestingCrash", exit_code=1, by_signal="SIGSEGV", once="crashed-once")
    done = await rig.ended(await rig.submit(deployment, crash))
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)


async def test_a_replica_outlives_its_server_and_its_job_goes_on(rig: Rig) -> None:
    deployment = await rig.deploy(spec=SINGLE)
    sleep = {
        "1": {
            "class_type": "TestingSleep",
            "inputs": {"seconds": 0.8, "steps": 4, "previews": False, "tag": ""},
        },
        "9": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    job = await rig.submit(deployment, sleep)
    await rig.until(lambda: [m for m in rig.messages(job) if m.kind == "progress"])
    await rig.crash()
    await rig.start()
    done = await rig.ended(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    [asset] = await rig.store.assets.of_job(job.id)
    assert asset.type == "temp"


async def test_a_node_that_hangs_is_left_with_its_process(rig: Rig) -> None:
    spec = replace(SPEC, timeouts=replace(SPEC.timeouts, job_s=0.3, stop_s=0.3))
    deployment = await rig.deploy(spec=spec)
    hang = only("TestingHang", seconds=600.0, heeds_interrupt=False)
    failed = await rig.ended(await rig.submit(deployment, hang))
    assert failed.error is not None
    assert failed.error.code == "job_timeout"
    await rig.asleep(deployment)
    [status] = [s for s in await rig.launcher.list() if s.id == failed.replica_id]
    assert status.is_gone


async def test_an_engine_that_cannot_start_refuses_the_deployment(rig: Rig) -> None:
    spec = replace(SPEC, engine=EngineSpec(args=("--fault", "start-crash=3")))
    with pytest.raises(DeployFailed, match="has no module 'broken_dependency'"):
        await rig.deploy(spec=spec)
