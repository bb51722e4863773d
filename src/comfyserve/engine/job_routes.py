"""`/api/jobs`: list, look at, cancel."""

import json
from collections.abc import Mapping

from aiohttp import web

from comfyserve.engine.jobs import JobQuery, JobStatus, find_job, list_jobs
from comfyserve.engine.prompt_routes import is_job_id
from comfyserve.engine.queue import PromptQueue
from comfyserve.engine.state import engine_of


class _BadQuery(ValueError):
    """A query parameter that cannot be used; the message is ComfyUI's own."""


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [
        web.get("/api/jobs", get_jobs),
        web.get("/api/jobs/{job_id}", get_job),
        web.post("/api/jobs/cancel", cancel_jobs),
        web.post("/api/jobs/{job_id}/cancel", cancel_job),
    ]


async def get_jobs(request: web.Request) -> web.Response:
    """List jobs: newest first, unless asked otherwise."""
    try:
        query = _read_query(request.query)
    except _BadQuery as error:
        return _error(str(error))
    return web.json_response(list_jobs(engine_of(request).queue, query))


def _read_query(given: Mapping[str, str]) -> JobQuery:
    sort_by = given.get("sort_by", "created_at").lower()
    sort_order = given.get("sort_order", "desc").lower()
    statuses = _statuses(given.get("status", ""))
    if sort_by not in ("created_at", "execution_duration"):
        raise _BadQuery("sort_by must be 'created_at' or 'execution_duration'")
    if sort_order not in ("asc", "desc"):
        raise _BadQuery("sort_order must be 'asc' or 'desc'")
    limit = _integer(given, "limit")
    if limit is not None and limit <= 0:
        raise _BadQuery("limit must be a positive integer")
    return JobQuery(
        statuses=statuses,
        workflow_id=given.get("workflow_id") or None,
        by_duration=sort_by == "execution_duration",
        is_descending=sort_order == "desc",
        limit=limit,
        offset=max(_integer(given, "offset") or 0, 0),
    )


def _statuses(text: str) -> frozenset[JobStatus]:
    if not text:
        return frozenset(JobStatus)
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(JobStatus)]
    if unknown:
        valid = ", ".join(JobStatus)
        raise _BadQuery(f"Invalid status value(s): {', '.join(unknown)}. Valid values: {valid}")
    return frozenset(JobStatus(name) for name in names)


def _integer(given: Mapping[str, str], name: str) -> int | None:
    if name not in given:
        return None
    try:
        return int(given[name])
    except ValueError:
        raise _BadQuery(f"{name} must be an integer") from None


async def get_job(request: web.Request) -> web.Response:
    """Return one job."""
    job = find_job(engine_of(request).queue, request.match_info["job_id"])
    return _error("Job not found", 404) if job is None else web.json_response(job)


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel one job in whatever state it is; nothing happens to one that is over."""
    was_cancelled = _cancel(engine_of(request).queue, request.match_info["job_id"])
    return web.json_response({"cancelled": was_cancelled})


async def cancel_jobs(request: web.Request) -> web.Response:
    """Cancel several jobs."""
    try:
        body = await request.json()
    except json.JSONDecodeError:
        return _error("Request body must be valid JSON")
    job_ids = body.get("job_ids") if isinstance(body, dict) else None
    if not isinstance(job_ids, list):
        return _error("job_ids must be a list")
    invalid = [
        each if isinstance(each, str) else repr(each) for each in job_ids if not is_job_id(each)
    ]
    if invalid:
        about = {"error": "job_ids contains invalid id(s)", "invalid_ids": invalid}
        return web.json_response(about, status=400)
    queue = engine_of(request).queue
    cancelled = [_cancel(queue, job_id) for job_id in job_ids]
    return web.json_response({"cancelled": any(cancelled)})


def _cancel(queue: PromptQueue, job_id: str) -> bool:
    return queue.delete(job_id) or queue.interrupt(job_id)


def _error(message: str, status: int = 400) -> web.Response:
    return web.json_response({"error": message}, status=status)
