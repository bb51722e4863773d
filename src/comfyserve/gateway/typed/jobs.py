"""`/jobs`: one job, its events and outputs, its cancellation, and the list."""

from starlette.datastructures import QueryParams
from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.domain.job import Job, JobState
from comfyserve.gateway.answers import empty, raw_json
from comfyserve.gateway.asset_content import send_asset
from comfyserve.gateway.door import Call
from comfyserve.gateway.fields import read_limit
from comfyserve.gateway.typed.answers import STREAM, job_answer, wait_for_end
from comfyserve.gateway.typed.errors import invalid_request
from comfyserve.gateway.typed.events import END, event_stream
from comfyserve.gateway.typed.models import JobPage
from comfyserve.gateway.typed.options import (
    LONGEST_WAIT_S,
    read_label_options,
    read_wait,
    refuse_unknown_query,
)
from comfyserve.gateway.typed.shapes import assets_of, job_row
from comfyserve.store.jobs import JobFilter

_PAGE = 50
_LARGEST_PAGE = 500
_EVENTS = "text/event-stream"
LISTED_BY = frozenset({"state", "endpoint", "batch", "label", "limit", "cursor"})


async def list_jobs(call: Call) -> Response:
    """The deployment's jobs of whichever door, newest first."""
    query = call.request.query_params
    refuse_unknown_query(query, LISTED_BY)
    store = call.gateway.store
    page = await store.jobs.list(
        JobFilter(
            deployment_id=call.deployment_id,
            states=_read_states(query),
            labels=read_label_options(query),
            endpoint=query.get("endpoint"),
            batch_id=query.get("batch"),
        ),
        read_limit(query, default=_PAGE, most=_LARGEST_PAGE),
        query.get("cursor"),
    )
    called = await store.calls.of_jobs([job.id for job in page.jobs])
    rows = [job_row(job, called.get(job.id), call.links) for job in page.jobs]
    shown = JobPage(jobs=rows, next_cursor=page.next_cursor)
    return raw_json(shown.model_dump_json().encode())


async def get_job(call: Call) -> Response:
    """A job as it stands; with `Prefer: wait=SECONDS` once it has ended, or then."""
    refuse_unknown_query(call.request.query_params, frozenset())
    job = await find_job(call)
    job = await wait_for_end(call, job, read_wait(call.request.headers, 0.0))
    return await job_answer(call, job)


async def cancel_job(call: Call) -> Response:
    """Cancel a job in whatever state; on an ended one nothing happens."""
    job = await find_job(call)
    return await job_answer(call, await call.gateway.runtime.cancel(job.id) or job)


async def get_events(call: Call) -> Response:
    """The job's story as server-sent events, to its end. Nothing (204) for who heard all of it."""
    job = await find_job(call)
    last_event_id = call.request.headers.get("last-event-id")
    if last_event_id == END and job.is_terminal:
        return empty(204)  # ends the attempts of browsers to connect again
    call.streams.require_room()
    stream = event_stream(call, job, last_event_id)
    return StreamingResponse(stream, headers=STREAM, media_type=_EVENTS)


async def get_output(call: Call) -> Response:
    """The bytes of an output, whole or in part; with `wait` also of one that is not made yet."""
    query = call.request.query_params
    refuse_unknown_query(query, frozenset({"wait"}))
    job = await find_job(call)
    index = _read_index(call.request.path_params["index"])
    job = await wait_for_end(call, job, _read_wait(query.get("wait")))
    assets = await assets_of(call, job)
    if index < len(assets):
        found = await send_asset(call.gateway.store, call.request, assets[index])
        if found is not None:
            return found
    made = "was made" if job.is_terminal else "was made so far"
    raise NotFound(
        f"the job has no output {index}: {len(assets)} {made}, and their numbers begin with 0",
        code="output_not_found",
    )


async def find_job(call: Call) -> Job:
    """The job of the path. One of another deployment is as unknown as one that never was."""
    job_id = call.request.path_params["job_id"]
    job = await call.gateway.store.jobs.get(job_id) if is_canonical_uuid(job_id) else None
    if job is None or job.deployment_id != call.deployment_id:
        raise NotFound(f"there is no job '{job_id[:80]}'", code="job_not_found")
    return job


def _read_states(query: QueryParams) -> frozenset[JobState]:
    try:
        return frozenset(JobState(text) for text in query.getlist("state"))
    except ValueError as error:
        states = ", ".join(JobState)
        raise invalid_request(f"state must be one of {states} ({error})") from None


def _read_index(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise NotFound(
            f"outputs have numbers from 0 on, not '{text[:80]}'", code="output_not_found"
        )
    return int(text)


def _read_wait(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise invalid_request(f"wait must be a number of seconds, not '{text[:80]}'")
    return min(float(text), LONGEST_WAIT_S)
