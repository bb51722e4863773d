"""The answer to a call, in the form that the caller wants: the job, its events, or the bytes."""

import asyncio
from collections.abc import Mapping

from starlette.responses import Response, StreamingResponse

from comfyserve.domain.events import JobChanged
from comfyserve.domain.job import Job, JobState
from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.asset_content import send_asset
from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.job_facts import output_content_type
from comfyserve.gateway.receipts import receipt_headers
from comfyserve.gateway.typed.events import event_stream
from comfyserve.gateway.typed.models import JobModel
from comfyserve.gateway.typed.options import Form, Options
from comfyserve.gateway.typed.shapes import assets_of, job_model
from comfyserve.runtime.bus import of_job

STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENTS = "text/event-stream"


async def answer(call: Call, job: Job, options: Options) -> Response:
    """Answer for a job that was accepted."""
    if options.form is Form.EVENTS:
        call.streams.require_room()
        headers = {**STREAM, **headers_of(call, job)}
        return StreamingResponse(event_stream(call, job), headers=headers, media_type=_EVENTS)
    job = await wait_for_end(call, job, options.wait_s)
    if options.form is Form.BYTES:
        return await _bytes(call, job, options.kinds)
    return await job_answer(call, job, 200 if job.is_terminal else 202)


async def job_answer(call: Call, job: Job, status: int = 200) -> Response:
    """The job as JSON, with its receipt in the headers too."""
    model = await job_model(call, job)
    headers = {**headers_of(call, job), **receipt_headers(model.receipt)}
    return raw_json(model.model_dump_json().encode(), status, headers)


def headers_of(call: Call, job: Job) -> dict[str, str]:
    """Where the job is."""
    return {"Location": call.links.job(job.id), "X-Comfyserve-Job": job.id}


async def wait_for_end(call: Call, job: Job, wait_s: float) -> Job:
    """The job once it has ended, or as it is when the time is over."""
    if job.is_terminal or wait_s <= 0 or not call.streams.has_room:
        return job
    gateway = call.gateway
    with call.streams.counted(), gateway.bus.subscribe(job.deployment_id, of_job(job.id)) as news:
        # Read again after subscribing: what changes from now on is heard.
        job = await gateway.store.jobs.get(job.id) or job
        deadline = gateway.clock.monotonic() + wait_s
        while not job.is_terminal and (left := deadline - gateway.clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    event = await news.get()
            except TimeoutError:
                return job
            if isinstance(event, JobChanged):
                job = event.job
        return job


async def _bytes(call: Call, job: Job, kinds: tuple[str, ...]) -> Response:
    """The first output of the wanted kinds. Raises Refusal where there is none."""
    where = {"job": job.id, "url": call.links.job(job.id)}
    if not job.is_terminal:
        raise Refusal(
            504,
            "not_finished",
            f"the job has not ended yet; it goes on: see {where['url']}, or wait longer with "
            "'Prefer: wait=SECONDS'",
            where,
        )
    model = await job_model(call, job)
    if job.state is not JobState.SUCCEEDED:
        raise _ended_otherwise(model, where)
    for asset in await assets_of(call, job):
        if output_content_type(asset).partition("/")[0] in kinds:
            more = {**headers_of(call, job), **receipt_headers(model.receipt)}
            found = await send_asset(call.gateway.store, call.request, asset, more)
            if found is not None:
                return found
    made = ", ".join(sorted({output.content_type for output in model.outputs})) or "no files"
    raise Refusal(
        406,
        "no_such_output",
        f"the job made {made}, and none of it is {' or '.join(kinds)}; see {where['url']}",
        where,
    )


def _ended_otherwise(model: JobModel, where: Mapping[str, str]) -> Refusal:
    if model.error is None:
        return Refusal(409, f"job_{model.state}", f"the job was {model.state}", where)
    node = f" at '{model.error.node.title}'" if model.error.node else ""
    error = model.error.model_dump(mode="json")
    return Refusal(
        502,
        f"job_{model.state}",
        f"the job {model.state}{node}: {model.error.message}",
        {**where, "error": error},
    )
