"""What a webhook's message says: facts that are kept with the event, and links made when it is sent.

A link to an output is signed and expires, so it is made anew for each try.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from comfyserve.domain.job import Job
from comfyserve.domain.progress import Progress
from comfyserve.domain.usage import Receipt
from comfyserve.domain.webhook import WebhookEvent

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """A file that a node produced."""

    id: str
    node_id: str
    name: str
    type: str
    content_type: str
    size_bytes: int
    digest: str


def job_facts(
    job: Job, receipt: Receipt | None = None, outputs: Sequence[OutputFacts] = ()
) -> Facts:
    """A job at the moment of an event."""
    error = None if job.error is None else asdict(job.error)
    return {
        "job": {
            "id": job.id,
            "state": job.state.value,
            "labels": dict(job.labels),
            "attempt": job.attempts,
            "created_at": _time(job.created_at),
            "started_at": _time(job.started_at),
            "finished_at": _time(job.finished_at),
            "error": error,
            "receipt": None if receipt is None else asdict(receipt),
        },
        "outputs": [asdict(output) for output in outputs],
    }


def output_facts(job_id: str, output: OutputFacts) -> Facts:
    """One output, as soon as it is there."""
    return {"job": {"id": job_id}, "outputs": [asdict(output)]}


def progress_facts(job_id: str, progress: Progress) -> Facts:
    """How far a job is."""
    return {"job": {"id": job_id}, "progress": asdict(progress)}


@dataclass(frozen=True, slots=True)
class Links:
    """How links are made: the address of the server, the deployment's name, who signs for files."""

    base_url: str
    deployment: str
    sign: Callable[[str], str]
    """The query that lets anyone read the asset with this id, for a while."""

    def output(self, asset_id: str) -> str:
        """Where an output can be had without a token."""
        root = f"{self.base_url}/d/{self.deployment}"
        return f"{root}/api/v2/assets/{asset_id}/content?{self.sign(asset_id)}"

    def job(self, job_id: str) -> str:
        """Where the job can be read, with a token."""
        return f"{self.base_url}/api/v1/jobs/{job_id}"


def message_of(
    event: WebhookEvent, facts: Facts, created_at: float, links: Links
) -> Mapping[str, Any]:
    """The whole message of a job's event."""
    job = facts["job"]
    data = {
        **facts,
        "job": {**job, "deployment": links.deployment, "url": links.job(job["id"])},
    }
    if "outputs" in facts:
        data["outputs"] = [{**each, "url": links.output(each["id"])} for each in facts["outputs"]]
    return {"type": f"job.{event}", "timestamp": _time(created_at), "data": data}


def trial_message(webhook_id: str, now: float) -> Mapping[str, Any]:
    """What is sent to try a webhook out."""
    return {
        "type": "webhook.test",
        "timestamp": _time(now),
        "data": {"webhook": webhook_id, "message": "This is a test; nothing happened."},
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
