"""`/jobs`: one job, the list, what it ran, its log, and its cancellation."""

from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.domain.job import Job
from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.door import Call
from comfyserve.gateway.fields import read_limit
from comfyserve.gateway.v2.events import event_stream
from comfyserve.gateway.v2.fields import read_label_filter
from comfyserve.gateway.v2.shapes import job_expires_at, job_json, listed_json, timestamp
from comfyserve.store.jobs import JobFilter

_PAGE = 50
_LARGEST_PAGE = 100
_EVENTS = "text/event-stream"
_STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def list_jobs(call: Call) -> Response:
    """The deployment's jobs of whichever door, newest first."""
    query = call.request.query_params
    page = await call.gateway.store.jobs.list(
        JobFilter(deployment_id=call.deployment_id, labels=read_label_filter(query)),
        read_limit(query, default=_PAGE, most=_LARGEST_PAGE),
        query.get("cursor"),
    )
    shown: dict[str, object] = {"jobs": [listed_json(job) for job in page.jobs]}
    if page.next_cursor is not None:
        shown["next_cursor"] = page.next_cursor
    return json_response(shown)


async def get_job(call: Call) -> Response:
    """A job as it stands."""
    return json_response(await job_json(call, await _find(call)))


async def get_workflow(call: Call) -> Response:
    """The graph that was, or will be, executed; the caller's keys are not in it."""
    job = await _find(call)
    documents = await call.gateway.store.jobs.documents(job.id)
    return json_response({"workflow": documents.prompt, "format": "api"})


async def get_logs(call: Call) -> Response:
    """The evidence of a failure: the trace, and the replica's last lines. Else nothing, 204."""
    job = await _find(call)
    error = job.error
    lines = () if error is None else (*error.traceback, *error.log_tail)
    if not lines or job.finished_at is None:
        return empty(204)
    text = "\n".join(line.rstrip("\n") for line in lines) + "\n"
    captured_at = timestamp(job.finished_at)
    return json_response(
        {"text": text, "truncated": False, "captured_at": captured_at, "complete": True}
    )


async def cancel_job(call: Call) -> Response:
    """Cancel a job in whatever state; on an ended one nothing happens."""
    job = await _find(call)
    canceled = await call.gateway.runtime.cancel(job.id) or job
    return json_response(await job_json(call, canceled))


async def get_events(call: Call) -> Response:
    """The job's story as server-sent events, to its end."""
    job = await _find(call)
    if call.request.method == "HEAD":
        return Response(headers=_STREAM, media_type=_EVENTS)
    call.streams.require_room()
    return StreamingResponse(event_stream(call, job), headers=_STREAM, media_type=_EVENTS)


async def _find(call: Call) -> Job:
    """The job of the path. One of another deployment is as unknown as one that never was."""
    job_id = call.request.path_params["job_id"]
    job = await call.gateway.store.jobs.get(job_id) if is_canonical_uuid(job_id) else None
    is_here = job is not None and job.deployment_id == call.deployment_id
    if job is None or not is_here or _is_over(call, job):
        raise NotFound(f"there is no job '{job_id[:80]}'")
    return job


def _is_over(call: Call, job: Job) -> bool:
    return job.is_terminal and job_expires_at(job, call.retention_s) <= call.now
