"""A job as the control API shows it, at one moment and as server-sent events to its end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.events import (
    BusEvent,
    EngineFrame,
    EngineMessage,
    JobChanged,
    Preview,
    QueueChanged,
    ReplicaChanged,
)
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import ReplicaState
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.models import JobModel, OutputModel
from comfyserve.runtime.bus import of_job

_HEARTBEAT_S = 15.0
_WAKING = {ReplicaState.PENDING: "placing", ReplicaState.STARTING: "starting"}


async def job_model(gateway: Gateway, job: Job, base_url: str) -> JobModel:
    """The job with its position, receipt and outputs."""
    deployment = deployment_of(gateway, job)
    name = deployment.name if deployment else ""
    assets = await gateway.store.assets.of_job(job.id)
    return JobModel.of(
        job,
        name,
        position=await _position(gateway, job),
        receipt=await gateway.store.jobs.receipt(job.id),
        outputs=[OutputModel.of(asset, f"{base_url.rstrip('/')}/d/{name}") for asset in assets],
    )


def deployment_of(gateway: Gateway, job: Job) -> Deployment | None:
    """The job's deployment, None once it is deleted."""
    return next((d for d in gateway.runtime.deployments if d.id == job.deployment_id), None)


async def event_stream(gateway: Gateway, job: Job, base_url: str) -> AsyncIterator[bytes]:
    """Tell a job's story: where it stands, its stages, the engine's messages, its end."""
    with gateway.bus.subscribe(job.deployment_id, of_job(job.id)) as news:
        # Read again after subscribing: what changes from now on is heard.
        current = await gateway.store.jobs.get(job.id) or job
        yield sse_event("job", await _shown(gateway, current, base_url))
        if (node := _current_node(gateway, current)) is not None:
            yield sse_event("message", {"type": "executing", "data": {"node": node}})
        last_stage: Mapping[str, Any] | None = None
        while not current.is_terminal:
            stage = await stage_of(gateway, current)
            if stage != last_stage:
                yield sse_event("stage", stage)
                last_stage = stage
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    event = await news.get()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if isinstance(event, JobChanged):
                current = event.job
            elif (message := _message(event)) is not None:
                yield message
        yield sse_event("end", await _shown(gateway, current, base_url))


def _current_node(gateway: Gateway, job: Job) -> str | None:
    """The node that runs just now, which a late listener has not heard of."""
    if job.state is not JobState.RUNNING:
        return None
    attempts = gateway.runtime.fleet(job.deployment_id).running
    return next((a.current_node for a in attempts if a.job.id == job.id), None)


def _message(event: BusEvent) -> bytes | None:
    match event:
        case EngineMessage(kind=kind, data=data):
            return sse_event("message", {"type": kind, "data": data})
        case Preview() | EngineFrame() | QueueChanged() | ReplicaChanged() | JobChanged():
            return None


async def stage_of(gateway: Gateway, job: Job) -> Mapping[str, Any]:
    """Where an open job is: its wait in the queue, the replica that wakes for it, or its run."""
    if job.state is not JobState.QUEUED:
        return {"stage": "running", "position": None, "replica": job.replica_id, "detail": ""}
    fleet = gateway.runtime.fleet(job.deployment_id)
    position = await _position(gateway, job)
    for supervisor in fleet.supervisors:
        if supervisor.state in _WAKING:
            stage, status = _WAKING[supervisor.state], supervisor.last_status
            detail = status.message if status and supervisor.waits_for_capacity else ""
            return {
                "stage": stage, "position": position, "replica": supervisor.id, "detail": detail
            }  # fmt: skip
    error = fleet.last_start_error
    detail = error.message if error else ""
    return {"stage": "queued", "position": position, "replica": None, "detail": detail}


async def _position(gateway: Gateway, job: Job) -> int | None:
    """How many jobs of the deployment are dispatched before it; None unless it is queued."""
    if job.state is not JobState.QUEUED:
        return None
    return await gateway.store.jobs.position(job.id)


async def _shown(gateway: Gateway, job: Job, base_url: str) -> dict[str, Any]:
    return (await job_model(gateway, job, base_url)).model_dump(mode="json")


def sse_event(name: str, data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
