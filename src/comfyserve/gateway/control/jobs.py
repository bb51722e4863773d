"""Jobs: lists in keyset pages, receipts, events, cancelling."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import JobState
from comfyserve.gateway import models as m
from comfyserve.gateway.auth import READ, RUN
from comfyserve.gateway.control.common import (
    Caller,
    Parts,
    deployment_name,
    find_job,
)
from comfyserve.gateway.job_events import event_stream, job_model
from comfyserve.gateway.receipts import receipt_headers
from comfyserve.store.jobs import JobFilter

router = APIRouter()


@router.get("/jobs", tags=["jobs"])
async def list_jobs(  # noqa: PLR0913 - each is a query parameter
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    state: Annotated[list[JobState] | None, Query()] = None,
    label: Annotated[list[str] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> m.JobList:
    """Jobs, newest first, in keyset pages."""
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    page = await gateway.store.jobs.list(
        JobFilter(
            deployment_id=wanted,
            states=frozenset(state or ()),
            labels=dict(_label(text) for text in label or ()),
        ),
        limit,
        cursor,
    )
    return m.JobList(
        jobs=[m.JobModel.of(job, deployment_name(gateway, job.deployment_id)) for job in page.jobs],
        next_cursor=page.next_cursor,
    )


@router.get("/jobs/{job_id}", tags=["jobs"])
async def get_job(
    job_id: str, gateway: Parts, caller: Caller, request: Request, response: Response
) -> m.JobModel:
    """One job with its receipt, which is in the headers too, and its outputs."""
    job = await find_job(gateway, caller, job_id)
    shown = await job_model(gateway, job, str(request.base_url))
    response.headers.update(receipt_headers(shown.receipt))
    return shown


@router.get("/jobs/{job_id}/events", tags=["jobs"])
async def job_events(job_id: str, gateway: Parts, caller: Caller, request: Request) -> Response:
    """The job's story as server-sent events, to its end."""
    job = await find_job(gateway, caller, job_id)
    return StreamingResponse(
        event_stream(gateway, job, str(request.base_url)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel_job(job_id: str, gateway: Parts, caller: Caller, request: Request) -> m.JobModel:
    """Cancel a job in whatever state; on a finished one nothing happens."""
    job = await find_job(gateway, caller, job_id, scope=RUN)
    canceled = await gateway.runtime.cancel(job.id) or job
    return await job_model(gateway, canceled, str(request.base_url))


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidInput(f"label must be KEY=VALUE, not '{text[:80]}'")
    return key, value
