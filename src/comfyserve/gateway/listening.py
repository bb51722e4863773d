"""When a reader of a job's events has something to tell: at once for what matters, else in turns."""

import asyncio

from comfyserve.clock import Clock
from comfyserve.domain.events import (
    BusEvent,
    EngineFrame,
    EngineMessage,
    JobChanged,
    Preview,
    QueueChanged,
    ReplicaChanged,
)
from comfyserve.domain.job import Job
from comfyserve.runtime.bus import Subscription

HEARTBEAT_S = 15.0
MOST_WAITING = 256
_PAUSE_S = 0.5
_URGENT = frozenset({"executed", "executing"})


class Ear:
    """What one reader heard of a job. It speaks at once about states and outputs, else twice a second."""

    def __init__(self, job: Job, clock: Clock, *, urgent: frozenset[str] = _URGENT) -> None:
        self.job = job
        self.has_outputs = True
        self._clock = clock
        self._urgent = urgent
        self._has_news = True
        self._quiet_until = 0.0

    @property
    def may_speak(self) -> bool:
        """Whether it is time to tell how far the job is."""
        return self._clock.monotonic() >= self._quiet_until

    def rest(self) -> None:
        """What there was has been told."""
        self._has_news = False
        self._quiet_until = self._clock.monotonic() + _PAUSE_S

    async def listen(self, news: Subscription) -> bool:
        """Wait for something to tell; False if there was nothing for so long."""
        deadline = self._clock.monotonic() + HEARTBEAT_S
        while True:
            now = self._clock.monotonic()
            if self._has_news and now >= self._quiet_until:
                return True
            until = min(deadline, self._quiet_until) if self._has_news else deadline
            try:
                async with asyncio.timeout(max(0.0, until - now)):
                    is_urgent = self._hear(await news.get())
            except TimeoutError:
                if not self._has_news:
                    return False
                continue
            while len(news):
                is_urgent |= self._hear(await news.get())
            if is_urgent:
                return True

    def _hear(self, event: BusEvent) -> bool:
        """Note an event; True if it is to be told at once."""
        match event:
            case JobChanged(job=job):
                self.job = job
                self._has_news = True
                return True
            case EngineMessage(kind=kind):
                self.has_outputs |= kind == "executed"
                self._has_news = True
                return kind in self._urgent
            case Preview() | QueueChanged() | ReplicaChanged():
                self._has_news = True
                return False
            case EngineFrame():
                return False
