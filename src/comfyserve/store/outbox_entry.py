"""What goes into the outbox, in the transaction of the change that it tells of."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, select

from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.domain.job import Job
from comfyserve.domain.usage import Receipt
from comfyserve.domain.webhook import DeliveryState, WebhookEvent, event_of
from comfyserve.domain.webhook_body import Facts, OutputFacts, job_facts, output_facts
from comfyserve.store.rows import encode
from comfyserve.store.tables import asset, job, job_call
from comfyserve.store.webhook_tables import webhook, webhook_delivery
from comfyserve.store.webhooks import read_event_column

_w = webhook.c
_endpoint = select(job.c.endpoint_id).where(job.c.id == bindparam("job_id")).scalar_subquery()
_LISTENERS = select(_w.id, _w.events, _w.origin).where(
    _w.subject.in_((bindparam("job_id"), bindparam("deployment_id"), _endpoint)),
    _w.ended_at.is_(None),
)
_ENDPOINT_NAME = (
    select(job_call.c.endpoint)
    .join(job, job.c.seq == job_call.c.job_seq)
    .where(job.c.id == bindparam("job_id"))
)
_OUTPUTS = (
    select(
        asset.c.id,
        asset.c.node_id,
        asset.c.name,
        asset.c.type,
        asset.c.content_type,
        asset.c.size_bytes,
        asset.c.digest,
    )
    .where(asset.c.job_id == bindparam("job_id"))
    .order_by(asset.c.seq)
)
_INSERT = insert(webhook_delivery)
_ids: BindParameter[Any] = bindparam("ids", expanding=True)
_DELETE_OF_JOBS = delete(webhook_delivery).where(webhook_delivery.c.job_id.in_(_ids))
_DELETE_WEBHOOKS_OF_JOBS = delete(webhook).where(_w.job_id.in_(_ids))


@dataclass(frozen=True, slots=True)
class Told:
    """An event: of what, and when."""

    job_id: str
    deployment_id: str
    event: WebhookEvent
    at: float


def record_change(connection: Connection, changed: Job, receipt: Receipt | None) -> None:
    """A job entered a state: put a message in for everyone who wants to know. In its transaction."""
    event = event_of(changed)
    if event is None:
        return
    at = changed.started_at if changed.finished_at is None else changed.finished_at
    told = Told(changed.id, changed.deployment_id, event, at or changed.created_at)
    hearing = listeners(connection, told.job_id, told.deployment_id, event)
    if not hearing:
        return
    outputs: list[OutputFacts] = []
    if event is WebhookEvent.SUCCEEDED:
        rows = connection.execute(_OUTPUTS, {"job_id": changed.id})
        outputs = [_output(row) for row in rows]
    _insert(connection, told, job_facts(changed, receipt, outputs), hearing)


def record_output(
    connection: Connection, asset_id: str, told_of: tuple[str, str], at: float
) -> None:
    """A job (`told_of`: its id and deployment) made a file: the same, in the transaction of its row."""
    told = Told(*told_of, WebhookEvent.OUTPUT, at)
    hearing = listeners(connection, told.job_id, told.deployment_id, told.event)
    if hearing:
        query = _OUTPUTS.where(asset.c.id == asset_id)
        row = connection.execute(query, {"job_id": told.job_id}).one()
        _insert(connection, told, output_facts(told.job_id, _output(row)), hearing)


def delete_of_jobs(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the webhooks of jobs, and all deliveries about them."""
    connection.execute(_DELETE_OF_JOBS, {"ids": job_ids})
    connection.execute(_DELETE_WEBHOOKS_OF_JOBS, {"ids": job_ids})


def record(connection: Connection, told: Told, facts: Facts) -> None:
    hearing = listeners(connection, told.job_id, told.deployment_id, told.event)
    _insert(connection, told, facts, hearing)


def listeners(
    connection: Connection, job_id: str, deployment_id: str, event: WebhookEvent
) -> list[tuple[str, str]]:
    """Id and origin of each webhook that hears this event."""
    sought = {"job_id": job_id, "deployment_id": deployment_id}
    rows = connection.execute(_LISTENERS, sought)
    return [(id_, origin) for id_, events, origin in rows if event in read_event_column(events)]


def _insert(
    connection: Connection, told: Told, facts: Facts, hearing: Sequence[tuple[str, str]]
) -> None:
    if not hearing:
        return
    endpoint = connection.execute(_ENDPOINT_NAME, {"job_id": told.job_id}).scalar()
    document = encode({**facts, "job": {**facts["job"], "endpoint": endpoint}})
    rows = [
        {
            "id": make_id(Prefix.DELIVERY, secrets.token_bytes(ENTROPY_BYTES)),
            "webhook_id": webhook_id,
            "deployment_id": told.deployment_id,
            "job_id": told.job_id,
            "event": told.event.value,
            "origin": origin,
            "state": DeliveryState.PENDING.value,
            "created_at": told.at,
            "queued_at": told.at,
            "attempts": 0,
            "next_at": told.at,
            "error": "",
            "facts": document,
        }
        for webhook_id, origin in hearing
    ]
    connection.execute(_INSERT, rows)


def _output(columns: Iterable[Any]) -> OutputFacts:
    id_, node_id, name, kind, content_type, size_bytes, digest = columns
    return OutputFacts(id_, node_id, name, kind, content_type, size_bytes, f"blake3:{digest}")
