"""`/queue`, `/interrupt`, `/history`, `/free`: ComfyUI's shapes, answered from the store."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import ACTIVE, Job
from comfyserve.gateway.answers import empty, json_response, raw_json
from comfyserve.gateway.context import Target, as_mapping, decode_json, gateway_of, read_body
from comfyserve.runtime.history import queue_item


async def get_prompt(request: Request) -> Response:
    """`{"exec_info": {"queue_remaining": N}}`, queued and running together."""
    counts = await gateway_of(request).store.jobs.counts(_target(request).deployment.id)
    return json_response({"exec_info": {"queue_remaining": counts.queued + counts.active}})


async def get_queue(request: Request) -> Response:
    """Running and pending items of this deployment."""
    jobs = await gateway_of(request).store.jobs.open_jobs(_target(request).deployment.id)
    return json_response(
        {
            "queue_running": [queue_item(*item) for item in jobs if item[0].state in ACTIVE],
            "queue_pending": [queue_item(*item) for item in jobs if item[0].state not in ACTIVE],
        }
    )


async def post_queue(request: Request) -> Response:
    """Delete pending items, or all of them; running ones stay, unknown ids are ignored."""
    clear, delete = await _clear_or_delete(request)
    gateway, deployment = gateway_of(request), _target(request).deployment
    for prompt_ids in ([None] if clear else []) + ([delete] if delete else []):
        for job in await gateway.store.jobs.delete_queued(
            deployment.id, prompt_ids, gateway.clock.now()
        ):
            gateway.runtime.canceled(job)
    return empty()


async def post_interrupt(request: Request) -> Response:
    """Stop the running job of that prompt id; without one, the job that has run the longest."""
    gateway, deployment = gateway_of(request), _target(request).deployment
    body = await read_body(request, gateway.settings.max_body_bytes)
    try:
        sent = decode_json(body) if body else {}
    except InvalidInput:
        sent = {}  # ComfyUI takes a body that it cannot read for none.
    prompt_id = sent.get("prompt_id") if isinstance(sent, dict) else None
    running = [attempt.job for attempt in gateway.runtime.fleet(deployment.id).running]
    chosen = [job for job in running if prompt_id in (None, job.prompt_id)]
    if chosen:
        await gateway.runtime.cancel(min(chosen, key=_started).id)
    return empty()


async def get_history(request: Request) -> Response:
    """Finished jobs, oldest first; `max_items` takes the last ones unless `offset` is given."""
    entries = await gateway_of(request).store.jobs.history(
        _target(request).deployment.id,
        _int_query(request, "max_items"),
        _int_query(request, "offset"),
    )
    return raw_json(_object_of(entries))


async def get_history_entry(request: Request) -> Response:
    """One finished job; `{}` for one that is unknown, waits or runs."""
    prompt_id = request.path_params["prompt_id"]
    entry = await gateway_of(request).histories.get(_target(request).deployment.id, prompt_id)
    return raw_json(b"{}" if entry is None else _object_of([(prompt_id, entry)]))


async def post_history(request: Request) -> Response:
    """Delete entries, or all of them; jobs, receipts and files stay."""
    clear, delete = await _clear_or_delete(request)
    gateway, deployment = gateway_of(request), _target(request).deployment
    if clear:
        await gateway.store.jobs.delete_history(deployment.id, None)
    if delete:
        await gateway.store.jobs.delete_history(deployment.id, delete)
    gateway.histories.forget(deployment.id)
    return empty()


async def post_free(request: Request) -> Response:
    """Nothing to do while asleep; awake, each free replica unloads its models."""
    gateway, deployment = gateway_of(request), _target(request).deployment
    body = as_mapping(
        decode_json(await read_body(request, gateway.settings.max_body_bytes)), "the body"
    )
    flags = {key: bool(body.get(key)) for key in ("unload_models", "free_memory")}
    for supervisor in gateway.runtime.fleet(deployment.id).ready:
        await supervisor.client.post("/free", flags)
    return empty()


async def _clear_or_delete(request: Request) -> tuple[bool, Sequence[str] | None]:
    body = await read_body(request, gateway_of(request).settings.max_body_bytes)
    sent = as_mapping(decode_json(body), "the body")
    delete = sent.get("delete")
    if delete is not None and not isinstance(delete, list):
        raise InvalidInput('"delete" must be a list of prompt ids')
    return bool(sent.get("clear")), None if delete is None else [str(item) for item in delete]


def _int_query(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"{name} must be a whole number, not '{text[:80]}'") from None


def _object_of(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """A JSON object of entries that are JSON already."""
    return msgspec.json.encode({prompt_id: msgspec.Raw(entry) for prompt_id, entry in entries})


def _started(job: Job) -> float:
    return job.started_at or job.created_at


def _target(request: Request) -> Target:
    target: Target = request.state.target
    return target
