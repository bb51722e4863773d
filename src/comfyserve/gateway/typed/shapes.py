"""Jobs as the typed door shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from comfyserve.domain.errors import NotFound
from comfyserve.domain.eta import Pace, eta_of_queued, eta_of_running
from comfyserve.domain.job import Job, JobError, JobState
from comfyserve.domain.progress import Progress
from comfyserve.domain.replica import ReplicaState
from comfyserve.domain.story import Stage
from comfyserve.domain.typed import JobCall
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.door import Call, Links
from comfyserve.gateway.job_events import stage_of
from comfyserve.gateway.job_facts import attempt_at, output_content_type, output_type
from comfyserve.gateway.typed import models as m
from comfyserve.runtime.jobs import Attempt
from comfyserve.store.assets import Asset

_KINDS = frozenset({"image", "video", "audio", "text"})
_MOST_TEXT_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What never changes about a job: what it is a call of, and the nodes that it runs."""

    call: JobCall | None
    prompt: Mapping[str, Any]

    def node(self, node_id: str | None) -> m.NodeModel | None:
        """A node as its author sees it; one that was made while running is the node that made it."""
        if not node_id:
            return None
        node = self.prompt.get(node_id) or self.prompt.get(node_id.partition(".")[0])
        node = node if isinstance(node, Mapping) else {}
        class_type = str(node.get("class_type") or "")
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, Mapping) else None
        return m.NodeModel(id=node_id, title=str(title or class_type), class_type=class_type)


async def subject_of(gateway: Gateway, job: Job) -> Subject:
    """Read what never changes about a job."""
    documents = await gateway.store.jobs.documents(job.id)
    return Subject(await gateway.store.calls.of_job(job.id), documents.prompt)


async def job_model(call: Call, job: Job, subject: Subject | None = None) -> m.JobModel:
    """A job as it stands, with everything that it has made so far."""
    gateway = call.gateway
    subject = subject or await subject_of(gateway, job)
    attempt = attempt_at(gateway, job)
    standing = await standing_of(gateway, job, subject, attempt)
    has_begun = job.started_at is not None or job.finished_at is not None
    assets = await assets_of(call, job, subject) if has_begun else ()
    called = subject.call
    return m.JobModel(
        id=job.id,
        endpoint=called.endpoint if called else None,
        version=called.version if called else None,
        state=job.state,
        stage=standing.stage,
        detail=standing.detail,
        position=standing.position,
        eta_s=standing.eta_s,
        progress=progress_model(attempt, subject),
        inputs=dict(called.inputs) if called else {},
        outputs=output_models(assets, subject, call.links),
        texts=await _texts(gateway, job, subject),
        error=_error_model(job.error, subject),
        receipt=await gateway.store.jobs.receipt(job.id),
        labels=dict(job.labels),
        batch=called.batch_id if called else None,
        reused_from=called.reused_from if called else None,
        attempts=job.attempts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        urls=m.JobUrls(
            self=call.links.job(job.id),
            events=call.links.job(job.id, "/events"),
            cancel=call.links.job(job.id, "/cancel"),
        ),
    )


def job_row(job: Job, called: JobCall | None, links: Links) -> m.JobRow:
    """A job as a list shows it."""
    return m.JobRow(
        id=job.id,
        endpoint=called.endpoint if called else None,
        version=called.version if called else None,
        state=job.state,
        labels=dict(job.labels),
        batch=called.batch_id if called else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        url=links.job(job.id),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job is, and when it will probably be done."""

    stage: Stage
    detail: str = ""
    position: int | None = None
    eta_s: float | None = None


async def standing_of(
    gateway: Gateway, job: Job, subject: Subject, attempt: Attempt | None
) -> Standing:
    """Where a job is now."""
    if job.is_terminal:
        return Standing(Stage.DONE)
    pace = await _pace(gateway, job, subject.call)
    if job.state is not JobState.QUEUED:
        tracker = attempt.progress if attempt else None
        elapsed_s = gateway.clock.now() - (job.started_at or job.created_at)
        value = tracker.snapshot().value if tracker else None
        eta_s = eta_of_running(pace, elapsed_s=elapsed_s, value=value)
        return Standing(attempt.stage if attempt else Stage.LOADING, eta_s=_rounded(eta_s))
    try:
        told = await stage_of(gateway, job)
        fleet = gateway.runtime.fleet(job.deployment_id)
    except NotFound:
        return Standing(Stage.QUEUED)  # its deployment was deleted meanwhile
    before = int(told["position"] or 0)
    states = [supervisor.state for supervisor in fleet.supervisors]
    eta_s = eta_of_queued(
        pace,
        ahead=before + len(fleet.running),
        lanes=len(states),
        is_awake=ReplicaState.READY in states,
    )
    return Standing(Stage(told["stage"]), str(told["detail"]), before + 1, _rounded(eta_s))


def progress_model(attempt: Attempt | None, subject: Subject) -> m.ProgressModel | None:
    """How far an attempt is."""
    if attempt is None or attempt.progress is None:
        return None
    return progress_shown(attempt.progress.snapshot(), subject)


def progress_shown(progress: Progress, subject: Subject) -> m.ProgressModel:
    """A snapshot of progress, with the node as its author sees it."""
    return m.ProgressModel(
        value=progress.value,
        nodes_done=progress.nodes_done,
        nodes_total=progress.nodes_total,
        node=subject.node(progress.current_node),
        step=progress.step,
        steps=progress.steps,
    )


async def assets_of(call: Call, job: Job, subject: Subject | None = None) -> Sequence[Asset]:
    """What a job made and still has: outputs of the interface first, previews last."""
    store = call.gateway.store
    assets = await store.assets.of_job(job.id)
    called = subject.call if subject else await store.calls.of_job(job.id)
    order = list(called.outputs) if called else []

    def rank(asset: Asset) -> tuple[bool, int]:
        is_named = asset.node_id in order
        return asset.type == "temp", order.index(asset.node_id) if is_named else len(order)

    return sorted((each for each in assets if each.is_live(call.now)), key=rank)


def output_models(assets: Sequence[Asset], subject: Subject, links: Links) -> list[m.OutputModel]:
    """Files as outputs of their job."""
    return [output_model(asset, index, subject, links) for index, asset in enumerate(assets)]


def output_model(asset: Asset, index: int, subject: Subject, links: Links) -> m.OutputModel:
    """A file as an output of its job, with a fresh signed URL."""
    url, url_expires_at = links.content(asset.id)
    content_type = output_content_type(asset)
    kind = output_type(asset.name, content_type)
    node = subject.node(asset.node_id) or m.NodeModel(id="", title="", class_type="")
    if content_type.startswith("model/"):
        kind = "model"
    return m.OutputModel.model_validate(
        {
            "index": index,
            "name": subject.call.outputs.get(asset.node_id) if subject.call else None,
            "kind": kind if kind in _KINDS or kind == "model" else "file",
            "filename": asset.name,
            "content_type": content_type,
            "size_bytes": asset.size_bytes,
            "hash": f"blake3:{asset.digest}",
            "node": node,
            "asset_id": asset.id,
            "url": url,
            "url_expires_at": url_expires_at,
        }
    )


async def _texts(gateway: Gateway, job: Job, subject: Subject) -> dict[str, list[str]]:
    """What nodes reported that is text and no file, under the names of outputs or titles of nodes."""
    if job.state is not JobState.SUCCEEDED:
        return {}
    entry = await gateway.store.jobs.history_entry(job.deployment_id, job.prompt_id)
    outputs = {} if entry is None else msgspec.json.decode(entry).get("outputs")
    told: dict[str, list[str]] = {}
    room = _MOST_TEXT_CHARACTERS
    for node_id, output in outputs.items() if isinstance(outputs, dict) else ():
        listed = output.values() if isinstance(output, dict) else ()
        texts = [t for each in listed if isinstance(each, list) for t in each if isinstance(t, str)]
        room -= sum(map(len, texts))
        if texts and room >= 0:
            named = subject.call.outputs.get(node_id) if subject.call else None
            node = subject.node(node_id)
            told[named or (node.title if node else node_id)] = texts
    return told


async def _pace(gateway: Gateway, job: Job, called: JobCall | None) -> Pace:
    store = gateway.store
    job_s = await store.calls.seconds(job.deployment_id, called.endpoint) if called else None
    if job_s is None:
        job_s = await store.usage.job_seconds(job.deployment_id)
    wake_s = None
    if job.state is JobState.QUEUED:
        wake_s = await store.usage.wake_seconds(job.deployment_id)
    return Pace(job_s, wake_s)


def _error_model(error: JobError | None, subject: Subject) -> m.JobErrorModel | None:
    if error is None:
        return None
    return m.JobErrorModel(
        code=error.code,
        message=error.message,
        node=subject.node(error.node_id),
        exception_type=error.exception_type,
        log_tail=list(error.log_tail),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
