"""Ready replicas of one deployment and their slots: one job at a time, or some requests at once."""

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
        """Called when the last slot of it was given back."""
        ...


H = TypeVar("H", bound=Holder)


class Slot(Generic[H]):
    """Permission for one job or request on one replica. Release it once; twice is fine."""

    def __init__(self, pool: "Pool[H]", replica: H) -> None:
        self._pool = pool
        self._is_held = True
        self.replica = replica

    def release(self) -> None:
        """Give the slot back."""
        if self._is_held:
            self._is_held = False
            self._pool.release(self.replica)


class Pool(Generic[H]):
    """Hands out slots, `slots` of each replica at most.

    The least loaded replica goes first, and of those the one that worked last: its caches are
    warm, and the others can go to sleep.
    """

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self._ready: dict[str, H] = {}
        self._held: dict[str, tuple[H, int]] = {}
        self._waiters: deque[asyncio.Future[H]] = deque()

    @property
    def free(self) -> tuple[H, ...]:
        """Ready replicas without work; the one that worked last is the last."""
        return tuple(replica for id_, replica in self._ready.items() if id_ not in self._held)

    @property
    def held(self) -> tuple[H, ...]:
        """Replicas that work."""
        return tuple(replica for replica, _ in self._held.values())

    @property
    def in_use(self) -> int:
        """Slots that are held, of all replicas together."""
        return sum(count for _, count in self._held.values())

    def count(self, replica: H) -> int:
        """Slots of a replica that are held."""
        return self._held.get(replica.id, (replica, 0))[1]

    def offer(self, replica: H) -> None:
        """A replica became ready."""
        self._ready.setdefault(replica.id, replica)
        self._serve()

    def hold(self, replica: H) -> Slot[H]:
        """Take a slot of this very replica without waiting, one too many if need be."""
        self._take(replica)
        return Slot(self, replica)

    def withdraw(self, replica: H) -> None:
        """No new slots of this replica; held ones stay held."""
        self._ready.pop(replica.id, None)

    def try_slot(self) -> Slot[H] | None:
        """A slot, if one is free and nobody waits for it."""
        replica = None if self._waiters else self._pick()
        return None if replica is None else self.hold(replica)

    async def slot(self) -> Slot[H]:
        """Wait for a free slot."""
        if (slot := self.try_slot()) is not None:
            return slot
        waiter: asyncio.Future[H] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return Slot(self, await waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def refuse(self, error: Exception) -> None:
        """Tell all who wait that they wait in vain."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def release(self, replica: H) -> None:
        """Take a slot back; tell its replica when that was the last."""
        _, count = self._held.get(replica.id, (replica, 0))
        if count > 1:
            self._held[replica.id] = (replica, count - 1)
        elif count == 1:
            del self._held[replica.id]
            if self._ready.pop(replica.id, None) is not None:
                self._ready[replica.id] = replica  # It worked last.
            replica.slot_released()
        self._serve()

    def _take(self, replica: H) -> None:
        self._held[replica.id] = (replica, self.count(replica) + 1)

    def _pick(self) -> H | None:
        """The least loaded ready replica with room; of equals the last."""
        best, least = None, self.slots
        for replica in reversed(self._ready.values()):
            count = self.count(replica)
            if count < least:
                best, least = replica, count
        return best

    def _serve(self) -> None:
        while self._waiters and (replica := self._pick()) is not None:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._take(replica)
                waiter.set_result(replica)
