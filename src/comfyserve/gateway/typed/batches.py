"""`POST /run/NAME/batch` and `/batches`: many calls as one thing, with counts, a zip and a cancel."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import Prefix
from comfyserve.domain.job import JobState
from comfyserve.domain.typed import Batch
from comfyserve.domain.webhook import NewWebhook
from comfyserve.gateway.admission import admit
from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.fields import read_idempotency_key, read_limit
from comfyserve.gateway.job_webhook import read_webhook
from comfyserve.gateway.typed.archives import zip_of_outputs
from comfyserve.gateway.typed.calls import check_inputs, job_call, make_ready, refuse
from comfyserve.gateway.typed.endpoints import Loaded
from comfyserve.gateway.typed.errors import invalid_request
from comfyserve.gateway.typed.models import MOST_CALLS, BatchModel, BatchPage, BatchUrls
from comfyserve.gateway.typed.options import read_label_options, refuse_unknown_query
from comfyserve.gateway.typed.run import addressed, new_job, used_key
from comfyserve.gateway.typed.sent import read_json_object
from comfyserve.runtime.runtime import new_id
from comfyserve.store.batches import BatchKey, Counts
from comfyserve.store.jobs import NewJob

_FIELDS = frozenset({"calls", "grid", "common"})
_MOST_PROBLEMS = 100
_PAGE = 50
_LARGEST_PAGE = 500
_OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELING)


async def run_batch(call: Call) -> Response:
    """Accept many calls, all of them or none: 202 with the batch."""
    loaded = await addressed(call)
    refuse_unknown_query(
        call.request.query_params, frozenset({"label", "webhook", "webhook_events"})
    )
    labels = read_label_options(call.request.query_params)
    settings, webhook = call.gateway.settings, read_webhook(call.request)
    await admit(call.gateway, call.target.deployment, call.request.state.principal)
    sent = await read_json_object(call.request, settings.max_body_bytes, settings.upload_timeout_s)
    calls = read_calls(sent)
    key = _key(call, loaded, sent, labels)
    store = call.gateway.store
    if key is not None and (known := await store.batches.replayed(key)) is not None:
        return await _answer(call, known)
    batch = Batch(
        id=new_id(Prefix.BATCH),
        deployment_id=call.deployment_id,
        endpoint=loaded.endpoint.name,
        version=loaded.endpoint.version.number,
        size=len(calls),
        labels=labels,
        principal=call.principal,
        created_at=call.now,
    )
    jobs = await _jobs(call, loaded, batch, calls, webhook)
    stored, accepted = await store.batches.add(batch, jobs, key, call.now)
    for job in accepted:
        call.gateway.runtime.accepted(job)
    return await _answer(call, stored, 202 if accepted else 200)


async def list_batches(call: Call) -> Response:
    """The deployment's batches, newest first."""
    query = call.request.query_params
    refuse_unknown_query(query, frozenset({"endpoint", "limit", "cursor"}))
    limit = read_limit(query, default=_PAGE, most=_LARGEST_PAGE)
    store = call.gateway.store.batches
    page = await store.list(call.deployment_id, query.get("endpoint"), limit, query.get("cursor"))
    counts = await store.counts([each.id for each in page.batches])
    shown = BatchPage(
        batches=[_model(call, each, counts[each.id]) for each in page.batches],
        next_cursor=page.next_cursor,
    )
    return raw_json(shown.model_dump_json().encode())


async def get_batch(call: Call) -> Response:
    """One batch as it stands."""
    return await _answer(call, await _find(call))


async def cancel_batch(call: Call) -> Response:
    """Cancel every job of it that has not ended; what there is of outputs stays."""
    batch = await _find(call)
    # The last first: none of them is begun meanwhile, only to be interrupted.
    for job in reversed(await call.gateway.store.batches.jobs(batch.id)):
        if not job.is_terminal:
            await call.gateway.runtime.cancel(job.id)
    return await _answer(call, batch)


async def get_outputs(call: Call) -> Response:
    """All outputs as a zip, made while it is sent; 409 while jobs still run, unless `partial`."""
    query = call.request.query_params
    refuse_unknown_query(query, frozenset({"partial"}))
    batch = await _find(call)
    counts = (await call.gateway.store.batches.counts([batch.id]))[batch.id]
    is_open = any(counts.by_state.get(state) for state in _OPEN)
    if is_open and query.get("partial", "").lower() not in {"1", "true"}:
        raise Refusal(
            409,
            "batch_not_finished",
            "jobs of this batch still run; wait for its end, or take what there is with "
            "?partial=true",
        )
    headers = {"Content-Disposition": f'attachment; filename="{batch.id}.zip"'}
    stream = zip_of_outputs(call, await call.gateway.store.batches.jobs(batch.id))
    return StreamingResponse(stream, headers=headers, media_type="application/zip")


def read_calls(sent: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The inputs of each call. Raises Refusal."""
    for name in sent:
        if name not in _FIELDS:
            raise invalid_request(
                f"a batch has no field '{name[:80]}'; it is a list of inputs in 'calls', or lists of "
                "values by input in 'grid', with shared inputs in 'common'"
            )
    common = sent.get("common", {})
    if not isinstance(common, dict):
        raise invalid_request("'common' must be an object of inputs that all calls share")
    if ("calls" in sent) == ("grid" in sent):
        raise invalid_request("a batch needs either 'calls' or 'grid'")
    calls = sent["calls"] if "calls" in sent else _grid(sent["grid"])
    if not isinstance(calls, list) or not all(isinstance(each, dict) for each in calls):
        raise invalid_request("'calls' must be a list of objects: the inputs of each call")
    _require_size(len(calls))
    return [{**common, **each} for each in calls]


def _grid(grid: object) -> list[dict[str, Any]]:
    if not isinstance(grid, dict) or not grid:
        raise invalid_request("'grid' must be an object of lists: the values of each input")
    if not all(isinstance(values, list) and values for values in grid.values()):
        raise invalid_request("each input in 'grid' needs a list of values that is not empty")
    _require_size(math.prod(len(values) for values in grid.values()))
    return [dict(zip(grid, each, strict=True)) for each in itertools.product(*grid.values())]


def _require_size(size: int) -> None:
    if not 1 <= size <= MOST_CALLS:
        raise Refusal(
            422 if size == 0 else 413,
            "batch_too_large" if size else "invalid_request",
            f"this batch has {size} calls; one can have 1 to {MOST_CALLS}. Send several batches",
        )


async def _jobs(
    call: Call,
    loaded: Loaded,
    batch: Batch,
    calls: Sequence[Mapping[str, Any]],
    webhook: NewWebhook | None,
) -> list[NewJob]:
    """The jobs of all calls. Raises Refusal with what is wrong with any of them, before one is stored."""
    looked_at = [check_inputs(loaded, values, index) for index, values in enumerate(calls)]
    refuse(loaded, list(itertools.islice(_problems(looked_at), _MOST_PROBLEMS)))
    jobs, problems = [], []
    for index, (checked, _) in enumerate(looked_at):
        ready = await make_ready(call, loaded, checked, index)
        if isinstance(ready, list):
            problems += ready
            if len(problems) >= _MOST_PROBLEMS:
                break
            continue
        called = replace(job_call(loaded, ready), batch_id=batch.id, batch_index=index)
        jobs.append(
            replace(new_job(call, loaded, ready, batch.labels), call=called, webhook=webhook)
        )
    refuse(loaded, problems)
    return jobs


def _problems(looked_at: Sequence[tuple[Any, list[dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    return itertools.chain.from_iterable(problems for _, problems in looked_at)


def _key(
    call: Call, loaded: Loaded, sent: Mapping[str, Any], labels: Mapping[str, str]
) -> BatchKey | None:
    key = read_idempotency_key(call.request.headers)
    used = used_key(call, loaded, None if key is None else f"batch:{key}")
    if used is None:
        return None
    document = msgspec.json.encode([sent, labels], order="deterministic")
    return BatchKey(used, hashlib.blake2b(document, digest_size=16).hexdigest())


async def _find(call: Call) -> Batch:
    """The batch of the path. One of another deployment is as unknown as one that never was."""
    batch_id = call.request.path_params["batch_id"]
    found = await call.gateway.store.batches.get(batch_id)
    if found is None or found.deployment_id != call.deployment_id:
        raise NotFound(f"there is no batch '{batch_id[:80]}'", code="batch_not_found")
    return found


async def _answer(call: Call, batch: Batch, status: int = 200) -> Response:
    counts = (await call.gateway.store.batches.counts([batch.id]))[batch.id]
    model = _model(call, batch, counts)
    return raw_json(model.model_dump_json().encode(), status, {"Location": model.urls.self})


def _model(call: Call, batch: Batch, counts: Counts) -> BatchModel:
    by_state = {state: counts.by_state.get(state, 0) for state in JobState}
    still_open = sum(by_state[state] for state in _OPEN)
    base = f"{call.links.prefix}/batches/{batch.id}"
    return BatchModel(
        id=batch.id,
        endpoint=batch.endpoint,
        version=batch.version,
        size=batch.size,
        state="running" if still_open else "done",
        counts={state.value: count for state, count in by_state.items()},
        progress=round(1.0 - still_open / batch.size, 4),
        labels=dict(batch.labels),
        created_at=batch.created_at,
        finished_at=None if still_open else counts.last_finished_at,
        urls=BatchUrls(
            self=base,
            jobs=f"{call.links.prefix}/jobs?batch={batch.id}",
            outputs=f"{base}/outputs.zip",
            cancel=f"{base}/cancel",
        ),
    )
