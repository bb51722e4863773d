"""Jobs as newer ComfyUIs show them under `/api/jobs`: queue and history in one list of flat objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from comfyserve.engine.history import Entry
from comfyserve.engine.queue import PromptQueue, QueueItem

_MODEL_SUFFIXES = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
_PREVIEWABLE_KEYS = frozenset({"images", "video", "audio", "3d", "text"})
_MAX_TEXT = 1024


class JobStatus(StrEnum):
    """The states of a job, under ComfyUI's names."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobQuery:
    """What a list of jobs is asked for."""

    statuses: frozenset[JobStatus] = frozenset(JobStatus)
    workflow_id: str | None = None
    by_duration: bool = False
    is_descending: bool = True
    limit: int | None = None
    offset: int = 0


def list_jobs(queue: PromptQueue, query: JobQuery) -> dict[str, Any]:
    """Return the body of `GET /api/jobs`."""
    running, waiting = queue.snapshot()
    jobs = [
        *(_queued(item, JobStatus.IN_PROGRESS) for item in running),
        *(_queued(item, JobStatus.PENDING) for item in waiting),
        *(_finished(entry) for entry in queue.history.all()),
    ]
    wanted = [
        job
        for job in jobs
        if job["status"] in query.statuses and query.workflow_id in (None, job.get("workflow_id"))
    ]
    wanted.sort(key=_duration if query.by_duration else _created, reverse=query.is_descending)
    end = None if query.limit is None else query.offset + query.limit
    page = wanted[query.offset : end]
    return {
        "jobs": page,
        "pagination": {
            "offset": query.offset,
            "limit": query.limit,
            "total": len(wanted),
            "has_more": query.offset + len(page) < len(wanted),
        },
    }


def find_job(queue: PromptQueue, job_id: str) -> dict[str, Any] | None:
    """Return the body of `GET /api/jobs/{id}`; finished ones with outputs and workflow."""
    entry = queue.history.get(job_id)
    if entry is not None:
        details = {
            "outputs": entry.outputs,
            "execution_status": entry.status.to_wire(),
            "workflow": {"prompt": entry.item[2], "extra_data": entry.item[3]},
        }
        return _finished(entry) | details
    running, waiting = queue.snapshot()
    for status, items in ((JobStatus.IN_PROGRESS, running), (JobStatus.PENDING, waiting)):
        for item in items:
            if item.prompt_id == job_id:
                return _queued(item, status)
    return None


def _created(job: Mapping[str, Any]) -> float:
    return float(job.get("create_time", 0))


def _duration(job: Mapping[str, Any]) -> float:
    if "execution_start_time" not in job or "execution_end_time" not in job:
        return 0.0
    return float(job["execution_end_time"] - job["execution_start_time"])


def _queued(item: QueueItem, status: JobStatus) -> dict[str, Any]:
    return _without_nulls(
        {
            "id": item.prompt_id,
            "status": status.value,
            "priority": item.number,
            "create_time": item.extra_data.get("create_time"),
            "outputs_count": 0,
            "previewable_outputs_count": 0,
            "workflow_id": _workflow_id(item.extra_data),
        }
    )


def _finished(entry: Entry) -> dict[str, Any]:
    number, prompt_id, _, extra_data, _ = entry.item
    messages = dict(entry.status.messages)
    error = messages.get("execution_error")
    interrupted = messages.get("execution_interrupted")
    last = messages.get("execution_success") or error or interrupted or {}
    if entry.status.is_completed:
        status = JobStatus.COMPLETED
    else:
        status = JobStatus.FAILED if interrupted is None else JobStatus.CANCELLED
    files = list(_files(entry.outputs))
    previewable = [file for file in files if _is_previewable(file)]
    best = [file for file in previewable if file.get("type") == "output"]
    return _without_nulls(
        {
            "id": prompt_id,
            "status": status.value,
            "priority": number,
            "create_time": extra_data.get("create_time"),
            "execution_start_time": messages.get("execution_start", {}).get("timestamp"),
            "execution_end_time": last.get("timestamp"),
            "execution_error": error,
            "outputs_count": len(files),
            "previewable_outputs_count": len(previewable),
            "preview_output": next(iter(best or previewable), None),
            "workflow_id": _workflow_id(extra_data),
        }
    )


def _without_nulls(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if value is not None}


def _workflow_id(extra_data: Mapping[str, Any]) -> str | None:
    found: Any = extra_data
    for key in ("extra_pnginfo", "workflow", "id"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None


def _files(outputs: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Go through what the nodes reported, flags left out, each with the node and key it came from."""
    for node_id, report in outputs.items():
        for key, items in report.items():
            if key == "animated" or not isinstance(items, Sequence) or isinstance(items, str):
                continue
            for item in items:
                about = {"nodeId": node_id, "mediaType": key}
                if isinstance(item, Mapping):
                    yield {**about, **item, "nodeId": node_id}
                elif isinstance(item, str) and item.lower().endswith(_MODEL_SUFFIXES):
                    file = {"filename": item, "subfolder": "", "type": "output"}
                    yield file | about | {"mediaType": "3d"}
                elif key == "text":
                    yield _text(str(item)) | about


def _text(text: str) -> dict[str, Any]:
    if len(text) <= _MAX_TEXT:
        return {"content": text}
    return {"content": text[:_MAX_TEXT], "truncated": True}


def _is_previewable(file: Mapping[str, Any]) -> bool:
    if file["mediaType"] in _PREVIEWABLE_KEYS:
        return True
    if str(file.get("format", "")).startswith(("video/", "audio/")):
        return True
    return str(file.get("filename", "")).lower().endswith(_MODEL_SUFFIXES)
