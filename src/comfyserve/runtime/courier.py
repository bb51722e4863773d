"""Delivers what is in the outbox: a few at a time, each receiver apart, for as long as a day.

A receiver that is dead holds up only itself. It gets few messages at once, then one, at growing
distances; and all such receivers together never take more than half of the hands.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from comfyserve.clock import Clock
from comfyserve.domain.errors import FetchFailed, UrlRefused
from comfyserve.domain.signing import signed_query
from comfyserve.domain.webhook import (
    TIMEOUT_S,
    Delivery,
    DeliveryState,
    Reply,
    Webhook,
    settle,
    sign,
)
from comfyserve.domain.webhook_body import Links, message_of, trial_message
from comfyserve.runtime.outside import Outside
from comfyserve.runtime.tasks import TaskScope
from comfyserve.store import Store
from comfyserve.store.outbox import Parcel

log = structlog.get_logger()

HANDS = 64
HANDS_FOR_THE_DOUBTFUL = 32
HANDS_PER_RECEIVER = 4
LINK_LIFETIME_S = 24 * 3600
_LOOK_EVERY_S = 30.0
_PAUSE_BETWEEN_LOOKS_S = 0.05
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_PAUSE_WHEN_BROKEN_S = 60.0
_HEADERS = {"Content-Type": "application/json"}


@dataclass(slots=True)
class _Receiver:
    """What is known of one origin: messages on their way, and how it did lately."""

    under_way: set[str] = field(default_factory=set)
    failures: int = 0
    resume_at: float = 0.0

    def failed(self, now: float) -> None:
        """It did not take a message: leave it alone for a while, longer each time."""
        self.failures += 1
        pause_s = _FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 16)
        self.resume_at = now + min(pause_s, _LONGEST_PAUSE_S)

    def took(self) -> None:
        """It took a message."""
        self.failures, self.resume_at = 0, 0.0


class Courier:
    """One loop that looks for what is due, and a task for each message on its way."""

    def __init__(
        self,
        store: Store,
        outside: Outside,
        clock: Clock,
        jitter: Callable[[], float],
        base_url: str,
    ) -> None:
        self._store = store
        self._outside = outside
        self._clock = clock
        self._jitter = jitter
        self._base_url = base_url
        self._receivers: dict[str, _Receiver] = {}
        self._scope = TaskScope("courier")
        self.tries: Counter[str] = Counter(taken=0, refused=0)

    async def __aenter__(self) -> Self:
        self._scope.keep(self._work, name="loop")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._scope.aclose()

    def look(self) -> None:
        """Look for what is due now, and not only when something is put in or its time comes."""
        self._store.outbox.news.set()

    async def try_out(self, webhook: Webhook, message_id: str) -> Reply:
        """Send a test message, once and at once; what came of it. Nothing of it is stored."""
        now = self._clock.now()
        body = msgspec.json.encode(trial_message(webhook.id, now))
        return await self._post(webhook, message_id, body)

    def message(self, parcel: Parcel) -> Mapping[str, Any]:
        """What a delivery says, with links that are good from now on."""
        expires_at = int(self._clock.now()) + LINK_LIFETIME_S
        links = Links(
            base_url=parcel.webhook.base_url or self._base_url,
            deployment=parcel.deployment,
            sign=lambda asset_id: signed_query(self._store.signing_key, asset_id, expires_at),
        )
        delivery = parcel.delivery
        return message_of(delivery.event, parcel.facts, delivery.created_at, links)

    async def _work(self) -> None:
        news = self._store.outbox.news
        while True:
            news.clear()
            wait_s = await self._look()
            # What is put in meanwhile is found by the next look, which is soon enough.
            await asyncio.sleep(_PAUSE_BETWEEN_LOOKS_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await news.wait()

    async def _look(self) -> float:
        """Send what is due and has a hand free; return after how long to look again."""
        now, wait_s = self._clock.now(), _LOOK_EVERY_S
        waiting = dict(await self._store.outbox.waiting())
        self._receivers = {
            origin: each
            for origin, each in self._receivers.items()
            if each.under_way or (each.failures and origin in waiting)
        }
        for origin, next_at in waiting.items():
            receiver = self._receivers.setdefault(origin, _Receiver())
            due_at = max(next_at, receiver.resume_at)
            if due_at > now:
                wait_s = min(wait_s, due_at - now)
            elif room := self._room_for(receiver):
                await self._send_some(origin, receiver, room)
        return max(wait_s, _PAUSE_BETWEEN_LOOKS_S)

    async def _send_some(self, origin: str, receiver: _Receiver, room: int) -> None:
        # What ends while the store is asked may still be in its answer.
        under_way = frozenset(receiver.under_way)
        due = await self._store.outbox.due(origin, self._clock.now(), room + len(under_way))
        for parcel in [each for each in due if each.delivery.id not in under_way][:room]:
            receiver.under_way.add(parcel.delivery.id)
            self._scope.spawn(self._deliver(parcel, receiver), name=parcel.delivery.id)

    def _room_for(self, receiver: _Receiver) -> int:
        """How many more messages it may get just now."""
        everyone = self._receivers.values()
        free = HANDS - sum(len(each.under_way) for each in everyone)
        most = HANDS_PER_RECEIVER
        if receiver.failures:
            doubtful = sum(len(each.under_way) for each in everyone if each.failures)
            free, most = min(free, HANDS_FOR_THE_DOUBTFUL - doubtful), 1
        return max(0, min(free, most - len(receiver.under_way)))

    async def _deliver(self, parcel: Parcel, receiver: _Receiver) -> None:
        delivery = parcel.delivery
        try:
            body = msgspec.json.encode(self.message(parcel))
            reply = await self._post(parcel.webhook, delivery.id, body)
            now = self._clock.now()
            if reply.is_overload:
                receiver.failed(now)
            else:
                receiver.took()
            settled = settle(delivery, reply, now, self._jitter())
            await self._store.outbox.save(settled, is_farewell=reply.is_farewell)
            self.tries["taken" if reply.is_taken else "refused"] += 1
            _log(settled, reply)
        except Exception:
            log.exception(
                "A message could not be handled.", event_key="delivery_died", delivery=delivery.id
            )
            receiver.failures += 1
            receiver.resume_at = self._clock.now() + _PAUSE_WHEN_BROKEN_S
        finally:
            receiver.under_way.discard(delivery.id)
            self._store.outbox.news.set()

    async def _post(self, webhook: Webhook, message_id: str, body: bytes) -> Reply:
        headers = sign(webhook.secrets, message_id, body, self._clock.now())
        try:
            posted = await self._outside.post(
                webhook.url, body, {**_HEADERS, **headers}, timeout_s=TIMEOUT_S
            )
        except (UrlRefused, FetchFailed) as error:
            return Reply(error=error.message)
        return Reply(posted.status, retry_after_s=posted.retry_after_s)


def _log(delivery: Delivery, reply: Reply) -> None:
    """Say the first failure, and the end of hope; what lies between is in the list of deliveries."""
    fields = {
        "delivery": delivery.id,
        "webhook": delivery.webhook_id,
        "job": delivery.job_id,
        "error": delivery.error,
    }
    if reply.is_farewell:
        log.info("A receiver wants no more messages.", event_key="webhook_gone", **fields)
    elif delivery.state is DeliveryState.DEAD:
        log.warning("A message was given up.", event_key="webhook_dead", **fields)
    elif not reply.is_taken and delivery.attempts == 1:
        log.warning("A message was not taken.", event_key="webhook_failed", **fields)
