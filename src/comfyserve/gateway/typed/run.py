"""`POST /run/NAME`: inputs by name become a committed job, answered the way the caller wants it."""

from collections.abc import Mapping
from dataclasses import replace

from starlette.responses import Response

from comfyserve.domain.job import Job, JobDocuments
from comfyserve.gateway.admission import admit
from comfyserve.gateway.door import Call
from comfyserve.gateway.job_ids import new_job_id
from comfyserve.gateway.typed.answers import answer
from comfyserve.gateway.typed.calls import (
    Ready,
    check_inputs,
    job_call,
    make_ready,
    refuse,
    require_ready,
)
from comfyserve.gateway.typed.endpoints import Loaded, find_endpoint, load
from comfyserve.gateway.typed.options import Options, read_options
from comfyserve.gateway.typed.sent import Sent, received
from comfyserve.runtime.history import reused_entry
from comfyserve.store.jobs import NewJob
from comfyserve.store.keys import UsedKey

_KEY_SPACE = "run:"


async def run_endpoint(call: Call) -> Response:
    """Accept a call: 200 with the ended job, 202 with one that goes on, its events, or the bytes."""
    loaded = await addressed(call)
    options = read_options(call.request)
    await admit(call.gateway, call.target.deployment, call.request.state.principal)
    async with received(call, loaded.interface) as sent:
        job = await _accepted(call, loaded, options, sent)
    return await answer(call, job, options)


async def addressed(call: Call) -> Loaded:
    """The endpoint of the path, with its current version. Raises NotFound."""
    name = call.request.path_params["name"]
    found = await find_endpoint(call.gateway, call.target.deployment, name)
    return await load(call.gateway, found)


def used_key(call: Call, loaded: Loaded, key: str | None) -> UsedKey | None:
    """The key of a request: another caller's, or another endpoint's, is another one."""
    if key is None:
        return None
    return UsedKey(call.deployment_id, call.principal, f"{_KEY_SPACE}{loaded.endpoint.name}:{key}")


def new_job(call: Call, loaded: Loaded, ready: Ready, labels: Mapping[str, str]) -> NewJob:
    """The job of a call that can run."""
    job_id, deployment = new_job_id(call.now), call.target.deployment
    return NewJob(
        id=job_id,
        deployment_id=deployment.id,
        revision_id=deployment.revision.id,
        prompt_id=job_id,
        documents=JobDocuments(
            prompt=ready.prompt, extra_data={}, outputs_to_execute=ready.outputs
        ),
        principal=call.principal,
        labels=labels,
        max_attempts=deployment.spec.limits.max_attempts,
        max_queue=deployment.spec.limits.max_queue,
        endpoint_id=loaded.endpoint.id,
        call=job_call(loaded, ready),
    )


async def _accepted(call: Call, loaded: Loaded, options: Options, sent: Sent) -> Job:
    """The job of this request: a new one, or that of an earlier request with the same key."""
    jobs = call.gateway.store.jobs
    key = used_key(call, loaded, options.key)
    digest = "" if key is None else sent.digest(*map("=".join, sorted(options.labels.items())))
    if key is not None and (known := await jobs.replayed(key, digest, call.now)) is not None:
        return known
    checked, problems = check_inputs(loaded, sent.values)
    refuse(loaded, problems)
    ready = require_ready(loaded, await make_ready(call, loaded, checked))
    new = replace(new_job(call, loaded, ready, options.labels), webhook=options.webhook)
    if key is not None:
        new = replace(new, idempotency_key=key.key, request_digest=digest)
    if loaded.document.reuse if options.reuse is None else options.reuse:
        ended = await _reused(call, new)
        if ended is not None:
            return ended
    enqueued = await jobs.enqueue(new, call.now)
    if not enqueued.is_replay:
        call.gateway.runtime.accepted(enqueued.job)
    return enqueued.job


async def _reused(call: Call, new: NewJob) -> Job | None:
    """A job that has ended at once, with what an equal call of this caller made; None if it has to run."""
    key = None if new.call is None else new.call.reuse_key
    if key is None:
        return None
    ended = await call.gateway.store.reuse.finish(new, key, reused_entry, call.now)
    if ended is not None:
        call.gateway.runtime.accepted(ended)
    return ended
