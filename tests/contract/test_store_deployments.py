"""Deployments, revisions and replica records."""

import asyncio
from dataclasses import replace

import pytest

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import Conflict, NotFound
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import (
    AppSpec,
    DeploymentSpec,
    EngineKind,
    EngineSpec,
    Limits,
    Resources,
    Scaling,
    Timeouts,
    VolumeMount,
)
from comfyserve.store import Store
from comfyserve.store.rows import encode_text, revision_from
from comfyserve.testing.store_data import a_deployment, a_replica, a_revision

_SPEC = DeploymentSpec(
    engine=EngineSpec(EngineKind.COMFYUI, "/opt/ComfyUI", None, ("--fast",), {"HF_HOME": "/hf"}),
    resources=Resources("H100", 1),
    scaling=Scaling(1, 4, 2.5),
    timeouts=Timeouts(1, 2, 3, 4),
    limits=Limits(5, 6, 7),
    port=8123,
    allow_routes=("/foo",),
)


async def test_a_deployment_comes_back_as_it_was(store: Store) -> None:
    made = a_deployment("dp_2", name="zebra", revision=a_revision("dp_2", spec=_SPEC))
    assert await store.deployments.create(made) == made
    assert await store.deployments.get("dp_2") == made
    assert await store.deployments.by_name("zebra") == made
    assert [d.name for d in await store.deployments.list()] == ["dp_1", "zebra"]
    assert await store.deployments.get("dp_9") is None
    assert await store.deployments.by_name("dp_9") is None


async def test_an_application_and_a_command_come_back_as_they_were(store: Store) -> None:
    app = DeploymentSpec(
        engine=EngineSpec(EngineKind.APP, app=AppSpec("5" * 64, "api:handler", 2), image="i"),
        resources=Resources(cpu=0.5, memory_bytes=1 << 30),
        limits=Limits(concurrency=4),
        volumes=(VolumeMount("weights", "./models"),),
        secrets=("HF_TOKEN",),
        inputs={"type": "object", "required": ["prompt"]},
        authorized=False,
    )
    command = DeploymentSpec(
        engine=EngineSpec(
            EngineKind.COMMAND,
            command=("serve", "--port", "8000"),
            container_port=8000,
            ready_path="/health",
        )
    )
    for number, spec in enumerate((app, command)):
        id_ = f"dp_x{number}"
        await store.deployments.create(a_deployment(id_, revision=a_revision(id_, spec=spec)))
        assert await store.deployments.revisions(id_) == [a_revision(id_, spec=spec)]


def test_a_revision_of_before_applications_still_loads() -> None:
    older = (
        '{"engine":{"kind":"comfyui","comfyui_dir":"/opt/ComfyUI","python":null,"args":[],"env":{}},'
        '"resources":{"gpu":null,"gpus":0},"scaling":{"min_replicas":1},"port":8123}'
    )
    loaded = revision_from(("rv_1", "dp_1", 1, older, "0.3.64", "digest", 1.0)).spec
    assert loaded == DeploymentSpec(
        engine=EngineSpec(EngineKind.COMFYUI, "/opt/ComfyUI"),
        resources=Resources(gpus=0),
        scaling=Scaling(min_replicas=1),
        port=8123,
    )
    assert revision_from(("rv_1", "dp_1", 1, encode_text(loaded), "", "", 1.0)).spec == loaded


async def test_a_name_is_taken_once(store: Store) -> None:
    made = [a_deployment(f"dp_a{number}", name="same") for number in range(8)]
    answers = await asyncio.gather(
        *(store.deployments.create(d) for d in made), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(refused) == 7
    assert {error.code for error in refused} == {"deployment_exists"}
    assert await store.deployments.get("dp_a1") is None


async def test_a_new_revision_becomes_the_current_one(store: Store) -> None:
    first = a_revision()
    second = a_revision(number=9, id="rv_2", spec=_SPEC, engine_version="0.26")
    updated = await store.deployments.add_revision("dp_1", second, 5.0)
    assert updated.revision == replace(second, number=2)
    assert (updated.created_at, updated.updated_at) == (1.0, 5.0)
    assert await store.deployments.by_name("dp_1") == updated
    assert await store.deployments.revisions("dp_1") == [first, replace(second, number=2)]
    with pytest.raises(NotFound):
        await store.deployments.add_revision("dp_9", a_revision("dp_9"), 5.0)


async def test_a_deleted_deployment_frees_its_name(store: Store) -> None:
    stopped = await store.deployments.set_state("dp_1", DeploymentState.STOPPED, 5.0)
    assert (stopped.state, stopped.updated_at) == (DeploymentState.STOPPED, 5.0)
    deleted = await store.deployments.set_state("dp_1", DeploymentState.DELETED, 6.0)
    assert await store.deployments.get("dp_1") == deleted
    assert await store.deployments.by_name("dp_1") is None
    assert await store.deployments.list() == []
    for state in DeploymentState:
        with pytest.raises(NotFound):
            await store.deployments.set_state("dp_1", state, 7.0)
    again = a_deployment("dp_new", name="dp_1")
    await store.deployments.create(again)
    assert await store.deployments.by_name("dp_1") == again


async def test_replicas_are_saved_and_saved_again(store: Store) -> None:
    starting = a_replica("rp_2", state=ReplicaState.STARTING, created_at=2.0)
    await store.replicas.save(starting)
    assert await store.replicas.get("rp_2") == starting
    ready = replace(
        starting,
        state=ReplicaState.READY,
        cause=Cause.ADOPTED,
        ready_at=3.0,
        host="h",
        gpu="H100",
        pid=2**31,
        endpoint="http://127.0.0.1:1",
        message="m",
    )
    await store.replicas.save(ready)
    assert await store.replicas.get("rp_2") == ready
    failed = replace(ready, state=ReplicaState.FAILED, ended_at=4.0, exit_code=-9)
    await store.replicas.save(failed)
    assert await store.replicas.list() == [a_replica(), failed]
    assert await store.replicas.list(live_only=True) == [a_replica()]
    assert await store.replicas.list("dp_1", live_only=True) == [a_replica()]
    assert await store.replicas.list("dp_9") == []
    assert await store.replicas.get("rp_9") is None
