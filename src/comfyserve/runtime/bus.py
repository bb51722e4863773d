"""In-process publish and subscribe: bounded queues, previews dropped first, the end never."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfyserve.domain.events import (
    BusEvent,
    EngineFrame,
    EngineMessage,
    JobChanged,
    Preview,
    QueueChanged,
)

_PNG = "image/png"
_PROGRESS = frozenset({"progress", "progress_state"})


class Subscription:
    """One listener's queue.

    Overflow rule: beyond `limit` the oldest preview goes first, then the oldest progress message
    or superseded queue count, then the oldest picture that a node sent whole as a PNG preview
    (`SaveImageWebsocket`). What tells a job's story (executed, success, error, states) is never dropped.
    """

    def __init__(self, accepts: Callable[[BusEvent], bool], limit: int) -> None:
        self._accepts = accepts
        self._limit = limit
        self._queue: deque[BusEvent] = deque()
        self._wakeup = asyncio.Event()
        self.dropped = 0

    def offer(self, event: BusEvent) -> None:
        """Queue `event` if it is for this listener; never blocks the publisher."""
        if not self._accepts(event):
            return
        self._queue.append(event)
        if len(self._queue) > self._limit:
            self._drop_one()
        self._wakeup.set()

    async def get(self) -> BusEvent:
        """Wait for the next event."""
        while not self._queue:
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._queue.popleft()

    def __len__(self) -> int:
        return len(self._queue)

    def _drop_one(self) -> None:
        for is_expendable in (_is_preview, _is_progress, _is_picture):
            for index, event in enumerate(self._queue):
                if is_expendable(event):
                    del self._queue[index]
                    self.dropped += 1
                    return


class Bus:
    """Fans events out to subscriptions. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[Subscription]] = {}

    def publish(self, event: BusEvent) -> None:
        """Hand `event` to the listeners of its deployment."""
        for subscription in self._subscriptions.get(event.deployment_id, ()):
            subscription.offer(event)

    @contextmanager
    def subscribe(
        self,
        deployment_id: str,
        accepts: Callable[[BusEvent], bool] = lambda _: True,
        *,
        limit: int = 1024,
    ) -> Iterator[Subscription]:
        """Listen to one deployment while the context lasts."""
        subscription = Subscription(accepts, limit)
        listeners = self._subscriptions.setdefault(deployment_id, [])
        listeners.append(subscription)
        try:
            yield subscription
        finally:
            listeners.remove(subscription)
            if not listeners:
                self._subscriptions.pop(deployment_id, None)


def of_job(job_id: str) -> Callable[[BusEvent], bool]:
    """Accept what concerns one job, and the replicas and queue of its deployment."""

    def accepts(event: BusEvent) -> bool:
        match event:
            case JobChanged(job=job):
                return job.id == job_id
            case EngineMessage() | EngineFrame() | Preview():
                return event.job_id == job_id
            case _:
                return True

    return accepts


def _is_preview(event: BusEvent) -> bool:
    return isinstance(event, Preview) and not _is_picture(event)


def _is_picture(event: BusEvent) -> bool:
    return isinstance(event, Preview) and event.metadata.get("image_type") == _PNG


def _is_progress(event: BusEvent) -> bool:
    return isinstance(event, QueueChanged | EngineFrame) or (
        isinstance(event, EngineMessage) and event.kind in _PROGRESS
    )
