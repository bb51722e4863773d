"""The outbox: messages of webhooks, written with the change that they tell of, kept until they end."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.domain.job import Job
from comfyserve.domain.progress import Progress
from comfyserve.domain.webhook import (
    Delivery,
    DeliveryState,
    Webhook,
    WebhookEvent,
    replayed,
)
from comfyserve.domain.webhook_body import Facts, progress_facts
from comfyserve.store.engine import Database
from comfyserve.store.outbox_entry import Told, listeners, record
from comfyserve.store.rows import decode_object
from comfyserve.store.tables import deployment
from comfyserve.store.webhook_tables import webhook, webhook_delivery
from comfyserve.store.webhooks import WEBHOOK_COLUMNS, WebhookSeal

KEPT_DELIVERED_S = 3 * 24 * 3600.0
KEPT_DEAD_S = 30 * 24 * 3600.0
_LARGEST_PRUNE = 500

_d, _w = webhook_delivery.c, webhook.c
DELIVERY_COLUMNS = (
    _d.id,
    _d.webhook_id,
    _d.deployment_id,
    _d.job_id,
    _d.event,
    _d.origin,
    _d.state,
    _d.created_at,
    _d.queued_at,
    _d.attempts,
    _d.next_at,
    _d.ended_at,
    _d.status,
    _d.error,
)
_PENDING = DeliveryState.PENDING.value
_ROWS = select(*DELIVERY_COLUMNS)
_BY_ID = _ROWS.where(_d.id == bindparam("id"))
_SEQ_OF = select(_d.seq).where(_d.id == bindparam("id"))
_WAITING = select(_d.origin, func.min(_d.next_at)).where(_d.state == _PENDING).group_by(_d.origin)
_PARCELS = (
    select(_d.facts, deployment.c.name, *DELIVERY_COLUMNS, *WEBHOOK_COLUMNS)
    .join(webhook, _w.id == _d.webhook_id)
    .join(deployment, deployment.c.id == _d.deployment_id)
)
_DUE = (
    _PARCELS.where(
        _d.state == _PENDING,
        _d.origin == bindparam("origin"),
        _d.next_at <= bindparam("now"),
    )
    .order_by(_d.next_at)
    .limit(bindparam("most"))
)
_SAVE = update(webhook_delivery).where(_d.id == bindparam("at"), _d.state == bindparam("was"))
_END_WEBHOOK = (
    update(webhook)
    .where(_w.id == bindparam("at"))
    .values(ended_at=bindparam("now"), ended_by=bindparam("why"))
)
_END_REST = (
    update(webhook_delivery)
    .where(_d.webhook_id == bindparam("at"), _d.state == _PENDING)
    .values(state=DeliveryState.DEAD.value, ended_at=bindparam("now"), error=bindparam("why"))
)
_REVIVE = (
    update(webhook)
    .where(_w.id == bindparam("at"), _w.ended_at.is_not(None))
    .values(ended_at=None, ended_by="")
)
_COUNTS = select(_d.state, func.count()).group_by(_d.state)
_OLD = (
    select(_d.seq)
    .where(_d.state == bindparam("state"), _d.ended_at < bindparam("before"))
    .limit(_LARGEST_PRUNE)
)
_PRUNE = delete(webhook_delivery).where(_d.seq.in_(_OLD))


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery with all that is needed to make it."""

    delivery: Delivery
    webhook: Webhook
    facts: Facts
    deployment: str


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; a None field does not matter."""

    deployment_id: str | None = None
    webhook_id: str | None = None
    job_id: str | None = None
    state: DeliveryState | None = None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, the newest first, and where the next page begins."""

    deliveries: Sequence[Delivery]
    next_cursor: str | None


class OutboxStore:
    """Deliveries. `news` is set after each commit that may have put one in."""

    def __init__(self, database: Database, seal: WebhookSeal, news: asyncio.Event) -> None:
        self._database = database
        self._seal = seal
        self.news = news

    async def wants(self, job: Job, event: WebhookEvent) -> bool:
        """Whether anybody is to be told of such an event of this job."""
        return await self._database.read(
            lambda connection: bool(listeners(connection, job.id, job.deployment_id, event))
        )

    async def record_progress(self, job: Job, progress: Progress, now: float) -> None:
        """Put a message about a job's progress in, for everyone who wants it."""
        told = Told(job.id, job.deployment_id, WebhookEvent.PROGRESS, now)
        await self._database.write(
            lambda connection: record(connection, told, progress_facts(job.id, progress))
        )
        self.news.set()

    async def waiting(self) -> Sequence[tuple[str, float]]:
        """Every origin that has messages to come, and when the next one is due."""
        return await self._database.read(
            lambda connection: [(row[0], row[1]) for row in connection.execute(_WAITING)]
        )

    async def due(self, origin: str, now: float, limit: int) -> Sequence[Parcel]:
        """Messages to this origin that are due, the oldest first."""
        sought = {"origin": origin, "now": now, "most": limit}
        return await self._database.read(
            lambda connection: [self._parcel(row) for row in connection.execute(_DUE, sought)]
        )

    async def save(self, delivery: Delivery, *, is_farewell: bool = False) -> None:
        """Store what a try made of a pending delivery.

        With `is_farewell` the receiver wants no more: its webhook ends, with all that is pending.
        """
        values = {**_values(delivery), "at": delivery.id, "was": _PENDING}

        def work(connection: Connection) -> None:
            connection.execute(_SAVE, values)
            if is_farewell:
                end = {"at": delivery.webhook_id, "now": delivery.ended_at, "why": delivery.error}
                connection.execute(_END_WEBHOOK, end)
                connection.execute(_END_REST, end)

        await self._database.write(work)

    async def parcel(self, delivery_id: str) -> Parcel:
        """One delivery with what it says. Raises NotFound."""
        query = _PARCELS.where(_d.id == delivery_id)

        def work(connection: Connection) -> Parcel:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise _unknown(delivery_id)
            return self._parcel(row)

        return await self._database.read(work)

    async def replay(self, delivery_id: str, now: float) -> Delivery:
        """Make a delivery anew, with all its tries. A webhook that had ended is told again.

        Raises NotFound.
        """

        def work(connection: Connection) -> Delivery:
            before = _one(connection, delivery_id)
            after = replayed(before, now)
            connection.execute(
                _SAVE, {**_values(after), "at": delivery_id, "was": before.state.value}
            )
            connection.execute(_REVIVE, {"at": after.webhook_id})
            return after

        made = await self._database.write(work)
        self.news.set()
        return made

    async def list(
        self, chosen: DeliveryFilter, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """One page of deliveries, the newest first; `cursor` is where the page before ended.

        Raises InvalidInput `invalid_cursor`.
        """
        query = _ROWS.order_by(_d.seq.desc()).limit(limit + 1)
        for column, value in (
            (_d.deployment_id, chosen.deployment_id),
            (_d.webhook_id, chosen.webhook_id),
            (_d.job_id, chosen.job_id),
            (_d.state, chosen.state),
        ):
            if value is not None:
                query = query.where(column == value)

        def work(connection: Connection) -> list[Delivery]:
            if cursor is None:
                return [_delivery(row) for row in connection.execute(query)]
            seq = connection.execute(_SEQ_OF, {"id": cursor}).scalar()
            if seq is None:
                raise InvalidInput(
                    f"'{cursor[:80]}' is not a cursor that this list gave.", code="invalid_cursor"
                )
            return [_delivery(row) for row in connection.execute(query.where(_d.seq < seq))]

        rows = await self._database.read(work)
        page = rows[:limit]
        return DeliveryPage(page, page[-1].id if len(rows) > limit else None)

    async def counts(self) -> Mapping[DeliveryState, int]:
        """How many deliveries there are in each state."""
        rows = await self._database.read(lambda connection: connection.execute(_COUNTS).all())
        return dict.fromkeys(DeliveryState, 0) | {
            DeliveryState(state): count for state, count in rows
        }

    async def prune(self, now: float) -> None:
        """Delete deliveries that ended long ago."""
        await self._prune(DeliveryState.DELIVERED, now - KEPT_DELIVERED_S)
        await self._prune(DeliveryState.DEAD, now - KEPT_DEAD_S)

    async def _prune(self, state: DeliveryState, before: float) -> None:
        """In parts, so that other writers are not kept waiting."""
        old = {"state": state.value, "before": before}
        while await self._database.write(
            lambda connection: connection.execute(_PRUNE, old).rowcount
        ):
            continue

    def _parcel(self, row: Iterable[Any]) -> Parcel:
        facts, name, *columns = row
        split = len(DELIVERY_COLUMNS)
        return Parcel(
            _delivery(columns[:split]),
            self._seal.webhook(columns[split:]),
            decode_object(facts),
            name,
        )


def _values(delivery: Delivery) -> dict[str, Any]:
    """What a try or a replay may change in a row."""
    return {
        "state": delivery.state.value,
        "queued_at": delivery.queued_at,
        "attempts": delivery.attempts,
        "next_at": delivery.next_at,
        "ended_at": delivery.ended_at,
        "status": delivery.status,
        "error": delivery.error,
    }


def _one(connection: Connection, delivery_id: str) -> Delivery:
    row = connection.execute(_BY_ID, {"id": delivery_id}).one_or_none()
    if row is None:
        raise _unknown(delivery_id)
    return _delivery(row)


def _delivery(columns: Iterable[Any]) -> Delivery:
    values = list(columns)
    values[4], values[6] = WebhookEvent(values[4]), DeliveryState(values[6])
    return Delivery(*values)


def _unknown(delivery_id: str) -> NotFound:
    return NotFound(f"there is no delivery '{delivery_id[:80]}'", code="delivery_not_found")
