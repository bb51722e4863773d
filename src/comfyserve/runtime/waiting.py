"""The end of jobs that no replica took: nothing starts for them, or they waited too long."""

import asyncio
from collections.abc import Iterable

from comfyserve.domain.errors import EngineFailure
from comfyserve.domain.events import JobChanged, QueueChanged
from comfyserve.domain.job import Job, JobError
from comfyserve.runtime import history
from comfyserve.runtime.supervisor import Parts

# In a flood of prompts, one look at the queue serves all that came within it.
SHORTEST_ROUND_S = 0.02


class Waiting:
    """The queued jobs of one deployment, as far as they end there."""

    def __init__(self, deployment_id: str, parts: Parts) -> None:
        self._deployment_id = deployment_id
        self._parts = parts

    async def count(self) -> int:
        """How many wait."""
        return (await self._parts.store.jobs.counts(self._deployment_id)).queued

    async def report(self, news: asyncio.Event) -> None:
        """Announce the length of the queue whenever it may have changed, for ever."""
        while True:
            await news.wait()
            news.clear()
            counts = await self._parts.store.jobs.counts(self._deployment_id)
            remaining = counts.queued + counts.active
            self._parts.bus.publish(QueueChanged(self._deployment_id, remaining))
            await asyncio.sleep(SHORTEST_ROUND_S)

    async def fail(self, reason: EngineFailure) -> None:
        """Fail them all: there is no hope of a replica."""
        error = JobError(
            "start_failed",
            f"no replica could be started for this job: {reason.message}",
            log_tail=reason.log_tail,
        )
        jobs, now = self._parts.store.jobs, self._parts.clock.now()
        self._tell(await jobs.fail_queued(self._deployment_id, error, now, history.of_failed_wait))

    async def expire(self, queue_s: float) -> bool:
        """Expire those that were accepted longer than `queue_s` seconds ago; whether any was."""
        error = JobError("queue_timeout", f"no slot came free within {queue_s:g} s")
        jobs, now = self._parts.store.jobs, self._parts.clock.now()
        expired = await jobs.expire_queued(
            self._deployment_id, now - queue_s, error, now, history.of_failed_wait
        )
        self._tell(expired)
        return bool(expired)

    def _tell(self, ended: Iterable[Job]) -> None:
        for job in ended:
            self._parts.bus.publish(JobChanged(job))
