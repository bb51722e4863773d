"""Records to put into a store: complete, small, and each field open to change."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.job import JobDocuments
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.domain.usage import Segment, SegmentKind
from comfyserve.store import Store
from comfyserve.store.assets import NewAsset
from comfyserve.store.jobs import NewJob

PROMPT = {"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "seed": 2**64 - 1}}}


def a_revision(deployment_id: str = "dp_1", number: int = 1, **changes: Any) -> Revision:  # noqa: ANN401
    """A revision of the embedded engine."""
    revision = Revision(
        id=f"rv_{deployment_id}_{number}",
        deployment_id=deployment_id,
        number=number,
        spec=DeploymentSpec(),
        engine_version="0.3.64",
        snapshot_digest="5" * 64,
        created_at=1.0,
    )
    return replace(revision, **changes)


def a_deployment(deployment_id: str = "dp_1", **changes: Any) -> Deployment:  # noqa: ANN401
    """An active deployment; its name is its id."""
    deployment = Deployment(
        id=deployment_id,
        name=deployment_id,
        state=DeploymentState.ACTIVE,
        revision=a_revision(deployment_id),
        created_at=1.0,
        updated_at=1.0,
    )
    return replace(deployment, **changes)


def a_replica(replica_id: str = "rp_1", deployment_id: str = "dp_1", **changes: Any) -> Replica:  # noqa: ANN401
    """A ready replica."""
    replica = Replica(
        id=replica_id,
        deployment_id=deployment_id,
        revision_id=a_revision(deployment_id).id,
        state=ReplicaState.READY,
        cause=Cause.WORK,
        since=1.0,
        created_at=1.0,
    )
    return replace(replica, **changes)


def a_new_job(deployment_id: str = "dp_1", **changes: Any) -> NewJob:  # noqa: ANN401
    """A job under a random id."""
    job_id = str(uuid4())
    new = NewJob(
        id=job_id,
        deployment_id=deployment_id,
        revision_id=a_revision(deployment_id).id,
        prompt_id=job_id,
        documents=JobDocuments(prompt=PROMPT, extra_data={}, outputs_to_execute=("1",)),
    )
    return replace(new, **changes)


def a_new_asset(name: str = "ComfyUI_00001_.png", **changes: Any) -> NewAsset:  # noqa: ANN401
    """An output without a job."""
    new = NewAsset(
        deployment_id="dp_1",
        job_id=None,
        node_id="1",
        name=name,
        subfolder="",
        type="output",
        digest="a" * 64,
        size_bytes=3,
        content_type="image/png",
    )
    return replace(new, **changes)


async def furnish(store: Store, deployment_id: str = "dp_1", replica_id: str = "rp_1") -> None:
    """Store a deployment with one idle replica."""
    await store.deployments.create(a_deployment(deployment_id))
    await store.replicas.save(a_replica(replica_id, deployment_id))
    await store.usage.open(Segment(replica_id, deployment_id, SegmentKind.IDLE, 1.0))
