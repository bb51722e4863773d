"""Requests of a deployment behind the plain proxy: who waits, who is served, what is metered."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from comfyserve.clock import Clock
from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import ComfyserveError, Gone, NotReady, QueueFull
from comfyserve.domain.replica import ReplicaState
from comfyserve.domain.usage import SegmentKind
from comfyserve.runtime.pool import Pool, Slot
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.store.usage import UsageStore

_LONGEST_RETRY_S = 30
# Between requests that come so soon after each other a replica is not called idle: a ledger with a
# row for each request would say no more.
_IDLE_AFTER_S = 1.0


@dataclass(slots=True)
class Turn:
    """One request's permission on one replica, and how long it waited for it (seconds)."""

    slot: Slot[Supervisor]
    waited_s: float
    wake_s: float

    @property
    def supervisor(self) -> Supervisor:
        """Whose turn it is on."""
        return self.slot.replica


class Traffic:
    """The requests of one deployment. `tell` has the autoscaler look."""

    def __init__(
        self, pool: Pool[Supervisor], meter: "Meter", clock: Clock, tell: Callable[[], None]
    ) -> None:
        self.waiting = 0
        self._pool = pool
        self._meter = meter
        self._clock = clock
        self._tell = tell

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._pool.in_use

    @property
    def replicas_wanted(self) -> int:
        """Replicas that those who wait would fill."""
        return math.ceil(self.waiting / self._pool.slots)

    async def turn(self, deployment: Deployment) -> Turn:
        """Wait for a replica's slot, waking one if there is none.

        Raises QueueFull, NotReady when it is stopped or takes too long, and StartFailed.
        """
        began = self._clock.monotonic()
        while True:
            slot = self._pool.try_slot() or await self._wait(deployment, began)
            if slot.replica.state is ReplicaState.READY:
                break
            slot.release()  # It began to stop in the moment in which it was handed over.
        return self._begin(slot, began)

    def again(self, supervisor: Supervisor) -> Slot[Supervisor] | None:
        """A slot of this very replica for a connection that had fallen silent; None if it stops."""
        if supervisor.state is not ReplicaState.READY:
            return None
        return self._begin(self._pool.hold(supervisor), 0.0).slot

    def end(self, slot: Slot[Supervisor]) -> None:
        """A request is over, however it ended. Twice is fine."""
        slot.release()
        if not self._pool.count(slot.replica):
            self._meter.idle(slot.replica)

    def _begin(self, slot: Slot[Supervisor], began: float) -> Turn:
        supervisor = slot.replica
        supervisor.is_held = True
        self._meter.busy(supervisor)
        waited_s = self._clock.monotonic() - began
        replica = supervisor.replica
        age_s = self._clock.now() - (replica.ready_at or 0.0)
        wake_s = (replica.ready_at or 0.0) - replica.created_at if age_s < waited_s else 0.0
        return Turn(slot, waited_s, min(wake_s, waited_s))

    async def _wait(self, deployment: Deployment, began: float) -> Slot[Supervisor]:
        if deployment.state is not DeploymentState.ACTIVE:
            raise stopped(deployment)
        most, timeouts = deployment.spec.limits.max_queue, deployment.spec.timeouts
        if self.waiting >= most:
            raise QueueFull(
                f"{most} requests wait for '{deployment.name}' already (max_queue); come back",
                retry_after_s=max(1, min(_LONGEST_RETRY_S, math.ceil(most / 100))),
            )
        longest_s = timeouts.queue_s or timeouts.start_s
        left_s = longest_s - (self._clock.monotonic() - began)
        self.waiting += 1
        self._tell()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                return await self._pool.slot()
        except TimeoutError:
            raise NotReady(
                f"no replica of '{deployment.name}' had room within {longest_s:g} s "
                "(queue_s, else start_s, of its timeouts)",
                code="no_slot_in_time",
            ) from None
        finally:
            self.waiting -= 1


def stopped(deployment: Deployment) -> ComfyserveError:
    """What a stopped deployment answers, and one that is gone."""
    if deployment.state is DeploymentState.DELETED:
        return Gone(f"deployment '{deployment.name}' was terminated", code="deployment_gone")
    return NotReady(
        f"'{deployment.name}' is stopped; start it with `comfyserve deployment start "
        f"{deployment.name}`",
        code="deployment_stopped",
    )


@dataclass(slots=True)
class _Reading:
    """What a replica does, since when, and what the ledger says."""

    supervisor: Supervisor
    kind: SegmentKind
    since: float
    recorded: SegmentKind = SegmentKind.IDLE


class Meter:
    """Writes to the ledger when replicas are busy: while at least one request is in flight.

    Gaps of less than a second count as busy.
    """

    def __init__(self, usage: UsageStore, clock: Clock) -> None:
        self._usage = usage
        self._clock = clock
        self._readings: dict[str, _Reading] = {}
        self._news = asyncio.Event()

    def busy(self, supervisor: Supervisor) -> None:
        """A request begins on a replica."""
        self._note(supervisor, SegmentKind.BUSY)

    def idle(self, supervisor: Supervisor) -> None:
        """The last request on a replica has ended."""
        self._note(supervisor, SegmentKind.IDLE)

    async def run(self) -> None:
        """Write what changed, for ever."""
        while True:
            await self._wait(await self._write())

    def _note(self, supervisor: Supervisor, kind: SegmentKind) -> None:
        known = self._readings.get(supervisor.id)
        now = self._clock.now()
        if known is None:
            self._readings[supervisor.id] = _Reading(supervisor, kind, now)
        elif known.kind is not kind:
            known.kind, known.since = kind, now
        else:
            return
        self._news.set()

    async def _write(self) -> float | None:
        """Write what is due; return the seconds until more is, None if nothing waits."""
        pause: float | None = None
        for id_, reading in tuple(self._readings.items()):
            if reading.supervisor.state not in {ReplicaState.READY, ReplicaState.DRAINING}:
                del self._readings[id_]  # Its end was written by its supervisor.
                continue
            if reading.kind is reading.recorded:
                continue
            due_in = 0.0
            if reading.kind is SegmentKind.IDLE:
                due_in = reading.since + _IDLE_AFTER_S - self._clock.now()
            if due_in > 0:
                pause = due_in if pause is None else min(pause, due_in)
                continue
            reading.recorded = reading.kind
            if reading.supervisor.state is ReplicaState.READY or reading.supervisor.is_held:
                await self._usage.switch(id_, reading.kind, None, reading.since)
        return pause

    async def _wait(self, pause: float | None) -> None:
        try:
            async with asyncio.timeout(pause):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()
