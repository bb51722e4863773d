"""Ready replicas of one deployment and their slots: one job at a time on each."""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar


class Holder(Protocol):
    """What a pool knows of a replica."""

    @property
    def id(self) -> str:
        """The replica's id."""
        ...

    def slot_released(self) -> None:
        """Called when the job that held it has ended."""
        ...


H = TypeVar("H", bound=Holder)


class Slot(Generic[H]):
    """Permission for one job on one replica. Release it once; twice is fine."""

    def __init__(self, pool: "Pool[H]", replica: H) -> None:
        self._pool = pool
        self.replica = replica

    def release(self) -> None:
        """Give the slot back."""
        self._pool.release(self.replica)


class Pool(Generic[H]):
    """Hands out slots; the replica that worked last goes first, its caches are warm."""

    def __init__(self) -> None:
        self._free: list[H] = []
        self._held: dict[str, H] = {}
        self._waiters: deque[asyncio.Future[H]] = deque()

    @property
    def free(self) -> tuple[H, ...]:
        """Ready replicas without work."""
        return tuple(self._free)

    @property
    def held(self) -> tuple[H, ...]:
        """Replicas that work."""
        return tuple(self._held.values())

    def offer(self, replica: H) -> None:
        """A replica became ready."""
        if replica.id not in self._held and replica not in self._free:
            self._give(replica)

    def hold(self, replica: H) -> Slot[H]:
        """Take a replica's slot without waiting: an adopted one that is at work already."""
        if replica in self._free:
            self._free.remove(replica)
        self._held[replica.id] = replica
        return Slot(self, replica)

    def withdraw(self, replica: H) -> None:
        """No new slots of this replica; a held one stays held."""
        if replica in self._free:
            self._free.remove(replica)

    async def slot(self) -> Slot[H]:
        """Wait for a free slot."""
        if not self._free:
            waiter: asyncio.Future[H] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                replica = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.release(waiter.result())
                raise
            return Slot(self, replica)
        return self.hold(self._free[-1])

    def release(self, replica: H) -> None:
        """Take a slot back and tell its replica."""
        if self._held.pop(replica.id, None) is not None:
            replica.slot_released()

    def _give(self, replica: H) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._held[replica.id] = replica
                waiter.set_result(replica)
                return
        self._free.append(replica)
