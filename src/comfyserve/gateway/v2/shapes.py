"""Jobs and assets as the contract shows them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from comfyserve.domain.job import Job, JobError
from comfyserve.domain.progress import Progress
from comfyserve.gateway.content_types import UNKNOWN
from comfyserve.gateway.door import Call, Links
from comfyserve.gateway.job_facts import (
    attempt_at,
    output_content_type,
    output_type,
    queue_position,
)
from comfyserve.store.assets import Asset

# The contract wants an expiry; without retention it is one that nobody lives to see.
_FOR_EVER_S = 100 * 365 * 86400.0


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hash_of(digest: str) -> str:
    """A digest as the contract spells it."""
    return f"blake3:{digest}"


def asset_json(asset: Asset, links: Links, *, created_new: bool | None = None) -> dict[str, Any]:
    """An asset, with a fresh download URL."""
    url, url_expires_at = links.content(asset.id)
    shown: dict[str, Any] = {
        "id": asset.id,
        "hash": hash_of(asset.digest),
        "size_bytes": asset.size_bytes,
        "content_type": asset.content_type or UNKNOWN,
        "created_at": timestamp(asset.created_at),
        "url": url,
        "url_expires_at": timestamp(url_expires_at),
        "file_path": asset.file_path,
        "expires_at": _optional_time(asset.expires_at),
        "job_id": asset.job_id,
    }
    return shown if created_new is None else {**shown, "created_new": created_new}


def output_json(asset: Asset, links: Links) -> dict[str, Any]:
    """An asset as an output of its job."""
    url, url_expires_at = links.content(asset.id)
    content_type = output_content_type(asset)
    return {
        "node_id": asset.node_id,
        "name": asset.name,
        "type": output_type(asset.name, content_type),
        "content_type": content_type,
        "size_bytes": asset.size_bytes,
        "id": asset.id,
        "hash": hash_of(asset.digest),
        "url": url,
        "url_expires_at": timestamp(url_expires_at),
        "job_id": asset.job_id,
    }


def progress_json(progress: Progress) -> dict[str, Any]:
    """A snapshot of how far a job is."""
    return {
        "value": progress.value,
        "nodes_done": progress.nodes_done,
        "nodes_total": progress.nodes_total,
        "current_node": progress.current_node,
        "current_node_class": progress.current_node_class,
        "step": progress.step,
        "steps": progress.steps,
        "message": None,
    }


async def job_json(call: Call, job: Job) -> dict[str, Any]:
    """A job as it stands, with everything that it has made so far."""
    links, attempt = call.links, attempt_at(call.gateway, job)
    progress = None if attempt is None or attempt.progress is None else attempt.progress.snapshot()
    assets = () if job.started_at is None else await call.gateway.store.assets.of_job(job.id)
    return {
        "id": job.id,
        "status": job.state.value,
        "created_at": timestamp(job.created_at),
        "started_at": _optional_time(job.started_at),
        "completed_at": _optional_time(job.finished_at),
        "expires_at": timestamp(job_expires_at(job, call.retention_s)),
        "queue_position": await queue_position(call.gateway, job),
        "progress": None if progress is None else progress_json(progress),
        "outputs": outputs_json(assets, call),
        "error": None if job.error is None else _error_json(job.error),
        "urls": {
            "self": links.job(job.id),
            "events": links.job(job.id, "/events"),
            "cancel": links.job(job.id, "/cancel"),
            "logs": links.job(job.id, "/logs"),
        },
        "metrics": _metrics(job),
        "metadata": dict(job.labels),
    }


def listed_json(job: Job) -> dict[str, Any]:
    """A job as the list shows it."""
    return {
        "id": job.id,
        "status": job.state.value,
        "create_time": timestamp(job.created_at),
        "update_time": timestamp(job.finished_at or job.started_at or job.created_at),
        "deployment_id": job.deployment_id,
        "metadata": dict(job.labels),
    }


def outputs_json(assets: Sequence[Asset], call: Call) -> list[Mapping[str, Any]]:
    """The outputs among them that have not expired."""
    return [output_json(asset, call.links) for asset in assets if asset.is_live(call.now)]


def job_expires_at(job: Job, retention_s: float) -> float:
    """When a job goes, counted from its end (while it is open: from its beginning)."""
    return (job.finished_at or job.created_at) + (retention_s or _FOR_EVER_S)


def _error_json(error: JobError) -> dict[str, Any]:
    lines = [*error.traceback, *error.log_tail]
    return {
        "code": error.code,
        "message": error.message,
        "node_id": error.node_id,
        "class_type": error.class_type,
        "traceback": "\n".join(line.rstrip("\n") for line in lines) or None,
    }


def _metrics(job: Job) -> dict[str, int | None]:
    started, finished = job.started_at, job.finished_at
    return {
        "queue_ms": None if started is None else _ms(started - job.created_at),
        "execution_ms": None if started is None or finished is None else _ms(finished - started),
    }


def _optional_time(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
