"""`/api/jobs` of newer ComfyUI versions, served on every deployment whatever its version."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.domain.job import Job, JobState
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.context import (
    Gateway,
    Target,
    as_mapping,
    decode_json,
    gateway_of,
    read_body,
)
from comfyserve.runtime.history import summarize, wire_number
from comfyserve.store.jobs import JobSort, JobView, JobViewQuery

_STATUS = {
    JobState.QUEUED: "pending",
    JobState.RUNNING: "in_progress",
    JobState.CANCELING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "failed",
    JobState.CANCELED: "cancelled",
}
_STATUS_NAMES = ("pending", "in_progress", "completed", "failed", "cancelled")


async def list_jobs(request: Request) -> Response:
    """Jobs of this deployment, filtered, sorted and paged as ComfyUI does."""
    target: Target = request.state.target
    try:
        query = _read_query(request, target)
    except ValueError as error:
        return json_response({"error": str(error)}, 400)
    page = await gateway_of(request).store.jobs.view(query)
    end = query.offset + len(page.views)
    return json_response(
        {
            "jobs": [_listed(view) for view in page.views],
            "pagination": {
                "offset": query.offset,
                "limit": query.limit,
                "total": page.total,
                "has_more": end < page.total,
            },
        }
    )


async def get_job(request: Request) -> Response:
    """One job; once it has ended, with its outputs and its prompt."""
    gateway = gateway_of(request)
    job = await _find(request)
    if job is None:
        return json_response({"error": "Job not found"}, 404)
    answer = _fields(job)
    entry = await gateway.store.jobs.history_entry(job.deployment_id, job.prompt_id)
    if entry is not None and job.is_terminal:
        answer.update(_of_history(msgspec.json.decode(entry)))
    else:
        answer.update({"outputs_count": 0, "previewable_outputs_count": 0})
    return json_response(answer)


async def cancel_job(request: Request) -> Response:
    """Cancel one job; `cancelled` says whether that changed anything."""
    gateway, job = gateway_of(request), await _find(request)
    return json_response({"cancelled": await _cancel(gateway, job)})


async def cancel_jobs(request: Request) -> Response:
    """Cancel several jobs by id."""
    gateway, target = gateway_of(request), request.state.target
    body = as_mapping(
        decode_json(await read_body(request, gateway.settings.max_body_bytes)), "the body"
    )
    ids = body.get("job_ids")
    if not isinstance(ids, list) or not ids:
        return json_response({"error": "job_ids must be a non-empty list"}, 400)
    invalid = [item for item in ids if not (isinstance(item, str) and is_canonical_uuid(item))]
    if invalid:
        return json_response(
            {"error": "job_ids contains invalid id(s)", "invalid_ids": invalid}, 400
        )
    jobs = [await gateway.store.jobs.by_prompt_id(target.deployment.id, item) for item in ids]
    changed = [await _cancel(gateway, job) for job in jobs]
    return json_response({"cancelled": any(changed)})


async def _find(request: Request) -> Job | None:
    target: Target = request.state.target
    return await gateway_of(request).store.jobs.by_prompt_id(
        target.deployment.id, request.path_params["job_id"]
    )


async def _cancel(gateway: Gateway, job: Job | None) -> bool:
    if job is None or job.is_terminal:
        return False
    return await gateway.runtime.cancel(job.id) is not None


def _read_query(request: Request, target: Target) -> JobViewQuery:
    """Raises ValueError with ComfyUI's own words."""
    params = request.query_params
    names = [name.strip() for name in params.get("status", "").split(",") if name.strip()]
    unknown = [name for name in names if name not in _STATUS_NAMES]
    if unknown:
        raise ValueError(
            f"Invalid status value(s): {', '.join(unknown)}. "
            f"Valid values: {', '.join(_STATUS_NAMES)}"
        )
    sort_by = params.get("sort_by", "created_at")
    if sort_by not in set(JobSort):
        raise ValueError("sort_by must be 'created_at' or 'execution_duration'")
    order = params.get("sort_order", "desc")
    if order not in {"asc", "desc"}:
        raise ValueError("sort_order must be 'asc' or 'desc'")
    return JobViewQuery(
        deployment_id=target.deployment.id,
        states=frozenset(state for state, name in _STATUS.items() if name in names),
        workflow_id=params.get("workflow_id"),
        sort_by=JobSort(sort_by),
        is_ascending=order == "asc",
        limit=_positive(params.get("limit"), "limit", least=1),
        offset=_positive(params.get("offset"), "offset", least=0) or 0,
    )


def _positive(text: str | None, name: str, *, least: int) -> int | None:
    if text is None:
        return None
    kind = "positive" if least else "non-negative"
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{name} must be a {kind} integer") from None
    if value < least:
        raise ValueError(f"{name} must be a {kind} integer")
    return value


def _fields(job: Job) -> dict[str, Any]:
    fields = {
        "id": job.prompt_id,
        "status": _STATUS[job.state],
        "priority": wire_number(job.number),
        "create_time": _ms(job.created_at),
        "execution_start_time": _ms(job.started_at),
        "execution_end_time": _ms(job.finished_at) if job.started_at else None,
        "execution_error": {"exception_message": job.error.message} if job.error else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _listed(view: JobView) -> dict[str, Any]:
    summary = msgspec.json.decode(view.summary) if view.summary else summarize({})
    own = {} if view.workflow_id is None else {"workflow_id": view.workflow_id}
    return {**_fields(view.job), **summary, **own}


def _of_history(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **summarize(entry["outputs"]),
        "outputs": entry["outputs"],
        "execution_status": entry["status"],
        "workflow": {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]},
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
